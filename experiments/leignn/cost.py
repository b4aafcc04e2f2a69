"""Cost of LEIGNN against MACE and PaiNN of equal width on the same graph.

    python cost.py STRUCTURE.xyz [--width 128] [--repeats 21] [--json cost.json]

Energy and forces of the first frame of a file, random weights, float32, warm; the models take turns
and the median is printed, with the ratio to MACE of each turn.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, cast

import ase.io
import jax
import numpy as np
from ase import Atoms

from mlffjax.models import build
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

CUTOFF = 5.0


def models(width: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Architecture and fields by name; all with the same width and cutoff."""
    return {
        "MACE": ("mace", {"num_channels": width}),
        "PaiNN": ("painn", {"num_features": width}),
        "PaiNN, direct forces": ("painn", {"num_features": width, "force_head": True}),
        "LEIGNN": ("leignn", {"num_features": width}),
        "LEIGNN, direct forces": ("leignn", {"num_features": width, "force_head": True}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of LEIGNN against MACE.")
    parser.add_argument("structure", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    atoms = cast(Atoms, ase.io.read(args.structure, "0"))
    elements = tuple(sorted({int(z) for z in atoms.numbers}))
    graph = jax.device_put(
        atom_graph(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    )
    programs: dict[str, Any] = {}
    rows: dict[str, dict[str, float]] = {}
    for name, (architecture, fields) in models(args.width).items():
        module = build(architecture, {**fields, "cutoff": CUTOFF, "avg_num_neighbors": 30.0})
        potential = Potential.init(module, elements, jax.random.key(0))
        program = jax.jit(Potential.energy_forces).lower(potential, graph).compile()
        rows[name] = {"parameters": potential.num_parameters}
        programs[name] = (program, potential)
        jax.block_until_ready(program(potential, graph))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(args.repeats):
        for name, (program, potential) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(potential, graph))
            times[name].append(1e3 * (time.perf_counter() - start))
    mace = np.array(times["MACE"])
    print(f"{len(atoms)} atoms, {len(graph.senders)} edges, width {args.width}")
    for name, row in rows.items():
        row["ms"] = float(np.median(times[name]))
        row["times_cheaper_than_mace"] = float(np.median(mace / np.array(times[name])))
        print(
            f"{name:<24}{row['parameters']:>10,} parameters"
            f"{row['ms']:>10.2f} ms   MACE takes {row['times_cheaper_than_mace']:.1f} times as long"
        )
    if args.json:
        record = {"atoms": len(atoms), "edges": len(graph.senders), "width": args.width}
        args.json.write_text(json.dumps({**record, "models": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
