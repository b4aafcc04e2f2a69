"""Blocks give what one pass over everything gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.nn.blocks import map_blocks

ROWS = np.random.default_rng(0).normal(size=(11, 2, 3))


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_maps_do_not_depend_on_the_block(size):
    result = map_blocks(lambda x: jnp.sum(x**2, axis=-1), jnp.asarray(ROWS), size)
    np.testing.assert_allclose(result, np.sum(ROWS**2, axis=-1), rtol=1e-12)
    gradient = jax.grad(lambda rows: jnp.sum(map_blocks(jnp.sin, rows, size) ** 2))(
        jnp.asarray(ROWS)
    )
    np.testing.assert_allclose(gradient, np.sin(2 * ROWS), rtol=1e-12, atol=1e-12)
