"""Dynamics of 1 to 64 replicas in one program: steps of all together in a second.

    python benchmarks/md_replicas.py --json results/md_replicas_cpu.json
    python benchmarks/md_replicas.py --system molecule42 --published --counts 1 64 256 1024

SO3krates with the sizes of the quickstart, or the published ones, and random weights, on the
built-in ethanol or a random molecule; float32.
Random weights have no stable dynamics, so the time step is tiny. Wall time, on a machine that does
nothing else; medians of repeats that are interleaved over the rows. Filters are splines
where dynamics chooses them (``compress`` in the settings), nowhere with ``--filters networks``, and
on any device with ``--filters splines``.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import structures
from provenance import provenance

from mlffjax.config.md import MDSettings
from mlffjax.data.builtin import load_builtin
from mlffjax.data.frames import Frame
from mlffjax.md.engine import run_md
from mlffjax.md.replicas import run_replicas
from mlffjax.md.structure import frame_of
from mlffjax.models import build
from mlffjax.potential import Potential

#: Femtoseconds of a step where a rate is given as simulated time.
TIMESTEP = 0.5
#: Stretches, of which the first holds what is left of the start.
STRETCHES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Time replicas in one program.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="of a stretch; 500 on a GPU")
    parser.add_argument("--system", default="ethanol", help="ethanol, molecule<n>, water<n>, cu<n>")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--published", action="store_true", help="132 features, not 72")
    parser.add_argument("--filters", choices=["default", "networks", "splines"], default="default")
    parser.add_argument("--skin", type=float, help="of neighbour lists, as in the settings of md")
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    sizes = {"num_features": 132 if args.published else 72, "num_layers": 3}
    frame = structure(args.system)
    elements = sorted(set(frame.numbers.tolist()))
    potential = Potential.init(build("so3krates", sizes), elements, jax.random.key(0))
    potential = potential.compressed() if args.filters == "splines" else potential
    settings = MDSettings(
        ensemble="langevin",
        temperature=10.0,
        timestep_fs=1e-3,
        skin=args.skin,
        compress=args.filters == "default",
        steps=args.steps * STRETCHES,
        chunk_steps=args.steps,
        frame_interval=args.steps * STRETCHES,
    )
    times: dict[int, list[float]] = {count: [] for count in (0, *args.counts)}
    for _ in range(args.rounds):
        for count, values in times.items():
            marks: list[float] = []
            note = lambda *_, marks=marks: marks.append(time.perf_counter())  # noqa: E731
            if count:
                run_replicas(potential, [frame] * count, settings, progress=note)
            else:
                run_md(potential, frame, settings, progress=note)
            # A single run also reports its start.
            values += (1e3 * np.diff(marks[-STRETCHES:]) / args.steps).tolist()
    single = float(np.median(times.pop(0)))
    rows: list[dict[str, Any]] = []
    print(f"single run: {single:.3f} ms a step")
    for count, values in times.items():
        ms = float(np.median(values))
        rate = 1e3 * count / ms
        rows.append({"replicas": count, "ms": ms, "gain": count * single / ms})
        print(
            f"{count:>4} replicas: {ms:8.3f} ms a step of all, {rate:8.0f} steps/s together "
            f"({rate * TIMESTEP * 86400e-9:.3g} us a day at {TIMESTEP} fs), "
            f"{rows[-1]['gain']:.2f} times one by one",
            flush=True,
        )
    if args.json:
        results = {
            **provenance(),
            "jax": version("jax"),
            "device": jax.devices()[0].device_kind,
            "system": args.system,
            "sizes": sizes,
            "filters": args.filters,
            "skin": args.skin,
            "single_ms": single,
            "rows": rows,
        }
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def structure(name: str) -> Frame:
    """The built-in ethanol, or a system of ``structures.py``."""
    if name == "ethanol":
        return next(f for f in load_builtin("ethanol") if len(f.numbers) == 9)
    return frame_of(structures.make(name, {}).frames[0])


if __name__ == "__main__":
    main()
