"""Covalent bonds of a structure, across periodic borders too."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jaxtyping import Array, Float, Int

from mlffjax.data.frames import Frame
from mlffjax.neighbors import neighbor_list
from mlffjax.types import Positions

#: Atoms closer than so many times the sum of their covalent radii are bonded. In ethanol
#: bonds are up to 1.03 times that sum long, and the closest other pair is at 1.67 times.
BOND_FACTOR = 1.2


class Bonds(NamedTuple):
    """Pairs of bonded atoms; each pair once.

    Attributes:
      pairs: atom indices ``i, j`` ``[bonds, 2]``.
      shifts: lattice translation of ``j`` ``[bonds, 3]``: the bond vector is
        ``r_j - r_i + shift @ cell``, for positions that are not wrapped into the cell.
      lengths: in Angstrom, where the bonds were found ``[bonds]``.
    """

    pairs: Int[np.ndarray, "bonds 2"]
    shifts: Int[np.ndarray, "bonds 3"]
    lengths: Float[np.ndarray, "bonds"]


def find_bonds(frame: Frame, factor: float = BOND_FACTOR) -> Bonds:
    """Pairs of atoms closer than ``factor`` times the sum of their covalent radii.

    Radii of Cordero et al., Dalton Trans. 2008, 2832, as tabulated by ASE.

    Args:
      frame: any cell, any periodic directions; an atom may be bonded to its own image.
      factor: of the sum of the radii.

    Raises:
      ValueError: as :func:`mlffjax.neighbors.neighbor_list`.
    """
    radii = covalent_radii[frame.numbers]
    near = neighbor_list(frame.positions, frame.cell, frame.pbc, 2 * factor * radii.max())
    i, j, shifts = near.receivers, near.senders, near.shifts
    vectors = frame.positions[j] - frame.positions[i] + shifts @ frame.cell
    lengths = np.linalg.norm(vectors, axis=1)
    # Of the two directions of a bond the one with i < j, or, to an image of the same atom, the
    # one whose first shift that is not zero is positive.
    leading = shifts[np.arange(len(shifts)), (shifts != 0).argmax(axis=1)]
    once = (i < j) | ((i == j) & (leading > 0))
    chosen = once & (lengths < factor * (radii[i] + radii[j]))
    return Bonds(np.stack([i, j], axis=1)[chosen], shifts[chosen], lengths[chosen])


def bond_lengths(
    positions: Positions,
    bonds: Int[Array, "bonds 2"],
    shifts: Int[Array, "bonds 3"],
    cell: Float[Array, "3 3"],
) -> Float[Array, "bonds"]:
    """Lengths ``[bonds]`` in Angstrom; can be compiled, differentiated and mapped.

    Args:
      positions: ``[atoms, 3]`` in Angstrom, not wrapped into the cell.
      bonds, shifts: see :class:`Bonds`.
      cell: lattice vectors as rows, in Angstrom; zeros for a molecule.
    """
    vectors = positions[bonds[:, 1]] - positions[bonds[:, 0]]
    vectors = vectors + shifts.astype(positions.dtype) @ cell
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))
