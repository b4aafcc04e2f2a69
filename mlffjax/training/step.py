"""The compiled programs: many training steps in one call, and the errors of many batches.

A program gathers its batches from the packed data by index and loops on the device, so that
the host is busy once for many steps. The batch axis is split over the mesh; one device is a
mesh of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mlffjax.config.training import TrainingSettings
from mlffjax.data.loader import PackedFrames, take
from mlffjax.graph import AtomGraph, GraphSize
from mlffjax.potential import Potential, Prediction
from mlffjax.training.loss import loss
from mlffjax.training.metrics import ErrorSums, error_sums
from mlffjax.training.optimizer import learning_rate, update_average
from mlffjax.training.state import TrainingState
from mlffjax.types import Params

BATCH_AXIS = "batch"


def make_mesh(devices: Sequence[Any]) -> Mesh:
    """A mesh over the given jax devices that splits the batch."""
    return Mesh(np.asarray(devices), (BATCH_AXIS,))


def replicated(mesh: Mesh, tree: Any) -> Any:
    """A copy of the arrays of ``tree`` on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


@struct.dataclass
class StepRecords:
    """What the steps of one call leave for the host; entries of steps not taken are zero.

    Attributes:
      sums: error sums of each step ``[steps, ...]``.
      gradient_norm: before clipping ``[steps]``.
      learning_rate: ``[steps]``.
      step: number of updates after the call.
      finite: false where the step after ``step`` had a loss or gradient that was not finite.
    """

    sums: ErrorSums
    gradient_norm: Float[Array, "steps"]
    learning_rate: Float[Array, "steps"]
    step: Int[Array, ""]
    finite: Bool[Array, ""]


TrainingProgram = Callable[..., tuple[TrainingState, StepRecords]]
ValidationProgram = Callable[..., ErrorSums]


def predict(
    potential: Potential,
    graph: AtomGraph,
    key: PRNGKeyArray | None = None,
    *,
    with_stress: bool,
) -> Prediction:
    """Energies and forces of a batch, and its stresses where asked for.

    With a ``key`` dropout and stochastic depth act, as in training.
    """
    if with_stress:
        return potential.energy_forces_stress(graph, key)
    return potential.energy_forces(graph, key)


def dropout_key(seed: int, step: Int[Array, ""]) -> PRNGKeyArray:
    """The key of a training step on this device: it follows from seed and step alone.

    A resumed run therefore drops what the whole run drops. Devices of the mesh have parts of one
    batch, and each a key of its own.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.random.fold_in(key, jax.lax.axis_index(BATCH_AXIS))


def make_training_program(
    potential: Potential,
    optimizer: optax.GradientTransformation,
    settings: TrainingSettings,
    total_steps: int,
    mesh: Mesh,
) -> TrainingProgram:
    """The program ``(state, packed, rows, count, plateau_factor, room) -> (state, records)``.

    It takes the first ``count`` of the batches ``rows`` ``[steps, graphs]``; ``count`` is
    traced, so calls of any length share one compiled program for each ``room``. The buffers of
    ``state`` are donated. After a step that is not finite nothing changes any more.

    Raises:
      ValueError: a compressed potential.
    """
    update = _update_of(potential, optimizer, settings, total_steps)

    def chunk(
        state: TrainingState,
        packed: PackedFrames,
        rows: Array,
        count: Array,
        factor: Array,
        room: GraphSize,
    ) -> tuple[TrainingState, StepRecords]:
        shapes = jax.eval_shape(partial(update, room=room), state, packed, rows[0], factor)
        buffers = jax.tree.map(lambda x: jnp.zeros((rows.shape[0], *x.shape), x.dtype), shapes[1:])

        def body(carry: tuple) -> tuple:
            k, state, buffers = carry
            state, *values = update(state, packed, rows[k], factor, room)
            return k + 1, state, jax.tree.map(lambda b, v: b.at[k].set(v), buffers, tuple(values))

        _, state, (sums, norm, rate) = jax.lax.while_loop(
            lambda carry: (carry[0] < count) & carry[1].finite,
            body,
            (jnp.zeros((), jnp.int32), state, buffers),
        )
        # Copies: the state's own buffers are donated to the next call.
        return state, StepRecords(sums, norm, rate, state.step + 0, state.finite & True)

    @partial(jax.jit, static_argnames="room", donate_argnames="state")
    def training_program(state, packed, rows, count, plateau_factor, room):
        split = jax.shard_map(
            partial(chunk, room=room),
            mesh=mesh,
            in_specs=(P(), P(), P(None, BATCH_AXIS), P(), P()),
            out_specs=P(),
            check_vma=False,
        )
        return split(state, packed, rows, count, plateau_factor)

    return training_program


def _update_of(
    potential: Potential,
    optimizer: optax.GradientTransformation,
    settings: TrainingSettings,
    total_steps: int,
) -> Callable[..., tuple[TrainingState, ErrorSums, Array, Array]]:
    """One training step, ``(state, packed, row, factor, room) -> (state, sums, norm, rate)``.

    It takes the batch ``row`` ``[graphs]`` of this device. A step whose loss or gradient norm is
    not finite leaves the state as it was, but for ``finite``.

    Raises:
      ValueError: a compressed potential.
    """
    if potential.is_compressed:
        raise ValueError(
            "got a compressed potential, whose filters are fixed; expected the one it was made "
            "from; train that one and compress the result"
        )

    def update(
        state: TrainingState, packed: PackedFrames, row: Array, factor: Array, room: GraphSize
    ) -> tuple[TrainingState, ErrorSums, Array, Array]:
        key = dropout_key(settings.seed, state.step)
        gradient, sums = _gradient(potential, state.params, packed, row, settings, room, key)
        norm = optax.tree.norm(gradient)
        rate = learning_rate(
            state.step, settings.schedule, settings.optimizer.learning_rate, total_steps
        )
        rate = (rate * factor).astype(norm.dtype)
        direction, moments = optimizer.update(gradient, state.optimizer, state.params)
        params = jax.tree.map(lambda p, d: p - rate.astype(p.dtype) * d, state.params, direction)
        average = state.average
        if average is not None:
            average = update_average(average, params, state.step, settings.ema)
        finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm)
        after = TrainingState(params, average, moments, state.step + 1, finite)
        before = replace(state, finite=finite)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), after, before)
        return kept, sums, norm, rate

    return update


def make_validation_program(
    potential: Potential, settings: TrainingSettings, mesh: Mesh, *, with_stress: bool
) -> ValidationProgram:
    """The program ``(params, packed, rows, count, room) -> error sums [steps, ...]``."""

    def chunk(
        params: Params, packed: PackedFrames, rows: Array, count: Array, room: GraphSize
    ) -> ErrorSums:
        def errors(k: Array) -> ErrorSums:
            return _errors(potential, params, packed, rows[k], settings, room, with_stress)[1]

        shapes = jax.eval_shape(errors, jnp.zeros((), jnp.int32))
        buffers = jax.tree.map(lambda x: jnp.zeros((rows.shape[0], *x.shape), x.dtype), shapes)

        def body(k: Array, buffers: ErrorSums) -> ErrorSums:
            sums = _total(errors(k))
            return jax.tree.map(lambda b, v: b.at[k].set(v), buffers, sums)

        return jax.lax.fori_loop(0, count, body, buffers)

    @partial(jax.jit, static_argnames="room")
    def validation_program(params, packed, rows, count, room):
        split = jax.shard_map(
            partial(chunk, room=room),
            mesh=mesh,
            in_specs=(P(), P(), P(None, BATCH_AXIS), P()),
            out_specs=P(),
            check_vma=False,
        )
        return split(params, packed, rows, count)

    return validation_program


def _errors(
    potential: Potential,
    params: Params,
    packed: PackedFrames,
    row: Int[Array, "graphs"],
    settings: TrainingSettings,
    room: GraphSize,
    with_stress: bool,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, ""], ErrorSums]:
    """Loss and error sums of this device's part of a batch; the parts add up to the batch's."""
    graph, targets = take(packed, row, room)
    potential = replace(potential, params=params)
    prediction = predict(potential, graph, key, with_stress=with_stress)
    value, _ = loss(prediction, targets, graph, settings.loss, BATCH_AXIS)
    sums = error_sums(prediction, targets, graph, potential.elements)
    return value, replace(sums, loss=value)


def _total(sums: ErrorSums) -> ErrorSums:
    """Add the parts of a batch; its loss is weighted by its number of structures."""
    sums = jax.lax.psum(sums, BATCH_AXIS)
    return replace(sums, loss=sums.loss * sums.num_structures)


def _gradient(
    potential: Potential,
    params: Params,
    packed: PackedFrames,
    row: Int[Array, "graphs"],
    settings: TrainingSettings,
    room: GraphSize,
    key: PRNGKeyArray,
) -> tuple[Params, ErrorSums]:
    with_stress = settings.loss.stress_weight > 0

    def objective(params: Params) -> tuple[Array, ErrorSums]:
        return _errors(potential, params, packed, row, settings, room, with_stress, key)

    gradient, sums = jax.grad(objective, has_aux=True)(params)
    return jax.lax.psum(gradient, BATCH_AXIS), _total(sums)
