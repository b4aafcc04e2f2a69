"""Couplings of irreducible representations against e3x and counts known from the literature."""

import itertools

import e3x
import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlffjax.nn.clebsch_gordan import (
    clebsch_gordan,
    count_ordered_couplings,
    symmetric_couplings,
)

TRIPLES = [
    (a, b, c)
    for a, b in itertools.product(range(4), repeat=2)
    for c in range(abs(a - b), min(a + b, 3) + 1)
]


def rotation_blocks(matrix, max_degree):
    """Rotation of all degrees up to ``max_degree`` by e3x, acting from the left."""
    d = e3x.so3.wigner_d(np.asarray(matrix), max_degree, cartesian_order=False)
    return np.asarray(d, np.float64)


def test_equal_to_e3x_up_to_sign():
    for degrees in TRIPLES:
        theirs = np.asarray(e3x.so3.clebsch_gordan_for_degrees(*degrees, cartesian_order=False))
        ours = clebsch_gordan(*degrees)
        sign = np.sign(np.sum(ours * theirs))
        np.testing.assert_allclose(ours, sign * theirs, atol=1e-6)
        np.testing.assert_allclose(np.sum(ours**2, axis=(0, 1)), 1, atol=1e-12)
        assert ours[ours != 0][0] > 0


def test_degrees_that_break_the_triangle_rule_are_refused():
    with pytest.raises(ValueError, match="expected a third degree from 1 to 3"):
        clebsch_gordan(1, 2, 4)


@pytest.mark.parametrize(
    ("degree", "order", "ordered"),
    [(0, 1, 1), (0, 2, 4), (0, 3, 23), (1, 2, 6), (1, 3, 51), (2, 2, 7), (2, 3, 65)],
)
def test_numbers_of_couplings(degree, order, ordered):
    """Ordered factors: as in the tables of the reference implementation for l_max 3."""
    assert count_ordered_couplings(3, degree, order) == ordered
    independent = symmetric_couplings(3, degree, order).coefficients.shape[1]
    assert independent <= ordered
    if degree == 0 and order == 3:
        assert independent == 8  # 000 011 022 033 112 123 222 233


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_couplings_are_equivariant_and_independent(degree, order):
    c = symmetric_couplings(3, degree, order)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 16))
    matrix = Rotation.random(rng=rng).as_matrix()
    with jax.enable_x64(True):
        turn = rotation_blocks(matrix, 3)

    def values(features):
        monomials = np.prod(features[:, c.monomials], axis=2)
        return np.einsum("nt,tkm->nkm", monomials, c.coefficients)

    before, after = values(x), values(x @ turn.T)
    block = turn[degree**2 : (degree + 1) ** 2, degree**2 : (degree + 1) ** 2]
    np.testing.assert_allclose(after, before @ block.T, atol=1e-5 * np.abs(before).max())
    flat = before.transpose(0, 2, 1).reshape(-1, before.shape[1])
    assert np.linalg.matrix_rank(flat) == before.shape[1]


def test_fourth_order_is_equivariant():
    c = symmetric_couplings(2, 1, 4)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 9))
    with jax.enable_x64(True):
        turn = rotation_blocks(Rotation.random(rng=rng).as_matrix(), 2)
    before, after = (
        np.einsum("nt,tkm->nkm", np.prod(f[:, c.monomials], axis=2), c.coefficients)
        for f in (x, x @ turn.T)
    )
    np.testing.assert_allclose(after, before @ turn[1:4, 1:4].T, atol=1e-5 * np.abs(before).max())
