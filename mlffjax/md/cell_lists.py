"""Pairs within a radius by the cell lists of JAX-MD, for large systems.

JAX-MD works in fractional coordinates of one periodic box by minimum image. Here that box is the
replicated cell, wide enough for minimum image to be exact. Directions that are not periodic are
treated as periodic with a box that is long enough, and every pair that would cross its border
is dropped afterwards; so atoms may leave the box and no pair is lost or invented.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax_md import partition
from jaxtyping import Array, Float

from mlffjax.types import HostCell, HostVectors, Positions


@dataclass(frozen=True, eq=False)
class CellLists:
    """A JAX-MD neighbour list of fixed sizes.

    Attributes:
      lists: the list as allocated by JAX-MD; a pytree whose sizes are static.
      pbc: periodic directions.
      replicas: copies of the cell along each lattice vector.
      lengths: factor on each lattice vector that makes the box; the replicas in periodic
        directions.
      margin: room relative to the present filling.
    """

    lists: Any
    pbc: tuple[bool, bool, bool]
    replicas: tuple[int, int, int]
    lengths: tuple[float, float, float]
    margin: float

    def pairs(
        self, positions: Positions, box: Float[Array, "3 3"], size: int
    ) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Pairs within the radius, sorted by receiver.

        Args:
          positions: ``[atoms, 3]`` in Angstrom, not necessarily inside the cell.
          box: complete lattice vectors as rows, in Angstrom.
          size: room for pairs.

        Returns:
          Senders, receivers ``[size]``, shifts ``[size, 3]``, mask ``[size]``, the number of
          pairs needed, and whether JAX-MD ran out of room.
        """
        count = positions.shape[0]
        lengths = jnp.asarray(self.lengths, box.dtype)
        copies = _copies(self.replicas)
        whole = box * lengths[:, None]
        placed = positions[None] + (jnp.asarray(copies, box.dtype) @ box)[:, None]
        fractional = placed.reshape(-1, 3) @ jnp.linalg.inv(whole)
        found = self.lists.update(fractional - jnp.floor(fractional), whole=whole)
        j, i = found.idx
        total = fractional.shape[0]
        # Rows are sorted by atom, so the pairs of the first copy stand in front.
        real = (j < total) & (i < count)
        j, i = jnp.where(real, j, 0), jnp.where(real, i, 0)
        wraps = -jnp.round(fractional[j] - fractional[i]).astype(jnp.int32)
        pbc = jnp.asarray(self.pbc)
        real = real & jnp.all(pbc | (wraps == 0), axis=-1)
        shifts = jnp.asarray(copies, jnp.int32)[j // count] + jnp.where(
            pbc, wraps * jnp.asarray(self.replicas, jnp.int32), 0
        )
        rank = jnp.cumsum(real, dtype=jnp.int32)
        slot = jnp.where(real, rank - 1, size)
        index = (
            jnp.zeros(size, jnp.int32)
            .at[slot]
            .set(jnp.arange(real.shape[0], dtype=jnp.int32), mode="drop")
        )
        mask = jnp.arange(size) < rank[-1]
        overflow = found.did_buffer_overflow != 0
        return j[index] % count, i[index], shifts[index], mask, rank[-1], overflow


def cell_lists(
    positions: HostVectors,
    box: HostCell,
    pbc: tuple[bool, bool, bool],
    replicas: tuple[int, int, int],
    radius: float,
    margin: float = 1.25,
) -> CellLists | None:
    """Cell lists with room for the present positions and a margin.

    ``None`` where the box has fewer than four cells of the radius along a direction: there
    JAX-MD would look at all pairs too.

    Args:
      positions: ``[atoms, 3]`` in Angstrom.
      box: complete lattice vectors as rows, in Angstrom.
      pbc: periodic directions.
      replicas: copies that make minimum image exact for ``radius``.
      radius: longest pair in Angstrom.
      margin: room relative to the present filling.
    """
    positions = np.asarray(positions, np.float64)
    box = np.asarray(box, np.float64)
    extent = np.ptp(positions @ np.linalg.inv(box), axis=0)
    height = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
    lengths = [
        float(n) if periodic else max(extent[k] + radius / height[k], 4.01 * radius / height[k])
        for k, (n, periodic) in enumerate(zip(replicas, pbc, strict=True))
    ]
    if (height * np.asarray(lengths) < 4 * radius).any():
        return None
    whole = box * np.asarray(lengths)[:, None]
    fractional = (positions[None] + (_copies(replicas) @ box)[:, None]).reshape(-1, 3)
    fractional = fractional @ np.linalg.inv(whole)

    def displacement(a: Array, b: Array, whole: Any = whole, t: float = 0.0) -> Array:
        del t  # JAX-MD passes a time when it asks for the shape
        difference = a - b
        return (difference - jnp.round(difference)) @ jnp.asarray(whole, difference.dtype)

    fns = partition.neighbor_list(
        displacement,
        jnp.asarray(_upper_triangular(whole)),
        r_cutoff=radius,
        dr_threshold=0.0,
        capacity_multiplier=margin,
        fractional_coordinates=True,
        format=partition.Sparse,
    )
    lists = fns.allocate(jnp.asarray(fractional - np.floor(fractional)), whole=jnp.asarray(whole))
    return CellLists(lists, pbc, replicas, (lengths[0], lengths[1], lengths[2]), margin)


def _copies(replicas: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(list(itertools.product(*map(range, replicas))), np.int64)


def _upper_triangular(box: HostCell) -> np.ndarray:
    """The same box, turned so that its columns form JAX-MD's upper triangular matrix."""
    _, upper = np.linalg.qr(box.T)
    return upper * np.sign(np.diag(upper))[:, None]
