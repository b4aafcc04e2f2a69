"""Grids on the sphere: exact where they promise it, refused where they cannot work."""

import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.s2_grid import (
    flatten_orders,
    from_grid,
    grid_matrices,
    real_harmonics,
    sphere_grid,
    split_orders,
    to_grid,
)
from mlffjax.nn.spherical_harmonics import spherical_harmonics
from mlffjax.nn.wigner import order_rescale


def test_harmonics_on_the_host_equal_those_on_the_device():
    points, _ = sphere_grid("equiangular", 6, 7)
    points = np.concatenate([points, [[0, 0, 1], [0, 0, -1]]])
    np.testing.assert_allclose(
        real_harmonics(points, 8), spherical_harmonics(jnp.asarray(points), 8), atol=1e-13
    )


@pytest.mark.parametrize(
    ("rule", "polar", "exact"), [("gauss", 9, 17), ("equiangular", 18, 17), ("equiangular", 9, 8)]
)
def test_quadrature_is_exact_up_to_its_degree_and_not_beyond(rule, polar, exact):
    points, weights = sphere_grid(rule, polar, 40)
    assert weights.sum() == pytest.approx(1)
    means = weights @ real_harmonics(points, exact + 3)
    inside = (exact + 1) ** 2
    np.testing.assert_allclose(means[1:inside], 0, atol=1e-14)
    assert np.abs(means[inside:]).max() > 1e-3


@pytest.mark.parametrize("grid", [("gauss", 7, 13), ("equiangular", 18, 18)])
def test_coefficients_come_back(grid):
    forward, backward = grid_matrices(6, None, *grid)
    features = np.random.default_rng(0).normal(size=(3, 49, 2))
    values = to_grid(jnp.asarray(features), forward)
    assert values.shape == (grid[1] * grid[2], 3, 2)
    np.testing.assert_allclose(from_grid(values, backward), features, atol=1e-13)


def test_coefficients_of_unit_variance_give_values_of_unit_variance():
    forward, _ = grid_matrices(4, None, "gauss", 5, 9)
    np.testing.assert_allclose((forward**2).sum(axis=1), 1)


def test_truncated_degrees_are_enlarged_both_ways():
    forward, backward = grid_matrices(5, 2, "equiangular", 18, 18)
    degrees = [*range(6), *(2 * [*range(1, 6)]), *(2 * [*range(2, 6)])]
    expected = [order_rescale(degree, 2) ** 2 for degree in degrees]
    np.testing.assert_allclose(backward @ forward, np.diag(expected), atol=1e-13)


def test_orders_flatten_and_split():
    flat = jnp.arange(2.0 * 29 * 3).reshape(2, 29, 3)
    orders = split_orders(flat, 6, 2)
    assert [x.shape for x in orders] == [(2, 7, 3), (2, 2, 6, 3), (2, 2, 5, 3)]
    np.testing.assert_array_equal(flatten_orders(orders), flat)


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (("gauss", 4, 13), "4 x 13"),
        (("gauss", 5, 8), "expected at least 5 x 9"),
        (("equiangular", 8, 18), "8 x 18"),
        (("lebedev", 18, 18), "lebedev"),
    ],
)
def test_a_grid_that_cannot_work_is_an_error(grid, match):
    with pytest.raises(ValueError, match=match):
        grid_matrices(4, None, *grid)


def test_an_empty_grid_is_an_error():
    with pytest.raises(ValueError, match="0 x 4"):
        sphere_grid("gauss", 0, 4)
