"""Parts of rows: both forms of an operation are the same function with the same derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    sums = sum_groups(jnp.asarray(members), counts)
    np.testing.assert_allclose(sums, np.add.reduceat(members, starts, axis=1), rtol=1e-12)
    repeated = repeat_groups(jnp.asarray(groups), counts)
    np.testing.assert_array_equal(repeated, np.repeat(groups, counts, axis=1))
    # Each is the transpose of the other.
    back = jax.vjp(partial(sum_groups, counts=counts), jnp.asarray(members))[1](jnp.asarray(groups))
    np.testing.assert_allclose(back[0], repeated, rtol=1e-12)


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
