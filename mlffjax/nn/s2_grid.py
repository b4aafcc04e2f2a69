"""Functions on the sphere as values on a grid: real harmonics, quadratures and transforms.

The order of harmonics is that of :mod:`mlffjax.nn.wigner`: by degree, ``m = -l..l``, polar axis
z, no Condon-Shortley phase.
"""

from functools import lru_cache
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlffjax.nn.wigner import OrderFeatures, order_rescale


def sphere_grid(
    rule: str, polar: int, azimuthal: int
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points"]]:
    """Points and weights of a product quadrature on the unit sphere; weights sum to one.

    Azimuths are uniform. Polar angles are Gauss-Legendre points ("gauss", exact up to degree
    ``2 polar - 1``) or midpoints of equal intervals with Fejer's first rule ("equiangular", exact
    up to degree ``polar - 1``; the grid of e3nn and EquiformerV2).

    Raises:
      ValueError: unknown rule or fewer than one point.
    """
    if polar < 1 or azimuthal < 1:
        raise ValueError(f"got a grid of {polar} x {azimuthal} points; expected at least 1 x 1")
    if rule == "gauss":
        heights, weights = np.polynomial.legendre.leggauss(polar)
    elif rule == "equiangular":
        angles = np.pi * (np.arange(polar) + 0.5) / polar
        k = np.arange(1, polar // 2 + 1)
        waves = np.cos(2 * k * angles[:, None]) / (4 * k**2 - 1)
        heights, weights = np.cos(angles), 2 / polar * (1 - 2 * waves.sum(axis=1))
    else:
        raise ValueError(f"got the grid rule {rule!r}; expected 'gauss' or 'equiangular'")
    azimuth = 2 * np.pi * np.arange(azimuthal) / azimuthal
    radius = np.sqrt(1 - heights**2)
    points = np.stack(
        [
            np.outer(radius, np.cos(azimuth)).ravel(),
            np.outer(radius, np.sin(azimuth)).ravel(),
            np.repeat(heights, azimuthal),
        ],
        axis=1,
    )
    return points, np.repeat(weights / 2, azimuthal) / azimuthal


def real_harmonics(
    points: Float[np.ndarray, "points 3"], max_degree: int
) -> Float[np.ndarray, "points LL"]:
    """Orthonormal real spherical harmonics of unit vectors on the host, ``[points, (L+1)^2]``."""
    x, y, z = points.T
    legendre = {(0, 0): np.full_like(z, sqrt(1 / (4 * np.pi)))}
    waves = [np.ones_like(z, dtype=complex)]
    for m in range(1, max_degree + 1):
        # sin(theta)^m goes with the wave, so nothing is divided by it at the poles.
        waves.append(waves[-1] * (x + 1j * y))
        legendre[m, m] = sqrt((2 * m + 1) / (2 * m)) * legendre[m - 1, m - 1]
    for m in range(max_degree):
        legendre[m + 1, m] = sqrt(2 * m + 3) * z * legendre[m, m]
        for n in range(m + 2, max_degree + 1):
            a = sqrt((4 * n**2 - 1) / (n**2 - m**2))
            b = sqrt(((n - 1) ** 2 - m**2) / (4 * (n - 1) ** 2 - 1))
            legendre[n, m] = a * (z * legendre[n - 1, m] - b * legendre[n - 2, m])
    columns = []
    for degree in range(max_degree + 1):
        columns += [sqrt(2) * legendre[degree, m] * np.imag(waves[m]) for m in range(degree, 0, -1)]
        columns.append(legendre[degree, 0])
        columns += [sqrt(2) * legendre[degree, m] * np.real(waves[m]) for m in range(1, degree + 1)]
    return np.stack(columns, axis=1)


@lru_cache(maxsize=32)
def grid_matrices(
    max_degree: int, max_order: int | None, rule: str, polar: int, azimuthal: int
) -> tuple[Float[np.ndarray, "points rows"], Float[np.ndarray, "rows points"]]:
    """Matrices from coefficients to values on a grid and back.

    Normalised as e3nn's "component": coefficients of unit variance give values of unit
    variance. With ``max_order`` the coefficients are those of an edge frame, in the order of
    :func:`flatten_orders`, and both matrices carry the weight of truncated degrees
    (:func:`mlffjax.nn.wigner.order_rescale`), as in EquiformerV2; without it they are
    all ``(L+1)^2``, by degree.

    Raises:
      ValueError: the grid cannot tell the harmonics apart.
    """
    order = max_degree if max_order is None else max_order
    needed = max_degree + 1 if rule == "gauss" else 2 * max_degree + 1
    if polar < needed or azimuthal < 2 * order + 1:
        raise ValueError(
            f"got a grid of {polar} x {azimuthal} points (polar x azimuthal); expected at least "
            f"{needed} x {2 * order + 1} for degree {max_degree} and order {order} by rule {rule!r}"
        )
    points, weights = sphere_grid(rule, polar, azimuthal)
    harmonics = real_harmonics(points, max_degree)
    labels = [(n, m) for n in range(max_degree + 1) for m in range(-n, n + 1)]
    if max_order is not None:
        labels = [(n, 0) for n in range(max_degree + 1)] + [
            (n, sign * m)
            for m in range(1, max_order + 1)
            for sign in (1, -1)
            for n in range(m, max_degree + 1)
        ]
    columns = [n * n + n + m for n, m in labels]
    scale = np.array([sqrt(4 * np.pi / ((2 * n + 1) * (max_degree + 1))) for n, _ in labels])
    rescale = np.array([order_rescale(n, order) for n, _ in labels])
    to_grid = harmonics[:, columns] * scale * rescale
    from_grid = harmonics[:, columns] * weights[:, None] * (4 * np.pi * rescale / scale)
    return to_grid, from_grid.T


def to_grid(
    features: Float[Array, "n rows C"], matrix: Float[np.ndarray, "points rows"]
) -> Float[Array, "points n C"]:
    """Values on the grid of coefficients ``[n, rows, C]``; points first, as the product makes them.

    There are many more points than coefficients: nothing of their number is ever transposed.
    """
    count, rows, channels = features.shape
    flat = features.transpose(1, 0, 2).reshape(rows, count * channels)
    return _product(matrix, flat).reshape(len(matrix), count, channels)


def from_grid(
    values: Float[Array, "points n C"], matrix: Float[np.ndarray, "rows points"]
) -> Float[Array, "n rows C"]:
    """Coefficients of values on the grid ``[points, n, C]``, by quadrature."""
    points, count, channels = values.shape
    flat = _product(matrix, values.reshape(points, count * channels))
    return flat.reshape(len(matrix), count, channels).transpose(1, 0, 2)


def _product(
    matrix: Float[np.ndarray, "rows columns"], values: Float[Array, "columns n"]
) -> Float[Array, "rows n"]:
    return jnp.matmul(
        jnp.asarray(matrix, values.dtype), values, precision=jax.lax.Precision.HIGHEST
    )


def flatten_orders(orders: OrderFeatures) -> Float[Array, "edges rows C"]:
    """Features by order as one array: ``m = 0``, then ``+1, -1, +2, -2, ...``."""
    channels = orders[0].shape[-1]
    return jnp.concatenate(
        [orders[0], *(x.reshape(len(x), 2 * x.shape[2], channels) for x in orders[1:])], axis=1
    )


def split_orders(
    features: Float[Array, "edges rows C"], max_degree: int, max_order: int
) -> OrderFeatures:
    """Inverse of :func:`flatten_orders`."""
    edges, _, channels = features.shape
    sizes = [max_degree + 1] + [2 * (max_degree + 1 - m) for m in range(1, max_order + 1)]
    zero, *rest = jnp.split(features, np.cumsum(sizes)[:-1], axis=1)
    return zero, *(x.reshape(edges, 2, x.shape[1] // 2, channels) for x in rest)
