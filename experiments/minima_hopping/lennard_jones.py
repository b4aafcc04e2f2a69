"""Lennard-Jones clusters by minima hopping: which minimum after how many force calls.

    python lennard_jones.py 13 --steps 500 --folder FOLDER
    python lennard_jones.py 38 --walkers 8 --minutes 15 --folder FOLDER

eV stands for epsilon and Angstrom for sigma; the start is random.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path

import ase
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from mlffjax.config.explore import HoppingSettings, RelaxSettings  # noqa: E402
from mlffjax.explore.hop_store import read_history, read_minima  # noqa: E402
from mlffjax.explore.minima_hopping import hop  # noqa: E402
from mlffjax.pair_potentials import lennard_jones  # noqa: E402

#: Global minima in epsilon: Wales and Doye, J. Phys. Chem. A 101, 5111 (1997), table 1.
KNOWN = {7: -16.505384, 13: -44.326801, 19: -72.659782, 31: -133.586422, 38: -173.928427}
RESULTS = Path(__file__).parent / "results"


class Enough(Exception):
    """The time is over or the minimum is found."""


def random_cluster(num_atoms: int, seed: int) -> ase.Atoms:
    """Random points in a sphere of the cluster's density, none too near another."""
    rng = np.random.default_rng(seed)
    radius = 0.65 * num_atoms ** (1 / 3)
    points: list[np.ndarray] = []
    while len(points) < num_atoms:
        point = rng.uniform(-radius, radius, 3)
        apart = [np.linalg.norm(point - other) for other in points]
        if np.linalg.norm(point) < radius and min(apart, default=1) > 0.7:
            points.append(point)
    return ase.Atoms(["Ar"] * num_atoms, np.array(points))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("atoms", type=int, choices=sorted(KNOWN))
    parser.add_argument("--walkers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=15.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--soften", type=int, default=0, help="steps of softening")
    parser.add_argument("--folder", type=Path, required=True, help="of the search")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS, help="of the results")
    return parser.parse_args()


def main() -> None:
    args = parse()
    potential = lennard_jones(depth=1.0, diameter=1.0, cutoff=30.0, dtype=np.float64)
    settings = HoppingSettings(
        walkers=args.walkers,
        steps=args.steps,
        seed=args.seed,
        temperature=6000.0,  # 0.5 epsilon
        energy_difference=1.0,
        timestep_fs=1.5,  # 0.023 tau
        mdmin=4,
        soften_steps=args.soften,
        md_steps=500,
        permutations=True,
        mirror=True,
        rmsd=0.1,
        energy_tolerance=1e-4,
        relax=RelaxSettings(fmax=1e-3, steps=2000),
        save_interval=100,
    )
    goal = KNOWN[args.atoms] + 1e-4
    begin, clock = time.process_time(), time.perf_counter()
    lowest = [0.0]

    def progress(escapes, minima) -> None:
        low = min((e.energy for e in escapes if e.energy is not None), default=0.0)
        if low < lowest[0] - 1e-6:
            lowest[0] = low
            spent = time.process_time() - begin
            print(
                f"{low:.6f}  escape {escapes[-1].step}  {minima} minima  {spent:.0f} s", flush=True
            )
        if lowest[0] < goal or time.process_time() - begin > 60 * args.minutes:
            raise Enough

    starts = [random_cluster(args.atoms, args.seed + k) for k in range(args.walkers)]
    with contextlib.suppress(Enough):
        hop(potential, starts, settings, folder=args.folder, resume=args.resume, progress=progress)
    result = {
        "atoms": args.atoms,
        "known": KNOWN[args.atoms],
        **summary(args.folder, goal),
        "walkers": args.walkers,
        "seed": args.seed,
        "soften_steps": args.soften,
        "processor_seconds_of_the_last_process": time.process_time() - begin,
        "seconds_of_the_last_process": time.perf_counter() - clock,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    name = f"lj{args.atoms}_seed{args.seed}_soften{args.soften}.json"
    (args.out / name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def summary(folder: Path, goal: float) -> dict:
    """The lowest minimum of the search and the effort until it was found, from its history.

    A minimum that a start relaxed to counts from the escape 0.
    """
    history, minima = read_history(folder), list(read_minima(folder))
    best = min(minima, key=lambda m: m.energy)
    calls = np.cumsum([0, *(escape.force_calls for escape in history)])
    return {
        "lowest": best.energy,
        "reached": bool(best.energy < goal),
        "found_by_escape": best.first_seen + 1,
        "force_calls_until_then": int(calls[best.first_seen + 1]),
        "escapes": len(history),
        "force_calls": int(calls[-1]),
        "minima": len(minima),
    }


if __name__ == "__main__":
    main()
