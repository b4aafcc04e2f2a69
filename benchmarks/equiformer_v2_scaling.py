"""Time and memory of EquiformerV2 against the highest degree and the number of edges.

    python benchmarks/equiformer_v2_scaling.py [--degrees 2 4 6] [--cells 2 3 4] [--json out.json]

One conservative call for energy and forces, random weights, float32, warm, median of the
repeats; copper cells of ``n^3`` primitive cells within 5 Angstrom. Memory is what XLA reserves
for temporaries of the compiled program.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import ase.build
import jax
import numpy as np
from provenance import provenance

from mlffjax.models import EquiformerV2
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential


def measure(degree: int, cell: int, args: argparse.Namespace) -> dict[str, Any]:
    """Time and memory of one model on one cell."""
    module = EquiformerV2(
        num_layers=args.layers,
        num_channels=args.channels,
        max_degree=degree,
        max_order=min(degree, 2),
        attention_grid=(max(7, degree + 1), 24),
        feed_forward_grid=(12, 24),
        avg_num_neighbors=42.0,
    )
    potential = Potential.init(module, (29,), jax.random.key(0))
    atoms = ase.build.bulk("Cu", "fcc", a=3.61) * (cell, cell, cell)
    atoms.rattle(0.05, seed=0)
    graph = atom_graph(
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, module.cutoff, np.float32
    )
    compiled = jax.jit(Potential.energy_forces).lower(potential, graph).compile()
    jax.block_until_ready(compiled(potential, graph))
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(potential, graph))
        times.append(time.perf_counter() - start)
    memory = compiled.memory_analysis()
    return {
        "degree": degree,
        "atoms": len(atoms),
        "edges": len(graph.senders),
        "parameters": potential.num_parameters,
        "milliseconds": 1e3 * float(np.median(times)),
        "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--degrees", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--cells", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here; must not exist")
    args = parser.parse_args()
    if args.json is not None and args.json.exists():
        parser.error(f"got --json {args.json}, which exists; expected a new file; move it away")
    rows = []
    print("degree  atoms   edges   parameters        ms   MiB")
    for degree in args.degrees:
        for cell in args.cells:
            row = measure(degree, cell, args)
            rows.append(row)
            print(
                "{degree:6d} {atoms:6d} {edges:7d} {parameters:12d} {milliseconds:9.1f} "
                "{temporary_mib:5.0f}".format(**row),
                flush=True,
            )
    if args.json is not None:
        report = {**provenance(), "device": jax.devices()[0].device_kind, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
