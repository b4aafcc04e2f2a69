"""NVE dynamics of trained potentials: drift of the total energy, and forces against the gradient.

    python run.py TEST.npz RUNS/NAME [RUNS/NAME ...] --out results

Every run starts from the first frame of the test file with the same velocities. ``forces``
compares the forces with minus the central difference of the energy, in double precision.
"""

import argparse
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mlffjax
from mlffjax.config.md import MDSettings
from mlffjax.data import Frame, read_frames
from mlffjax.md.engine import run_md
from mlffjax.md.observables import energy_drift
from mlffjax.potential import Potential
from mlffjax.training.evaluate import evaluate

#: Half the difference of two displaced positions, in Angstrom.
DISPLACEMENT = 1e-4


def force_errors(potential: Potential, frames: list[Frame]) -> dict[str, float]:
    """Largest and mean ``|F + dE/dr|`` over all components, in eV/Angstrom."""
    double = potential.astype("float64")
    forces = np.array(evaluate(double, frames).forces)
    moved = []
    for frame in frames:
        for atom, axis, sign in np.ndindex(len(frame.numbers), 3, 2):
            positions = frame.positions.copy()
            positions[atom, axis] += (1 - 2 * sign) * DISPLACEMENT
            moved.append(dataclasses.replace(frame, positions=positions, energy=None, forces=None))
    energy = evaluate(double, moved).energy.reshape(*forces.shape, 2)
    error = np.abs(forces + (energy[..., 0] - energy[..., 1]) / (2 * DISPLACEMENT))
    return {"largest": float(error.max()), "mean": float(error.mean())}


def dynamics(potential: Potential, frame: Frame, settings: MDSettings) -> dict[str, Any]:
    """Drift in meV/atom/ps and the total energy per atom along the run."""
    atoms = len(frame.numbers)
    with warnings.catch_warnings():
        # That direct forces drift is what is shown here.
        warnings.filterwarnings("ignore", message="got direct forces in NVE")
        result = run_md(potential, frame, settings)
    thermo = result.thermo
    total = 1e3 * (thermo.total - thermo.total[0]) / atoms
    return {
        "drift": 1e3 * energy_drift(thermo, atoms)[0],
        "fluctuation": float(total.std()),
        "ended": result.message,
        "temperature": float(thermo.temperature.mean()),
        "steps_per_second": result.steps_per_second,
        "time_ps": (thermo.time_fs / 1e3).round(6).tolist(),
        "total_mev_per_atom": total.round(5).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Energy drift of trained potentials.")
    parser.add_argument("frames", type=Path, help="labelled frames; the first one starts the runs")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished trainings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--steps", type=int, default=20_000, help="of 0.5 fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="of the velocities, K")
    parser.add_argument("--float64", action="store_true", help="dynamics in double precision")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    frames = list(read_frames(args.frames)[:3])
    settings = MDSettings(
        ensemble="nve",
        steps=args.steps,
        timestep_fs=0.5,
        temperature=args.temperature,
        thermo_interval=max(1, args.steps // 1000),
        frame_interval=args.steps,
        seed=1,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for run in args.runs:
        potential = mlffjax.load(run)
        moving = potential.astype("float64" if args.float64 else "float32")
        name = run.name + ("_float64" if args.float64 else "")
        record = {
            "model": run.name,
            "direct_forces": potential.module.direct_forces,
            "timestep_fs": settings.timestep_fs,
            "steps": settings.steps,
            "force_against_gradient": force_errors(potential, frames),
            **dynamics(moving, frames[0], settings),
        }
        (args.out / f"{name}.json").write_text(json.dumps(record) + "\n")
        print(
            f"{name}: drift {record['drift']:+.4f} meV/atom/ps, {record['ended']}; "
            f"largest |F + dE/dr| {record['force_against_gradient']['largest']:.2e} eV/Å",
            flush=True,
        )


if __name__ == "__main__":
    main()
