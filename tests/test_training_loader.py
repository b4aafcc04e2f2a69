"""Packing, gathering and ordering of batches."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clusters import BASELINE, CUTOFF, cluster, clusters

from mlffjax.data.frames import Frame
from mlffjax.data.loader import BatchOrder, _starts, choose_rooms, pack, room_of, select, take
from mlffjax.graph import GraphSize, batch, edge_vectors, pad
from mlffjax.neighbors import atom_graph

ROOM = GraphSize(24, 160, 4)


def test_gathered_batch_is_the_batch_made_on_the_host() -> None:
    frames = clusters(5, (4, 6, 5), periodic=True)
    packed = pack(frames, CUTOFF, BASELINE, np.float64)
    picked = [4, 0, 2]
    room = GraphSize(24, int(packed.num_edges[picked].sum()) + 7, 4)
    graph, targets = jax.jit(take, static_argnames="room")(packed, jnp.array([*picked, -1]), room)
    parts = [
        atom_graph(f.numbers, f.positions - f.positions.mean(0), f.cell, f.pbc, CUTOFF, np.float64)
        for f in (frames[k] for k in picked)
    ]
    expected = pad(batch(parts), room)
    for name in graph.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(graph, name), getattr(expected, name), name)
    assert np.all(np.diff(graph.receivers) >= 0)
    assert np.isfinite(edge_vectors(graph)).all()
    forces = np.concatenate([frames[k].forces for k in picked])
    np.testing.assert_array_equal(targets.forces[: len(forces)], forces)
    assert not targets.forces[len(forces) :].any()
    np.testing.assert_array_equal(targets.stress[1], frames[0].stress)
    np.testing.assert_array_equal(targets.has_energy, [True, True, True, False])


def test_baseline_is_taken_off_before_the_cast() -> None:
    frame = cluster(6, 0)
    total = sum(BASELINE[int(z)] for z in frame.numbers)
    packed = pack([frame], CUTOFF, BASELINE, np.float32)
    assert packed.energy[0] == np.float32(frame.energy - total)
    assert packed.energy[0] != np.float32(frame.energy) - np.float32(total)


def test_missing_labels_are_masked_and_zero() -> None:
    whole = cluster(4, 0)
    bare = Frame(whole.numbers, whole.positions, whole.cell, whole.pbc)
    packed = pack([whole, bare], CUTOFF, BASELINE)
    _, targets = take(packed, jnp.array([1, 0]), GraphSize(8, 64, 2))
    np.testing.assert_array_equal(targets.has_forces, [False, True])
    np.testing.assert_array_equal(targets.has_energy, [False, True])
    assert float(targets.energy[0]) == 0.0
    assert not targets.forces[:4].any()


def test_errors_name_the_frame() -> None:
    frame = cluster(4, 7)
    with pytest.raises(ValueError, match=r"a stress and a cell without volume in frame cluster#7"):
        pack([replace(frame, stress=np.zeros((3, 3)))], CUTOFF, BASELINE)
    with pytest.raises(ValueError, match=r"\[8\] in frame cluster#7"):
        pack([frame], CUTOFF, {6: 0.0})
    bad = Frame(frame.numbers, frame.positions, frame.cell, frame.pbc, np.nan, name="bad.xyz#3")
    with pytest.raises(ValueError, match=r"energy .* not finite in frame bad.xyz#3"):
        pack([bad], CUTOFF, BASELINE)
    with pytest.raises(ValueError, match="without frames"):
        pack([], CUTOFF, BASELINE)


def test_order_follows_from_seed_and_epoch() -> None:
    order = BatchOrder(10, 4, seed=3)
    assert order.steps_per_epoch == 3
    rows = order.rows(0, 9)
    np.testing.assert_array_equal(BatchOrder(10, 4, seed=3).rows(5, 4), rows[5:])
    for epoch in rows.reshape(3, -1):
        np.testing.assert_array_equal(np.sort(epoch[epoch >= 0]), np.arange(10))
    assert not np.array_equal(rows[:3], rows[3:6])
    assert not np.array_equal(BatchOrder(10, 4, seed=4).rows(0, 3), rows[:3])
    np.testing.assert_array_equal(BatchOrder(3, 2, seed=None).rows(0, 2), [[0, 1], [2, -1]])


def test_rooms_are_few_and_hold_every_batch() -> None:
    frames = clusters(40, (4, 6, 8, 27))
    packed = pack(frames, CUTOFF, BASELINE)
    rooms = choose_rooms(packed.num_atoms, packed.num_edges, 3)
    assert 1 < len(rooms) <= 4
    rows = BatchOrder(40, 3, seed=0).rows(0, 100)
    used = [room_of(rooms, packed, row[None]) for row in rows]
    assert len(set(used)) > 1
    largest = np.argsort(packed.num_edges)[-3:]
    assert room_of(rooms, packed, largest[None]) == rooms[-1]
    same = pack(clusters(10), CUTOFF, BASELINE)
    assert len(choose_rooms(same.num_atoms, same.num_edges, 3)) == 1


def test_selection_of_frames_gives_the_same_batches() -> None:
    packed = pack(clusters(6, (4, 6)), CUTOFF, BASELINE)
    part = select(packed, np.array([5, 2, 3]), GraphSize(30, 200, 5))
    whole = take(packed, jnp.array([3, 5]), ROOM)
    for a, b in zip(
        jax.tree.leaves(whole), jax.tree.leaves(take(part, jnp.array([2, 0]), ROOM)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="expected at most"):
        select(packed, np.array([5, 2, 3]), GraphSize(30, 20, 5))


def test_frames_without_any_edge_are_a_batch() -> None:
    lone = Frame(np.array([6]), np.ones((1, 3)), np.zeros((3, 3)), np.zeros(3, bool))
    packed = pack([lone, lone], CUTOFF, BASELINE)
    graph, _ = jax.jit(take, static_argnames="room")(packed, jnp.array([1, 0]), GraphSize(4, 8, 2))
    assert int(graph.node_mask.sum()) == 2
    assert not graph.edge_mask.any()


@pytest.mark.parametrize("name", ["positions", "forces", "cell", "pbc", "stress"])
def test_an_array_of_another_length_is_refused(name: str) -> None:
    good = cluster(4, 0)
    bad = replace(good, **{name: np.zeros((2, 3))})
    with pytest.raises(ValueError, match=f"in frame bad {name} of shape"):
        pack([good, replace(bad, name="bad")], CUTOFF, BASELINE)


def test_digits_of_a_frame_far_from_the_origin_are_kept() -> None:
    frame = cluster(4, 0)
    far = replace(frame, positions=frame.positions + 1e5)
    near, away = (pack([f], CUTOFF, BASELINE).positions for f in (frame, far))
    np.testing.assert_allclose(away, near, atol=1e-6)


def test_more_edges_than_an_index_can_count_are_refused() -> None:
    assert _starts(np.array([2**30, 2**30 - 1, 0], np.int32)).tolist() == [0, 2**30, 2**31 - 1]
    with pytest.raises(ValueError, match="got 2,147,483,648 atoms or edges in one data set"):
        _starts(np.array([2**30, 2**30], np.int32))
