"""Norms that are smooth at zero."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def smooth_norm(values: Float[Array, "..."], axis: int, rounding: float) -> Float[Array, "..."]:
    """``sqrt(sum values^2 + rounding^2)`` along ``axis``, which disappears.

    A norm has a cone at zero, where vector features lie whenever an atom's surroundings have
    inversion symmetry, as in a perfect crystal: forces would jump there. ``rounding`` is the
    radius within which the cone becomes a paraboloid of curvature ``1 / rounding``.
    """
    return jnp.sqrt(jnp.sum(values * values, axis=axis) + rounding**2)
