"""Spherical harmonics against e3x, and their derivatives at the poles."""

import e3x
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.spherical_harmonics import spherical_harmonics


@pytest.mark.parametrize("max_degree", [0, 1, 3, 6])
def test_equal_to_e3x(max_degree):
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = e3x.so3.spherical_harmonics(
        jnp.asarray(vectors), max_degree, cartesian_order=False, normalization="orthonormal"
    )
    result = spherical_harmonics(jnp.asarray(vectors), max_degree)
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_derivatives_on_every_axis_are_those_of_finite_differences():
    axes = jnp.asarray(np.concatenate([np.eye(3), -np.eye(3)]))
    along = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    function = lambda r: spherical_harmonics(r, 4)  # noqa: E731
    slope = jax.jvp(function, (axes,), (along,))[1]
    step = 1e-5
    numeric = (function(axes + step * along) - function(axes - step * along)) / (2 * step)
    np.testing.assert_allclose(slope, numeric, atol=1e-7)


def test_dtype_is_kept():
    assert spherical_harmonics(jnp.ones((2, 3), jnp.float32), 3).dtype == jnp.float32
