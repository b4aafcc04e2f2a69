"""Kernels for each element, by blocks of atoms."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from mlffjax.nn import equivariant_linear
from mlffjax.nn.equivariant_linear import ElementLinear
from mlffjax.nn.tensor_product import Irrep

ATOMS, CHANNELS, ELEMENTS = 202, 16, 6


def test_blocks_of_atoms_are_exact_to_second_order(monkeypatch):
    # Four atoms a block, not a divisor of their number.
    monkeypatch.setattr(equivariant_linear, "NUMBERS_PER_BLOCK", 4 * CHANNELS**2)
    layer = ElementLinear((Irrep(1, -1),), CHANNELS, ELEMENTS)
    x = jax.random.normal(jax.random.key(0), (ATOMS, 3, CHANNELS), jnp.float64)
    species = jnp.arange(ATOMS, dtype=jnp.int32) % ELEMENTS
    params = layer.init(jax.random.key(1), (x,), species)

    def by_blocks(params, x):
        return layer.apply(params, (x,), species)[0]

    def at_once(params, x):
        kernel = params["params"]["1o"] / math.sqrt(CHANNELS)
        return jnp.einsum("nmu,nuv->nmv", x, kernel[species])

    def results(function):
        def energy(params, x):
            return (function(params, x) ** 3).sum()

        def loss(params, x):
            return (jax.grad(energy, argnums=1)(params, x) ** 2).sum()

        run = jax.jit(lambda params, x: (function(params, x), jax.grad(loss, (0, 1))(params, x)))
        compiled = run.lower(params, x).compile()
        return compiled(params, x), compiled.memory_analysis().temp_size_in_bytes

    (got, less), (expected, more) = results(by_blocks), results(at_once)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max()),
        got,
        expected,
    )
    assert less < more
