"""Non-linear functions of spherical features that commute with rotations.

Either degrees above 0 are scaled by invariant gates, or the features of a channel are read as
a function on the sphere and acted on point by point (EquiformerV2, sec. 4.3, fig. 2). The
separable variant of the latter takes ``l = 0`` from outside.
"""

from collections.abc import Callable
from math import sqrt

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.nn.s2_grid import (
    flatten_orders,
    from_grid,
    grid_matrices,
    split_orders,
    to_grid,
)
from mlffjax.nn.wigner import OrderFeatures


def smooth_leaky_relu(x: Float[Array, "..."], slope: float = 0.2) -> Float[Array, "..."]:
    """``(1+s)/2 x + (1-s)/2 x (2 sigmoid(x) - 1)``: leaky ReLU without its kink."""
    return (1 + slope) / 2 * x + (1 - slope) / 2 * x * (2 * jax.nn.sigmoid(x) - 1)


def gate(features: Float[Array, "n LL C"], gates: Float[Array, "n L C"]) -> Float[Array, "n LL C"]:
    """SiLU of ``l = 0`` and sigmoid of ``gates`` times each degree above it."""
    factors = jax.nn.sigmoid(gates)
    parts = [jax.nn.silu(features[:, :1])]
    parts += [
        features[:, n**2 : (n + 1) ** 2] * factors[:, n - 1 : n]
        for n in range(1, gates.shape[1] + 1)
    ]
    return jnp.concatenate(parts, axis=1)


def gate_orders(orders: OrderFeatures, gates: Float[Array, "edges L C"]) -> OrderFeatures:
    """:func:`gate` of features in the frame of an edge."""
    factors = jax.nn.sigmoid(gates)
    zero = [jax.nn.silu(orders[0][:, :1]), orders[0][:, 1:] * factors]
    rest = [x * factors[:, None, m - 1 :] for m, x in enumerate(orders[1:], start=1)]
    return (jnp.concatenate(zero, axis=1), *rest)


def on_sphere(
    function: Callable[[Float[Array, "points n C"]], Float[Array, "points n C"]],
    features: Float[Array, "n LL C"],
    grid: tuple[str, int, int],
    scalars: Float[Array, "n 1 C"] | None = None,
) -> Float[Array, "n LL C"]:
    """``G^-1(function(G(features)))``, with ``l = 0`` replaced by ``scalars`` if given.

    Args:
      function: acts on each point of the sphere.
      features: of degrees 0 to ``L``.
      grid: rule, polar and azimuthal number of points.
      scalars: the result at ``l = 0`` (separable activation).
    """
    forward, backward = grid_matrices(round(sqrt(features.shape[1])) - 1, None, *grid)
    values = function(to_grid(features, forward))
    if scalars is None:
        return from_grid(values, backward)
    return jnp.concatenate([scalars, from_grid(values, backward[1:])], axis=1)


def silu_on_sphere(
    orders: OrderFeatures,
    grid: tuple[str, int, int],
    scalars: Float[Array, "edges C"] | None = None,
) -> OrderFeatures:
    """:func:`on_sphere` with SiLU, of features in the frame of an edge.

    The grid turns with the free angle about the edge, so the result depends on that angle as far
    as the azimuths fail to integrate SiLU of the features. The error falls exponentially with
    their number; see the tests for its size.
    """
    max_degree, max_order = orders[0].shape[1] - 1, len(orders) - 1
    forward, backward = grid_matrices(max_degree, max_order, *grid)
    values = jax.nn.silu(to_grid(flatten_orders(orders), forward))
    if scalars is None:
        flat = from_grid(values, backward)
    else:
        flat = jnp.concatenate([scalars[:, None], from_grid(values, backward[1:])], axis=1)
    return split_orders(flat, max_degree, max_order)
