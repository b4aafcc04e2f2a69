"""Radial bases: functions of the interatomic distance, ``[edges] -> [edges, K]``."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlffjax.types import EdgeScalars


def exponential_gaussian_basis(
    distances: EdgeScalars, num_basis: int, cutoff: float
) -> Float[Array, "edges K"]:
    """Gaussians in ``exp(-r)``, SO3krates eq. 19 (PhysNet, Unke and Meuwly 2019, eq. 7).

    ``g_k(r) = exp(-gamma (exp(-r) - mu_k)^2)`` with centres ``mu_k`` uniform from
    ``exp(-r_cut)`` to 1 and ``gamma = (2/K (1 - exp(-r_cut)))^-2``; ``r`` in Angstrom.
    """
    lowest = np.exp(-cutoff)
    centers = jnp.asarray(np.linspace(lowest, 1, num_basis), distances.dtype)
    gamma = float((2 / num_basis * (1 - lowest)) ** -2)
    return jnp.exp(-gamma * (jnp.exp(-distances)[:, None] - centers[None]) ** 2)


def gaussian_basis(
    distances: EdgeScalars, num_basis: int, cutoff: float, width: float = 1.0
) -> Float[Array, "edges K"]:
    """Gaussians ``exp(-(r - mu_k)^2 / (2 sigma^2))`` on centres uniform from 0 to the cutoff.

    Args:
      distances: in Angstrom.
      num_basis: number of functions ``K``.
      cutoff: last centre in Angstrom.
      width: ``sigma`` in units of the spacing of the centres.
    """
    centers = jnp.asarray(np.linspace(0, cutoff, num_basis), distances.dtype)
    sigma = width * cutoff / (num_basis - 1)
    return jnp.exp(-0.5 * ((distances[:, None] - centers[None]) / sigma) ** 2)


def bessel_basis(
    distances: EdgeScalars, frequencies: Float[Array, "K"], cutoff: float
) -> Float[Array, "edges K"]:
    """``sqrt(2/r_cut) sin(w_k r / r_cut) / r``: Gasteiger et al. 2020 (DimeNet, eq. 7).

    Args:
      distances: in Angstrom.
      frequencies: ``w_k``, which start at ``k pi``.
      cutoff: in Angstrom.
    """
    safe = jnp.where(distances == 0, 1, distances)[:, None]
    return np.sqrt(2 / cutoff).item() * jnp.sin(frequencies[None] * (safe / cutoff)) / safe
