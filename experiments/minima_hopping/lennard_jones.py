"""Lennard-Jones clusters by minima hopping: which minimum after how many force calls.

    python lennard_jones.py 13 --steps 500
    python lennard_jones.py 38 --walkers 8 --minutes 15

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("atoms", type=int)
    parser.add_argument("--walkers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=15.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    potential = lennard_jones(depth=1.0, diameter=1.0, cutoff=30.0, dtype=np.float64)
    settings = HoppingSettings(
        walkers=args.walkers,
        steps=args.steps,
        seed=args.seed,
        temperature=6000.0,  # 0.5 epsilon
        energy_difference=1.0,
        timestep_fs=1.5,  # 0.023 tau
        mdmin=4,
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
    seen = {"escapes": 0, "calls": 0, "minima": 0}
    found: dict[str, float] = {}

    def progress(escapes, minima) -> None:
        seen["escapes"] += len(escapes)
        seen["calls"] += sum(e.force_calls for e in escapes)
        seen["minima"] = minima
        low = min((e.energy for e in escapes if e.energy is not None), default=0.0)
        if low < found.get("energy", 0.0) - 1e-6:
            found.update(energy=low, **seen)
            spent = time.process_time() - begin
            print(f"{low:.6f}  {seen}  {spent:.0f} s of processor time", flush=True)
        if found["energy"] < goal or time.process_time() - begin > 60 * args.minutes:
            raise Enough

    starts = [random_cluster(args.atoms, args.seed + k) for k in range(args.walkers)]
    with contextlib.suppress(Enough):
        hop(potential, starts, settings, folder=args.folder, resume=args.resume, progress=progress)
    result = {
        "atoms": args.atoms,
        "known": KNOWN[args.atoms],
        "lowest": found["energy"],
        "reached": bool(found["energy"] < goal),
        "at_escape": found["escapes"],
        "at_force_call": found["calls"],
        **seen,
        "walkers": args.walkers,
        "seed": args.seed,
        "processor_seconds": time.process_time() - begin,
        "seconds": time.perf_counter() - clock,
    }
    RESULTS.mkdir(exist_ok=True)
    name = f"lj{args.atoms}_seed{args.seed}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
