"""Rotation of spherical features into the frame of an edge, by blocks of Wigner D matrices.

Features ``[..., (L+1)^2, C]`` are ordered by degree ``l`` and then by order ``m = -l..l`` of real
spherical harmonics without Condon-Shortley phase and with polar axis z, so that degree 1 reads
``(y, z, x)``. A rotation ``R`` that turns the edge onto the z axis acts on them by ``D(R)``,
defined by ``Y(R v) = D(R) Y(v)``.

The angle about the edge is a free gauge. No choice of it is continuous over all directions (a
tangent frame on the sphere has none), so there are two charts, each without a singularity
inside it: the shortest arc onto z, and half a turn about x followed by the shortest arc. What is
computed from the rotated features has to be independent of the gauge; then the switch between
the charts leaves no trace. See ``tests/test_nn_wigner.py`` for values and gradients along paths
across both poles and across the switch.
"""

from fractions import Fraction
from functools import lru_cache
from math import factorial, sqrt
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlffjax.types import EdgeVectors

#: Block of each degree, ``[edges, 2 min(l, M) + 1, 2 l + 1]``, rows ``0, 1..M, -1..-M``.
EdgeRotation: TypeAlias = tuple[Float[Array, "edges _ _"], ...]

#: Rotated features by order: ``[edges, L+1, C]`` for ``m = 0``, then for every ``m > 0`` the
#: pair of ``+m`` and ``-m``, ``[edges, 2, L+1-m, C]``, over the degrees ``l = m..L``.
OrderFeatures: TypeAlias = tuple[Float[Array, "edges ..."], ...]

#: Directions on the positive side of this plane use the first chart. The plane is tilted so that
#: edges along the axes and in the coordinate planes of a symmetric structure do not lie in it.
_CHART_NORMAL = (0.171, 0.263, 0.949)


def edge_rotation(directions: EdgeVectors, max_degree: int, max_order: int) -> EdgeRotation:
    """The rows ``|m| <= max_order`` of the Wigner matrices that turn edges onto the z axis.

    With ``c = cos(theta/2)`` and ``t = sin(theta/2) exp(i phi) = (x + i y) / (2 c)`` the shortest
    arc has the matrix elements ``c^|m+m'| t^(m-m') P(z)``, with polynomials ``P`` (Jacobi's up to
    a factor): no angle is ever formed, and ``c >= 0.57`` in its chart.

    Args:
      directions: unit vectors ``[edges, 3]``.
      max_degree: highest degree ``L``.
      max_order: highest order ``M`` kept in the frame of the edge.

    Returns:
      One block a degree; see :data:`EdgeRotation`.

    Raises:
      ValueError: ``max_order`` is not between 0 and ``max_degree``.
    """
    if not 0 <= max_order <= max_degree:
        raise ValueError(
            f"got max_order {max_order}; expected between 0 and max_degree = {max_degree}"
        )
    dtype = directions.dtype
    second = directions @ jnp.asarray(_CHART_NORMAL, dtype) < 0
    flip = jnp.asarray([[1.0, -1.0, -1.0]], dtype)
    turned = jnp.where(second[:, None], directions * flip, directions)
    real, imaginary = _shortest_arc(turned, max_degree, max_order)
    blocks, start = [], 0
    for degree in range(max_degree + 1):
        rows, columns = min(degree, max_order) + 1, 2 * degree + 1
        part = slice(start, start + rows * columns)
        start += rows * columns
        block = _real_block(
            real[:, part].reshape(-1, rows, columns), imaginary[:, part].reshape(-1, rows, columns)
        )
        signs = jnp.asarray(_half_turn_signs(degree)[None], dtype)
        blocks.append(block * jnp.where(second[:, None], signs, 1)[:, None, :])
    return tuple(blocks)


def rotate(rotation: EdgeRotation, features: Float[Array, "edges LL C"]) -> OrderFeatures:
    """Features of edges in the frame of the edge, by order; orders above ``M`` are not computed."""
    max_order = (rotation[-1].shape[1] - 1) // 2
    degrees = len(rotation)
    # Split and joined in one piece each: the transpose of a slice pads it with zeros.
    parts = jnp.split(features, np.arange(1, degrees) ** 2, axis=1)
    turned = [
        jnp.einsum("erk,ekc->erc", block, part, precision=jax.lax.Precision.HIGHEST)
        for block, part in zip(rotation, parts, strict=True)
    ]
    rows = [jnp.split(x, x.shape[1], axis=1) for x in turned]
    orders = [jnp.concatenate([row[0] for row in rows], axis=1)]
    for m in range(1, max_order + 1):
        plus = [row[m] for row in rows[m:]]
        minus = [row[len(row) // 2 + m] for row in rows[m:]]
        pair = jnp.concatenate(plus + minus, axis=1)
        orders.append(pair.reshape(pair.shape[0], 2, degrees - m, pair.shape[2]))
    return tuple(orders)


def rotate_back(
    rotation: EdgeRotation, orders: OrderFeatures, max_order: int
) -> Float[Array, "edges LL C"]:
    """Features by order, turned from the frame of the edge back to the common frame.

    Degrees above ``max_order`` are enlarged by ``sqrt((2l+1) / (2 max_order + 1))``, which
    restores the norm that the missing orders would have had (eSCN, as in EquiformerV2).

    Args:
      rotation: blocks of the degrees wanted; the first ones suffice for lower degrees.
      orders: features in the frame of the edge; those of order 0 alone, with the first row of
        each block, if the others are zero.
      max_order: ``M`` of the architecture.
    """
    edges, available, channels = orders[0].shape
    zero = jnp.split(orders[0], available, axis=1)
    others = []
    for pair in orders[1:]:
        rows = 2 * pair.shape[2]
        others.append(jnp.split(pair.reshape(edges, rows, channels), rows, axis=1))
    parts = []
    for degree, block in enumerate(rotation):
        top = min(degree, len(others))
        rows = [zero[degree]]
        rows += [others[m - 1][degree - m] for m in range(1, top + 1)]
        rows += [others[m - 1][available - m + degree - m] for m in range(1, top + 1)]
        part = jnp.einsum(
            "erk,erc->ekc",
            block,
            jnp.concatenate(rows, axis=1),
            precision=jax.lax.Precision.HIGHEST,
        )
        parts.append(part * order_rescale(degree, max_order))
    return jnp.concatenate(parts, axis=1)


def order_rescale(degree: int, max_order: int) -> float:
    """``sqrt((2l+1) / (2M+1))`` for ``l > M``, one below: the weight of a truncated degree."""
    return sqrt((2 * degree + 1) / (2 * max_order + 1)) if degree > max_order else 1.0


def _shortest_arc(
    directions: EdgeVectors, max_degree: int, max_order: int
) -> tuple[Float[Array, "edges entries"], Float[Array, "edges entries"]]:
    """Real and imaginary parts of ``D^l_(m m')`` for ``m >= 0``, in the order of the table."""
    coefficients, cosine, sine = _arc_table(max_degree, max_order)
    dtype = directions.dtype
    x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
    c = jnp.sqrt((1 + z) / 2)
    tx, ty = x / (2 * c), y / (2 * c)
    c_powers, powers = [jnp.ones_like(z)], [(jnp.ones_like(z), jnp.zeros_like(z))]
    for _ in range(max_degree + max_order):
        c_powers.append(c_powers[-1] * c)
        a, b = powers[-1]
        powers.append((a * tx - b * ty, a * ty + b * tx))
    chebyshev = [jnp.ones_like(z), z]
    for _ in range(2, max_degree + 1):
        chebyshev.append(2 * z * chebyshev[-1] - chebyshev[-2])

    def combine(columns: list[Array], matrix: np.ndarray) -> Float[Array, "edges entries"]:
        # Powers are picked by a matrix of zeros and ones: the transpose of indexing would be a
        # slow scatter.
        return jnp.matmul(
            jnp.stack(columns, axis=1),
            jnp.asarray(matrix, dtype),
            precision=jax.lax.Precision.HIGHEST,
        )

    modulus = combine(chebyshev[: max_degree + 1], coefficients) * combine(c_powers, cosine)
    real = modulus * combine([p[0] for p in powers], np.abs(sine))
    imaginary = modulus * combine([p[1] for p in powers], sine)
    return real, imaginary


def _real_block(
    real: Float[Array, "edges rows columns"], imaginary: Float[Array, "edges rows columns"]
) -> Float[Array, "edges all_rows columns"]:
    """From complex rows ``m = 0..k`` to the real ones ``0, 1..k, -1..-k``."""
    degree = (real.shape[2] - 1) // 2
    a_real, b_real = real[:, :, degree + 1 :], real[:, :, :degree][:, :, ::-1]
    a_imag, b_imag = imaginary[:, :, degree + 1 :], imaginary[:, :, :degree][:, :, ::-1]
    middle = slice(degree, degree + 1)
    plus = jnp.concatenate(
        [(b_imag - a_imag)[:, :, ::-1], sqrt(2) * real[:, :, middle], a_real + b_real], axis=2
    )
    minus = jnp.concatenate(
        [(a_real - b_real)[:, :, ::-1], sqrt(2) * imaginary[:, :, middle], a_imag + b_imag], axis=2
    )
    return jnp.concatenate([plus[:, :1] * sqrt(0.5), plus[:, 1:], minus[:, 1:]], axis=1)


def _half_turn_signs(degree: int) -> np.ndarray:
    """Diagonal of ``D`` for half a turn about x: ``(x, y, z) -> (x, -y, -z)``."""
    orders = np.arange(-degree, degree + 1)
    return (-1.0) ** (degree + np.abs(orders)) * np.where(orders < 0, -1.0, 1.0)


@lru_cache(maxsize=32)
def _arc_table(max_degree: int, max_order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each entry: Chebyshev coefficients, and which power of ``c`` and of ``t`` it has.

    Entries run over ``l``, ``m = 0..min(l, M)``, ``m' = -l..l``. The power of ``t`` carries the
    sign of ``m - m'``, which tells ``t`` from its conjugate.
    """
    nodes = np.cos(np.pi * (np.arange(max_degree + 1) + 0.5) / (max_degree + 1))
    inverse = np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, max_degree))
    entries = [
        (degree, m, k)
        for degree in range(max_degree + 1)
        for m in range(min(degree, max_order) + 1)
        for k in range(-degree, degree + 1)
    ]
    values = np.array([[_reduced_d(*entry, Fraction(z)) for entry in entries] for z in nodes])
    m, k = np.array([e[1] for e in entries]), np.array([e[2] for e in entries])
    powers = np.arange(max_degree + max_order + 1)[:, None]
    cosine = (powers == np.abs(m + k)).astype(float)
    # At equal orders the power is zero: its real part is one and needs a plus sign.
    sine = (powers == np.abs(m - k)) * np.where(m < k, -1.0, 1.0)
    return inverse @ values, cosine, sine


def _reduced_d(degree: int, m: int, k: int, z: Fraction) -> float:
    """Wigner's small d matrix over ``c^|m+k| s^|m-k|``: a polynomial of ``z = cos(theta)``.

    Wigner's sum is alternating, so it is done exactly. Signs are those of harmonics without
    Condon-Shortley phase, ``y_(-m) = conj(y_m)``.
    """
    total = Fraction(0)
    for i in range(2 * degree + 1):
        arguments = (degree + m - i, i, k - m + i, degree - k - i)
        if min(arguments) < 0:
            continue
        denominator = 1
        for n in arguments:
            denominator *= factorial(n)
        cosine = (2 * degree + m - k - 2 * i - abs(m + k)) // 2
        sine = (k - m + 2 * i - abs(m - k)) // 2
        term = ((1 + z) / 2) ** cosine * ((1 - z) / 2) ** sine / denominator
        total += -term if (k - m + i) % 2 else term
    norm = 1
    for n in (degree + m, degree - m, degree + k, degree - k):
        norm *= factorial(n)
    phase = (-1) ** (max(m, 0) + max(k, 0))
    return phase * sqrt(norm) * float(total)
