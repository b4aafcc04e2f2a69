"""Kernels of programs for a GPU that is not here: XLA compiles for it all the same.

    pip install ".[cuda,bench]"
    python benchmarks/gpu_kernels.py md so3krates molecule42
    python benchmarks/gpu_kernels.py forces mace molecule138 --list --json kernels.json

A small system on a GPU waits for kernels, each some microseconds long whatever it computes: their
number says how far a step can be from what the arithmetic takes. For ``md`` those of a step are
counted, and by themselves those that renew the neighbour list. XLA chooses between ways to multiply
matrices by trying them, which needs the device: here it takes cuBLAS for all. It joins kernels into
CUDA graphs, each started by one launch of the host; how many launches a step is, and how often the
host must wait for the device before it can go on, is read from XLA's own plan of the execution.
Random weights, float32. Nothing is run on a GPU, and no time is predicted.
"""

import argparse
import json
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
        os.environ.get("XLA_FLAGS", ""),
    ]
)

import jax
import jax.numpy as jnp
import kernels
from cases import MODELS, PEERS_ONLY
from jax.experimental import topologies
from provenance import provenance

from mlffjax.config.md import MDSettings
from mlffjax.graph import AtomGraph
from mlffjax.md import chunk
from mlffjax.md.engine import Run
from mlffjax.md.structure import frame_of
from mlffjax.nn import backend
from mlffjax.potential import Potential

TARGET = Path(__file__).parent / "targets" / "h100_sxm.txtpb"
#: What is no kernel in a compiled program.
FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all"}
#: What runs other kernels.
CALLS = {"while", "conditional", "call"}


def main() -> None:
    args = parse()
    backend.on_cpu = lambda: False  # programs are written as for an accelerator
    potential, graph = kernels.case(args)
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        compiled = COMPILE[args.task](potential, graph, args).compile(options)
        plan = plan_of_execution(Path(folder))
    rows = listed(compiled.as_text() or "")
    found = {
        "task": args.task,
        "model": args.model,
        "system": args.system,
        "atoms": int(graph.positions.shape[0]),
        "target": TARGET.stem,
        **provenance(),
        "jax": jax.__version__,
        "kernels": dict(Counter(row["when"] for row in rows)),
        **launches(plan),
        "kinds": dict(Counter(row["kind"] for row in rows if row["when"] == "step").most_common()),
        "buffers_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "rows": rows,
    }
    print(report(found, listing=args.list))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=sorted(COMPILE))
    parser.add_argument("model", choices=sorted(set(MODELS) - PEERS_ONLY))
    parser.add_argument("system", help="molecule<n>, water<n>, cu<n>, or the --structure")
    parser.add_argument("--structure", metavar="NAME=FILE", help="a file for a system")
    parser.add_argument("--list", action="store_true", help="print every kernel")
    parser.add_argument("--json", type=Path, help="where to write everything")
    args = parser.parse_args()
    if args.structure and "=" not in args.structure:
        parser.error(f"got --structure {args.structure!r}; expected NAME=FILE")
    return args


def for_target(tree: Any) -> Any:
    """Arrays as what a program for the target is given."""
    try:
        topology = topologies.get_topology_desc(
            platform="cuda",
            topology_name=TARGET.stem,
            target_config=TARGET.read_text(),
            topology="1x1x1",
        )
    except NotImplementedError:
        raise SystemExit(
            "got a JAX without its CUDA plugin; expected one, though no GPU is needed; "
            'pip install ".[cuda]"'
        ) from None
    place = jax.sharding.SingleDeviceSharding(topology.devices[0])

    def of(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=place)

    return jax.tree.map(of, tree)


def compile_forces(potential: Potential, graph: AtomGraph, args: argparse.Namespace) -> Any:
    """Energy and forces, the neighbour list at hand."""
    del args
    return jax.jit(Potential.energy_forces).lower(*for_target((potential, graph)))


def compile_md(potential: Potential, graph: AtomGraph, args: argparse.Namespace) -> Any:
    """A stretch of NVE, with lists and records."""
    del graph
    atoms = kernels.frame(args)
    settings = MDSettings(steps=1000, ensemble="nve", timestep_fs=0.5, bond_check=False)
    run = Run(potential, frame_of(atoms), settings, None)
    run.begin(None)
    zero = jnp.zeros((), jnp.int32)
    arguments = for_target((run.potential, run.system, run.state, zero, zero))
    return chunk.advance.lower(run.program, *arguments)


COMPILE = {"forces": compile_forces, "md": compile_md}


def listed(program: str) -> list[dict[str, str]]:
    """Kernels of a compiled program: name, kind, origin, and when they run.

    ``start`` once a call, ``step`` in every turn of the loop over steps (or, in a program without
    one, in every call), ``renewal`` in the loop around it, once for a neighbour list.
    """
    bodies = computations(program)
    rows, todo = [], [("ENTRY", 0)]
    seen = set()
    while todo:
        name, depth = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in bodies[name]:
            match = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = .*? ([a-z][\w-]*)\(", line)
            if not match:
                continue
            kernel, kind = match.groups()
            if kind in CALLS:
                named = re.findall(r"%([\w.-]+)", line.split(f" {kind}(", 1)[1])
                todo += [(other, depth + (kind == "while")) for other in named if other in bodies]
            if kind in FREE | CALLS:
                continue
            detail = re.search(r'(?:custom_call_target="|kind=)([\w$]+)', line)
            origin = re.search(r'op_name="([^"]*)"', line)
            rows.append(
                {
                    "name": kernel,
                    "kind": f"{kind} {detail[1]}" if detail else kind,
                    "when": depth,
                    "origin": origin[1] if origin else "",
                }
            )
    innermost = min(2, max(row["when"] for row in rows))
    when = {0: "start", 1: "renewal", 2: "step"} if innermost == 2 else {0: "start", 1: "step"}
    when = when if innermost else {0: "step"}
    return [{**row, "when": when[min(row["when"], innermost)]} for row in rows]


@dataclass
class Entry:
    """A line of XLA's plan, with what runs within it."""

    kind: str
    depth: int
    within: list["Entry"] = field(default_factory=list)


def plan_of_execution(folder: Path) -> Entry:
    """The plan XLA wrote: kernels, graphs, loops and branches in their order."""
    (file,) = folder.glob("*thunk_sequence_after_thunk_passes.txt")
    around = [Entry("Program", -1)]
    for line in file.read_text().splitlines():
        match = re.match(r"( *)\d+: k(\w+)", line)
        if match is None:  # the name of a part of what is around
            continue
        while around[-1].depth >= len(match[1]):
            around.pop()
        around[-1].within.append(Entry(match[2], len(match[1])))
        around.append(around[-1].within[-1])
    return around[0]


def launches(plan: Entry) -> dict[str, int]:
    """Launches of a step by the host, and how often it waits for the device in one.

    None where a graph has the loop over steps within it.
    """
    loops, place = 0, plan
    while loops < 2 and (inner := [e for e in place.within if e.kind == "While"]):
        loops, place = loops + 1, inner[0]
    graphs = [e for e in place.within if e.kind == "CommandBuffer"]
    if not loops and any(e.kind == "While" for graph in graphs for e in graph.within):
        return {"launches": 0, "waits": 0}
    branches = sum(e.kind == "Conditional" for e in place.within)
    return {"launches": len(place.within), "waits": min(loops, 1) + branches}


def computations(program: str) -> dict[str, list[str]]:
    """Lines of each computation of a program's text by its name; of the whole by ``ENTRY``."""
    bodies: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in program.splitlines():
        match = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if match:
            lines = bodies.setdefault("ENTRY" if match[1] else match[2], [])
        elif line.startswith("  "):
            lines.append(line)
    return bodies


def report(found: dict[str, Any], *, listing: bool) -> str:
    """What was found, for the terminal."""
    lines = [
        f"{found['task']} {found['model']}, {found['system']}: {found['atoms']} atoms, for "
        f"{found['target']}, jax {found['jax']}, buffers {found['buffers_mb']:.1f} MB"
    ]
    names = {"step": "kernels of a step", "renewal": "when the list is renewed", "start": "once"}
    lines += [f"{names[when]:25s}{n:5d}" for when, n in found["kernels"].items()]
    lines += [f"a step: {found['launches']} launches, {found['waits']} waits of the host"]
    lines += [f"  {n:5d} {kind}" for kind, n in found["kinds"].items()]
    if listing:
        lines += [
            f"{row['when']:8s} {row['kind']:32s} {row['name']:36s} {row['origin'][-90:]}"
            for row in found["rows"]
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
