"""Sums, means and softmax over edges and atoms, with anything in the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.graph import EdgeGraph
from mlffjax.nn.scatter import (
    masked,
    mean_over_graph,
    softmax_over_neighbors,
    sum_over_graph,
    sum_to_receivers,
)

RECEIVERS = [0, 0, 0, 1, 3, 3, 3]  # atom 2 has no neighbour; the last edge is padding
REAL = 6


@pytest.fixture
def graph() -> EdgeGraph:
    """Two structures of two atoms each, and one padded atom, edge and structure."""
    return EdgeGraph(
        vectors=jnp.ones((7, 3)),
        species=jnp.zeros(5, int),
        numbers=jnp.ones(5, int),
        graph_index=jnp.array([0, 0, 1, 1, 1]),
        senders=jnp.array([1, 3, 2, 0, 2, 0, 1]),
        receivers=jnp.array(RECEIVERS),
        node_mask=jnp.array([True] * 4 + [False]),
        edge_mask=jnp.array([True] * REAL + [False]),
        graph_mask=jnp.array([True, True, False]),
    )


def edges(shape: tuple[int, ...] = (), padding: float = np.nan) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(7, *shape))
    values[REAL:] = padding
    return values


def test_masked_stops_values_and_gradients() -> None:
    values, mask = jnp.array([[1.0, 2.0], [np.nan, np.inf]]), jnp.array([True, False])
    np.testing.assert_array_equal(masked(values, mask), [[1, 2], [0, 0]])
    gradient = jax.grad(lambda v: (masked(v, mask) ** 2).sum())(values)
    np.testing.assert_array_equal(gradient, [[2, 4], [0, 0]])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_sum_to_receivers(graph: EdgeGraph, shape: tuple[int, ...]) -> None:
    values = edges(shape)
    expected = np.zeros((5, *shape))
    np.add.at(expected, RECEIVERS[:REAL], values[:REAL])
    np.testing.assert_allclose(sum_to_receivers(jnp.asarray(values), graph), expected)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_softmax_without_envelope(graph: EdgeGraph, shape: tuple[int, ...]) -> None:
    logits = edges(shape)
    got = np.asarray(softmax_over_neighbors(jnp.asarray(logits), graph))
    weights = np.exp(logits[:REAL])
    total = np.zeros((5, *shape))
    np.add.at(total, RECEIVERS[:REAL], weights)
    np.testing.assert_allclose(got[:REAL], weights / total[RECEIVERS[:REAL]], rtol=1e-12)
    assert not got[REAL:].any()


def test_softmax_with_envelope(graph: EdgeGraph) -> None:
    """``envelope exp(l) / (1 + sum of envelope exp(l))``: the constant is one."""
    logits, envelope = edges(), np.linspace(0, 1, 7)
    got = np.asarray(softmax_over_neighbors(jnp.asarray(logits), graph, jnp.asarray(envelope)))
    weights = (envelope * np.exp(logits))[:REAL]
    total = np.ones(5)
    np.add.at(total, RECEIVERS[:REAL], weights)
    np.testing.assert_allclose(got[:REAL], weights / total[RECEIVERS[:REAL]], rtol=1e-12)
    assert got[0] == 0
    assert not got[REAL:].any()


def test_softmax_of_large_logits(graph: EdgeGraph) -> None:
    """No overflow, and the gradient by the logits is that of the shifted ones."""

    def weighted(logits: jax.Array) -> jax.Array:
        return (softmax_over_neighbors(logits, graph) * jnp.arange(7.0)).sum()

    logits = jnp.asarray(edges(padding=0.0))
    for shift in (-2000.0, 2000.0):
        far = jax.grad(weighted)(logits + shift)
        np.testing.assert_allclose(far, jax.grad(weighted)(logits), atol=1e-9)


def test_softmax_gradient_with_envelope(graph: EdgeGraph) -> None:
    """The guard against overflow has no derivative because it cancels: compare differences."""
    envelope = jnp.linspace(0.1, 1, 7)

    def weighted(logits: jax.Array) -> jax.Array:
        return (softmax_over_neighbors(logits, graph, envelope) * jnp.arange(7.0)).sum()

    logits = jnp.asarray(edges(padding=0.0))
    gradient = np.asarray(jax.grad(weighted)(logits))
    step = 1e-6
    numeric = [
        (weighted(logits.at[k].add(step)) - weighted(logits.at[k].add(-step))) / (2 * step)
        for k in range(7)
    ]
    np.testing.assert_allclose(gradient, np.asarray(numeric), atol=1e-8)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_sum_and_mean_over_graph(graph: EdgeGraph, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(size=(5, *shape))
    values[4] = np.nan
    total = np.stack([values[:2].sum(0), values[2:4].sum(0), np.zeros(shape)])
    np.testing.assert_allclose(sum_over_graph(jnp.asarray(values), graph), total)
    np.testing.assert_allclose(mean_over_graph(jnp.asarray(values), graph), total / 2)
