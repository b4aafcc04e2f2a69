"""Distance transform and pair repulsion against the numbers of mace-torch."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mlffjax.graph import EdgeGraph
from mlffjax.nn.distance_transform import agnesi_transform, sum_of_covalent_radii
from mlffjax.nn.pair_repulsion import screened_repulsion

REFERENCE = Path(__file__).parent / "data" / "interop" / "pair_functions.npz"


def pairs():
    """Numbers of the file, and one edge for each pair: the first atom is the receiver."""
    data = np.load(REFERENCE)
    count = len(data["distances"])
    numbers = np.concatenate([data["first"], data["second"]]).astype(np.int32)
    graph = EdgeGraph(
        vectors=jnp.asarray(data["distances"][:, None] * np.array([1.0, 0, 0])),
        species=jnp.zeros(2 * count, jnp.int32),
        numbers=jnp.asarray(numbers),
        graph_index=jnp.zeros(2 * count, jnp.int32),
        senders=jnp.arange(count, 2 * count, dtype=jnp.int32),
        receivers=jnp.arange(count, dtype=jnp.int32),
        node_mask=jnp.ones(2 * count, bool),
        edge_mask=jnp.ones(count, bool),
        graph_mask=jnp.ones(1, bool),
    )
    return data, graph


def test_agnesi_transform_equals_the_reference():
    data, graph = pairs()
    lengths = sum_of_covalent_radii(graph.numbers, graph.senders, graph.receivers, jnp.float64)
    got = agnesi_transform(jnp.asarray(data["distances"]), lengths)
    np.testing.assert_allclose(got, data["agnesi"], rtol=1e-12)


def test_screened_repulsion_equals_the_reference():
    data, graph = pairs()
    got = screened_repulsion(jnp.asarray(data["distances"]), graph, power=5)
    expected = data["zbl"]
    assert (expected > 1).sum() > 10
    assert (expected == 0).sum() > 10
    np.testing.assert_allclose(got[: len(expected)], expected, rtol=1e-10)
    assert not np.any(got[len(expected) :])
