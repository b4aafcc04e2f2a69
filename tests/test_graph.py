"""The graph: batches, padding, edge vectors, the ladder of sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import molecule, one_atom_cell, silicon, slab

from mlffjax.graph import (
    AtomGraph,
    GraphSize,
    batch,
    bucket,
    check_graph,
    edge_vectors,
    half,
    pad,
)
from mlffjax.neighbors import atom_graph

CUTOFF = 3.0


def graph_of(atoms) -> AtomGraph:
    return atom_graph(
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF, np.float64
    )


def test_edge_vectors_point_from_receiver_to_sender() -> None:
    atoms = silicon()
    graph = graph_of(atoms)
    got = np.asarray(edge_vectors(graph))
    for vector, sender, receiver, shift in zip(
        got, graph.senders, graph.receivers, graph.shifts, strict=True
    ):
        image = atoms.positions[sender] + shift @ atoms.cell.array
        np.testing.assert_allclose(vector, image - atoms.positions[receiver], atol=1e-12)
    assert np.linalg.norm(got, axis=1).max() < CUTOFF


def test_edge_vectors_of_a_batch_use_each_cell() -> None:
    graphs = [graph_of(atoms) for atoms in (molecule(), silicon(), slab())]
    together = np.asarray(edge_vectors(batch(graphs)))
    alone = np.concatenate([np.asarray(edge_vectors(g)) for g in graphs])
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_batch_moves_the_indices() -> None:
    graphs = [graph_of(atoms) for atoms in (silicon(), molecule())]
    joined = batch(graphs)
    assert joined.size == graphs[0].size + graphs[1].size
    assert joined.graph_index.tolist() == [0] * 2 + [1] * 9
    assert (np.diff(joined.receivers) >= 0).all()
    same = joined.graph_index[joined.senders] == joined.graph_index[joined.receivers]
    assert same.all()
    assert joined.senders.dtype == joined.graph_index.dtype == np.int32


@pytest.mark.parametrize("extra", [0, 1, 6])
def test_half_holds_every_pair_once(extra: int) -> None:
    """Also of atoms that are their own neighbours, in a batch, and with padding."""
    graph = batch([graph_of(a) for a in (one_atom_cell(), silicon(), molecule(), slab())])
    size = graph.size
    padded = pad(graph, GraphSize(size.atoms + extra, size.edges + extra, size.graphs + extra))
    got = jax.jit(half)(jax.tree.map(jnp.asarray, padded))
    assert got.senders.shape == ((size.edges + extra + 1) // 2,)
    assert (np.diff(got.receivers) >= 0).all()
    real = np.asarray(got.edge_mask)
    senders, receivers, shifts = (
        np.asarray(x)[real] for x in (got.senders, got.receivers, got.shifts)
    )
    rows = lambda s, r, t: set(zip(s.tolist(), r.tolist(), map(tuple, t.tolist()), strict=True))  # noqa: E731
    forth, back = rows(senders, receivers, shifts), rows(receivers, senders, -shifts)
    assert len(forth) == len(back) == real.sum()
    assert not forth & back
    assert forth | back == rows(graph.senders, graph.receivers, graph.shifts)


def whole_graph() -> AtomGraph:
    """A padded batch: an atom beside its own images, a crystal, a molecule, a slab."""
    graph = batch([graph_of(a) for a in (one_atom_cell(), silicon(), molecule(), slab())])
    size = graph.size
    return pad(graph, GraphSize(size.atoms + 2, size.edges + 5, size.graphs + 1))


def test_a_graph_that_is_right_passes_the_check() -> None:
    check_graph(whole_graph())
    check_graph(jax.tree.map(jnp.asarray, graph_of(slab())))
    alone = graph_of(molecule())
    check_graph(alone.replace(edge_mask=np.zeros_like(alone.edge_mask)))


def changed(name: str, index: int, value: object) -> AtomGraph:
    graph = whole_graph()
    array = np.array(getattr(graph, name))
    array[index] = value
    return graph.replace(**{name: array})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: changed("edge_mask", 3, False), "without its reverse; expected both edges"),
        (lambda: changed("shifts", 0, [5, 0, 0]), r"\[.*5.*\] without its reverse"),
        (lambda: half(whole_graph()), "got a graph with one edge of each pair; expected both"),
        (lambda: half(whole_graph()).replace(halved=False), "without its reverse"),
        (lambda: changed("receivers", -1, 0), "got receivers out of order"),
        (lambda: changed("graph_index", 1, 2), "got graph_index out of order"),
        (lambda: changed("senders", 0, 99), "got senders from 0 to 99; expected 0 to 17"),
        (lambda: changed("senders", 0, 5), "from atom 5 to atom 0 .* between two structures"),
        (lambda: changed("edge_mask", -1, True), "to padding"),
        (lambda: changed("shifts", 0, 0), "of an atom with itself"),
        (lambda: whole_graph().replace(shifts=np.zeros((3, 3), int)), "as many as there are edges"),
    ],
)
def test_a_broken_graph_is_refused_in_one_line(broken, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check_graph(broken())
    assert "\n" not in str(error.value)


def test_an_edge_given_twice_is_refused() -> None:
    graph = graph_of(molecule())
    twice = {
        name: np.repeat(getattr(graph, name), 2, axis=0)
        for name in ("senders", "receivers", "shifts", "edge_mask")
    }
    with pytest.raises(ValueError, match="twice; expected it once"):
        check_graph(graph.replace(**twice))


def test_halved_graphs_stay_so_in_a_batch_and_are_not_mixed() -> None:
    one, both = half(graph_of(slab())), graph_of(molecule())
    assert pad(batch([one, one]), GraphSize(64, 512, 3)).halved
    assert not batch([both]).halved
    with pytest.raises(ValueError, match="got graphs with one and graphs with both edges"):
        batch([one, both])


def test_batch_of_nothing() -> None:
    with pytest.raises(ValueError, match="got no graphs"):
        batch([])


def test_pad_keeps_the_real_part_and_the_order() -> None:
    graph = graph_of(silicon())
    room = GraphSize(graph.size.atoms + 3, graph.size.edges + 5, graph.size.graphs + 2)
    padded = pad(graph, room)
    assert padded.size == room
    for name in ("numbers", "positions", "senders", "receivers", "shifts", "cell"):
        real = getattr(graph, name)
        np.testing.assert_array_equal(getattr(padded, name)[: len(real)], real)
    assert padded.node_mask.sum() == graph.size.atoms
    assert padded.edge_mask.sum() == graph.size.edges
    assert padded.graph_mask.sum() == 1
    assert (np.diff(padded.receivers) >= 0).all()
    assert (np.diff(padded.graph_index) >= 0).all()


def test_pad_that_does_not_fit() -> None:
    graph = graph_of(molecule())
    with pytest.raises(ValueError, match=r"got a batch of 9 atoms.*expected at most 8.*enlarge"):
        pad(graph, GraphSize(8, graph.size.edges, 1))


def test_padded_edges_are_far_and_without_gradient() -> None:
    graph = graph_of(silicon())
    padded = pad(graph, GraphSize(4, graph.size.edges + 3, 2))
    vectors = np.asarray(edge_vectors(padded))
    np.testing.assert_array_equal(vectors[-3:], [[1e3, 0, 0]] * 3)

    def total(positions: jax.Array) -> jax.Array:
        return (edge_vectors(padded.replace(positions=positions)) ** 3).sum()

    gradient = np.asarray(jax.grad(total)(jnp.asarray(padded.positions)))
    assert not gradient[2:].any()
    assert gradient[:2].any()


def test_edge_vectors_keep_the_dtype() -> None:
    graph = graph_of(silicon())
    single = graph.replace(
        positions=graph.positions.astype(np.float32), cell=graph.cell.astype(np.float32)
    )
    with jax.numpy_dtype_promotion("strict"):
        assert edge_vectors(single).dtype == jnp.float32


def test_bucket_is_a_ladder_of_small_steps() -> None:
    values = [bucket(count, 4) for count in range(1, 5000)]
    assert all(value >= count for count, value in enumerate(values, 1))
    assert sorted(values) == values
    assert all(bucket(value, 4) == value for value in set(values))
    assert max(value / count for count, value in enumerate(values, 1) if count >= 32) <= 1.125
    assert len(set(values)) < 90


def test_size_adds_and_fits() -> None:
    size = GraphSize(3, 10, 1) + GraphSize(4, 20, 1)
    assert size == GraphSize(7, 30, 2)
    assert size.fits(GraphSize(7, 30, 2))
    assert not size.fits(GraphSize(7, 29, 2))
    assert size.fits(size.bucket())
    assert size.bucket().graphs == 2
