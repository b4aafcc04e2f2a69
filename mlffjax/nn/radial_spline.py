"""Many functions of the distance as mixtures of few, and the few as splines.

The filters of an architecture are hundreds of smooth functions of one variable, computed by
networks for every edge. Once training is over they can be written down: a singular value
decomposition finds the few functions of which all are mixtures, and these become piecewise
polynomials. What is left for an edge is to look up a polynomial and one matrix product.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from mlffjax.types import EdgeScalars

#: Distances at which the functions are sampled to find mixtures, 10 mA apart at the usual cutoffs;
#: whether that was close enough, and the polynomials are, is looked at four times in every piece.
SAMPLES = 501
#: Atoms are hardly ever closer than an Angstrom (H2: 0.74): below, errors count with this power of
#: the distance.
POWER_BELOW = 4
#: Pieces of a spline are doubled from the first number until it is as good as asked for. Up to the
#: last, 2.5 mA each, the polynomials are exact to rounding for what networks make.
FEWEST_PIECES, MOST_PIECES = 128, 2048
#: Numbers of mixtures are multiples of this, so that potentials alike share compiled programs.
MIXTURES = 8
#: Places in a piece at which it is compared with the functions.
PLACES = np.array([1, 3, 5, 7]) / 8
#: Distances of one call, so that few programs are compiled.
DISTANCES_PER_CALL = 512

Derivatives = Callable[[np.ndarray], list[np.ndarray]]
RadialFunctions = Callable[[Float[Array, "n"]], Float[Array, "n functions"]]
Spline = Float[Array, "pieces 6 basis"]


def evaluate(spline: Spline, distances: EdgeScalars, cutoff: float) -> Float[Array, "edges basis"]:
    """The splines at the distances; constant from the cutoff on.

    Args:
      spline: coefficients of the powers 0 to 5 of the place within a piece ``[pieces, 6, basis]``;
        the pieces divide the range from 0 to the cutoff evenly.
      distances: in Angstrom.
      cutoff: in Angstrom.
    """
    pieces = spline.shape[0]
    place = distances * (pieces / cutoff)
    piece = jnp.clip(place.astype(jnp.int32), 0, pieces - 1)
    # Padded edges are far away: their derivative is zero.
    inside = jnp.minimum(place - piece.astype(place.dtype), 1)[:, None]
    return _polynomial(spline.at[piece].get(mode="promise_in_bounds"), inside)


@jax.custom_jvp
def _polynomial(
    terms: Float[Array, "edges powers basis"], place: Float[Array, "edges 1"]
) -> Float[Array, "edges basis"]:
    """Horner's rule."""
    total = terms[:, -1]
    for power in range(terms.shape[1] - 2, -1, -1):
        total = total * place + terms[:, power]
    return total


def _polynomial_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """The slope as one polynomial, where the reverse of Horner's rule has one product a power."""
    (terms, place), (d_terms, d_place) = primals, tangents
    parts = []
    if not isinstance(d_place, SymbolicZero):
        powers = jnp.arange(1, terms.shape[1], dtype=terms.dtype)[:, None]
        parts.append(_polynomial(powers * terms[:, 1:], place) * d_place)
    if not isinstance(d_terms, SymbolicZero):
        parts.append(_polynomial(d_terms, place))
    return _polynomial(terms, place), sum(parts[1:], start=parts[0])


_polynomial.defjvp(_polynomial_jvp, symbolic_zeros=True)


def compress(
    functions: RadialFunctions, cutoff: float, tolerance: float
) -> tuple[Float[np.ndarray, "pieces 6 basis"], Float[np.ndarray, "basis functions"]]:
    """A basis for functions of the distance, as splines, and the mixtures that give them back.

    Values and first derivatives are reproduced to ``tolerance`` times the root mean square of all
    values and of all derivatives, at every distance; below 1 Angstrom, where atoms hardly ever are,
    less well (:data:`POWER_BELOW`). The splines are twice continuously differentiable, so that
    forces remain once differentiable.

    Args:
      functions: from distances in Angstrom to values; differentiable.
      cutoff: in Angstrom.
      tolerance: largest error, relative.

    Raises:
      ValueError: a tolerance that double precision cannot reach, or functions too rough for the
        finest spline.
    """
    if not 1e-12 <= tolerance < 1:
        raise ValueError(
            f"got a tolerance of {tolerance:g}; expected a number from 1e-12 to 1, such as 1e-4"
        )
    derivatives = _with_derivatives(functions)
    samples = np.linspace(0, cutoff, SAMPLES)
    mixing = _mixtures(derivatives(samples), samples, tolerance)
    pieces = FEWEST_PIECES
    while True:
        spline = _spline(derivatives, mixing, cutoff, pieces)
        if _error(derivatives, spline, mixing, cutoff) <= tolerance:
            return spline, mixing
        if pieces >= MOST_PIECES:
            raise ValueError(
                f"got functions of the distance that {pieces} pieces of a spline do not reproduce "
                f"to {tolerance:g}; expected smoother ones; choose a larger tolerance"
            )
        pieces *= 2


def _with_derivatives(functions: RadialFunctions) -> Derivatives:
    """Values, first and second derivatives ``[n, functions]``, in double precision."""

    @jax.jit
    def three(place: Array) -> tuple[Array, Array, Array]:
        along = jnp.ones_like(place)
        value_and_slope = lambda x: jax.jvp(functions, (x,), (along,))  # noqa: E731
        (value, slope), (_, curve) = jax.jvp(value_and_slope, (place,), (along,))
        return value, slope, curve

    def derivatives(r: np.ndarray) -> list[np.ndarray]:
        rows = np.resize(r, (-(-len(r) // DISTANCES_PER_CALL), DISTANCES_PER_CALL))
        with jax.enable_x64(True):
            parts = [[np.asarray(x) for x in three(jnp.asarray(row))] for row in rows]
        return [np.concatenate(each)[: len(r)] for each in zip(*parts, strict=True)]

    return derivatives


def _scaled(arrays: list[np.ndarray], like: list[np.ndarray], r: np.ndarray) -> np.ndarray:
    """Values and slopes, each over its root mean square, below each other."""
    weight = np.minimum(r, 1.0)[:, None] ** POWER_BELOW
    scales = [_rms(weight * x) for x in like]
    return np.concatenate([weight * x / scale for x, scale in zip(arrays, scales, strict=True)])


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean())) or 1.0


def _mixtures(sampled: list[np.ndarray], r: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal mixtures ``[basis, functions]``, hardly more than leave half the tolerance."""
    table = _scaled(sampled[:2], sampled[:2], r)
    right = np.linalg.svd(table, full_matrices=False)[2]
    low, high = 1, len(right)
    while low < high:
        rank = (low + high) // 2
        rest = table - table @ right[:rank].T @ right[:rank]
        low, high = (low, rank) if np.abs(rest).max() <= tolerance / 2 else (rank + 1, high)
    return right[: -(-low // MIXTURES) * MIXTURES]


def _spline(derivatives: Derivatives, mixing: np.ndarray, cutoff: float, pieces: int) -> np.ndarray:
    """Polynomials of degree 5 with value, slope and curvature of the basis at both ends."""
    width = cutoff / pieces
    knots = derivatives(np.linspace(0, cutoff, pieces + 1))
    value, slope, curve = (width**k * x @ mixing.T for k, x in enumerate(knots))
    rise = value[1:] - value[:-1]
    (d0, d1), (s0, s1) = ((x[:-1], x[1:]) for x in (slope, curve))
    powers = (
        value[:-1],
        d0,
        s0 / 2,
        10 * rise - 6 * d0 - 4 * d1 - (3 * s0 - s1) / 2,
        -15 * rise + 8 * d0 + 7 * d1 + 1.5 * s0 - s1,
        6 * rise - 3 * (d0 + d1) - (s0 - s1) / 2,
    )
    return np.stack(powers, axis=1)


def _error(
    derivatives: Derivatives, spline: np.ndarray, mixing: np.ndarray, cutoff: float
) -> float:
    """Largest error of values and slopes, relative, between the knots too."""
    pieces, powers, basis = spline.shape
    value = PLACES[:, None] ** np.arange(powers)
    slope = np.arange(powers)[1:] * value[:, :-1] * (pieces / cutoff)
    near = [value @ spline, slope @ spline[:, 1:]]
    r = ((np.arange(pieces)[:, None] + PLACES) * (cutoff / pieces)).ravel()
    exact = derivatives(r)[:2]
    rest = [a.reshape(-1, basis) @ mixing - b for a, b in zip(near, exact, strict=True)]
    return float(np.abs(_scaled(rest, exact, r)).max())
