"""Time a call for energy and forces, a training step and a step of dynamics.

    python benchmarks/steps.py --molecule 3bpa.xyz --water water.xyz [--models so3krates schnet]

prints a table and writes JSON. Random weights, float32, warm, median of repeats that are
interleaved over the models; each file's first frame is used, for training its first five.
"""

import argparse
import dataclasses
import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import ase.build
import ase.io
import jax
import numpy as np
from ase import Atoms
from tqdm import tqdm

from mlffjax.config.md import MDSettings
from mlffjax.config.training import TrainingSettings
from mlffjax.data.frames import Frame
from mlffjax.md.engine import run_md
from mlffjax.models import ARCHITECTURES, build
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential
from mlffjax.training import train

ELEMENTS = (1, 6, 7, 8, 29)
#: Steps of a training or simulation from which its rate is read.
TRAINING_STEPS = (20, 120)
MD_STEPS = 300


def first_frames(path: Path, count: int) -> list[Atoms]:
    """The first frames of a file that ASE reads."""
    return cast(list[Atoms], ase.io.read(path, f":{count}"))


def systems(args: argparse.Namespace) -> dict[str, Atoms]:
    """The structures by name: from the files given, and copper, which needs none."""
    found = {}
    if args.molecule:
        molecule = first_frames(args.molecule, 1)[0]
        molecule.pbc = False  # the 3BPA files state a box for a free molecule
        found["molecule"] = molecule
    if args.water:
        found["water"] = first_frames(args.water, 1)[0]
    if args.copper:
        copper = ase.build.bulk("Cu", "fcc", a=3.61, cubic=True) * (5, 5, 5)
        copper.rattle(0.05, seed=0)
        found["copper"] = copper
    return found


def frame_of(atoms: Atoms) -> Frame:
    """A frame with zero labels: only the time of training on it matters."""
    return Frame(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        energy=0.0,
        forces=np.zeros((len(atoms), 3)),
    )


def latencies(
    potentials: dict[str, Potential], atoms: Atoms, repeats: int
) -> dict[str, dict[str, Any]]:
    """Compile time and quartiles of the time of energy and forces, in ms, by model."""
    compiled, rows = {}, {}
    for name, potential in potentials.items():
        cell = atoms.cell.array
        graph = jax.device_put(
            atom_graph(atoms.numbers, atoms.positions, cell, atoms.pbc, potential.cutoff)
        )
        start = time.perf_counter()
        program = jax.jit(Potential.energy_forces).lower(potential, graph).compile()
        seconds = time.perf_counter() - start
        memory: Any = program.memory_analysis()
        rows[name] = {
            "edges": len(graph.senders),
            "compile_s": seconds,
            "temp_mb": memory.temp_size_in_bytes / 1e6,
        }
        compiled[name] = (program, potential, graph)
        jax.block_until_ready(program(potential, graph))
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in tqdm(range(repeats), leave=False):
        for name, (program, potential, graph) in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(program(potential, graph))
            times[name].append(1e3 * (time.perf_counter() - start))
    for name, values in times.items():
        rows[name]["ms"] = np.percentile(values, [25, 50, 75]).tolist()
    return rows


def training_step(potential: Potential, frames: list[Frame]) -> float:
    """Milliseconds of a training step on one batch of all ``frames``: between two step counts."""
    settings = TrainingSettings(
        steps=TRAINING_STEPS[1],
        batch_size=len(frames),
        log_interval=TRAINING_STEPS[0],
        # No validation and no checkpoint between: by default each epoch, here a step, has both.
        validation_interval=TRAINING_STEPS[1],
        progress=False,
        tensorboard=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(potential, frames, [], settings, Path(folder) / "run")
    # The first record, in which the program is compiled, has no rate.
    name = "structures_per_second"
    rates = [r.values[name] for r in result.history if name in r.values]
    return 1e3 * len(frames) / float(np.median(rates))


def md_rate(potential: Potential, atoms: Atoms) -> float:
    """Steps a second of NVE dynamics, neighbour lists included; steps of zero length in effect.

    Random weights have no stable dynamics, so the time step is tiny: the list is not rebuilt.
    """
    settings = MDSettings(
        ensemble="nve", steps=MD_STEPS, timestep_fs=1e-3, temperature=10.0, thermo_interval=50
    )
    return run_md(potential, atoms, settings).steps_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description="Time energy and forces, training and dynamics.")
    parser.add_argument("--molecule", type=Path, help="frames of a molecule, such as 3BPA")
    parser.add_argument("--water", type=Path, help="a periodic box of water")
    parser.add_argument("--copper", action="store_true", help="500 atoms of rattled copper")
    parser.add_argument("--models", nargs="+", default=sorted(ARCHITECTURES))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--no-dynamics", action="store_true", help="leave out dynamics")
    parser.add_argument("--no-training", action="store_true", help="leave out training")
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    key = jax.random.key(0)
    potentials = {m: Potential.init(build(m, {}), ELEMENTS, key) for m in args.models}
    results: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "jax": version("jax"),
        "parameters": {m: p.num_parameters for m, p in potentials.items()},
        "rows": [],
    }
    for system, atoms in systems(args).items():
        for model, row in latencies(potentials, atoms, args.repeats).items():
            if not args.no_dynamics:
                row["md_steps_per_s"] = md_rate(potentials[model], atoms)
            if system == "molecule" and not args.no_training:
                frames = [frame_of(a) for a in first_frames(args.molecule, 5)]
                frames = [dataclasses.replace(f, pbc=np.zeros(3, bool)) for f in frames]
                row["training_ms"] = training_step(potentials[model], frames)
            results["rows"].append({"system": system, "atoms": len(atoms), "model": model, **row})
            print(_line(results["rows"][-1]), flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def _line(row: dict[str, Any]) -> str:
    text = (
        f"{row['system']:<9}{row['atoms']:>5} atoms {row['edges']:>7} edges  {row['model']:<15}"
        f"{row['ms'][1]:>9.2f} ms  compile {row['compile_s']:5.1f} s  "
        f"buffers {row['temp_mb']:7.0f} MB"
    )
    if "md_steps_per_s" in row:
        text += f"  dynamics {row['md_steps_per_s']:7.1f} steps/s"
    if "training_ms" in row:
        text += f"  training {row['training_ms']:7.1f} ms"
    return text


if __name__ == "__main__":
    main()
