"""Lennard-Jones argon beside the literature: pressure, energy, structure.

    python experiments/validation/argon.py --work work

500 atoms in a periodic cube, a potential exact up to 2.7 diameters that ends smoothly at three,
CSVR at constant volume, float32. What the potential lacks of the full one beyond is added to
energy and pressure with ``g(r) = 1``. Beside: the Monte Carlo results of NIST, the equation of
state of Johnson, Zollweg and Gubbins (1993), and the neutron diffraction of liquid argon at 85 K
of Yarnell et al. (1973). A state whose files are in the work folder is not run again.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lj_equation_of_state as johnson
import numpy as np
from ase.build import bulk

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.results import Curves, Scalar
from mlffjax.analysis.run import analyze
from mlffjax.analysis.sources import open_frames
from mlffjax.config.analysis import AnalysisSettings
from mlffjax.config.md import MDSettings
from mlffjax.md.engine import run_md
from mlffjax.md.trajectory import read_thermo
from mlffjax.pair_potentials import TAPER_ONSET, lennard_jones
from mlffjax.plots.style import ACCENT, FAINT, MODEL, REFERENCE, figure, note
from mlffjax.units import BOLTZMANN, GPA

HERE = Path(__file__).parent
SIGMA, EPSILON = 3.405, 0.0103235  # the defaults of lennard_jones()
CUTOFF = 3.0  # diameters
REPEATS = 5
TIMESTEP_FS = 8.0
#: Steps above the melting point, then at the temperature, before anything is counted.
MELTING, SETTLING = 1000, 3000
#: Density of the measurement of Yarnell et al. in 1/Angstrom^3.
YARNELL = 0.02125


@dataclass(frozen=True)
class StatePoint:
    """A reduced temperature and density.

    Attributes:
      temperature, density: reduced.
      energy, pressure: of the Monte Carlo simulations of NIST with their standard deviations
        (NIST Standard Reference Simulation Website, "Lennard-Jones fluid, MC", NVT, 500 atoms,
        cutoff 3 with long-range corrections); ``None`` where there are none.
    """

    temperature: float
    density: float
    energy: tuple[float, float] | None = None
    pressure: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"argon_{self.temperature:.4f}_{self.density:.4f}"


STATES = (
    StatePoint(0.85, 0.776, energy=(-5.5121, 4.6e-4), pressure=(0.0067714, 1.7e-3)),
    StatePoint(0.90, 0.820, energy=(-5.7456, 7.8e-4), pressure=(0.82386, 2.9e-3)),
    StatePoint(2.0, 0.5),
    StatePoint(85 * BOLTZMANN / EPSILON, YARNELL * SIGMA**3),
)


def simulate(state: StatePoint, steps: int, folder: Path) -> None:
    """Melt a crystal, settle, and write log and trajectory."""
    kelvin = state.temperature * EPSILON / BOLTZMANN
    atoms = bulk("Ar", "fcc", a=SIGMA * (4 / state.density) ** (1 / 3), cubic=True)
    structure: Any = atoms * (REPEATS, REPEATS, REPEATS)
    potential = lennard_jones(cutoff=CUTOFF * SIGMA)
    velocities, begin = None, time.process_time()
    stages = ((max(3 * kelvin, 300.0), MELTING), (kelvin, SETTLING), (kelvin, steps))
    for stage, (temperature, count) in enumerate(stages):
        settings = MDSettings(
            ensemble="csvr",
            thermostat_period_fs=500.0,
            temperature=temperature,
            steps=count,
            timestep_fs=TIMESTEP_FS,
            thermo_interval=5,
            frame_interval=50,
            record_pressure=True,
            trajectory_format="h5md",
            seed=stage,
        )
        last = stage == len(stages) - 1
        result = run_md(
            potential,
            structure,
            settings,
            folder=folder if last else None,
            overwrite=True,
            initial_velocities=velocities,
        )
        structure, velocities = result.final, result.velocities
    record = {
        "atoms": len(structure.numbers),
        "steps": steps,
        "rebuilds": result.rebuilds,
        "steps_per_second": result.steps_per_second,
        "processor_s": time.process_time() - begin,
    }
    (folder / "run.json").write_text(json.dumps(record))


def tail(density: float) -> tuple[float, float]:
    """What the full potential has beyond the simulated one: reduced energy and pressure.

    ``2 pi rho int (u - u_t) r^2 dr`` from where the two part. The pressure,
    ``-2/3 pi rho^2 int (u' - u_t') r^3 dr``, is by parts the density times that: the difference
    of the two has no step.
    """
    r = np.linspace(TAPER_ONSET * CUTOFF, 60.0, 1_000_000)
    t = np.clip((r / CUTOFF - TAPER_ONSET) / (1 - TAPER_ONSET), 0, 1)
    missing = 4 * (r**-12 - r**-6) * t**3 * (10 - 15 * t + 6 * t**2)
    # Beyond the last point only the attraction is left.
    integral = float(np.trapezoid(missing * r**2, r)) - 4 / (3 * r[-1] ** 3)
    energy = 2 * np.pi * density * integral
    return energy, density * energy


def block_average(values: np.ndarray) -> tuple[float, float]:
    """Mean and block-averaged standard error."""
    average = BlockAverage()
    average.add(values)
    return float(average.mean()), float(average.error())


def measure(state: StatePoint, folder: Path) -> dict[str, Any]:
    """Reduced energy and pressure, and the radial distribution function."""
    run, thermo = json.loads((folder / "run.json").read_text()), read_thermo(folder / "thermo.csv")
    assert thermo.pressure is not None
    more_energy, more_pressure = tail(state.density)
    unit = EPSILON / SIGMA**3 / GPA
    energy, energy_error = block_average(thermo.potential / run["atoms"] / EPSILON)
    pressure, pressure_error = block_average(thermo.pressure / unit)
    with open_frames(folder) as frames:
        settings = AnalysisSettings(what=("rdf", "msd"), r_max=14.0, num_bins=280)
        results = {result.name: result for result in analyze(frames, settings).results}
    rdf, diffusion = results["rdf"], results["diffusion coefficient"]
    assert isinstance(rdf, Curves)
    assert isinstance(diffusion, Scalar)
    return {
        "temperature": state.temperature,
        "density": state.density,
        "kelvin": block_average(thermo.temperature),
        "energy": [energy + more_energy, energy_error],
        "pressure": [pressure + more_pressure, pressure_error],
        "tail": [more_energy, more_pressure],
        "nist": {"energy": state.energy, "pressure": state.pressure},
        "johnson": {
            "energy": johnson.energy(state.temperature, state.density),
            "pressure": johnson.pressure(state.temperature, state.density),
        },
        "diffusion_1e-5_cm2_s": [diffusion.value, diffusion.error],
        "peak": first_peak(rdf.x, rdf.values[0], rdf.errors[0]),
        "rdf": {"r": rdf.x.tolist(), "g": np.round(rdf.values[0], 5).tolist()},
        "run": run,
    }


def first_peak(
    r: np.ndarray, g: np.ndarray, errors: np.ndarray | None = None
) -> dict[str, float | None]:
    """Place and height of the first maximum, of a parabola through seven points about it."""
    top = int(g.argmax())
    near = slice(max(top - 3, 0), top + 4)
    a, b, c = np.polyfit(r[near] - r[top], g[near], 2)
    height_error = None if errors is None else float(errors[top])
    return {
        "r": float(r[top] - b / (2 * a)),
        "g": float(c - b**2 / (4 * a)),
        "g_error": height_error,
    }


def measured() -> dict[str, Any]:
    """Structure factor of liquid argon at 85 K, and the ``g(r)`` of its Fourier transform."""
    q, s = np.loadtxt(HERE / "argon_yarnell_1973.csv", delimiter=",").T
    r = np.arange(2.5, 14.0, 0.02)
    waves = np.sin(q * r[:, None]) * q * (s - 1)
    g = 1 + np.trapezoid(waves, q, axis=1) / (2 * np.pi**2 * YARNELL * r)
    # Ripples of the end of the table are larger than g where atoms overlap.
    outside = r > 3.3
    peak = first_peak(r[outside], g[outside])
    return {"q": q, "s": s, "r": r, "g": g, "peak": peak, "s_peak": first_peak(q, s)}


def structure_factor(folder: Path, q_max: float = 8.0, vectors: int = 3000) -> np.ndarray:
    """``S(q)`` of the frames at wave vectors of the cell, averaged in shells ``[2, shells]``."""
    with open_frames(folder) as frames:
        block = frames.read(0, len(frames), 2)
    edge = float(block.cell[0, 0, 0])
    most = int(q_max * edge / (2 * np.pi))
    axis = np.arange(-most, most + 1)
    n = np.stack(np.meshgrid(axis, axis, axis[most:], indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(n, axis=1) * 2 * np.pi / edge
    n, length = n[(length > 0) & (length < q_max)], length[(length > 0) & (length < q_max)]
    # As many in each shell of equal width: the small ones are few and all taken.
    rng = np.random.default_rng(0)
    weight = 1 / length**2
    kept = rng.choice(len(n), vectors, replace=False, p=weight / weight.sum())
    waves = 2 * np.pi / edge * n[kept]
    power = np.zeros(vectors)
    for positions in block.positions.astype(np.float32):
        phase = positions @ waves.T.astype(np.float32)
        power += np.cos(phase).sum(0) ** 2 + np.sin(phase).sum(0) ** 2
    power /= len(block) * block.positions.shape[1]
    edges = np.arange(0.2, q_max, 0.06)
    shell = np.digitize(length[kept], edges)
    used = [k for k in range(1, len(edges)) if (shell == k).any()]
    q = [length[kept][shell == k].mean() for k in used]
    return np.array([q, [power[shell == k].mean() for k in used]])


def draw(path: Path, row: dict[str, Any], factor: np.ndarray, data: dict[str, Any]) -> None:
    """Radial distribution function and structure factor at 85 K beside the measurement."""
    with figure(path, 9.5, 3.9, columns=2) as (left, right):
        r, g = np.array(row["rdf"]["r"]), np.array(row["rdf"]["g"])
        shown = data["r"] > 3.0
        left.axhline(1, color=FAINT, linewidth=1)
        left.plot(data["r"][shown], data["g"][shown], color=REFERENCE, linewidth=1.2)
        left.plot(r, g, color=MODEL)
        left.set(xlabel="distance (Å)", ylabel="g(r)", xlim=(2.5, 14), ylim=(0, 3.4))
        left.set_title("liquid argon, 85 K", loc="left")
        right.axhline(1, color=FAINT, linewidth=1)
        right.plot(data["q"], data["s"], color=REFERENCE, linewidth=1.2, label="neutrons, 1973")
        right.plot(*factor, ".", color=ACCENT, markersize=4, label="Lennard-Jones, this engine")
        right.set(xlabel="wave number (1/Å)", ylabel="S(q)", xlim=(0, 8), ylim=(0, 3.1))
        right.legend()
        ours, theirs = row["peak"], data["peak"]
        note(
            left,
            f"first peak\nthis engine {ours['r']:.2f} Å, {ours['g']:.2f}\n"
            f"neutrons {theirs['r']:.2f} Å, {theirs['g']:.2f}",
            where="upper right",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Lennard-Jones argon beside the literature.")
    parser.add_argument("--steps", type=int, default=12_500, help="of 8 fs, of each state")
    parser.add_argument("--work", type=Path, default=Path("work"), help="for the trajectories")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
    parser.add_argument("--states", type=int, nargs="+", default=[0, 1, 2], help="besides 85 K")
    args = parser.parse_args()
    rows = []
    for state in (*(STATES[k] for k in args.states), STATES[-1]):
        folder = args.work / state.name
        if not (folder / "run.json").is_file():
            simulate(state, args.steps, folder)
        rows.append(measure(state, folder))
        shown = {k: v for k, v in rows[-1].items() if k not in ("rdf", "run")}
        print(json.dumps(shown), flush=True)
    data, factor = measured(), structure_factor(args.work / STATES[-1].name)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(args.out / "argon.png", rows[-1], factor, data)
    peaks = {
        "g": data["peak"],
        "s": data["s_peak"],
        "s_simulated": first_peak(*factor[:, factor[0] < 3]),
    }
    record = {"states": rows, "yarnell": peaks, "structure_factor": np.round(factor, 4).tolist()}
    (args.out / "argon.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
