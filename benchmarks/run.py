"""Time mlffjax and, side by side in the same run, other codes.

    python benchmarks/run.py essential
    python benchmarks/run.py size --models so3krates mace --allocators default
    python benchmarks/run.py essential --peers mace-torch=ENV/bin/python mlip=ENV2/bin/python \
        --structure bpa27=3bpa.xyz water192=water.xyz

Every code is a process of its own; processes take turns, one call each, so that a change of the
machine's speed meets all of them. Random weights, float32. Prints a table; writes JSON, a table in
markdown and a figure into ``--out``.
"""

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import report
import structures
from cases import MODELS, PEERS_ONLY, SUITES, Row
from pool import ALLOCATORS, Code, Worker, WorkerError, take_turns
from provenance import provenance

#: Script of each peer and the models it has.
PEERS = {
    "mace-torch": ("mace_torch.py", ("mace",)),
    "mlip": ("mlip_jax.py", ("mace", "nequip", "nequip-even", "visnet")),
    "nequip": ("nequip_torch.py", ("nequip", "nequip-even")),
    "so3lr": ("so3lr_jax.py", ("so3lr",)),
}


def pairs(values: Sequence[str]) -> dict[str, str]:
    """``["a=b"]`` as ``{"a": "b"}``.

    Raises:
      ValueError: no equals sign.
    """
    for value in values:
        if "=" not in value:
            raise ValueError(f"got {value!r}; expected NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


def chosen_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Rows of the suites that the options leave."""
    for row in itertools.chain(*(SUITES[name] for name in args.suites)):
        models = tuple(m for m in row.models if args.models is None or m in args.models)
        wanted = args.systems is None or row.system in args.systems
        if models and wanted and (args.tasks is None or row.task in args.tasks):
            yield Row(row.task, row.system, models, row.batch, row.steps, row.note)


def parts(rows: Sequence[Row], alone: bool) -> list[Sequence[Row]]:
    """Rows for which the same processes are kept: all, or those of one model at a time."""
    if not alone:
        return [rows]
    models = dict.fromkeys(itertools.chain(*(row.models for row in rows)))
    return [[replace(row, models=(m,)) for row in rows if m in row.models] for m in models]


def prepare(
    worker: Worker, cases: Sequence[tuple[str, str, dict[str, Any]]]
) -> list[tuple[str, str, dict[str, Any]]]:
    """Model, name and facts of each case the worker could prepare; others are reported."""
    done = []
    for model, name, case in cases:
        try:
            done.append((model, name, worker.ask("prepare", name, case)))
        except WorkerError as error:
            print(f"  {error}", file=sys.stderr, flush=True)
    return done


def measure(
    row: Row, system: structures.System, workers: Sequence[Worker], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Results of one row; a code that cannot do it is reported and left out."""
    frames = system.as_json(row.batch)
    frames = [frames[k % len(frames)] for k in range(row.batch)]
    cases: dict[int, list[tuple[str, str, dict[str, Any]]]] = {}
    for (k, worker), model in itertools.product(enumerate(workers), row.models):
        ours = worker.code.name == "mlffjax"
        has = model not in PEERS_ONLY if ours else model in PEERS[worker.code.name][1]
        if not has or row.task not in worker.tasks:
            continue
        settings = dict(MODELS[model])
        case = {
            "task": row.task,
            "model": settings.pop("architecture"),
            "settings": settings,
            "elements": args.elements,
            "structures": frames,
            "steps": row.steps,
        }
        cases.setdefault(k, []).append((model, f"{row.name} {model}", case))
    prepared = []
    with ThreadPoolExecutor(max(1, len(cases) if args.prepare_together else 1)) as pool:
        for k, facts in zip(
            cases, pool.map(lambda k: prepare(workers[k], cases[k]), cases), strict=True
        ):
            prepared += [(workers[k], *f) for f in facts]
    contestants = [(worker, name) for worker, _, name, _ in prepared]
    answers = take_turns(contestants, args.repeats, args.seconds)
    results = []
    for k, (worker, model, name, facts) in enumerate(prepared):
        worker.ask("drop", name)
        if answers.get(k):
            results.append(_result(row, system, worker, model, facts, answers[k]))
            print(report.line(results[-1]), flush=True)
    return results


def _result(
    row: Row,
    system: structures.System,
    worker: Worker,
    model: str,
    facts: dict[str, Any],
    answers: list[dict[str, Any]],
) -> dict[str, Any]:
    times = np.percentile([a["ms"] for a in answers], [25, 50, 75]).tolist()
    result = {
        "row": row.name,
        "task": row.task,
        "system": system.name,
        "origin": system.origin,
        "note": row.note,
        "atoms": row.batch * len(system.frames[0]),
        "model": model,
        "code": worker.code.name,
        "allocator": worker.allocator,
        "repeats": len(answers),
        "ms": times,
        "cpu_ms": float(np.median([a["cpu_ms"] for a in answers])),
        **facts,
        "peak_memory_mb": max(a["peak_memory_mb"] for a in answers),
    }
    if row.task == "md":
        result["steps_per_s"] = 1e3 / times[1]
        result["ns_per_day"] = 0.5e-6 * 86400 * 1e3 / times[1]  # at 0.5 fs a step
        result["us_per_step_and_atom"] = 1e3 * times[1] / result["atoms"]
    if facts.get("gflop") and "peak_gflops" in worker.versions:
        rate = facts["gflop"] / (1e-3 * times[1])
        result["fraction_of_peak"] = rate / float(worker.versions["peak_gflops"])
    return result


def conditions(args: argparse.Namespace) -> dict[str, Any]:
    """What a reader must know of the run."""
    return {
        "command": _command(args),
        **provenance(),
        "machine": _processor(),
        "threads": args.threads,
        "load_before": os.getloadavg()[0],
    }


def _command(args: argparse.Namespace) -> str:
    """The command without the folders of this machine."""
    words = ["python benchmarks/run.py", *args.suites]
    for option in ("systems", "models", "tasks", "allocators"):
        if chosen := getattr(args, option):
            words += [f"--{option}", *chosen]
    if args.peers:
        words += ["--peers", *(f"{name}=PYTHON" for name in args.peers)]
    if args.files:
        words += ["--structure", *(f"{name}={file.name}" for name, file in args.files.items())]
    words += ["--repeats", str(args.repeats), "--seconds", f"{args.seconds:g}"]
    words += ["--prepare-together"] * args.prepare_together
    return " ".join(words + ["--alone"] * args.alone)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
    return f"{name or platform.machine()}, {os.cpu_count()} cores"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="+", choices=sorted(SUITES), help="what to time")
    parser.add_argument("--systems", nargs="+", help="only these")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), help="only these")
    parser.add_argument("--tasks", nargs="+", choices=["forces", "training", "md"])
    parser.add_argument(
        "--peers", nargs="+", default=[], metavar="NAME=PYTHON",
        help=f"other codes and their interpreters: {', '.join(PEERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--structure", nargs="+", default=[], metavar="NAME=FILE",
        help="a file in place of a system made here; its first five frames are used",
    )  # fmt: skip
    parser.add_argument("--allocators", nargs="+", choices=ALLOCATORS, default=list(ALLOCATORS))
    parser.add_argument("--repeats", type=int, default=15, help="most rounds of a row")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="no new round after so long, from the fourth on"
    )
    parser.add_argument(
        "--prepare-together",
        action="store_true",
        help="build and compile in all codes at once: shorter, compile times are upper bounds",
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="new processes for every model: what one has compiled makes no other slower",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="folder for JSON, table and figure")
    args = parser.parse_args()
    try:
        args.peers, args.structure = pairs(args.peers), pairs(args.structure)
        args.files = {name: Path(file) for name, file in args.structure.items()}
        unknown = set(args.peers) - set(PEERS)
        if unknown:
            raise ValueError(f"got the peers {sorted(unknown)}; expected some of {sorted(PEERS)}")
    except ValueError as error:
        parser.error(str(error))
    return args


def main() -> None:
    args = parse()
    rows = list(chosen_rows(args))
    systems = {row.system: structures.make(row.system, args.files) for row in rows}
    args.elements = structures.elements(list(systems.values()))
    codes = [Code("mlffjax", "ours.py")]
    codes += [Code(name, PEERS[name][0], python) for name, python in args.peers.items()]
    found: dict[str, Any] = {**conditions(args), "versions": {}, "rows": []}
    with tempfile.TemporaryDirectory() as cache:
        for allocator, part in itertools.product(args.allocators, parts(rows, args.alone)):
            measure_all(part, systems, codes, allocator, cache, found, args)
    print(report.table(found["rows"]))
    print("\n".join(report.exponents(found["rows"])))


def measure_all(
    rows: Sequence[Row],
    systems: dict[str, structures.System],
    codes: Sequence[Code],
    allocator: str,
    cache: str,
    found: dict[str, Any],
    args: argparse.Namespace,
) -> None:
    """All rows under one allocator, added to ``found``."""
    workers = []
    try:
        for code in codes:
            try:
                workers.append(Worker.start(code, allocator, args.threads, cache))
                found["versions"][code.name] = workers[-1].versions
            except WorkerError as error:
                print(f"  {error}", file=sys.stderr, flush=True)
        for row in rows:
            found["rows"] += measure(row, systems[row.system], workers, args)
            if args.out:
                write(args, found)
    finally:
        for worker in workers:
            worker.stop()


def write(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write what there is; after every row, so that a run cut short keeps its beginning."""
    args.out.mkdir(parents=True, exist_ok=True)
    name = "_".join(args.suites)
    (args.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        f"`{found['command']}`",
        "",
        f"{found['machine']}, {found['threads']} threads, commit {found['commit']}, "
        f"{found['date']}; load before the run {found['load_before']:.1f}.",
        "",
        report.table(found["rows"]),
        *report.exponents(found["rows"]),
    ]
    (args.out / f"{name}.md").write_text("\n".join(lines) + "\n")
    report.figure(found["rows"], args.out / f"{name}.png")


if __name__ == "__main__":
    main()
