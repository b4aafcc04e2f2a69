"""Silicon: a model trained on the Stillinger-Weber potential beside that potential itself.

    python experiments/validation/silicon_frames.py silicon.extxyz
    mlffjax train experiments/validation/silicon.yaml
    python experiments/validation/silicon.py runs/silicon --work work

At rest: lattice constant, elastic constants, phonons at three points. In motion: 216 atoms at
zero pressure (stochastic cell rescaling), 300 K and 1000 K, the same steps with both. Runs that
are in the work folder are not done again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mlffjax
from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.results import Curves
from mlffjax.analysis.run import analyze
from mlffjax.analysis.sources import open_frames
from mlffjax.config.analysis import AnalysisSettings
from mlffjax.config.explore import RelaxSettings
from mlffjax.config.md import MDSettings
from mlffjax.data import Frame
from mlffjax.explore.phonons import force_constants, phonon_frequencies
from mlffjax.explore.relax import relax
from mlffjax.md.engine import run_md
from mlffjax.md.stillinger_weber import DIAMOND, LATTICE_CONSTANT
from mlffjax.plots.style import ACCENT, FAINT, MODEL, REFERENCE, figure, note
from mlffjax.potential import Potential
from mlffjax.stillinger_weber_model import stillinger_weber
from mlffjax.training.evaluate import evaluate
from mlffjax.units import GPA

HERE = Path(__file__).parent
TEMPERATURES = (300.0, 1000.0)
REPEATS = 3
STRAIN = 0.004
#: Points of the primitive cell in units of its reciprocal lattice vectors.
POINTS = {"Γ": (0.0, 0.0, 0.0), "X": (0.5, 0.5, 0.0), "L": (0.5, 0.0, 0.0)}
TIMESTEP_FS = 1.0
FRAME_STEPS = 20
#: Of each run, left out, in steps.
SETTLING = 1500


def crystal(lattice: float, repeats: int = 1) -> Frame:
    """Diamond in cubic cells of eight atoms."""
    steps = np.stack(np.meshgrid(*3 * [np.arange(repeats)], indexing="ij"), -1).reshape(-1, 1, 3)
    sites = (steps + DIAMOND).reshape(-1, 3) * lattice
    cell = np.eye(3) * lattice * repeats
    return Frame(np.full(len(sites), 14), sites, cell, np.ones(3, bool))


def primitive(lattice: float) -> Frame:
    """The cell of two atoms."""
    cell = lattice / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Frame(np.full(2, 14), np.array([[0.0] * 3, [lattice / 4] * 3]), cell, np.ones(3, bool))


def elastic_constants(potential: Potential, lattice: float) -> dict[str, float]:
    """``C11``, ``C12`` and ``C44`` in GPa from the stress of strained, relaxed crystals."""
    start, frames = crystal(lattice), []
    for kind in ("stretch", "shear"):
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            if kind == "stretch":
                strain[0, 0] = sign * STRAIN
            else:
                strain[1, 2] = strain[2, 1] = sign * STRAIN / 2
            change = np.eye(3) + strain
            frames.append(
                Frame(start.numbers, start.positions @ change, start.cell @ change, start.pbc)
            )
    relaxed = relax(potential, frames, RelaxSettings(fmax=1e-5))
    if any(result.status != "converged" for result in relaxed):
        raise ValueError("got a strained crystal that did not relax; raise the steps")
    stress = evaluate(potential, [result.frame for result in relaxed]).stress / GPA
    slopes = (stress[0::2] - stress[1::2]) / (2 * STRAIN)
    return {
        "C11": float(slopes[0, 0, 0]),
        "C12": float((slopes[0, 1, 1] + slopes[0, 2, 2]) / 2),
        "C44": float(slopes[1, 1, 2]),
    }


def at_rest(potential: Potential) -> dict[str, Any]:
    """Lattice constant in Angstrom, elastic constants in GPa, phonons in 1/cm, float64."""
    double = potential.astype("float64")
    settings = RelaxSettings(cell=True, fmax=1e-5)
    result = relax(double, [crystal(LATTICE_CONSTANT)], settings)[0]
    lattice = float(np.cbrt(abs(np.linalg.det(result.frame.cell))))
    constants = force_constants(double, primitive(lattice), (4, 4, 4))
    frequencies = phonon_frequencies(constants, np.array(list(POINTS.values())))
    phonons = {name: row.tolist() for name, row in zip(POINTS, frequencies, strict=True)}
    return {
        "lattice": lattice,
        "energy_of_an_atom": result.energy / 8,
        "elastic_gpa": elastic_constants(double, lattice),
        "phonons_cm-1": phonons,
    }


def simulate(potential: Potential, temperature: float, steps: int, folder: Path) -> None:
    """Dynamics at zero pressure."""
    settings = MDSettings(
        ensemble="npt-scr",
        temperature=temperature,
        # Half of it goes into the potential energy.
        initial_temperature=2 * temperature,
        steps=SETTLING + steps,
        timestep_fs=TIMESTEP_FS,
        thermostat_period_fs=100.0,
        barostat_period_fs=200.0,
        compressibility_per_gpa=0.01,
        thermo_interval=10,
        frame_interval=FRAME_STEPS,
        trajectory_format="h5md",
        seed=1,
    )
    begin = time.process_time()
    frame = crystal(LATTICE_CONSTANT, REPEATS)
    result = run_md(potential, frame, settings, folder=folder, overwrite=True)
    if result.status != "finished":
        raise ValueError(result.message)
    record = {"processor_s": time.process_time() - begin, "steps": steps}
    (folder / "run.json").write_text(json.dumps(record))


def averaged(values: np.ndarray) -> list[float]:
    """Mean and block-averaged error."""
    average = BlockAverage()
    average.add(values)
    return [float(average.mean()), float(average.error())]


def in_motion(folder: Path) -> dict[str, Any]:
    """Lattice constant, vibrational amplitude, radial distribution and displacement of a run."""
    skipped = SETTLING // FRAME_STEPS
    with open_frames(folder) as frames:
        block = frames.read(skipped, len(frames))
        settings = AnalysisSettings(
            what=("rdf", "msd", "thermo"), start=skipped, r_max=8.0, num_bins=400, max_lag_fs=2000
        )
        results = {result.name: result for result in analyze(frames, settings).results}
    rdf, msd = results["rdf"], results["msd"]
    assert isinstance(rdf, Curves)
    assert isinstance(msd, Curves)
    lattice = np.cbrt(np.linalg.det(block.cell)) / REPEATS
    # Fractional coordinates, so that the breathing of the cell is no displacement.
    fractions = block.positions @ np.linalg.inv(block.cell)
    fractions = fractions - fractions.mean(axis=1, keepdims=True)
    moved = (fractions - fractions.mean(axis=0)) @ block.cell.mean(axis=0)
    temperature = results["temperature"]
    return {
        "temperature": [temperature.value, temperature.error],  # type: ignore[union-attr]
        "lattice": averaged(lattice),
        "amplitude": averaged((moved**2).sum(-1).mean(-1)),
        "rdf": {"r": rdf.x.tolist(), "g": rdf.values[0].tolist()},
        "msd": {"ps": msd.x.tolist(), "a2": msd.values[0].tolist()},
        "run": json.loads((folder / "run.json").read_text()),
    }


def difference(rows: dict[str, Any]) -> dict[str, float]:
    """Mean absolute differences of the curves of model and potential."""
    ours, exact = rows["model"], rows["exact"]
    gap = lambda name, key: float(  # noqa: E731
        np.abs(np.subtract(ours[name][key], exact[name][key])).mean()
    )
    return {"rdf": gap("rdf", "g"), "msd": gap("msd", "a2")}


def draw(path: Path, motion: dict[str, Any]) -> None:
    """Radial distribution and mean squared displacement, model over exact potential."""
    with figure(path, 10.5, 6.6, rows=2, columns=2) as axes:
        for row, temperature in zip(axes, TEMPERATURES, strict=True):
            rows = motion[f"{temperature:g}"]
            left, right = row
            for name, colour, width in (("exact", FAINT, 4.5), ("model", MODEL, 1.3)):
                label = {"exact": "Stillinger-Weber", "model": "SO3krates"}[name]
                left.plot(
                    rows[name]["rdf"]["r"],
                    rows[name]["rdf"]["g"],
                    color=colour,
                    lw=width,
                    label=label,
                )
                right.plot(rows[name]["msd"]["ps"], rows[name]["msd"]["a2"], color=colour, lw=width)
            gap = np.subtract(rows["model"]["rdf"]["g"], rows["exact"]["rdf"]["g"])
            left.plot(rows["exact"]["rdf"]["r"], gap, color=ACCENT, lw=0.9, label="difference")
            left.set(xlim=(1.8, 8), xlabel="distance (Å)", ylabel="g(r)")
            left.set_title(f"silicon, {temperature:g} K", loc="left")
            left.legend(loc="upper right")
            right.set(xlabel="time (ps)", ylabel="mean squared displacement (Å²)")
            right.set_ylim(bottom=0)
            ours, exact = rows["model"]["lattice"], rows["exact"]["lattice"]
            note(
                right,
                f"lattice constant {ours[0]:.4f} ± {ours[1]:.4f} Å (model)\n"
                f"{exact[0]:.4f} ± {exact[1]:.4f} Å (potential)",
                where="lower right",
            )
            right.axhline(rows["exact"]["amplitude"][0] * 2, color=REFERENCE, lw=0.8, ls=":")


def main() -> None:
    parser = argparse.ArgumentParser(description="A model of silicon beside what it learned.")
    parser.add_argument("model", type=Path, help="folder of the training")
    parser.add_argument("--steps", type=int, default=6000, help="of each run, after settling")
    parser.add_argument("--work", type=Path, default=Path("work"), help="for the trajectories")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = {"model": mlffjax.load(args.model), "exact": stillinger_weber()}
    rest = {name: at_rest(potential) for name, potential in found.items()}
    print(json.dumps(rest, indent=1, ensure_ascii=False), flush=True)
    motion: dict[str, Any] = {}
    for temperature in TEMPERATURES:
        rows = motion[f"{temperature:g}"] = {}
        for name, potential in found.items():
            folder = args.work / f"silicon_{name}_{temperature:g}"
            if not (folder / "run.json").is_file():
                simulate(potential, temperature, args.steps, folder)
            rows[name] = in_motion(folder)
        rows["mae"] = difference(rows)
        shown = {n: {k: rows[n][k] for k in ("temperature", "lattice", "amplitude")} for n in found}
        print(temperature, json.dumps(shown), rows["mae"], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "silicon.png", motion)
    metrics = json.loads((args.model / "test" / "metrics.json").read_text())
    record = {"training": metrics, "at_rest": rest, "in_motion": rounded(motion)}
    (args.out / "silicon.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def rounded(value: Any) -> Any:
    """Curves with as many digits as they have."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
