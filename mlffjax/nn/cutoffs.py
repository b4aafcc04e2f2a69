"""Smooth cutoff functions of the distance: one at zero, zero from the cutoff on."""

import jax.numpy as jnp

from mlffjax.types import EdgeScalars


def cosine_cutoff(distances: EdgeScalars, cutoff: float) -> EdgeScalars:
    """``(cos(pi r / r_cut) + 1) / 2`` ``[edges]``: Behler and Parrinello 2007, SO3krates eq. 17.

    Once continuously differentiable at the cutoff.
    """
    inside = jnp.minimum(distances / cutoff, 1)
    return 0.5 * (jnp.cos(jnp.pi * inside) + 1)


def polynomial_cutoff(distances: EdgeScalars, cutoff: float, power: int = 5) -> EdgeScalars:
    """Polynomial envelope of Gasteiger et al. 2020 (DimeNet, eq. 8) ``[edges]``.

    ``1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` with ``x = r / r_cut``: value,
    first and second derivative vanish at the cutoff.

    Computed as ``(1-x)^3 sum_(k<p) (k+1)(k+2)/2 x^k``, the same polynomial: its terms are positive,
    so nothing cancels near the cutoff.
    """
    x = jnp.minimum(distances / cutoff, 1)
    total = jnp.full_like(x, power * (power + 1) / 2)
    for k in reversed(range(power - 1)):
        total = total * x + (k + 1) * (k + 2) / 2
    return (1 - x) ** 3 * total
