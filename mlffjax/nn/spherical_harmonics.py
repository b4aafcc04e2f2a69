"""Real spherical harmonics of unit vectors, by recurrence in Cartesian coordinates."""

from math import factorial, pi, sqrt

import jax.numpy as jnp
from jaxtyping import Array, Float


def spherical_harmonics(
    directions: Float[Array, "n 3"], max_degree: int
) -> Float[Array, "n orders"]:
    """Orthonormal real spherical harmonics of degrees 0 to ``max_degree``.

    Orders run from ``-l`` to ``l`` within a degree, so degree 1 is ``(y, z, x)`` times
    ``sqrt(3 / (4 pi))``: the convention of ``e3x`` with ``cartesian_order=False`` and
    ``normalization="orthonormal"``. Here the harmonics are polynomials evaluated by recurrence
    (associated Legendre functions without their sine factor, and the powers of ``x + iy``), so
    nothing is singular at the poles, the dtype is kept, and XLA fuses them.

    Args:
      directions: unit vectors ``[n, 3]``.
      max_degree: the highest degree ``L``.

    Returns:
      ``[n, (L + 1)^2]``.
    """
    x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
    cosine, sine = [jnp.ones_like(x)], [jnp.zeros_like(x)]  # Re and Im of (x + iy)^m
    for _ in range(max_degree):
        cosine.append(x * cosine[-1] - y * sine[-1])
        sine.append(x * sine[-1] + y * cosine[-2])
    legendre = _legendre(z, max_degree)
    columns = []
    for degree in range(max_degree + 1):
        for order in range(-degree, degree + 1):
            m = abs(order)
            norm = (2 * degree + 1) / (4 * pi) * factorial(degree - m) / factorial(degree + m)
            azimuth = sine[m] if order < 0 else cosine[m]
            factor = sqrt(norm if order == 0 else 2 * norm)
            columns.append(factor * legendre[degree, m] * azimuth)
    return jnp.stack(columns, axis=1)


def _legendre(z: Float[Array, "n"], max_degree: int) -> dict[tuple[int, int], Array]:
    """``P_l^m(z) / (1 - z^2)^(m/2)`` without the Condon-Shortley phase, by (degree, order)."""
    table = {}
    diagonal = 1.0
    for m in range(max_degree + 1):
        table[m, m] = jnp.full_like(z, diagonal)
        if m < max_degree:
            table[m + 1, m] = (2 * m + 1) * diagonal * z
        for degree in range(m + 2, max_degree + 1):
            table[degree, m] = (
                (2 * degree - 1) * z * table[degree - 1, m]
                - (degree + m - 1) * table[degree - 2, m]
            ) / (degree - m)
        diagonal *= 2 * m + 1
    return table
