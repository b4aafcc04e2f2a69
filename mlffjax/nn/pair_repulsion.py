"""Screened repulsion of nuclei at short distance."""

import jax.numpy as jnp

from mlffjax.graph import EdgeGraph
from mlffjax.nn.cutoffs import polynomial_cutoff
from mlffjax.nn.distance_transform import sum_of_covalent_radii
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.types import AtomScalars, EdgeScalars

# Rounded as in mace-torch, whose weights were trained with just these.
COULOMB = 14.3996  # e^2 / (4 pi epsilon_0) in eV Angstrom
BOHR = 0.529  # Angstrom

#: Universal screening function of Ziegler, Biersack and Littmark (1985): strengths and decays.
SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))


def screened_repulsion(
    distances: EdgeScalars,
    graph: EdgeGraph,
    *,
    power: int = 6,
    length: float = 0.4543 * BOHR,
    exponent: float = 0.300,
) -> AtomScalars:
    """Half the Ziegler-Biersack-Littmark energy of each atom with its neighbours ``[atoms]``, eV.

    ``Z_i Z_j e^2 / (4 pi eps0 r) phi(r / a)`` with ``a = length / (Z_i^x + Z_j^x)``, times a
    polynomial envelope that ends at the sum of the covalent radii, so that it is zero at bond
    lengths and beyond.

    Args:
      distances: of the edges in Angstrom.
      graph: the edges.
      power: of the envelope; in mace-torch that of the radial basis.
      length: screening length in Angstrom; the defaults of this and of ``exponent`` are those
        of MACE-MP (Ziegler et al. have 0.8854 Bohr and 0.23).
      exponent: ``x`` above.
    """
    reach = sum_of_covalent_radii(graph.numbers, graph.senders, graph.receivers, distances.dtype)
    charges = graph.numbers.astype(distances.dtype)
    charges = jnp.where(graph.node_mask, charges, 1)
    z_i, z_j = charges[graph.receivers], charges[graph.senders]
    safe = jnp.where(distances == 0, 1, distances)
    x = safe * (z_i**exponent + z_j**exponent) / length
    phi = sum(c * jnp.exp(-d * x) for c, d in SCREENING)
    energy = 0.5 * COULOMB * z_i * z_j / safe * phi
    return sum_to_receivers(energy * polynomial_cutoff(distances / reach, 1.0, power), graph)
