"""SO(2) layers commute with rotations about the edge, and with nothing more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.s2_grid import split_orders
from mlffjax.nn.so2 import SO2Parameters

DEGREE, ORDER, EDGES = 3, 2, 5


def features(channels: int = 4):
    rows = DEGREE + 1 + 2 * (DEGREE + DEGREE - 1)
    flat = np.random.default_rng(0).normal(size=(EDGES, rows, channels))
    return split_orders(jnp.asarray(flat), DEGREE, ORDER)


def turned(orders, angle: float):
    """Features after a rotation about the polar axis."""
    result = [orders[0]]
    for m, pair in enumerate(orders[1:], start=1):
        c, s = np.cos(m * angle), np.sin(m * angle)
        plus, minus = pair[:, 0], pair[:, 1]
        result.append(jnp.stack([c * plus - s * minus, s * plus + c * minus], axis=1))
    return tuple(result)


def mirrored(orders):
    """Features after a reflection through a plane with the axis in it."""
    signs = jnp.asarray([1.0, -1.0])[None, :, None, None]
    return (orders[0], *(pair * signs for pair in orders[1:]))


@pytest.fixture
def layer():
    module, shapes = SO2Parameters(3, num_scalars=2), (DEGREE + 1, 4, ORDER, jnp.float64)
    linear = module.apply(module.init(jax.random.key(0), *shapes), *shapes)
    return lambda orders: linear(orders, 2)


def test_shapes(layer):
    orders, scalars = layer(features())
    assert scalars.shape == (EDGES, 2)
    assert [x.shape for x in orders] == [(EDGES, 4, 3), (EDGES, 2, 3, 3), (EDGES, 2, 2, 3)]


def test_it_commutes_with_rotations_about_the_axis(layer):
    (first, scalars), (second, same) = layer(turned(features(), 0.8)), layer(features())
    np.testing.assert_allclose(scalars, same, atol=1e-13)
    for a, b in zip(first, turned(second, 0.8), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


def test_it_does_not_commute_with_reflections(layer):
    first, second = layer(mirrored(features()))[0], mirrored(layer(features())[0])
    assert np.abs(first[1] - second[1]).max() > 0.1


def test_orders_do_not_mix(layer):
    only = tuple(x if m == 1 else jnp.zeros_like(x) for m, x in enumerate(features()))
    orders, scalars = layer(only)
    assert not orders[0].any()  # the bias starts at zero
    assert not orders[2].any()
    assert not scalars.any()
    assert orders[1].any()
