"""Parts of rows: both forms of an operation are the same function with the same derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mlffjax.nn import backend
from mlffjax.nn.groups import multiply_groups, repeat_groups, spread, sum_groups

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, params=["cpu", "accelerator"])
def form(request, monkeypatch):
    monkeypatch.setattr(backend, "on_cpu", lambda: request.param == "cpu")


@pytest.mark.parametrize("counts", [(3, 3), (3, 5, 7), (1,)])
def test_sums_and_repetitions(counts):
    members, groups = RNG.normal(size=(4, sum(counts))), RNG.normal(size=(4, len(counts)))
    starts = np.cumsum((0, *counts[:-1]))
    sums = sum_groups(jnp.asarray(members), counts=counts)
    np.testing.assert_allclose(sums, np.add.reduceat(members, starts, axis=1), rtol=1e-12)
    repeated = repeat_groups(jnp.asarray(groups), counts=counts)
    np.testing.assert_array_equal(repeated, np.repeat(groups, counts, axis=1))
    # Each is the transpose of the other.
    back = jax.vjp(partial(sum_groups, counts=counts), jnp.asarray(members))[1](jnp.asarray(groups))
    np.testing.assert_allclose(back[0], repeated, rtol=1e-12)


@pytest.mark.parametrize("operation", [sum_groups, repeat_groups])
def test_products_have_all_derivatives(operation):
    """Of three arrays, in forward and in reverse mode, twice, and of a batch."""
    widths = (8 if operation is sum_groups else 2, 8, 8)
    arrays = [jnp.asarray(RNG.normal(size=(5, width))) for width in widths]
    compiled = jax.jit(partial(operation, counts=(3, 5)))
    check_grads(compiled, arrays, order=2, atol=1e-6, rtol=1e-6)

    def plain(first, *others):
        ones = jnp.asarray(np.repeat(np.eye(2), (3, 5), axis=1))
        if operation is sum_groups:
            return (first * others[0] * others[1]) @ ones.T
        return (first @ ones) * others[0] * others[1]

    batch = [jnp.stack([arrays[0], 2 * arrays[0]], axis=1), arrays[1], arrays[2]]
    made = jax.vmap(partial(operation, counts=(3, 5)), in_axes=(1, None, None))(*batch)
    np.testing.assert_allclose(made[1], plain(2 * arrays[0], *arrays[1:]), rtol=1e-12)


def test_products_of_parts():
    values, kernels = RNG.normal(size=(5, 6)), RNG.normal(size=(3, 2, 3, 3))
    products = multiply_groups(jnp.asarray(values), [jnp.asarray(x) for x in kernels])
    for product, kernel in zip(products, kernels, strict=True):
        parts = [values[:, :3] @ kernel[0], values[:, 3:] @ kernel[1]]
        np.testing.assert_allclose(product, np.concatenate(parts, axis=1), rtol=1e-12)


def test_spreading():
    values = RNG.normal(size=(4, 3))
    wide, back = jax.vjp(partial(spread, channels=5), jnp.asarray(values))
    np.testing.assert_array_equal(wide, np.repeat(values[..., None], 5, axis=-1))
    np.testing.assert_allclose(back(2 * wide)[0], 10 * values, rtol=1e-12)
