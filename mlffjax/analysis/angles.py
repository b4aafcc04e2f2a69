"""Distribution of the angles between bonds, by the elements of the three atoms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Array, Bool, Float, Int

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.frames import map_frames
from mlffjax.analysis.images import (
    Images,
    boxes_of,
    centre_chunks,
    frames_at_once,
    images_needed,
    vectors_from,
)
from mlffjax.analysis.lists import lists_pay
from mlffjax.analysis.results import Curves, Observable, Result
from mlffjax.md.bonds import BOND_FACTOR
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.neighbors import pair_vectors
from mlffjax.precision import full_precision
from mlffjax.types import HostCell, HostNumbers, HostPbc, HostVectors, Positions

#: Neighbours of an atom there is room for at first; more where a frame has more.
NEIGHBORS = 6


class AngleDistribution(Observable):
    """Angular distribution functions: the probability density of the angle ``a-centre-b``.

    Neighbours are the atoms within a cutoff of the centre at each moment. The density is per
    degree, with integral one for each triplet of elements; it is not divided by the sine.

    Args:
      numbers: atomic numbers ``[atoms]``.
      pbc: periodic directions ``[3]``.
      cutoff: in Angstrom, for all pairs; if not given, 1.2 times the sum of the covalent radii.
      num_bins: from 0 to 180 degrees.
      lists: as of :class:`mlffjax.analysis.pairs.RadialDistribution`.
    """

    def __init__(
        self,
        numbers: HostNumbers,
        pbc: HostPbc,
        cutoff: float | None = None,
        num_bins: int = 180,
        *,
        lists: bool | None = None,
    ) -> None:
        elements = np.unique(numbers)
        count = len(elements)
        self.pbc = (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))
        self._species = np.searchsorted(elements, numbers).astype(np.int32)
        radii = covalent_radii[elements]
        bonded = BOND_FACTOR * (radii[:, None] + radii)
        self._cutoffs = bonded if cutoff is None else np.full((count, count), float(cutoff))
        symbols = [chemical_symbols[z] for z in elements]
        self._labels = [
            f"{symbols[a]}-{symbols[c]}-{symbols[b]}"
            for c in range(count)
            for a in range(count)
            for b in range(count)
        ]
        self.edges = np.linspace(0, 180, num_bins + 1)
        self._counts, self._images, self._room = BlockAverage(), (), NEIGHBORS
        self._lists = lists

    @property
    def averages(self) -> tuple[BlockAverage, ...]:
        """See :attr:`Observable.averages`."""
        return (self._counts,)

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        boxes, pbc = boxes_of(block.cell, np.asarray(self.pbc)), np.asarray(self.pbc)
        radius = float(self._cutoffs.max())
        self._images = images_needed(boxes, pbc, radius, self._images)
        if self._lists is None:
            self._lists = lists_pay(block.positions[0], boxes[0], pbc, radius, len(self._images))
        if self._lists:
            frames = zip(block.positions, boxes, strict=True)
            counts = np.stack([self._listed(positions, box) for positions, box in frames])
        else:
            counts = self._of_all_pairs(block.positions, boxes)
        shape = (len(counts), len(self._labels), len(self.edges) - 1)
        self._counts.add(counts.reshape(shape))

    def _of_all_pairs(
        self, positions: Float[np.ndarray, "frames atoms 3"], boxes: Float[np.ndarray, "frames 3 3"]
    ) -> Int[np.ndarray, "frames counts"]:
        size = frames_at_once(len(self._species), len(self._images))
        while True:
            counts = map_frames(self._function(), size, positions, boxes)
            # The last entry is the most neighbours an atom had.
            needed = int(counts[:, -1].max())
            if needed <= self._room:
                return counts[:, :-1]
            self._room = needed + 2

    def _listed(self, positions: HostVectors, box: HostCell) -> Int[np.ndarray, "counts"]:
        """Angles of one frame, as :func:`_counts` gives them."""
        species, radius = self._species, float(self._cutoffs.max())
        i, j, vectors = pair_vectors(positions, box, np.asarray(self.pbc), radius)
        r = np.linalg.norm(vectors, axis=1)
        near = r < self._cutoffs[species[i], species[j]]
        i, j = i[near], j[near]
        amounts = np.bincount(i, minlength=len(species))
        if amounts.max() > self._room:
            self._room = int(amounts.max()) + 2
        # The neighbours of each atom in a row.
        place = np.arange(len(i)) - (np.cumsum(amounts) - amounts)[i]
        towards = np.zeros((len(species), self._room, 3))
        ends = np.zeros((len(species), self._room), np.int32)
        towards[i, place], ends[i, place] = vectors[near], species[j]
        real = np.arange(self._room) < amounts[:, None]
        num_elements, num_bins = len(self._cutoffs), len(self.edges) - 1
        counts = _listed_counts(towards, ends, real, species, num_elements, num_bins)
        return np.asarray(counts)

    def _function(self) -> partial[Array]:
        return partial(
            _counts,
            species=self._species,
            cutoffs=self._cutoffs,
            pbc=self.pbc,
            images=self._images,
            room=self._room,
            num_bins=len(self.edges) - 1,
        )

    def results(self) -> list[Result]:
        """``adf``; nothing where no atom ever has two neighbours."""
        counts, errors = self._counts.mean(), self._counts.error()
        total = counts.sum(axis=1, keepdims=True)
        shown = np.flatnonzero(total[:, 0])
        if not len(shown):
            return []
        scale = total[shown] * np.diff(self.edges)
        return [
            Curves(
                name="adf",
                title="Bond angles",
                x_label="angle (°)",
                y_label="probability density (1/°)",
                x=(self.edges[1:] + self.edges[:-1]) / 2,
                labels=tuple(self._labels[k] for k in shown),
                values=counts[shown] / scale,
                errors=errors[shown] / scale,
            )
        ]


@partial(jax.jit, static_argnames=("pbc", "images", "room", "num_bins"))
@full_precision
def _counts(
    positions: Float[Array, "frames atoms 3"],
    boxes: Float[Array, "frames 3 3"],
    species: Int[Array, "atoms"],
    cutoffs: Float[Array, "elements elements"],
    pbc: tuple[bool, bool, bool],
    images: Images,
    room: int,
    num_bins: int,
) -> Int[Array, "frames counts_and_most"]:
    """Angles by the elements of centre and ends, and by size; then the most neighbours."""
    atoms, kinds = positions.shape[1], cutoffs.shape[0]
    chunks = jnp.asarray(centre_chunks(atoms, len(images)))

    def of_frame(positions: Positions, box: Float[Array, "3 3"]) -> Array:
        def of_centres(carry: tuple[Array, Array], centres: Array) -> tuple[tuple, None]:
            counts, most = carry
            vectors, elsewhere = vectors_from(centres, positions, box, pbc, images)
            r = jnp.linalg.norm(vectors, axis=-1)
            limit = cutoffs[species[centres][:, None], species].astype(r.dtype)
            near = elsewhere & (r < limit[:, :, None]) & (centres >= 0)[:, None, None]
            near = near.reshape(len(centres), -1)
            distance = jnp.where(near, r.reshape(near.shape), jnp.inf)
            taken = min(room, near.shape[1])
            nearest = jax.lax.top_k(-distance, taken)[1]
            towards = vectors.reshape(*near.shape, 3)
            towards = jnp.take_along_axis(towards, nearest[:, :, None], axis=1)
            real = jnp.take_along_axis(near, nearest, axis=1)
            ends = jnp.repeat(species, len(images))[nearest]
            index = _places(towards, ends, real, species[centres], kinds, num_bins)
            counts = counts.at[index.reshape(-1)].add(1, mode="drop")
            return (counts, jnp.maximum(most, near.sum(axis=1, dtype=jnp.int32).max())), None

        empty = jnp.zeros(kinds**3 * num_bins, jnp.int32)
        counts, most = jax.lax.scan(of_centres, (empty, jnp.zeros((), jnp.int32)), chunks)[0]
        return jnp.append(counts, most)

    return jax.vmap(of_frame)(positions, boxes)


@partial(jax.jit, static_argnames=("num_elements", "num_bins"))
@full_precision
def _listed_counts(
    towards: Float[Array, "atoms room 3"],
    ends: Int[Array, "atoms room"],
    real: Bool[Array, "atoms room"],
    species: Int[Array, "atoms"],
    num_elements: int,
    num_bins: int,
) -> Int[Array, "counts"]:
    """Angles of one frame from the neighbours of each atom."""
    index = _places(towards, ends, real, species, num_elements, num_bins)
    counts = jnp.zeros(num_elements**3 * num_bins, jnp.int32)
    return counts.at[index.reshape(-1)].add(1, mode="drop")


def _places(
    towards: Float[Array, "centres room 3"],
    ends: Int[Array, "centres room"],
    real: Bool[Array, "centres room"],
    species: Int[Array, "centres"],
    num_elements: int,
    num_bins: int,
) -> Int[Array, "centres angles"]:
    """Where each angle counts: by the elements of centre and ends, and by size.

    Args:
      towards: vectors from each centre to its neighbours.
      ends, species: elements of the neighbours and of the centres.
      real: false where there is no neighbour. Such an angle, and one with an atom at the very
        place of the centre, has the place beyond the last.
      num_elements, num_bins: of the counts.
    """
    i, j = np.triu_indices(towards.shape[1], 1)
    unit = towards / jnp.linalg.norm(towards, axis=-1, keepdims=True)
    cosine = jnp.clip(jnp.sum(unit[:, i] * unit[:, j], axis=-1), -1, 1)
    angle = jnp.arccos(cosine) * (num_bins / jnp.pi)
    bins = jnp.minimum(angle.astype(jnp.int32), num_bins - 1)
    low, high = (f(ends[:, i], ends[:, j]) for f in (jnp.minimum, jnp.maximum))
    kind = (species[:, None] * num_elements + low) * num_elements + high
    beyond = num_elements**3 * num_bins
    counted = real[:, i] & real[:, j] & jnp.isfinite(cosine)
    return jnp.where(counted, kind * num_bins + bins, beyond)
