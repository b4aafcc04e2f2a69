"""Predictions and errors of a potential on a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mlffjax.data.frames import Frame
from mlffjax.data.loader import BatchOrder, PackedFrames, choose_rooms, pack, room_of, take
from mlffjax.graph import GraphSize
from mlffjax.potential import Potential, Prediction
from mlffjax.training.metrics import ErrorSums, Metrics, MetricsAccumulator, error_sums
from mlffjax.training.step import predict


@dataclass(frozen=True)
class Evaluation:
    """Predictions for each frame, in the order of the frames, and their errors.

    Attributes:
      metrics: errors where there are labels.
      energy: total energies with the element baseline ``[frames]`` in eV, double precision.
      forces: of each frame ``[atoms, 3]`` in eV/Angstrom.
      stress: ``[frames, 3, 3]`` in eV/Angstrom^3, NaN for molecules.
    """

    metrics: Metrics
    energy: Float[np.ndarray, "frames"]
    forces: tuple[Float[np.ndarray, "atoms 3"], ...]
    stress: Float[np.ndarray, "frames 3 3"]


def evaluate(potential: Potential, frames: Sequence[Frame], batch_size: int = 32) -> Evaluation:
    """Predict all frames and compare with the labels they have.

    Args:
      potential: computes in its own dtype.
      frames: with or without labels.
      batch_size: structures in one call.

    Raises:
      ValueError: as :func:`mlffjax.data.loader.pack`.
    """
    baseline = dict(zip(potential.elements, potential.baseline, strict=True))
    packed = pack(frames, potential.cutoff, baseline, np.dtype(potential.dtype))
    rooms = choose_rooms(np.asarray(packed.num_atoms), np.asarray(packed.num_edges), batch_size)
    order = BatchOrder(len(frames), batch_size, seed=None)
    metrics = MetricsAccumulator(potential.elements)
    with_stress = any(frame.pbc.all() or frame.stress is not None for frame in frames)

    device, bare = jax.device_put(packed), potential.interaction
    energy, forces = np.zeros(len(frames)), []
    stress = np.full((len(frames), 3, 3), np.nan)
    for row in order.rows(0, order.steps_per_epoch):
        room = room_of(rooms, packed, row[None])
        prediction, sums = jax.device_get(_batch(bare, device, row, room, with_stress))
        metrics.add(sums)
        real = row[row >= 0]
        energy[real] = prediction.energy[: len(real)]
        if with_stress:
            stress[real] = prediction.stress[: len(real)]
        ends = np.cumsum(np.asarray(packed.num_atoms)[real])
        forces.extend(np.split(prediction.forces[: ends[-1]], ends[:-1]))
    energy += [potential.baseline_energy(frame.numbers) for frame in frames]
    return Evaluation(metrics.result(with_loss=False), energy, tuple(forces), stress)


@partial(jax.jit, static_argnames=("room", "with_stress"))
def _batch(
    potential: Potential,
    packed: PackedFrames,
    row: Int[Array, "graphs"],
    room: GraphSize,
    with_stress: bool,
) -> tuple[Prediction, ErrorSums]:
    graph, targets = take(packed, row, room)
    prediction = predict(potential, graph, with_stress=with_stress)
    return prediction, error_sums(prediction, targets, graph, potential.elements)
