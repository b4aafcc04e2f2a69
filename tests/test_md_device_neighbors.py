"""The device's neighbour lists against vesin's and ASE's."""

import dataclasses
from functools import partial

import ase
import ase.neighborlist
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from numpy.testing import assert_allclose

from mlffjax.md import boxes
from mlffjax.md import device_neighbors as dn
from mlffjax.md.cell_lists import cell_lists, common_cell_lists
from mlffjax.neighbors import complete_cell, neighbor_list

CUTOFF = 5.0


def _triclinic() -> ase.Atoms:
    rng = np.random.default_rng(1)
    cell = np.array([[7.0, 0.0, 0.0], [3.1, 6.2, 0.0], [-2.5, 1.9, 8.3]])
    return ase.Atoms("Si12", scaled_positions=rng.uniform(-1, 2, (12, 3)), cell=cell, pbc=True)


def _slab(pbc: tuple[bool, bool, bool]) -> ase.Atoms:
    atoms = fcc111("Cu", (2, 2, 3), vacuum=4.0)
    atoms.pbc = pbc
    atoms.rattle(0.1, seed=2)
    return atoms


def _left_handed() -> ase.Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.set_cell(atoms.cell[:][[1, 0, 2]])
    return atoms


STRUCTURES = {
    "molecule": molecule("CH3CH2OH"),
    "far from the origin": ase.Atoms("H2O", [[500, 0, 0], [500.9, 0, 0], [499.7, 0.9, 0]]),
    "triclinic, atoms outside": _triclinic(),
    "primitive fcc": bulk("Ar", "fcc", a=3.6),
    "primitive diamond": bulk("Si", "diamond", a=5.43),
    "strongly skewed": ase.Atoms("Si", cell=[[3, 0, 0], [8.9, 3, 0], [1, 7.7, 3]], pbc=True),
    "left-handed": _left_handed(),
    "slab": _slab((True, True, False)),
    "slab, other direction": _slab((False, True, True)),
    "wire": _slab((False, True, False)),
    "slab without periodicity": _slab((False, False, False)),
    "one atom": ase.Atoms("H"),
}


def _as_set(senders, receivers, shifts) -> set[tuple[int, ...]]:
    listed = [
        tuple(map(int, (i, j, *s))) for i, j, s in zip(receivers, senders, shifts, strict=True)
    ]
    assert len(set(listed)) == len(listed)
    return set(listed)


def _expected(atoms: ase.Atoms, cutoff: float = CUTOFF) -> set[tuple[int, ...]]:
    edges = neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, cutoff)
    i, j, shifts = ase.neighborlist.neighbor_list("ijS", atoms, cutoff)
    expected = _as_set(edges.senders, edges.receivers, edges.shifts)
    assert expected == _as_set(j, i, shifts)
    return expected


def _found(plan: dn.NeighborPlan, atoms: ase.Atoms, dtype=np.float64) -> set[tuple[int, ...]]:
    """Edges by the device's list; fails where the list has too little room."""
    box = jnp.asarray(complete_cell(atoms.cell[:], atoms.pbc), dtype)

    @jax.jit
    def graph_of(positions):
        return dn.current_graph(
            plan,
            dn.allocate(plan, positions, box),
            jnp.asarray(atoms.numbers, jnp.int32),
            positions,
            jnp.asarray(atoms.cell[:], dtype),
        )

    graph, neighbors = graph_of(jnp.asarray(atoms.positions, dtype))
    assert not bool(neighbors.overflow(plan))
    mask = np.asarray(graph.edge_mask)
    assert (np.diff(np.asarray(graph.receivers)) >= 0).all()
    senders, receivers, shifts = (
        np.asarray(a)[mask] for a in (graph.senders, graph.receivers, graph.shifts)
    )
    found = _as_set(senders, receivers, shifts)
    assert graph.halved == plan.half
    if not plan.half:
        return found
    mirrored = _as_set(receivers, senders, -shifts)
    assert not found & mirrored
    return found | mirrored


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("skin", [0.0, 1.0])
@pytest.mark.parametrize("name", STRUCTURES)
def test_all_pairs_equal_the_host_lists(name, skin, half):
    atoms = STRUCTURES[name]
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, CUTOFF, skin, half=half)
    assert plan.cells is None
    assert _found(plan, atoms) == _expected(atoms)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["molecule", "triclinic, atoms outside", "slab", "wire"])
def test_cell_lists_equal_the_host_lists(name, half):
    cutoff, skin = 2.6, 0.2
    atoms = STRUCTURES[name].repeat([3 if p else 1 for p in STRUCTURES[name].pbc])
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, cutoff, skin, half=half)
    box = complete_cell(atoms.cell[:], atoms.pbc)
    cells = cell_lists(atoms.positions, box, plan.pbc, cutoff + skin)
    assert _found(dataclasses.replace(plan, cells=cells), atoms) == _expected(atoms, cutoff)


def test_cell_lists_of_a_replicated_cell():
    atoms, radius = STRUCTURES["primitive diamond"].repeat((2, 2, 1)), 2.8
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, radius, 0.0)
    cells = cell_lists(atoms.positions, atoms.cell[:], plan.pbc, radius)
    assert cells.replicas != (1, 1, 1)
    assert _found(dataclasses.replace(plan, cells=cells), atoms) == _expected(atoms, radius)


def test_cell_lists_of_several_structures_leave_their_padding_out():
    cutoff, pbc = 2.8, (True, True, True)
    names = ("triclinic, atoms outside", "primitive diamond")
    both = [STRUCTURES[name].repeat((2, 2, 2)) for name in names]
    cells = common_cell_lists([(a.positions, a.cell[:]) for a in both], pbc, cutoff)
    most = max(len(a) for a in both)
    for atoms in both:
        plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], pbc, cutoff, 0.0)
        plan = dataclasses.replace(plan, cells=cells)
        positions = np.pad(atoms.positions, ((0, most - len(atoms)), (0, 0)))
        mask = jnp.arange(most) < len(atoms)
        allocate = jax.jit(partial(dn.allocate, plan))
        found = allocate(jnp.asarray(positions), jnp.asarray(atoms.cell[:]), mask)
        assert not bool(found.overflow(plan))
        real = np.asarray(found.mask)
        pairs = (np.asarray(a)[real] for a in (found.senders, found.receivers, found.shifts))
        assert _as_set(*pairs) == _expected(atoms, cutoff)


def test_a_crowd_that_overflows_the_cells_gets_more_room():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((4, 4, 4))
    atoms.rattle(0.2, seed=3)
    atoms.positions[::7] += atoms.cell[0]
    cells = cell_lists(atoms.positions, atoms.cell[:], (True, True, True), 4.5)
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, 4.0, 0.5)
    plan = dataclasses.replace(plan, cells=cells)
    assert _found(plan, atoms, np.float32) == _expected(atoms, 4.0)
    atoms.positions[:100] *= 0.3
    positions, box = jnp.asarray(atoms.positions), jnp.asarray(atoms.cell[:])
    neighbors = jax.jit(partial(dn.allocate, plan))(positions, box)
    assert neighbors.cells_overflow.dtype == bool
    assert bool(neighbors.cells_overflow)
    for _ in range(3):
        plan = dn.enlarge(plan, neighbors, atoms.positions)
        neighbors = jax.jit(partial(dn.allocate, plan))(positions, box)
    assert not bool(neighbors.cells_overflow)
    plan = dataclasses.replace(plan, edges=plan.candidates)
    assert _found(plan, atoms) == _expected(atoms, 4.0)


@pytest.mark.parametrize("handed", [1, -1])
def test_inverse_and_heights_of_a_box(handed):
    box = np.random.default_rng(0).normal(size=(3, 3)) * [[8.0], [20.0], [5.0]]
    box[0] *= handed * np.sign(np.linalg.det(box))
    inverse = np.linalg.inv(box)
    assert_allclose(boxes.inverse(jnp.asarray(box)), inverse, rtol=1e-12)
    assert_allclose(
        boxes.heights(jnp.asarray(box)), 1 / np.linalg.norm(inverse, axis=0), rtol=1e-12
    )


def test_an_atom_that_moves_half_the_skin_remakes_the_list():
    atoms = _slab((True, True, False))
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, CUTOFF, 0.6)
    box = jnp.asarray(atoms.cell[:])
    positions = jnp.asarray(atoms.positions)
    update = jax.jit(lambda n, x: dn.update(plan, n, x))
    neighbors = dn.allocate(plan, positions, box)
    neighbors = update(neighbors, positions.at[3, 1].add(0.29))
    assert int(neighbors.rebuilds) == 1
    moved = positions.at[3, 1].add(0.31)
    neighbors = update(neighbors, moved)
    assert int(neighbors.rebuilds) == 2
    np.testing.assert_array_equal(neighbors.reference, moved)


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("half", [False, True])
def test_all_pairs_of_a_small_molecule_are_kept_for_good(monkeypatch, half, cpu):
    monkeypatch.setattr(dn.backend, "on_cpu", lambda: cpu)
    atoms = STRUCTURES["molecule"]
    skin = dn.default_skin(len(atoms), atoms.pbc)
    place, cutoff = (atoms.positions, atoms.cell[:], atoms.pbc), 2.0
    plan = dn.plan_neighbors(*place, cutoff, skin, half=half)
    assert plan.candidates == (36 if half else 72)
    assert (plan.edges < plan.candidates) == (cpu or not half)
    neighbors = dn.allocate(
        plan, jnp.asarray(atoms.positions), jnp.asarray(complete_cell(*place[1:]))
    )
    farther = ase.Atoms(atoms.numbers, 1.2 * atoms.positions)
    kept = dn.update(plan, neighbors, jnp.asarray(farther.positions))
    assert int(kept.rebuilds) == 1
    numbers = jnp.asarray(atoms.numbers)
    graph, _ = dn.current_graph(
        plan, kept, numbers, jnp.asarray(farther.positions), jnp.zeros((3, 3))
    )
    real = np.asarray(graph.edge_mask)
    pairs = zip(*np.asarray([graph.receivers, graph.senders])[:, real].tolist(), strict=True)
    expected = {(i, j) for i, j, *_ in _expected(farther, cutoff)}
    found = set(pairs)
    assert found | {(j, i) for i, j in found} == expected
    assert len(expected) == 16
    assert len(found) == (8 if half else 16)


def test_small_cells_and_large_molecules_have_lists_that_are_made_anew(monkeypatch):
    assert dn.default_skin(8, np.array([True, False, False])) == 0
    assert dn.default_skin(42, np.zeros(3, bool)) == 1
    monkeypatch.setattr(dn.backend, "on_cpu", lambda: False)
    assert dn.default_skin(42, np.zeros(3, bool)) == np.inf
    assert dn.default_skin(65, np.zeros(3, bool)) == 1
    slab = STRUCTURES["slab"]
    with pytest.raises(ValueError, match="infinite skin"):
        dn.plan_neighbors(slab.positions, slab.cell[:], slab.pbc, CUTOFF, np.inf)


@pytest.mark.parametrize("half", [False, True])
def test_too_little_room_is_reported_and_mended(half):
    atoms = bulk("Ar", "fcc", a=3.6, cubic=True)
    positions, box = jnp.asarray(atoms.positions), jnp.asarray(atoms.cell[:])
    full = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, CUTOFF, 0.5, half=half)
    tight = dataclasses.replace(full, candidates=64, edges=32)
    neighbors = dn.allocate(tight, positions, box)
    assert bool(neighbors.overflow(tight))
    expected = len(_expected(atoms, CUTOFF + 0.5)) // (2 if half else 1)
    assert int(neighbors.candidates_needed) == expected
    larger = dn.enlarge(tight, neighbors, atoms.positions)
    larger = dataclasses.replace(larger, edges=larger.candidates)
    assert _found(larger, atoms) == _expected(atoms)


def test_a_cell_that_shrinks_below_minimum_image_is_reported():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((3, 3, 3))
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, CUTOFF, 0.5)
    assert plan.replicas == (1, 1, 1)
    fine = dn.allocate(plan, jnp.asarray(atoms.positions), jnp.asarray(atoms.cell[:]))
    assert not bool(fine.overflow(plan))
    small = dn.allocate(plan, jnp.asarray(0.6 * atoms.positions), jnp.asarray(0.6 * atoms.cell[:]))
    assert bool(small.cells_overflow)
