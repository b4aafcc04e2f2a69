"""100 rattled ethanols: the batch on the device against ASE's optimiser one by one.

    python relax_vs_ase.py MODEL

Rounds alternate between the two, so that both see the same load of the machine; each round
relaxes all structures in one batch and its own part of them with ASE. Compilation is done before.
"""

import argparse
import json
import time
from pathlib import Path

import ase
import ase.optimize
import numpy as np

import mlffjax
from mlffjax.calculator import MLFFCalculator
from mlffjax.config.explore import RelaxSettings
from mlffjax.explore.relax import RelaxResult, relax
from mlffjax.potential import Potential

RESULTS = Path(__file__).parent / "results"
OPTIMIZERS = {"lbfgs": ase.optimize.LBFGS, "fire": ase.optimize.FIRE}


def rattled(count: int, size: float) -> list[ase.Atoms]:
    """Frames of the built-in ethanol, each rattled."""
    frames = [f for f in mlffjax.load_builtin("ethanol") if len(f.numbers) == 9]
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(frames), count, replace=False)
    return [
        ase.Atoms(frames[k].numbers, frames[k].positions + rng.normal(0, size, (9, 3)))
        for k in chosen
    ]


def one_by_one(
    potential: Potential, structures: list[ase.Atoms], settings: RelaxSettings
) -> list[tuple[float, int]]:
    """Interaction energy and force calls of each with ASE."""
    calculator = MLFFCalculator(potential)
    results = []
    for structure in structures:
        atoms = structure.copy()
        atoms.calc = calculator
        with OPTIMIZERS[settings.method](atoms, logfile=None) as run:
            run.run(settings.fmax, settings.steps)
        energy = atoms.get_potential_energy() - potential.baseline_energy(atoms.numbers)
        results.append((energy, run.nsteps + 1))
    return results


def compare(
    potential: Potential, structures: list[ase.Atoms], settings: RelaxSettings, rounds: int
) -> dict:
    """Both ways, in rounds."""
    relax(potential, structures, settings)  # compiles
    one_by_one(potential, structures[:1], settings)
    parts = np.array_split(np.arange(len(structures)), rounds)
    ratios, batch_seconds, ase_seconds, processor_ratios = [], [], [], []
    own: list[RelaxResult] = []
    reference: list[tuple[float, int]] = []
    for part in parts:
        begin, used = time.perf_counter(), [time.process_time()]
        own = relax(potential, structures, settings)
        middle = time.perf_counter()
        used.append(time.process_time())
        reference += one_by_one(potential, [structures[k] for k in part], settings)
        end = time.perf_counter()
        used.append(time.process_time())
        whole = len(structures) / len(part)
        batch_seconds.append(middle - begin)
        ase_seconds.append((end - middle) * whole)
        ratios.append(ase_seconds[-1] / batch_seconds[-1])
        processor_ratios.append((used[2] - used[1]) * whole / (used[1] - used[0]))
    away = np.array([abs(r.energy - e) for r, (e, _) in zip(own, reference, strict=True)])
    return {
        "method": settings.method,
        "fmax": settings.fmax,
        "structures": len(structures),
        "converged": sum(r.converged for r in own),
        "same_minimum": int((away < 1e-3).sum()),
        "largest_difference_of_the_same_eV": float(away[away < 1e-3].max()),
        "within_1e-5_eV": int((away < 1e-5).sum()),
        "force_calls_batch": float(np.mean([r.force_calls for r in own])),
        "force_calls_ase": float(np.mean([calls for _, calls in reference])),
        "seconds_batch": float(np.median(batch_seconds)),
        "seconds_ase": float(np.median(ase_seconds)),
        "ratio_of_times": float(np.median(ratios)),
        "ratio_of_processor_times": float(np.median(processor_ratios)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="potential of ethanol")
    parser.add_argument("--rattle", type=float, default=0.05, help="in Angstrom")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--methods", nargs="+", choices=list(OPTIMIZERS), default=["lbfgs", "fire"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="of the results")
    args = parser.parse_args()
    potential = mlffjax.load(args.model)
    structures = rattled(100, args.rattle)
    args.out.mkdir(parents=True, exist_ok=True)
    for method in args.methods:
        settings = RelaxSettings(method=method, fmax=5e-4, steps=2000, batch_size=100)
        row = json.dumps(compare(potential, structures, settings, args.rounds), indent=1)
        print(row, flush=True)
        (args.out / f"relax_vs_ase_{method}.json").write_text(row + "\n")


if __name__ == "__main__":
    main()
