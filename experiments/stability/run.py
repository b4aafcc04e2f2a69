"""Stability of dynamics with invariant and with equivariant features, as fig. 5 (b) of SO3krates.

    python experiments/stability/run.py --work work --steps 20000 --ps 300
    python experiments/stability/run.py --models invariant=FOLDER equivariant=FOLDER --ps 300

trains SO3krates on the built-in ethanol with degrees {0} and {0, 1, 2, 3} (unless potentials are
given), then runs six replicas of NVT dynamics at 300 K and at 500 K, all six in one program, and
writes ``results/results.json`` and ``results/stability.png``.
"""

import argparse
import json
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import mlffjax
from mlffjax.config.md import MDSettings
from mlffjax.config.run import RunSettings
from mlffjax.data import Frame
from mlffjax.data.builtin import load_builtin
from mlffjax.md.records import MDResult
from mlffjax.md.replicas import run_replicas
from mlffjax.md.stability import stability_coefficient
from mlffjax.md.trajectory_readers import open_trajectory
from mlffjax.potential import Potential
from mlffjax.workflow import train

HERE = Path(__file__).parent
DEGREES = {"invariant": [0], "equivariant": [0, 1, 2, 3]}
COLORS = {"invariant": "#d55e00", "equivariant": "#0072b2"}
TEMPERATURES = (300.0, 500.0)
REPLICAS = 6
TIMESTEP_FS = 0.5
#: Distances of the histograms in Angstrom.
BINS = np.linspace(0.7, 4.7, 161)


def training_settings(name: str, steps: int, folder: Path) -> RunSettings:
    """Settings of a training; all but the degrees are the same."""
    return RunSettings.parse(
        {
            "data": {
                "train": "builtin:ethanol",
                "split": {"train": 1000, "valid": 100, "test": "rest"},
            },
            "model": {
                "architecture": "so3krates",
                "num_features": 64,
                "num_layers": 2,
                "degrees": DEGREES[name],
            },
            "training": {
                "steps": steps,
                "batch_size": 5,
                "optimizer": {"learning_rate": 5e-3},
                "schedule": {"name": "cosine", "warmup_steps": 100, "minimum": 0.01},
                "ema": 0.995,
                "validation_interval": steps,
                "tensorboard": False,
            },
            "output": {"folder": str(folder / name)},
        },
        source="stability",
    )


def potentials(args: argparse.Namespace) -> tuple[dict[str, Potential], dict[str, Any]]:
    """The potentials by name, and their errors on held-out frames where they are known."""
    if args.models:
        given = dict(model.split("=", 1) for model in args.models)
        return {name: mlffjax.load(folder) for name, folder in given.items()}, {}
    made, errors = {}, {}
    for name in DEGREES:
        outcome = train(training_settings(name, args.steps, args.work), overwrite=True)
        made[name] = outcome.potential
        assert outcome.test is not None
        errors[name] = {
            "forces_mae_meV_A": 1e3 * float(outcome.test.forces_mae or np.nan),
            "energy_mae_meV_atom": 1e3 * float(outcome.test.energy_mae or np.nan),
        }
    return made, errors


def distances(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Probability density of all distances within the frames, in 1/Angstrom."""
    i, j = np.array(list(combinations(range(frames[0].shape[0]), 2))).T
    positions = np.asarray(frames)
    lengths = np.linalg.norm(positions[:, i] - positions[:, j], axis=-1)
    counts, _ = np.histogram(lengths, BINS)
    return counts / lengths.size / np.diff(BINS)


def simulate(
    potential: Potential, starts: Sequence[Frame], temperature: float, steps: int, folder: Path
) -> tuple[list[MDResult], list[list[np.ndarray]]]:
    """Six replicas from different held-out frames, and the frames of each after its first tenth."""
    settings = MDSettings(
        ensemble="langevin",
        friction_per_ps=5.0,
        temperature=temperature,
        timestep_fs=TIMESTEP_FS,
        steps=steps,
        thermo_interval=100,
        frame_interval=100,
        bond_check=True,
        trajectory_format="h5md",
    )
    results = run_replicas(potential, starts, settings, folder=folder, overwrite=True)
    frames = []
    for k in range(len(starts)):
        with open_trajectory(folder / f"replica_{k:03d}" / "trajectory.h5") as trajectory:
            moved = [frame.positions for frame in trajectory]
        frames.append(moved[len(moved) // 10 :])
    return results, frames


def mean_temperature(results: Sequence[MDResult]) -> float:
    """Mean over the replicas without their first tenths, in kelvin."""
    late = [r.thermo.temperature[len(r.thermo.step) // 10 :].mean() for r in results]
    return float(np.mean(late))


def draw(path: Path, rows: list[dict[str, Any]], reference: np.ndarray) -> None:
    """Stability coefficients, and distances at the temperature of the reference frames."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for row in rows:
        offset = -0.2 if row["model"] == "invariant" else 0.2
        place = TEMPERATURES.index(row["temperature_K"]) + offset
        color = COLORS[row["model"]]
        label = row["model"] if place < 0.5 else None
        left.bar(place, row["c_s"], 0.36, color=color, alpha=0.45, label=label)
        each = row["c_s_each"]
        left.plot(place + np.linspace(-0.12, 0.12, len(each)), each, "o", ms=4, color=color)
    left.set_xticks(range(len(TEMPERATURES)), [f"{t:g} K" for t in TEMPERATURES])
    left.set(ylabel="stability coefficient", ylim=(0, 1.25))
    left.legend(frameon=False, loc="upper center", ncols=2)
    centres = (BINS[1:] + BINS[:-1]) / 2
    right.fill_between(centres, reference, color="0.85", label="reference frames")
    for row in rows:
        if row["temperature_K"] == 500.0:
            label = f"{row['model']}, MAE {row['rdf_mae_1_A']:.3f}"
            right.plot(centres, row["density"], color=COLORS[row["model"]], lw=1.2, label=label)
    right.set(xlabel="distance (Å)", ylabel="probability density (1/Å)", title="500 K")
    right.legend(frameon=False)
    figure.savefig(path, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", metavar="NAME=FOLDER", help="trained potentials")
    parser.add_argument("--steps", type=int, default=20000, help="of a training (20000)")
    parser.add_argument("--ps", type=float, default=300.0, help="length of a run (300)")
    parser.add_argument("--work", type=Path, default=Path("work"), help="for trainings and runs")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    made, errors = potentials(args)
    labelled = [f for f in load_builtin("ethanol") if len(f.numbers) > 1]
    reference = distances([frame.positions for frame in labelled])
    starts = labelled[:: len(labelled) // REPLICAS][:REPLICAS]
    steps = round(1000 * args.ps / TIMESTEP_FS)
    trained = None if args.models else args.steps
    settings = {"ps": args.ps, "training_steps": trained, "replicas": REPLICAS}
    rows = []
    for name, potential in made.items():
        for temperature in TEMPERATURES:
            begin = time.process_time()
            folder = args.work / f"{name}_{temperature:g}K"
            results, frames = simulate(potential, starts, temperature, steps, folder)
            density = distances([f for one in frames for f in one])
            stable = [result.steps for result in results]
            rows.append(
                {
                    "model": name,
                    "temperature_K": temperature,
                    "c_s": stability_coefficient(stable, steps),
                    "c_s_each": [n / steps for n in stable],
                    "messages": [result.message for result in results],
                    "mean_temperature_K": mean_temperature(results),
                    "rdf_mae_1_A": float(np.abs(density - reference).mean()),
                    "rdf_mae_each": [
                        float(np.abs(distances(one) - reference).mean()) if one else None
                        for one in frames
                    ],
                    "density": density.tolist(),
                    "processor_s": time.process_time() - begin,
                }
            )
            shown = {k: v for k, v in rows[-1].items() if k not in ("density", "messages")}
            print(shown, flush=True)
            # After every case: a run cut short keeps what it has.
            results = {"settings": settings, "errors": errors, "rows": rows}
            (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            draw(args.out / "stability.png", rows, reference)


if __name__ == "__main__":
    main()
