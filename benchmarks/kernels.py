"""The longest kernels of energy and forces, beside the floors of arithmetic and memory.

    python benchmarks/kernels.py so3krates water192
    python benchmarks/kernels.py mace molecule1205 --top 40 --json kernels.json
    python benchmarks/kernels.py mace bpa27 --structure bpa27=train_300K.xyz

Runs on the device that JAX finds, with the settings of our command line but for huge pages
(``GLIBC_TUNABLES=glibc.malloc.hugetlb=1`` asks for them). Random weights, float32, neighbour lists
at hand.
"""

import argparse
import gzip
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlffjax.allocator import keep_freed_memory
from mlffjax.xla_flags import WITHOUT_TILES

os.environ.setdefault("XLA_FLAGS", WITHOUT_TILES)

import jax
import numpy as np
import structures
from ase import Atoms
from cases import MODELS, PEERS_ONLY
from provenance import provenance
from workers.floors import machine, matrix_flops

from mlffjax.graph import AtomGraph
from mlffjax.models import build
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

#: Calls that are timed, and calls that are profiled.
TIMED, PROFILED = 20, 5


def main() -> None:
    args = parse()
    keep_freed_memory()
    potential, graph = case(args)
    program = jax.jit(Potential.energy_forces).lower(potential, graph).compile()

    def call() -> None:
        jax.block_until_ready(program(potential, graph))

    cost: Any = program.cost_analysis()
    found = {
        "model": args.model,
        "system": args.system,
        "atoms": int(graph.positions.shape[0]),
        "edges": int(graph.senders.shape[0]),
        "device": jax.devices()[0].device_kind,
        **provenance(),
        "jax": version("jax"),
        "ms": median_ms(call),
        "gflop": matrix_flops(Potential.energy_forces, potential, graph) / 1e9,
        "traffic_gb": cost["bytes accessed"] / 1e9,
        **machine(),
        "kernels": kernels(call, program.as_text() or ""),
    }
    print(report(found, args.top))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=sorted(set(MODELS) - PEERS_ONLY))
    parser.add_argument("system", help="molecule<n>, water<n>, cu<n>, or the --structure")
    parser.add_argument("--structure", metavar="NAME=FILE", help="a file for a system")
    parser.add_argument("--top", type=int, default=25, help="kernels printed")
    parser.add_argument("--json", type=Path, help="where to write everything")
    args = parser.parse_args()
    if args.structure and "=" not in args.structure:
        parser.error(f"got --structure {args.structure!r}; expected NAME=FILE")
    return args


def frame(args: argparse.Namespace) -> Atoms:
    """The first frame of the system."""
    files = dict([args.structure.split("=", 1)]) if args.structure else {}
    paths = {name: Path(file) for name, file in files.items()}
    return structures.make(args.system, paths).frames[0]


def case(args: argparse.Namespace) -> tuple[Potential, AtomGraph]:
    """A potential with random weights and the first frame of the system."""
    atoms = frame(args)
    settings = dict(MODELS[args.model])
    tolerance = settings.pop("compressed", None)
    module = build(settings.pop("architecture"), settings)
    elements = sorted({int(number) for number in atoms.numbers})
    potential = Potential.init(module, elements, jax.random.key(0))
    potential = potential if tolerance is None else potential.compressed(tolerance)
    graph = atom_graph(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        potential.cutoff,
        np.float32,
    )
    return potential, jax.device_put(graph)


def median_ms(call: Callable[[], None]) -> float:
    """Of :data:`TIMED` calls one after the other."""
    times = []
    for _ in range(TIMED + 2):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times[2:]))


def kernels(call: Callable[[], None], program: str) -> list[dict[str, Any]]:
    """Kernels of a call by their time, the longest first.

    Args:
      call: runs the program.
      program: its text, which knows for each kernel what it was made from.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(PROFILED):
                call()
        (path,) = Path(folder).glob("plugins/profile/*/*.trace.json.gz")
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    spent: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for event in events:
        name = event.get("args", {}).get("hlo_op", "")
        # The body of a loop is listed by itself.
        if event.get("ph") == "X" and name and not name.startswith(("while", "call")):
            spent[name] += event["dur"]
            count[name] += 1
    origins = dict(re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*op_name="([^"]*)"', program, re.M))
    return [
        {
            "name": name,
            "ms": microseconds / 1e3 / PROFILED,
            "calls": count[name] / PROFILED,
            "origin": origins.get(name, ""),
        }
        for name, microseconds in spent.most_common()
    ]


def report(found: dict[str, Any], top: int) -> str:
    """What was found, for the terminal."""
    ms, rows = found["ms"], found["kernels"]
    arithmetic = 1e3 * found["gflop"] / float(found["peak_gflops"])
    traffic = 1e3 * found["traffic_gb"] / float(found["copy_gb_per_s"])
    total = sum(row["ms"] for row in rows)
    lines = [
        f"{found['model']}, {found['system']}: {found['atoms']} atoms, {found['edges']} edges, "
        f"{found['device']}, jax {found['jax']}",
        f"a call                 {ms:10.3f} ms",
        f"matrix products        {arithmetic:10.3f} ms at least: {found['gflop']:.3g} GFLOP at "
        f"{found['peak_gflops']} GFLOP/s, {arithmetic / ms:.0%} of the call",
        f"reads and writes       {traffic:10.3f} ms: {found['traffic_gb']:.3g} GB by XLA's count, "
        f"in which a loop turns once, at {found['copy_gb_per_s']} GB/s of main memory",
        f"kernels, summed        {total:10.3f} ms in {sum(r['calls'] for r in rows):.0f} calls of "
        f"{len(rows)} kernels; more than the call where they ran side by side",
        "",
        "        ms  calls  share  kernel, and what it was made from",
    ]
    lines += [
        f"{row['ms']:10.4f} {row['calls']:6.0f} {row['ms'] / total:6.1%}  {row['name']}  "
        f"{row['origin'][-90:]}"
        for row in rows[:top]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
