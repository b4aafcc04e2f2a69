"""Frames to padded batches: packed once on the host, gathered by index on the device.

A data set is packed into flat arrays with the place of each frame in them. A batch is then a
few indices, and the compiled step gathers it into one padded graph by itself. What is too large
for the device travels in pieces of the same form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.data.checks import has_volume
from mlffjax.data.frames import Frame
from mlffjax.graph import AtomGraph, GraphSize
from mlffjax.neighbors import Edges, neighbor_list
from mlffjax.types import Energies, Forces, GraphMask, Stresses


@struct.dataclass
class Targets:
    """Reference labels of a batch; zeros where there is no label.

    Attributes:
      energy: interaction energy, the total less the element baseline ``[graphs]`` in eV.
      forces: ``[atoms, 3]`` in eV/Angstrom.
      stress: ``[graphs, 3, 3]`` in eV/Angstrom^3.
      has_energy, has_forces, has_stress: which structures carry the label ``[graphs]``; false
        for padding.
    """

    energy: Energies
    forces: Forces
    stress: Stresses
    has_energy: GraphMask
    has_forces: GraphMask
    has_stress: GraphMask


@struct.dataclass
class PackedFrames:
    """A data set as flat arrays, ``frames`` structures one after the other.

    Attributes:
      numbers, positions, forces: of all atoms ``[atoms]``, ``[atoms, 3]``.
      senders, receivers, shifts: of all edges; atoms are counted within their frame.
      cell, energy, stress and the label flags: by frame, as in :class:`Targets`.
      num_atoms, num_edges: by frame.
      first_atom, first_edge: where each frame starts.
    """

    numbers: Int[Array, "atoms"]
    positions: Float[Array, "atoms 3"]
    forces: Float[Array, "atoms 3"]
    senders: Int[Array, "edges"]
    receivers: Int[Array, "edges"]
    shifts: Int[Array, "edges 3"]
    cell: Float[Array, "frames 3 3"]
    energy: Float[Array, "frames"]
    stress: Float[Array, "frames 3 3"]
    has_energy: Bool[Array, "frames"]
    has_forces: Bool[Array, "frames"]
    has_stress: Bool[Array, "frames"]
    num_atoms: Int[Array, "frames"]
    num_edges: Int[Array, "frames"]
    first_atom: Int[Array, "frames"]
    first_edge: Int[Array, "frames"]

    @property
    def nbytes(self) -> int:
        """Memory of all arrays in bytes."""
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(self))

    @property
    def num_frames(self) -> int:
        """Number of structures."""
        return self.energy.shape[0]


_BY_ATOM = ("numbers", "positions", "forces")
_BY_EDGE = ("senders", "receivers", "shifts")


def pack(
    frames: Sequence[Frame],
    cutoff: float,
    baseline: Mapping[int, float],
    dtype: np.dtype | type = np.float32,
) -> PackedFrames:
    """Neighbour lists and labels of a data set, on the host.

    The element baseline is subtracted in double precision before the cast to ``dtype``.

    Args:
      frames: the data set.
      cutoff: of the edges in Angstrom.
      baseline: energy E0 in eV of each atomic number that may occur.
      dtype: of positions and labels.

    Raises:
      ValueError: no frames; an element without baseline, an array of another shape, a label that
        is not finite, a stress and a cell without volume, or a structure without a neighbour list,
        each with the name of the frame; more than 2^31 - 1 edges in all.
    """
    if not len(frames):
        raise ValueError("got a data set without frames; expected at least one")
    edges = []
    for k, frame in enumerate(frames):
        _check(frame, baseline, k)
        try:
            edges.append(neighbor_list(frame.positions, frame.cell, frame.pbc, cutoff))
        except ValueError as error:
            raise ValueError(f"frame {name_of(frame, k)}: {error}") from None
    num_atoms = np.array([len(f.numbers) for f in frames], np.int32)
    num_edges = np.array([len(e.senders) for e in edges], np.int32)
    # One more that no frame counts: where there are none at all, a batch has one to gather.
    edges.append(Edges(*(np.zeros((1, *x.shape[1:]), x.dtype) for x in edges[0])))
    energy = [
        0.0 if f.energy is None else f.energy - sum(baseline[int(z)] for z in f.numbers)
        for f in frames
    ]
    forces = [np.zeros_like(f.positions) if f.forces is None else f.forces for f in frames]
    stress = [np.zeros((3, 3)) if f.stress is None else f.stress for f in frames]
    # The device's types: a packed data set lives on the host first, in NumPy arrays.
    parts: dict[str, Any] = {
        "numbers": np.concatenate([f.numbers for f in frames]).astype(np.int32),
        # Each around the origin, where single precision has most digits.
        "positions": np.concatenate([f.positions - f.positions.mean(0) for f in frames]).astype(
            dtype
        ),
        "forces": np.concatenate(forces).astype(dtype),
        "senders": np.concatenate([e.senders for e in edges]),
        "receivers": np.concatenate([e.receivers for e in edges]),
        "shifts": np.concatenate([e.shifts for e in edges]),
        "cell": np.stack([f.cell for f in frames]).astype(dtype),
        "energy": np.array(energy).astype(dtype),
        "stress": np.stack(stress).astype(dtype),
        "has_energy": np.array([f.energy is not None for f in frames]),
        "has_forces": np.array([f.forces is not None for f in frames]),
        "has_stress": np.array([f.stress is not None for f in frames]),
        "num_atoms": num_atoms,
        "num_edges": num_edges,
        "first_atom": _starts(num_atoms),
        "first_edge": _starts(num_edges),
    }
    return PackedFrames(**parts)


def name_of(frame: Frame, index: int) -> str:
    """The name of a frame for messages, or its place in the data set."""
    return frame.name or f"number {index}"


def _check(frame: Frame, baseline: Mapping[int, float], index: int) -> None:
    if frame.wrong_shape:
        raise ValueError(f"got in frame {name_of(frame, index)} {frame.wrong_shape}")
    unknown = sorted(set(frame.numbers.tolist()) - set(baseline))
    if unknown:
        raise ValueError(
            f"got the atomic numbers {unknown} in frame {name_of(frame, index)}; expected only "
            f"{sorted(baseline)}; use a potential for these elements"
        )
    for what, value in (
        ("energy", frame.energy),
        ("forces", frame.forces),
        ("stress", frame.stress),
    ):
        if value is not None and not np.isfinite(value).all():
            raise ValueError(
                f"got {what} that are not finite in frame {name_of(frame, index)}; expected "
                "numbers, or no label; remove the frame"
            )
    if frame.stress is not None and not has_volume(frame.cell):
        raise ValueError(
            f"got a stress and a cell without volume in frame {name_of(frame, index)}; expected a "
            "cell; set it, or remove the stress"
        )


def _starts(counts: np.ndarray) -> np.ndarray:
    total = int(np.sum(counts, dtype=np.int64))
    if total > np.iinfo(np.int32).max:
        raise ValueError(
            f"got {total:,} atoms or edges in one data set; expected at most 2,147,483,647; take "
            "fewer frames, or lower the cutoff"
        )
    return (np.cumsum(counts) - counts).astype(np.int32)


def take(
    packed: PackedFrames, indices: Int[Array, "graphs"], room: GraphSize
) -> tuple[AtomGraph, Targets]:
    """Gather a padded batch; runs inside compiled programs.

    Args:
      packed: the data set.
      indices: frames of the batch ``[graphs]``; -1 is an empty place.
      room: padded size; the batch must fit (:func:`choose_rooms`).
    """
    graph_mask = indices >= 0
    frame = jnp.where(graph_mask, indices, 0)
    atoms = _ragged(jnp.where(graph_mask, packed.num_atoms[frame], 0), room.atoms)
    edges = _ragged(jnp.where(graph_mask, packed.num_edges[frame], 0), room.edges)
    atom = packed.first_atom[frame][atoms.slot] + atoms.place
    edge = packed.first_edge[frame][edges.slot] + edges.place

    def by_atom(values: Array) -> Array:
        return _where(atoms.mask, values[jnp.where(atoms.mask, atom, 0)], 0)

    def by_edge(values: Array) -> Array:
        return values[jnp.where(edges.mask, edge, 0)]

    offset = atoms.start[edges.slot]
    last = room.atoms - 1
    graph = AtomGraph(
        numbers=by_atom(packed.numbers),
        positions=by_atom(packed.positions),
        cell=_where(graph_mask, packed.cell[frame], 0),
        graph_index=jnp.where(atoms.mask, atoms.slot, room.graphs - 1),
        senders=_where(edges.mask, by_edge(packed.senders) + offset, last),
        receivers=_where(edges.mask, by_edge(packed.receivers) + offset, last),
        shifts=_where(edges.mask, by_edge(packed.shifts), 0),
        node_mask=atoms.mask,
        edge_mask=edges.mask,
        graph_mask=graph_mask,
    )
    targets = Targets(
        energy=_where(graph_mask, packed.energy[frame], 0),
        forces=by_atom(packed.forces),
        stress=_where(graph_mask, packed.stress[frame], 0),
        has_energy=graph_mask & packed.has_energy[frame],
        has_forces=graph_mask & packed.has_forces[frame],
        has_stress=graph_mask & packed.has_stress[frame],
    )
    return graph, targets


@struct.dataclass
class _Ragged:
    """Rows of different lengths, laid out one after the other in a padded array."""

    slot: Int[Array, "padded"]
    place: Int[Array, "padded"]
    mask: Bool[Array, "padded"]
    start: Int[Array, "rows"]


def _ragged(counts: Int[Array, "rows"], length: int) -> _Ragged:
    ends = jnp.cumsum(counts)
    k = jnp.arange(length, dtype=counts.dtype)
    slot = jnp.searchsorted(ends, k, side="right", method="compare_all")
    slot = jnp.minimum(slot, counts.shape[0] - 1).astype(counts.dtype)
    start = ends - counts
    return _Ragged(slot=slot, place=k - start[slot], mask=k < ends[-1], start=start)


def _where(mask: Array, values: Array, fill: int) -> Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (values.ndim - 1)), values, fill)


def select(
    packed: PackedFrames, indices: Int[np.ndarray, "frames"], capacity: GraphSize
) -> PackedFrames:
    """The given frames of a host data set as a smaller one, padded to ``capacity``.

    Raises:
      ValueError: the frames do not fit.
    """
    size = GraphSize(
        int(packed.num_atoms[indices].sum()), int(packed.num_edges[indices].sum()), len(indices)
    )
    if not size.fits(capacity):
        raise ValueError(f"got {size} for the frames; expected at most {capacity}")
    places = {
        "atom": _places(packed.first_atom, packed.num_atoms, indices),
        "edge": _places(packed.first_edge, packed.num_edges, indices),
    }

    def part(name: str) -> np.ndarray:
        values = np.asarray(getattr(packed, name))
        if name in _BY_ATOM:
            values, length = values[places["atom"]], capacity.atoms
        elif name in _BY_EDGE:
            values, length = values[places["edge"]], capacity.edges
        else:
            values, length = values[indices], capacity.graphs
        return np.pad(values, [(0, length - len(values))] + [(0, 0)] * (values.ndim - 1))

    parts: dict[str, Any] = {name: part(name) for name in PackedFrames.__dataclass_fields__}
    parts["first_atom"] = _starts(parts["num_atoms"])
    parts["first_edge"] = _starts(parts["num_edges"])
    return PackedFrames(**parts)


def _places(first: Array, counts: Array, indices: np.ndarray) -> np.ndarray:
    start, count = np.asarray(first)[indices], np.asarray(counts)[indices]
    return np.repeat(start - _starts(count), count) + np.arange(count.sum())


@dataclass(frozen=True)
class BatchOrder:
    """Which frames each training step sees: a permutation of (seed, epoch).

    Attributes:
      num_frames: size of the data set.
      batch_size: structures a step; the last batch of an epoch may be smaller.
      seed: of the permutations; ``None`` keeps the order of the data set.
    """

    num_frames: int
    batch_size: int
    seed: int | None
    _cache: dict[int, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        """Batches to one pass over the data."""
        return -(-self.num_frames // self.batch_size)

    def rows(self, first_step: int, count: int) -> Int[np.ndarray, "steps graphs"]:
        """Frame indices of the steps from ``first_step`` on; -1 is an empty place."""
        steps = range(first_step, first_step + count)
        return np.stack(
            [self._epoch(s // self.steps_per_epoch)[s % self.steps_per_epoch] for s in steps]
        )

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._cache:
            order = np.arange(self.num_frames, dtype=np.int32)
            if self.seed is not None:
                order = np.random.default_rng([self.seed, epoch]).permutation(order)
            fill = self.steps_per_epoch * self.batch_size - self.num_frames
            padded = np.pad(order, (0, fill), constant_values=-1)
            while len(self._cache) > 1:
                self._cache.pop(next(iter(self._cache)))
            self._cache[epoch] = padded.reshape(-1, self.batch_size)
        return self._cache[epoch]


def choose_rooms(
    num_atoms: Int[np.ndarray, "frames"], num_edges: Int[np.ndarray, "frames"], batch_size: int
) -> tuple[GraphSize, ...]:
    """A few padded sizes, ascending, into the last of which every batch fits.

    Data of one size get one room. Mixed data get up to four: for half of the batches, for
    nine in ten, for all but one in a hundred (estimated from 2000 random batches), and the
    bound by the largest frames.
    """
    count = min(batch_size, len(num_atoms))

    def room(atoms: float, edges: float) -> GraphSize:
        return GraphSize(int(atoms), max(1, int(edges)), batch_size).bucket()

    bound = room(np.sort(num_atoms)[-count:].sum(), np.sort(num_edges)[-count:].sum())
    picks = np.random.default_rng(0).integers(0, len(num_atoms), (2000, count))
    atoms, edges = num_atoms[picks].sum(1), num_edges[picks].sum(1)
    rooms = [room(np.quantile(atoms, q), np.quantile(edges, q)) for q in (0.5, 0.9, 0.99)]
    kept = [bound]
    for smaller in reversed(rooms):
        # Compiling another program pays where it saves a quarter of the work.
        if smaller.edges + smaller.atoms < 0.75 * (kept[0].edges + kept[0].atoms):
            kept.insert(0, smaller)
    return tuple(kept)


def room_of(
    rooms: Sequence[GraphSize], packed: PackedFrames, rows: Int[np.ndarray, "shards graphs"]
) -> GraphSize:
    """The smallest room that each of the rows (one a shard) fits into."""
    real = rows >= 0
    frame = np.where(real, rows, 0)
    atoms = int((packed.num_atoms[frame] * real).sum(-1).max())
    edges = int((packed.num_edges[frame] * real).sum(-1).max())
    return next(r for r in rooms if atoms <= r.atoms and edges <= r.edges)
