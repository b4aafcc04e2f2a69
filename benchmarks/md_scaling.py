"""Time a step of dynamics against the number of atoms; neighbour lists; the skin.

    python benchmarks/md_scaling.py steps --json results/md_scaling_cpu.json
    python benchmarks/md_scaling.py lists
    python benchmarks/md_scaling.py skin

Lennard-Jones argon, cutoff 8.5 Angstrom, float32: a potential so cheap that lists and integrator
show. Times are of the processor (``time.process_time``), all threads together, so that other
work on the machine does not count; medians of repeats that are interleaved over the rows.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import bulk
from provenance import provenance

from mlffjax.config.md import MDSettings
from mlffjax.md import device_neighbors
from mlffjax.md.cell_lists import cell_lists
from mlffjax.md.engine import run_md
from mlffjax.models import build
from mlffjax.neighbors import atom_graph
from mlffjax.pair_potentials import lennard_jones
from mlffjax.potential import Potential

CUTOFF = 8.5  # Angstrom, two and a half diameters
#: Repetitions of the cubic cell of four atoms: 108 to 19,652 atoms.
REPEATS = (3, 4, 5, 6, 8, 10, 13, 17)
#: Lattice constants in Angstrom and repetitions for which both kinds of list are timed.
DENSITIES = ((4.6, 5), (4.6, 6), (4.6, 7), (5.4, 6), (5.4, 7), (5.4, 8), (7.0, 8), (7.0, 10))


def argon(repeats: int, lattice: float = 5.4) -> Atoms:
    """A rattled crystal of argon."""
    atoms = bulk("Ar", "fcc", a=lattice, cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.1, seed=0)
    return atoms


def step_times(potential: Potential, atoms: Atoms, steps: int, skin: float | None) -> list[float]:
    """Milliseconds of a step in each of four stretches of NVE at 90 K, rebuilds included."""
    marks: list[float] = []
    settings = MDSettings(
        ensemble="nve",
        steps=4 * steps,
        chunk_steps=steps,
        timestep_fs=4.0,
        temperature=90.0,
        skin=skin,
        thermo_interval=steps,
        frame_interval=4 * steps,
    )
    run_md(potential, atoms, settings, progress=lambda *_: marks.append(time.process_time()))
    return (1e3 * np.diff(marks) / steps).tolist()


def scaling(rounds: int) -> list[dict[str, Any]]:
    """Time of a step by the number of atoms."""
    potential = lennard_jones(cutoff=CUTOFF)
    times: dict[int, list[float]] = {n: [] for n in REPEATS}
    for _ in range(rounds):
        for n in REPEATS:
            steps = max(10, min(200, 40_000 // (4 * n**3)))
            # The first stretch of a run holds what is left of its start.
            times[n] += step_times(potential, argon(n), steps, None)[1:]
    return [
        {"atoms": 4 * n**3, "ms": float(np.median(ms)), "quartiles": np.percentile(ms, [25, 75])}
        for n, ms in times.items()
    ]


def exponent(rows: list[dict[str, Any]], least: int, most: int) -> float:
    """Slope of the logarithm of the time against that of the number of atoms."""
    chosen = [(row["atoms"], row["ms"]) for row in rows if least <= row["atoms"] <= most]
    atoms, ms = np.log(np.array(chosen)).T
    return float(np.polyfit(atoms, ms, 1)[0])


def processor_ms(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median processor time of each call, interleaved, after one that compiles."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(repeats + 1):
        for name, call in calls.items():
            begin = time.process_time()
            jax.block_until_ready(call())
            if k:
                times[name].append(1e3 * (time.process_time() - begin))
    return {name: float(np.median(ms)) for name, ms in times.items()}


def list_times(repeats: int) -> list[dict[str, Any]]:
    """Time to make a list from all pairs and by cell lists, by size and density."""
    rows = []
    for lattice, n in DENSITIES:
        atoms = argon(n, lattice)
        place = atoms.positions, atoms.cell.array
        plan = device_neighbors.plan_neighbors(*place, atoms.pbc, CUTOFF, 1.0)
        cells = cell_lists(*place, plan.pbc, CUTOFF + 1.0)
        arrays = [jnp.asarray(a, jnp.float32) for a in place]
        calls: dict[str, Callable[[], Any]] = {}
        for name, kind in (("pairs", None), ("cells", cells)):
            made = dataclasses.replace(plan, cells=kind)
            calls[name] = partial(jax.jit(partial(device_neighbors.allocate, made)), *arrays)
        pairs = len(atoms) * int(np.prod(plan.replicas))
        row = {"lattice": lattice, "atoms": len(atoms), "ratio": pairs / cells.slots_per_atom}
        rows.append({**row, **processor_ms(calls, repeats)})
        print(
            f"lattice {lattice:.1f} A {len(atoms):>6} atoms, all pairs / slots "
            f"{row['ratio']:5.2f}: pairs {rows[-1]['pairs']:7.2f} ms, "
            f"cells {rows[-1]['cells']:7.2f} ms",
            flush=True,
        )
    return rows


def skin_times(rounds: int) -> list[dict[str, Any]]:
    """Time of a step by the skin: Lennard-Jones, and a small SO3krates on the same motion.

    Untrained networks have no stable dynamics. So the time of a step of SO3krates is that of
    Lennard-Jones with the time of one evaluation exchanged for the other; the motion, and with it
    the rebuilds, stay those of argon.
    """
    potential = lennard_jones(cutoff=CUTOFF)
    network = Potential.init(
        build("so3krates", {"num_features": 72, "num_layers": 2, "cutoff": 5.0}),
        [18],
        jax.random.key(0),
    )
    rows = []
    for name, atoms, steps in skin_systems():
        graph = _graph(network, atoms)
        net = processor_ms({"n": partial(jax.jit(Potential.energy_forces), network, graph)}, 5)["n"]
        times: dict[float, list[float]] = {skin: [] for skin in (0.0, 0.5, 1.0, 1.5, 2.0)}
        for _ in range(rounds):
            for skin in times:
                times[skin] += step_times(potential, atoms, steps, skin)[1:]
        for skin, ms in times.items():
            rows.append({"system": name, "skin": skin, "ms": float(np.median(ms)), "network": net})
            print(f"{name:>5} atoms skin {skin:4.2f}: {rows[-1]['ms']:8.3f} ms (network {net:.2f})")
    return rows


def skin_systems() -> list[tuple[str, Atoms, int]]:
    """Names, structures and the steps of a stretch."""
    cluster = argon(3)[:27]
    cluster.pbc = False
    return [("27", cluster, 200), ("192", argon_box(), 100), ("2048", argon(8), 20)]


def argon_box() -> Atoms:
    """192 atoms in a periodic box."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (4, 4, 3)
    atoms.rattle(0.1, seed=0)
    return atoms


def _graph(potential: Potential, atoms: Atoms) -> Any:
    place = atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc
    return jax.device_put(atom_graph(*place, potential.cutoff))


def draw(path: Path, rows: list[dict[str, Any]], slope: float) -> None:
    """Time of a step against atoms, both logarithmic, with a line of slope one."""
    atoms, ms = (np.array([row[name] for row in rows]) for name in ("atoms", "ms"))
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    axes.loglog(atoms, ms, "o-", label=f"measured, exponent {slope:.2f} from 500 atoms")
    axes.loglog(atoms, ms[-1] * atoms / atoms[-1], "--", color="0.5", label="proportional")
    axes.set(xlabel="atoms", ylabel="processor time of a step (ms)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time dynamics against the number of atoms.")
    parser.add_argument("what", choices=("steps", "lists", "skin"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    device = jax.devices()[0].device_kind
    results: dict[str, Any] = {**provenance(), "jax": version("jax"), "device": device}
    if args.what == "steps":
        rows = scaling(args.rounds)
        slope = exponent(rows, 500, 20_000)
        for row in rows:
            row["quartiles"] = row["quartiles"].tolist()
            print(f"{row['atoms']:>6} atoms {row['ms']:9.3f} ms a step", end="")
            print(f" {1e3 * row['ms'] / row['atoms']:7.2f} us an atom")
        print(f"exponent from 500 to 20,000 atoms: {slope:.3f}")
        results |= {"rows": rows, "exponent": slope}
        if args.json:
            draw(args.json.with_suffix(".png"), rows, slope)
    else:
        results["rows"] = (list_times if args.what == "lists" else skin_times)(args.rounds)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
