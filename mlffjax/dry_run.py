"""What a training run would be: sizes, parameters and memory, without a step of it."""

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jax.sharding import Mesh

from mlffjax.config.run import RunSettings
from mlffjax.data.loader import pack
from mlffjax.models import describe
from mlffjax.training.chunks import BatchStream
from mlffjax.training.optimizer import make_optimizer
from mlffjax.training.state import TrainingState
from mlffjax.training.step import make_mesh, make_training_program
from mlffjax.workflow import Preparation, prepare


def describe_run(settings: RunSettings) -> list[tuple[str, str]]:
    """Names and values: data, padded batch sizes, parameters, and memory of a training step.

    The memory is what the compiler plans for the largest batch, data and optimiser included.

    Raises:
      ConfigError, ValueError, OSError: as :func:`mlffjax.workflow.prepare`.
    """
    ready = prepare(settings)
    training, statistics = settings.training, ready.statistics
    baseline = dict(zip(ready.baseline.elements, ready.baseline.energies, strict=True))
    packed = pack(ready.sets.train, statistics.cutoff, baseline, np.dtype(training.dtype))
    mesh = make_mesh(jax.local_devices()[: training.batch_size])
    stream = BatchStream(packed, training.batch_size, training.seed, mesh, training.data_on_device)
    epoch = stream.order.steps_per_epoch
    start = settings.model.start
    origin = "RMS force component" if start is None else f"of {start}"
    parts = (len(ready.sets.train), len(ready.sets.valid), len(ready.sets.test))
    return [
        ("frames", "{} train, {} validation, {} test".format(*parts)),
        ("elements", ", ".join(chemical_symbols[z] for z in statistics.elements)),
        ("baseline", ready.baseline.describe()),
        ("scale", f"{ready.potential.scale:.4f} eV ({origin})"),
        ("shift", f"{ready.potential.shift[0]:.4f} eV/atom" if ready.potential.shift else "none"),
        ("neighbours of an atom", f"{statistics.mean_neighbors:.2f} within {statistics.cutoff} Å"),
        ("largest frame", f"{statistics.max_atoms} atoms, {statistics.max_edges} edges"),
        *(
            (f"padded batch {k + 1}", f"{r.atoms} atoms, {r.edges} edges, {r.graphs} structures")
            for k, r in enumerate(stream.rooms)
        ),
        ("steps", f"{training.total_steps(epoch)} ({epoch} an epoch)"),
        ("architecture", describe(ready.potential.module)[0]),
        ("parameters", f"{ready.potential.num_parameters:,}"),
        ("memory of a step", _memory(settings, ready, stream, mesh)),
        ("devices", ", ".join(str(d) for d in mesh.devices.flat)),
        *(("warning", line) for line in ready.warnings),
    ]


def _memory(settings: RunSettings, ready: Preparation, stream: BatchStream, mesh: Mesh) -> str:
    """What the compiled training program of the largest batch needs."""
    training, params = settings.training, ready.potential.params
    optimizer = make_optimizer(params, training.optimizer)
    state = TrainingState.create(params, optimizer, average=training.ema > 0)
    steps = training.total_steps(stream.order.steps_per_epoch)
    program = make_training_program(ready.potential, optimizer, training, steps, mesh)
    chunk = next(stream.chunks(0, lambda step: step + 1, lambda: 1))
    factor = jnp.ones((), training.dtype)
    count = jnp.ones((), jnp.int32)
    room = stream.rooms[-1]
    lowered = jax.jit(program, static_argnums=5).lower(
        state, chunk.packed, chunk.rows, count, factor, room
    )
    plan = lowered.compile().memory_analysis()
    if plan is None:
        return "unknown to the compiler of this device"
    total = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return f"{total / 2**20:.0f} MiB"
