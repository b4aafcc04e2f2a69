"""Activations of spherical features: how well they commute with rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_nn_so2 import turned

from mlffjax.nn.s2_grid import split_orders
from mlffjax.nn.spherical_activations import (
    gate,
    gate_orders,
    on_sphere,
    silu_on_sphere,
    smooth_leaky_relu,
)
from mlffjax.nn.wigner import edge_rotation


def orders(scale: float = 1.0):
    flat = scale * np.random.default_rng(0).normal(size=(20, 19, 4))
    return split_orders(jnp.asarray(flat), 4, 2)


def gauge_error(azimuthal: int, *, separable: bool = True, scale: float = 1.0) -> float:
    """Largest change of the result as the frame turns about the edge, over the result."""
    grid, scalars = ("gauss", 7, azimuthal), jnp.ones((20, 4)) if separable else None
    worst, size = 0.0, 0.0
    for angle in (0.05, 0.13, 1.0):
        first = silu_on_sphere(turned(orders(scale), angle), grid, scalars)
        second = turned(silu_on_sphere(orders(scale), grid, scalars), angle)
        for a, b in zip(first, second, strict=True):
            worst, size = max(worst, np.abs(a - b).max()), max(size, np.abs(b).max())
    return worst / size


def test_the_gauge_error_falls_exponentially_with_the_azimuths():
    """For features of unit variance; 18 is the published number, 24 the default."""
    measured = {10: 1.5e-2, 18: 1.6e-4, 24: 5.8e-6, 40: 8.7e-10}
    for azimuths, size in measured.items():
        assert size / 3 < gauge_error(azimuths) < 3 * size


def test_features_that_hardly_bend_the_activation_have_no_gauge_error():
    assert gauge_error(24, scale=0.1) < 1e-13


def rotated(features, axis):
    """Features in the frame in which ``axis`` points along z."""
    blocks = edge_rotation(jnp.asarray(axis)[None], 4, 4)
    parts = []
    for degree, block in enumerate(blocks):
        order = [2 * degree - k for k in range(degree)] + list(range(degree + 1))
        part = features[:, degree**2 : (degree + 1) ** 2]
        parts.append(jnp.einsum("ij,njc->nic", block[0][jnp.asarray(order)], part))
    return jnp.concatenate(parts, axis=1)


@pytest.mark.parametrize("separable", [True, False])
def test_a_function_on_the_sphere_commutes_with_rotations(separable):
    features = jnp.asarray(0.3 * np.random.default_rng(1).normal(size=(3, 25, 2)))
    scalars = jnp.ones((3, 1, 2)) if separable else None

    def act(x, points):
        return on_sphere(jax.nn.silu, x, ("gauss", points, 2 * points), scalars)

    axis = np.array([0.48, 0.6, 0.64])
    errors = [
        np.abs(act(rotated(features, axis), n) - rotated(act(features, n), axis)).max()
        for n in (6, 12, 20)
    ]
    assert errors[2] < 1e-9
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_gates_commute_with_rotations():
    features = jnp.asarray(np.random.default_rng(2).normal(size=(3, 25, 2)))
    gates = jnp.asarray(np.random.default_rng(3).normal(size=(3, 4, 2)))
    axis = np.array([0.48, 0.6, 0.64])
    np.testing.assert_allclose(
        gate(rotated(features, axis), gates), rotated(gate(features, gates), axis), atol=1e-13
    )


def test_gates_in_the_frame_of_an_edge_are_the_same():
    gates = jnp.asarray(np.random.default_rng(3).normal(size=(20, 4, 4)))
    result = gate_orders(orders(), gates)
    sigmoid = np.asarray(jax.nn.sigmoid(gates))
    np.testing.assert_allclose(result[0][:, 0], jax.nn.silu(orders()[0][:, 0]))
    for degree in range(1, 5):
        factor = sigmoid[:, degree - 1]
        np.testing.assert_allclose(result[0][:, degree], orders()[0][:, degree] * factor)
        np.testing.assert_allclose(
            result[1][:, 1, degree - 1], orders()[1][:, 1, degree - 1] * factor
        )


def test_smooth_leaky_relu_has_its_slopes():
    x = jnp.asarray([-50.0, 0.0, 50.0])
    np.testing.assert_allclose(smooth_leaky_relu(x), [-10, 0, 50])
    np.testing.assert_allclose(jax.vmap(jax.grad(smooth_leaky_relu))(x), [0.2, 0.6, 1])
