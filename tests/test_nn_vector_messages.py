"""Messages by blocks of edges equal the sum written out."""

import jax
import jax.numpy as jnp
import numpy as np

from mlffjax.graph import EdgeGraph
from mlffjax.nn import vector_messages
from mlffjax.nn.vector_messages import scalar_vector_messages

ATOMS, EDGES, FEATURES, BASIS = 7, 50, 4, 5


def arrays():
    rng = np.random.default_rng(0)
    mask = np.arange(EDGES) < 44
    graph = EdgeGraph(
        vectors=jnp.asarray(rng.normal(size=(EDGES, 3))),
        species=jnp.zeros(ATOMS, jnp.int32),
        numbers=jnp.ones(ATOMS, jnp.int32),
        graph_index=jnp.zeros(ATOMS, jnp.int32),
        senders=jnp.asarray(rng.integers(0, ATOMS, EDGES), jnp.int32),
        receivers=jnp.asarray(np.sort(rng.integers(0, ATOMS, EDGES)), jnp.int32),
        node_mask=jnp.ones(ATOMS, bool),
        edge_mask=jnp.asarray(mask),
        graph_mask=jnp.ones(1, bool),
    )
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    sources, basis = draw(ATOMS, 3 * FEATURES), draw(EDGES, BASIS)
    return graph, (sources, basis, draw(BASIS, 3 * FEATURES), draw(ATOMS, 3, FEATURES))


def written_out(graph, sources, basis, kernel, vectors):
    dx, dv = jnp.zeros((ATOMS, FEATURES)), jnp.zeros((ATOMS, 3, FEATURES))
    for e in np.flatnonzero(np.asarray(graph.edge_mask)):
        i, j = int(graph.receivers[e]), int(graph.senders[e])
        b, c, a = jnp.split(sources[j] * (basis[e] @ kernel), 3)
        dx = dx.at[i].add(c)
        dv = dv.at[i].add(a * vectors[j] + b * graph.vectors[e][:, None])
    return dx, dv


def test_blocks_give_the_sum_and_its_gradient(monkeypatch):
    monkeypatch.setattr(vector_messages, "EDGES_PER_BLOCK", 8)
    monkeypatch.setattr(vector_messages, "EDGES_PER_BLOCK_ON_ACCELERATOR", 8)
    graph, inputs = arrays()
    got = scalar_vector_messages(*inputs, graph.vectors, graph)
    expected = written_out(graph, *inputs)
    for one, two in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)

    def loss(function):
        return lambda inputs: sum((x**2).sum() for x in function(inputs))

    gradients = [
        jax.grad(loss(function))(inputs)
        for function in (
            lambda x: scalar_vector_messages(*x, graph.vectors, graph),
            lambda x: written_out(graph, *x),
        )
    ]
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-11)


def test_without_vectors_only_two_parts_are_needed():
    graph, (sources, basis, kernel, vectors) = arrays()
    full = scalar_vector_messages(
        sources, basis, kernel, jnp.zeros_like(vectors), graph.vectors, graph
    )
    two = 2 * FEATURES
    part = scalar_vector_messages(
        sources[:, :two], basis, kernel[:, :two], None, graph.vectors, graph
    )
    for one, other in zip(full, part, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
