"""Weighted sums over neighbours as products of matrices."""

import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from mlffjax.graph import EdgeGraph, half
from mlffjax.neighbors import atom_graph
from mlffjax.nn import backend, pair_matrix

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def graph() -> EdgeGraph:
    """Four atoms whose images are neighbours several times, and their own."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    whole = atom_graph(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, 5.0)
    pairs = half(whole)
    return EdgeGraph(
        vectors=jnp.ones((len(pairs.senders), 3)),
        species=jnp.zeros(4, jnp.int32),
        numbers=pairs.numbers,
        graph_index=pairs.graph_index,
        senders=jnp.asarray(pairs.senders),
        receivers=jnp.asarray(pairs.receivers),
        node_mask=pairs.node_mask,
        edge_mask=pairs.edge_mask,
        graph_mask=pairs.graph_mask,
    )


def test_sums_are_those_over_edges(graph):
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    assert np.any(senders == receivers)
    assert len(senders) > len({*zip(senders, receivers, strict=True)})
    at_senders, at_receivers = RNG.normal(size=(2, len(senders), 3))
    values = RNG.normal(size=(4, 6))
    expected = np.zeros_like(values)
    np.add.at(expected, receivers, np.repeat(at_receivers, 2, axis=1) * values[senders])
    np.add.at(expected, senders, np.repeat(at_senders, 2, axis=1) * values[receivers])
    weights = jnp.asarray(at_senders), jnp.asarray(at_receivers)
    sums = pair_matrix.weighted_sums(weights, jnp.asarray(values), graph)
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)


def test_where_it_is_chosen(graph, monkeypatch):
    assert pair_matrix.is_quicker(graph)
    few = graph.replace(senders=graph.senders[:0])
    assert not pair_matrix.is_quicker(few)
    several = graph.replace(graph_mask=jnp.ones(2, bool))
    assert not pair_matrix.is_quicker(several)
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    assert not pair_matrix.is_quicker(graph)
