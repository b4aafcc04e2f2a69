"""Pairs within a radius by cell lists, for large systems.

Space is divided into cells no narrower than the radius, so that all neighbours of an atom lie in
27 cells. Each cell has room for a fixed number of atoms. Cells divide a periodic box: the cell of
the structure, replicated where it is narrower than three radii. Along directions that are not
periodic the division repeats too, but distances there are true ones; so atoms may leave every
bound, and all that happens is that two places share a cell.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mlffjax.compaction import WORD, pack, set_bits
from mlffjax.md.boxes import heights, inverse
from mlffjax.types import AtomMask, HostCell, HostVectors, Positions

#: Room in a cell, relative to the fullest one at the start.
MARGIN = 1.15
#: Cells for each atom, at most: more would be memory for nothing.
MAX_CELLS_PER_ATOM = 4
#: A cell is so much wider than the radius that rounding to float32 cannot matter.
WIDER = 1.0001

_OFFSETS = np.asarray(list(itertools.product((-1, 0, 1), repeat=3)), np.int32)


@dataclass(frozen=True)
class CellLists:
    """What is static about cell lists.

    Attributes:
      pbc: periodic directions.
      replicas: copies of the cell along each lattice vector.
      lengths: factor on each lattice vector that makes the divided box; the replicas in periodic
        directions.
      cells: number of cells along each lattice vector of that box; at least three.
      capacity: room for atoms in a cell.
      radius: longest pair in Angstrom.
    """

    pbc: tuple[bool, bool, bool]
    replicas: tuple[int, int, int]
    lengths: tuple[float, float, float]
    cells: tuple[int, int, int]
    capacity: int
    radius: float

    @property
    def slots_per_atom(self) -> int:
        """Slots that are looked at for each atom."""
        return len(_OFFSETS) * self.capacity

    def with_capacity(self, room: int) -> "CellLists":
        """The same with room for at least so many atoms in a cell."""
        words = -(-room // WORD)
        return replace(self, capacity=words * -(-room // words))

    def pairs(
        self,
        positions: Positions,
        box: Float[Array, "3 3"],
        size: int,
        node_mask: AtomMask | None = None,
    ) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Pairs within the radius, sorted by receiver.

        Args:
          positions: ``[atoms, 3]`` in Angstrom, not necessarily inside the cell.
          box: complete lattice vectors as rows, in Angstrom.
          size: room for pairs.
          node_mask: true for real atoms ``[atoms]``, the others are in no cell; all are if not
            given.

        Returns:
          Senders, receivers ``[size]``, shifts ``[size, 3]``, mask ``[size]``, the number of
          pairs needed, and whether a cell was too full or has become too narrow.

        Raises:
          ValueError: more slots to look at than 32 bits can count.
        """
        count = positions.shape[0]
        if count * self.slots_per_atom >= 2**31:
            raise ValueError(
                f"got {count} atoms with {self.slots_per_atom} slots around each; expected fewer "
                "than 2^31 slots in all; simulate a smaller system, or choose a smaller skin"
            )
        copies = _copies(self.replicas)
        whole = box * jnp.asarray(self.lengths, box.dtype)[:, None]
        placed = positions[None] + (jnp.asarray(copies, box.dtype) @ box)[:, None]
        fractional = placed.reshape(-1, 3) @ inverse(whole)
        cell = self._cell_of(fractional)
        placed_mask = None if node_mask is None else jnp.tile(node_mask, len(copies))
        slot, fullest = self._slots(cell, placed_mask)
        pbc = jnp.asarray(self.pbc)

        # Rows are the atoms of the first copy; columns the slots of the 27 cells around each.
        cells = jnp.asarray(self.cells, jnp.int32)
        around = _flat((cell[:count, None] + _OFFSETS) % cells, self.cells)
        words = self._near(fractional, slot, around, whole)
        if node_mask is not None:
            words = jnp.where(node_mask[:, None], words, 0)
        bits = self.capacity // (words.shape[-1] // len(_OFFSETS))
        index, mask, needed = set_bits(words.reshape(-1), bits, size)

        i, column = index // self.slots_per_atom, index % self.slots_per_atom
        place = around[i, column // self.capacity] * self.capacity + column % self.capacity
        total = int(np.prod(self.cells)) * self.capacity
        entries = jnp.arange(slot.shape[0], dtype=jnp.int32)
        owners = jnp.zeros(total, jnp.int32).at[slot].set(entries, mode="drop")
        j = owners[place]
        wraps = jnp.where(pbc, -jnp.round(fractional[j] - fractional[i]), 0).astype(jnp.int32)
        shifts = jnp.asarray(copies, jnp.int32)[j // count] + wraps * jnp.asarray(
            self.replicas, jnp.int32
        )
        high = heights(whole)
        narrow = jnp.any(high < self.radius * cells.astype(box.dtype))
        return j % count, i, shifts, mask, needed, narrow | (fullest > self.capacity)

    def _near(
        self,
        fractional: Float[Array, "placed 3"],
        slot: Int[Array, "placed"],
        around: Int[Array, "atoms 27"],
        whole: Float[Array, "3 3"],
    ) -> Array:
        """Which slots around each atom hold a neighbour, as words of bits ``[atoms, words]``."""
        count, total = around.shape[0], int(np.prod(self.cells)) * self.capacity
        # One array a component, so that gather, distance and comparison make one loop.
        table = jnp.zeros((3, total), fractional.dtype).at[:, slot].set(fractional.T, mode="drop")
        taken = jnp.zeros(total, bool).at[slot].set(True, mode="drop")
        first = around[:, :, None] * self.capacity
        slots = first + jnp.arange(self.capacity, dtype=jnp.int32)
        steps = []
        for k in range(3):
            step = table[k][slots] - fractional[:count, k, None, None]
            steps.append(step - jnp.round(step) if self.pbc[k] else step)
        squares = (sum(steps[k] * whole[k, x] for k in range(3)) ** 2 for x in range(3))
        near = (sum(squares) < self.radius**2) & taken[slots] & (slots != slot[:count, None, None])
        split = -(-self.capacity // WORD)
        return pack(near.reshape(count, len(_OFFSETS) * split, self.capacity // split))

    def _cell_of(self, fractional: Float[Array, "placed 3"]) -> Int[Array, "placed 3"]:
        cells = jnp.asarray(self.cells, jnp.int32)
        inside = fractional - jnp.floor(fractional)
        # Rounding can give a whole one, which belongs to the last cell as well as to the first.
        return jnp.minimum((inside * cells).astype(jnp.int32), cells - 1)

    def _slots(
        self, cell: Int[Array, "placed 3"], mask: Bool[Array, "placed"] | None
    ) -> tuple[Array, Array]:
        """The slot of each atom, beyond all slots for one without room, and the fullest cell."""
        flat = _flat(cell, self.cells)
        total = int(np.prod(self.cells))
        if mask is not None:
            flat = jnp.where(mask, flat, total)
        order = jnp.argsort(flat, stable=True)
        filling = jnp.zeros(total, jnp.int32).at[flat].add(1, mode="drop")
        first = jnp.cumsum(filling, dtype=jnp.int32) - filling
        entries = jnp.arange(flat.shape[0], dtype=jnp.int32)
        rank = jnp.zeros_like(entries).at[order].set(entries) - first[flat]
        room = total * self.capacity
        fits = (rank < self.capacity) & (flat < total)
        slot = jnp.where(fits, flat * self.capacity + rank, room)
        return slot, jnp.max(filling)


def cell_lists(
    positions: HostVectors,
    box: HostCell,
    pbc: tuple[bool, bool, bool],
    radius: float,
) -> CellLists:
    """Cell lists with room for the present positions and a margin.

    Args:
      positions: ``[atoms, 3]`` in Angstrom.
      box: complete lattice vectors as rows, in Angstrom.
      pbc: periodic directions.
      radius: longest pair in Angstrom.
    """
    return common_cell_lists([(positions, box)], pbc, radius)


def common_cell_lists(
    structures: Sequence[tuple[HostVectors, HostCell]],
    pbc: tuple[bool, bool, bool],
    radius: float,
) -> CellLists:
    """Cell lists with room for the present positions of any of several structures and a margin.

    Args:
      structures: of each, as for :func:`cell_lists`, positions and box.
      pbc: periodic directions of all.
      radius: longest pair in Angstrom.
    """
    inverses = [np.linalg.inv(np.asarray(box, np.float64)) for _, box in structures]
    fractional = [
        np.asarray(positions, np.float64) @ inverse
        for (positions, _), inverse in zip(structures, inverses, strict=True)
    ]
    extent = np.max([np.ptp(f, axis=0) for f in fractional], axis=0)
    atoms = max(len(f) for f in fractional)
    # Of a cell, in lattice vectors: what is wide enough for the narrowest structure.
    width = WIDER * radius * np.max([np.linalg.norm(i, axis=0) for i in inverses], axis=0)
    replicas = np.where(pbc, np.ceil(3 * width), 1).astype(int)
    lengths = np.where(pbc, replicas, np.maximum(extent, 3 * width))
    cells = np.maximum(3, np.floor(lengths / width * (1 + 1e-12))).astype(int)
    while cells.prod() > max(27, MAX_CELLS_PER_ATOM * atoms * replicas.prod()):
        longest = int(cells.argmax())
        cells[longest] = max(3, cells[longest] // 2)
    lengths = np.where(pbc, replicas, cells * width)
    lists = CellLists(pbc, _triple(replicas), _triple(lengths), _triple(cells), 1, radius)
    fullest = max(_fullest(f, lists) for f in fractional)
    return lists.with_capacity(int(np.ceil(MARGIN * fullest)) + 1)


def roomier(old: CellLists, fresh: CellLists) -> CellLists:
    """Cell lists after an overflow: those of the present positions, with more room in any case,
    as the crowd may have come after these positions."""
    grown = int(np.ceil(MARGIN * old.capacity)) + 1
    return fresh.with_capacity(max(grown, fresh.capacity))


def _fullest(fractional: np.ndarray, lists: CellLists) -> int:
    """Atoms in the fullest cell."""
    cells = np.asarray(lists.cells)
    placed = (fractional[None] + _copies(lists.replicas)[:, None]).reshape(-1, 3) / lists.lengths
    inside = placed - np.floor(placed)
    cell = np.minimum((inside * cells).astype(int), cells - 1)
    return int(np.bincount(np.ravel_multi_index(tuple(cell.T), lists.cells)).max())


def _flat(cell: Array, cells: tuple[int, int, int]) -> Array:
    return (cell[..., 0] * cells[1] + cell[..., 1]) * cells[2] + cell[..., 2]


def _copies(replicas: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(list(itertools.product(*map(range, replicas))), np.int64)


def _triple(values: np.ndarray) -> tuple:
    a, b, c = values.tolist()
    return a, b, c
