"""mlffjax under test: energy and forces, a training step, molecular dynamics."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import floors
import jax
import jax.numpy as jnp
import numpy as np
from serve import Call, serve

from mlffjax.config.md import MDSettings
from mlffjax.config.training import LossSettings, TrainingSettings
from mlffjax.data.frames import Frame
from mlffjax.data.loader import pack
from mlffjax.graph import AtomGraph, GraphSize, batch
from mlffjax.md.engine import run_md
from mlffjax.md.filters import for_dynamics
from mlffjax.md.records import MDResult
from mlffjax.models import build
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential
from mlffjax.training.optimizer import make_optimizer
from mlffjax.training.state import TrainingState
from mlffjax.training.step import make_mesh, make_training_program, replicated

#: Length of a run of dynamics, if a hundred times the steps of a call allow it.
RUN_SECONDS = 3.0
#: With random weights forces have no physical size: this small, atoms move as if free, at the
#: speed of their temperature, so that neighbour lists age as in a simulation.
FREE_MOTION_SCALE = 1e-4


@dataclass
class _Counter:
    """Programs that JAX compiled since it was last asked."""

    count: int = 0

    def taken(self) -> int:
        count, self.count = self.count, 0
        return count


COMPILED = _Counter()


def _on_event(event: str, duration_secs: float, **kwargs: Any) -> None:
    del kwargs
    if event == "/jax/core/compile/backend_compile_duration" and duration_secs > 0.1:
        COMPILED.count += 1


def _potential(case: dict[str, Any], scale: float = 1.0) -> Potential:
    settings = dict(case["settings"])
    tolerance = settings.pop("compressed", None)
    module = build(case["model"], settings)
    potential = Potential.init(module, case["elements"], jax.random.key(0), scale=scale)
    return potential if tolerance is None else potential.compressed(tolerance)


def _frames(case: dict[str, Any]) -> list[Frame]:
    return [
        Frame(
            numbers=np.asarray(s["numbers"]),
            positions=np.asarray(s["positions"], float),
            cell=np.asarray(s["cell"], float),
            pbc=np.asarray(s["pbc"], bool),
            energy=0.0,
            forces=np.zeros((len(s["numbers"]), 3)),
        )
        for s in case["structures"]
    ]


def _graph(potential: Potential, frames: list[Frame]) -> AtomGraph:
    graphs = [
        atom_graph(f.numbers, f.positions, f.cell, f.pbc, potential.cutoff, np.float32)
        for f in frames
    ]
    return batch(graphs) if len(graphs) > 1 else graphs[0]


def forces(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Energy and forces of a batch whose neighbour lists are at hand."""
    potential = _potential(case)
    graph = jax.device_put(_graph(potential, _frames(case)))
    COMPILED.taken()
    start = time.perf_counter()
    program = jax.jit(Potential.energy_forces).lower(potential, graph).compile()
    seconds = time.perf_counter() - start
    memory: Any = program.memory_analysis()
    cost: Any = program.cost_analysis()

    def call() -> int:
        jax.block_until_ready(program(potential, graph))
        return 1

    return call, {
        "edges": int(graph.senders.shape[0]),
        "parameters": potential.num_parameters,
        "compile_s": seconds,
        "compilations": COMPILED.taken(),
        "temp_mb": memory.temp_size_in_bytes / 1e6,
        # XLA counts the body of a loop once: as it is only where all edges are one block.
        "traffic_gb": cost["bytes accessed"] / 1e9,
        "gflop": floors.matrix_flops(Potential.energy_forces, potential, graph) / 1e9,
    }


def training(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Steps of Adam on the errors of energies and forces, as ``mlffjax train`` does them."""
    potential, frames = _potential(case), _frames(case)
    size = len(frames)
    settings = TrainingSettings(
        steps=10**6, batch_size=size, loss=LossSettings(energy_weight=1, forces_weight=100)
    )
    mesh = make_mesh(jax.local_devices()[:1])
    data = pack(frames, potential.cutoff, dict.fromkeys(potential.elements, 0.0))
    room = GraphSize(int(data.num_atoms.sum()), int(data.num_edges.sum()), size).bucket()
    optimizer = make_optimizer(potential.params, settings.optimizer)
    # A copy: the state's buffers are donated.
    params = jax.tree.map(lambda x: x + 0, potential.params)
    state = replicated(mesh, TrainingState.create(params, optimizer, average=True))
    program = make_training_program(potential, optimizer, settings, 10**6, mesh)
    rows = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (case["steps"], size))
    packed, factor = replicated(mesh, data), np.float32(1)
    COMPILED.taken()

    def call() -> int:
        nonlocal state
        state, _ = program(state, packed, rows, np.int32(case["steps"]), factor, room=room)
        jax.block_until_ready(state)
        return case["steps"]

    return call, {"edges": int(data.num_edges.sum()), "parameters": potential.num_parameters}


def md(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """NVE dynamics of free motion at 300 K with the built-in engine, everything included.

    A call starts a run of its own, which plans lists and draws velocities, where the drivers of the
    others are kept from call to call. It therefore takes more steps than asked for, as many as fill
    :data:`RUN_SECONDS`; real runs are far longer. The splines that a run makes at its start, in a
    second, are made before, as the models of the others are.
    """
    (frame,) = _frames(case)
    potential = _potential(case, FREE_MOTION_SCALE)
    potential = for_dynamics(potential, MDSettings(), len(frame.numbers))

    def run(steps: int) -> MDResult:
        settings = MDSettings(
            ensemble="nve",
            steps=steps,
            timestep_fs=0.5,
            temperature=300.0,
            thermo_interval=10,
            # One program for the trial and the run.
            chunk_steps=10 * case["steps"],
        )
        result = run_md(potential, frame, settings)
        if result.steps != steps:
            raise RuntimeError(f"got {result.steps} steps; expected {steps}")
        return result

    trial = run(10 * case["steps"])
    longest = 100 * case["steps"]
    steps = min(max(round(RUN_SECONDS * trial.steps_per_second), 10 * case["steps"]), longest)

    def call() -> int:
        return run(steps).steps

    facts = {
        "parameters": potential.num_parameters,
        "steps": steps,
        "rebuilds": run(steps).rebuilds,
    }
    return call, facts


def _versions() -> dict[str, str]:
    device = jax.devices()[0]
    names = ("jax", "jaxlib", "flax", "jax-md", "numpy")
    return {
        "device": device.device_kind,
        **{name: version(name) for name in names},
        **floors.machine(),
    }


if __name__ == "__main__":
    jax.monitoring.register_event_duration_secs_listener(_on_event)
    serve({"forces": forces, "training": training, "md": md}, _versions)
