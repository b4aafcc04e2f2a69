"""Blocks give what one pass over everything gives, derivatives included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.blocks import map_blocks, sum_blocks

ROWS = np.random.default_rng(0).normal(size=(11, 2, 3))
PLACES = np.array([0, 0, 1, 1, 1, 3, 3, 3, 3, 4, 4])


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_sums_do_not_depend_on_the_block(size):
    def sums(rows):
        return sum_blocks(lambda x: (x**3, 2 * x), rows, jnp.asarray(PLACES), 5, size)

    expected = np.zeros((5, 2, 3))
    np.add.at(expected, PLACES, ROWS**3)
    cubes, _ = sums(jnp.asarray(ROWS))
    np.testing.assert_allclose(cubes, expected, rtol=1e-12)
    gradient = jax.grad(lambda rows: jnp.sum(sums(rows)[0] ** 2))(jnp.asarray(ROWS))
    np.testing.assert_allclose(gradient, 6 * ROWS**2 * expected[PLACES], rtol=1e-12)


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_maps_do_not_depend_on_the_block(size):
    result = map_blocks(lambda x: jnp.sum(x**2, axis=-1), jnp.asarray(ROWS), size)
    np.testing.assert_allclose(result, np.sum(ROWS**2, axis=-1), rtol=1e-12)
