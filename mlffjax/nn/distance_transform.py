"""Distances relative to the size of the two atoms."""

from typing import Any

import jax.numpy as jnp
from ase.data import covalent_radii
from jaxtyping import Array, Float

from mlffjax.types import EdgeIndex, EdgeScalars, Species


def sum_of_covalent_radii(
    numbers: Species, senders: EdgeIndex, receivers: EdgeIndex, dtype: Any
) -> EdgeScalars:
    """``R_i + R_j`` of each edge in Angstrom ``[edges]``; radii of Cordero et al. 2008.

    The table (of ASE) is that of Dalton Trans. 2832 (2008); elements it lacks have 0.2.
    """
    radii = jnp.asarray(covalent_radii, dtype)[numbers]
    return radii[senders] + radii[receivers]


def agnesi_transform(
    distances: EdgeScalars,
    bond_lengths: EdgeScalars,
    *,
    a: float = 1.0805,
    q: float = 0.9183,
    p: float = 4.5791,
) -> Float[Array, "edges"]:
    """``1 / (1 + a (r/r_0)^q / (1 + (r/r_0)^(q-p)))`` ``[edges]``, from 1 at contact to 0 far away.

    Witt et al., J. Chem. Phys. 159, 164101 (2023), with the constants of MACE-MP (Batatia et
    al., arXiv:2401.00096).

    Args:
      distances: in Angstrom.
      bond_lengths: ``2 r_0``, the sum of the covalent radii, in Angstrom.
      a: strength.
      q: exponent of short distances.
      p: exponent of long distances.
    """
    x = jnp.where(distances == 0, 1, distances) / (0.5 * bond_lengths)
    return 1 / (1 + a * x**q / (1 + x ** (q - p)))
