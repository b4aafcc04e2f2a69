"""Cutoff functions, radial bases and lengths: values, derivatives, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.cutoffs import cosine_cutoff, polynomial_cutoff
from mlffjax.nn.geometry import length_and_direction, safe_norm
from mlffjax.nn.radial import bessel_basis, exponential_gaussian_basis, gaussian_basis

CUTOFF = 4.0
DISTANCES = np.array([0.3, 1.0, 2.5, 3.9])


@pytest.mark.parametrize("function", [cosine_cutoff, polynomial_cutoff])
def test_cutoff_falls_from_one_to_zero(function) -> None:
    values = np.asarray(function(jnp.linspace(0, CUTOFF, 200), CUTOFF))
    assert values[0] == 1
    assert abs(values[-1]) < 1e-12
    assert (np.diff(values) < 0).all()
    assert not np.abs(function(jnp.array([CUTOFF + 0.1, 50.0, 1e3]), CUTOFF)).max() > 1e-12


@pytest.mark.parametrize(
    ("function", "order"),
    [
        (cosine_cutoff, 1),
        (polynomial_cutoff, 2),
        (lambda r, c: polynomial_cutoff(r, c, power=6), 2),
    ],
)
def test_cutoff_derivatives_vanish(function, order: int) -> None:
    derivative = lambda r: function(r[None], CUTOFF)[0]  # noqa: E731
    for _ in range(order):
        derivative = jax.grad(derivative)
        for at in (CUTOFF - 1e-9, CUTOFF + 1e-9):
            assert abs(derivative(jnp.float64(at))) < 1e-7


def test_cosine_cutoff_values() -> None:
    expected = 0.5 * (np.cos(np.pi * DISTANCES / CUTOFF) + 1)
    np.testing.assert_allclose(cosine_cutoff(jnp.asarray(DISTANCES), CUTOFF), expected)


def test_polynomial_cutoff_values() -> None:
    """DimeNet's envelope for p = 6, written out."""
    x = DISTANCES / CUTOFF
    expected = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    got = polynomial_cutoff(jnp.asarray(DISTANCES), CUTOFF, power=6)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_gaussian_basis() -> None:
    got = np.asarray(gaussian_basis(jnp.asarray(DISTANCES), 5, CUTOFF, width=0.7))
    centers = np.arange(5.0)
    expected = np.exp(-0.5 * ((DISTANCES[:, None] - centers) / 0.7) ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_exponential_gaussian_basis() -> None:
    got = np.asarray(exponential_gaussian_basis(jnp.asarray(DISTANCES), 6, CUTOFF))
    lowest = np.exp(-CUTOFF)
    centers = lowest + (1 - lowest) * np.arange(6) / 5
    gamma = 1 / (2 / 6 * (1 - lowest)) ** 2
    expected = np.exp(-gamma * (np.exp(-DISTANCES[:, None]) - centers) ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("power", [5, 6])
def test_polynomial_cutoff_keeps_its_digits_near_the_cutoff(power: int) -> None:
    distances = np.linspace(0.97 * CUTOFF, CUTOFF, 101, dtype=np.float32)[:-1]
    got = np.asarray(polynomial_cutoff(jnp.asarray(distances), CUTOFF, power))
    x = distances.astype(np.float64) / CUTOFF
    terms = [(k + 1) * (k + 2) / 2 * x**k for k in range(power)]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, (1 - x) ** 3 * sum(terms), rtol=1e-5)


def test_bessel_basis_vanishes_at_the_cutoff_and_is_orthonormal() -> None:
    frequencies = np.pi * jnp.arange(1.0, 5)
    assert np.abs(bessel_basis(jnp.array([CUTOFF]), frequencies, CUTOFF)).max() < 1e-12
    grid = (np.arange(4000) + 0.5) * CUTOFF / 4000
    values = np.asarray(bessel_basis(jnp.asarray(grid), frequencies, CUTOFF))
    overlap = (values * grid[:, None] ** 2).T @ values * CUTOFF / 4000
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-5)


def test_safe_norm() -> None:
    vectors = jnp.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(safe_norm(vectors), [5.0, 0.0])
    gradient = jax.grad(lambda v: safe_norm(v).sum())(vectors)
    np.testing.assert_allclose(gradient, [[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]], rtol=1e-12)
    second = jax.jacfwd(jax.grad(lambda v: safe_norm(v).sum()))(vectors)
    assert np.isfinite(second).all()


def test_length_and_direction() -> None:
    lengths, directions = length_and_direction(jnp.array([[0.0, -2.0, 0.0], [1.0, 2.0, 2.0]]))
    np.testing.assert_allclose(lengths, [2.0, 3.0])
    np.testing.assert_allclose(directions, [[0, -1, 0], [1 / 3, 2 / 3, 2 / 3]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_is_kept(dtype) -> None:
    with jax.numpy_dtype_promotion("strict"):
        distances = jnp.asarray(DISTANCES, dtype)
        frequencies = jnp.arange(1, 4).astype(dtype)
        results = [
            cosine_cutoff(distances, CUTOFF),
            polynomial_cutoff(distances, CUTOFF),
            gaussian_basis(distances, 4, CUTOFF),
            exponential_gaussian_basis(distances, 4, CUTOFF),
            bessel_basis(distances, frequencies, CUTOFF),
            *length_and_direction(jnp.ones((2, 3), dtype)),
        ]
    assert {result.dtype for result in results} == {np.dtype(dtype)}
