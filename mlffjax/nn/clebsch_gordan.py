"""Clebsch-Gordan coefficients of real spherical harmonics, and couplings of several factors.

Degrees ``l`` have ``2l + 1`` real components in the order ``m = -l, ..., l`` (the order of e3x
without ``cartesian_order``; degree 1 is ``(y, z, x)``). Everything here is computed once on the
host in double precision, and cached.
"""

import itertools
from dataclasses import dataclass
from functools import cache
from math import factorial, sqrt

import numpy as np
from jaxtyping import Complex, Float, Int


@cache
def clebsch_gordan(degree1: int, degree2: int, degree3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """Coefficients that couple two real irreducible representations to a third.

    ``z_m3 = sum_{m1 m2} C[m1, m2, m3] x_m1 y_m2`` rotates as degree 3 when ``x`` and ``y`` rotate
    as degrees 1 and 2. Racah's formula (Varshalovich et al. 1988, eq. 8.2.1 (3)) for complex
    harmonics, transformed to real ones. Every slice ``C[:, :, m3]`` has unit norm, and the first
    coefficient that is not zero is positive, so ``C[:, :, 0]`` of equal degrees is a positive
    multiple of the identity.

    Raises:
      ValueError: the degrees break the triangle rule.
    """
    if not abs(degree1 - degree2) <= degree3 <= degree1 + degree2:
        raise ValueError(
            f"got the degrees {degree1}, {degree2}, {degree3}; expected a third degree from "
            f"{abs(degree1 - degree2)} to {degree1 + degree2}"
        )
    coupling = np.zeros((2 * degree1 + 1, 2 * degree2 + 1, 2 * degree3 + 1))
    for m1 in range(-degree1, degree1 + 1):
        for m2 in range(-degree2, degree2 + 1):
            if abs(m1 + m2) <= degree3:
                value = _racah(degree1, m1, degree2, m2, degree3)
                coupling[degree1 + m1, degree2 + m2, degree3 + m1 + m2] = value
    real = np.einsum(
        "abc,ia,jb,kc->ijk",
        coupling,
        _real_from_complex(degree1).conj(),
        _real_from_complex(degree2).conj(),
        _real_from_complex(degree3),
    )
    real = real.real if (degree1 + degree2 + degree3) % 2 == 0 else real.imag
    real = np.where(np.abs(real) < 1e-13, 0, real)
    real *= np.sign(real[real != 0][0])
    real.flags.writeable = False
    return real


def _racah(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    m3 = m1 + m2
    f = factorial
    norm = (2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3) / f(l1 + l2 + l3 + 1)
    norm *= f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    total = 0.0
    for k in range(l1 + l2 - l3 + 1):
        below = (k, l1 + l2 - l3 - k, l1 - m1 - k, l2 + m2 - k, l3 - l2 + m1 + k, l3 - l1 - m2 + k)
        if min(below) >= 0:
            total += (-1) ** k / np.prod([float(f(n)) for n in below])
    return sqrt(norm) * total


def _real_from_complex(degree: int) -> Complex[np.ndarray, "m m"]:
    """Rows: real harmonics in terms of complex ones with the Condon-Shortley phase."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    matrix[degree, degree] = 1
    for m in range(1, degree + 1):
        matrix[degree + m, degree + m] = (-1) ** m / sqrt(2)
        matrix[degree + m, degree - m] = 1 / sqrt(2)
        matrix[degree - m, degree - m] = 1j / sqrt(2)
        matrix[degree - m, degree + m] = -1j * (-1) ** m / sqrt(2)
    return matrix


@dataclass(frozen=True, eq=False)
class Couplings:
    """All ways to couple ``order`` copies of one feature vector to one degree.

    A coupling is a polynomial in the components ``x_i`` of the feature vector: the sum over
    monomials ``t`` of ``coefficients[t, eta, m] * prod_k x[monomials[t, k]]``.

    Attributes:
      monomials: component indices, ascending in each row ``[monomials, order]``.
      coefficients: ``[monomials, couplings, 2 degree + 1]``.
    """

    monomials: Int[np.ndarray, "monomials order"]
    coefficients: Float[np.ndarray, "monomials couplings m"]


@cache
def symmetric_couplings(max_degree: int, degree: int, order: int) -> Couplings:
    """The generalised Clebsch-Gordan coefficients of MACE eq. 10, without repetitions.

    The factors are copies of one vector ``x`` of degrees ``0..max_degree`` and parity
    ``(-1)^l``, so only the symmetric part of a coupling counts. Couplings that agree after
    symmetrising are listed once here: for ``max_degree`` 3, ``order`` 3 there are 8 to degree 0,
    where the sum over ordered ``l_1 l_2 l_3`` has 23 (see :func:`count_ordered_couplings`).
    The span of the polynomials is the same.

    Couplings are orthonormal within a set of degrees in the norm in which every component would
    have unit variance if the ``x_i`` were independent normal variables and traces vanished.

    Args:
      max_degree: highest degree of the factors.
      degree: degree of the result, of parity ``(-1)^degree``.
      order: number of factors (correlation order), from 1.
    """
    terms = _symmetric_irreps(max_degree, order, degree)[degree, (-1) ** degree]
    size = (max_degree + 1) ** 2
    monomials = np.array(
        list(itertools.combinations_with_replacement(range(size), order)), dtype=np.int64
    )
    used = np.any(terms != 0, axis=(1, 2))
    return Couplings(monomials[used], terms[used])


@cache
def _symmetric_irreps(
    max_degree: int, order: int, highest: int
) -> dict[tuple[int, int], Float[np.ndarray, "monomials couplings m"]]:
    """Symmetric couplings of all ``(degree, parity)`` up to ``highest``, on all monomials.

    Built one factor at a time: the product of a coupling of ``order - 1`` factors with one more
    factor, coupled to every degree, spans the couplings of ``order`` factors; the linearly
    dependent ones are taken out by a singular value decomposition.
    """
    size = (max_degree + 1) ** 2
    if order == 1:
        result = {}
        for degree in range(min(max_degree, highest) + 1):
            unit = np.zeros((size, 1, 2 * degree + 1))
            for m in range(2 * degree + 1):
                unit[degree**2 + m, 0, m] = 1
            result[degree, (-1) ** degree] = unit
        return result
    lower = _symmetric_irreps(max_degree, order - 1, highest + max_degree)
    times = _multiplication_table(size, order)
    count = int(times.max()) + 1
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for (degree1, parity), left in lower.items():
        for degree2 in range(max_degree + 1):
            for degree3 in range(abs(degree1 - degree2), min(degree1 + degree2, highest) + 1):
                product = np.zeros((count, left.shape[1], 2 * degree3 + 1))
                coupling = clebsch_gordan(degree1, degree2, degree3)
                for m2 in range(2 * degree2 + 1):
                    term = np.einsum("tki,ij->tkj", left, coupling[:, m2])
                    np.add.at(product, times[:, degree2**2 + m2], term)
                found.setdefault((degree3, parity * (-1) ** degree2), []).append(product)
    sets, weights = _degree_sets(max_degree, order)
    return {
        key: _independent(np.concatenate(parts, axis=1), sets, weights)
        for key, parts in found.items()
    }


def _multiplication_table(size: int, order: int) -> Int[np.ndarray, "lower size"]:
    """Index of ``monomial * x_i`` among the monomials of ``order`` factors."""
    combos = itertools.combinations_with_replacement
    index = {c: k for k, c in enumerate(combos(range(size), order))}
    return np.array(
        [
            [index[tuple(sorted((*c, i)))] for i in range(size)]
            for c in combos(range(size), order - 1)
        ]
    )


def _degree_sets(
    max_degree: int, order: int
) -> tuple[Int[np.ndarray, "monomials"], Float[np.ndarray, "monomials"]]:
    """The set of degrees each monomial belongs to, and its variance for normal variables."""
    degree_of = [d for d in range(max_degree + 1) for _ in range(2 * d + 1)]
    names: dict[tuple[int, ...], int] = {}
    sets, weights = [], []
    for combo in itertools.combinations_with_replacement(range(len(degree_of)), order):
        degrees = tuple(degree_of[i] for i in combo)
        sets.append(names.setdefault(degrees, len(names)))
        weights.append(np.prod([float(factorial(combo.count(i))) for i in set(combo)]))
    return np.array(sets), np.array(weights)


def _independent(
    products: Float[np.ndarray, "monomials couplings m"],
    sets: Int[np.ndarray, "monomials"],
    weights: Float[np.ndarray, "monomials"],
) -> Float[np.ndarray, "monomials independent m"]:
    """An orthonormal basis of the given couplings, one set of degrees after the other.

    By Schur's lemma one component ``m`` decides about linear dependence for all of them.
    """
    blocks = []
    for which in range(int(sets.max()) + 1):
        rows = np.flatnonzero(sets == which)
        block = products[rows]
        first = block[:, :, 0] * np.sqrt(weights[rows])[:, None]
        _, values, mixing = np.linalg.svd(first, full_matrices=False)
        # Values are of order one or rounding errors; the gap is ten orders wide.
        keep = values > 1e-8
        mixing = mixing[keep] / values[keep, None]
        full = np.zeros((len(sets), len(mixing), products.shape[2]))
        full[rows] = np.einsum("nk,tkm->tnm", mixing, block, optimize=True)
        blocks.append(np.where(np.abs(full) < 1e-12, 0, full))
    return np.concatenate(blocks, axis=1)


def count_ordered_couplings(max_degree: int, degree: int, order: int) -> int:
    """Number of couplings when the factors are told apart, as MACE eq. 10 counts them.

    All intermediate degrees are allowed; the product of the parities is that of the result.
    """
    counts = {(d, (-1) ** d): 1 for d in range(max_degree + 1)}
    for _ in range(order - 1):
        product: dict[tuple[int, int], int] = {}
        for (left, parity), number in counts.items():
            for right in range(max_degree + 1):
                for out in range(abs(left - right), left + right + 1):
                    key = (out, parity * (-1) ** right)
                    product[key] = product.get(key, 0) + number
        counts = product
    return counts.get((degree, (-1) ** degree), 0)
