"""Neighbour lists on the host against those of ASE, and their errors."""

import numpy as np
import pytest
from ase.cell import Cell
from ase.neighborlist import primitive_neighbor_list

from mlffjax.neighbors import atom_graph, complete_cell, neighbor_list

MIXED = [(True, True, True), (True, False, True), (False, True, False), (False, False, False)]


def random_structure(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions, some of them outside, and a skewed cell of about 4 Angstrom."""
    rng = np.random.default_rng(seed)
    cell = 4 * np.eye(3) + rng.uniform(-1.2, 1.2, (3, 3))
    return rng.uniform(-0.8, 1.8, (count, 3)) @ cell, cell


def as_set(senders, receivers, shifts) -> set[tuple[int, ...]]:
    return {
        (int(i), int(j), *map(int, s)) for j, i, s in zip(senders, receivers, shifts, strict=True)
    }


@pytest.mark.parametrize("pbc", MIXED)
@pytest.mark.parametrize(("seed", "cutoff"), [(0, 2.5), (1, 5.0), (2, 9.0)])
def test_equal_to_ase(seed: int, cutoff: float, pbc: tuple[bool, ...]) -> None:
    positions, cell = random_structure(seed, 6)
    edges = neighbor_list(positions, cell, np.array(pbc), cutoff)
    i, j, shifts = primitive_neighbor_list("ijS", pbc, cell, positions, cutoff)
    assert len(edges.senders) == len(i)
    assert as_set(*edges) == as_set(j, i, shifts)


def test_self_images() -> None:
    cell = np.diag([2.0, 30.0, 30.0])
    edges = neighbor_list(np.zeros((1, 3)), cell, np.array([True, True, True]), 5.0)
    assert edges.shifts[:, 0].tolist() == [-2, -1, 1, 2]
    assert not edges.senders.any()


def test_sorted_and_with_every_reverse() -> None:
    positions, cell = random_structure(3, 7)
    edges = neighbor_list(positions, cell, np.ones(3, bool), 5.0)
    keys = [(int(i), int(j), *map(int, s)) for j, i, s in zip(*edges, strict=True)]
    assert keys == sorted(keys)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in keys} == set(keys)


def test_molecule_needs_no_cell() -> None:
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]])
    edges = neighbor_list(positions, np.zeros((3, 3)), np.zeros(3, bool), 2.0)
    assert list(zip(edges.senders, edges.receivers, strict=True)) == [(1, 0), (0, 1)]


def test_slab_with_a_zero_vector() -> None:
    positions, cell = random_structure(4, 5)
    full = np.array(cell)
    full[1] = 50 * np.cross(cell[0], cell[2]) / np.linalg.norm(np.cross(cell[0], cell[2]))
    cell[1] = 0
    pbc = np.array([True, False, True])
    edges = neighbor_list(positions, cell, pbc, 4.0)
    i, j, shifts = primitive_neighbor_list("ijS", pbc, full, positions, 4.0)
    assert as_set(*edges) == as_set(j, i, shifts)


def test_no_neighbours() -> None:
    graph = atom_graph(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), 3.0)
    assert graph.senders.shape == (0,)
    assert graph.shifts.shape == (0, 3)
    assert graph.positions.dtype == np.float32


def test_cell_is_completed_to_full_rank() -> None:
    cell = np.array([[3.0, 1, 0], [0, 0, 0], [0, 1, 4]])
    box = complete_cell(cell, np.array([True, False, True]))
    np.testing.assert_allclose(box[[0, 2]], cell[[0, 2]])
    np.testing.assert_allclose(box[[0, 2]] @ box[1], 0, atol=1e-12)
    assert np.linalg.norm(box[1]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("positions", "cell", "message"),
    [
        ([[0, 0, 0], [np.nan, 0, 0]], np.eye(3) * 9, "atom 1; expected finite"),
        ([[0, 0, 0], [1, 1, 1], [1, 1, 1]], np.eye(3) * 9, "atoms 1 and 2|atoms 2 and 1"),
        ([[0, 0, 0]], np.zeros((3, 3)), "zero volume"),
        ([[0, 0, 0]], np.array([[4.0, 0, 0], [8, 0, 0], [0, 0, 4]]), "zero volume"),
    ],
)
def test_errors(positions, cell: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neighbor_list(np.array(positions, float), cell, np.ones(3, bool), 3.0)


@pytest.mark.parametrize("pbc", MIXED[1:])
def test_atoms_far_away_change_nothing(pbc: tuple[bool, ...]) -> None:
    positions, cell = random_structure(3, 5)
    far = 1e6 * complete_cell(cell, np.array(pbc))[~np.array(pbc)].sum(0)
    near = neighbor_list(positions, cell, np.array(pbc), 4.0)
    both = neighbor_list(np.concatenate([positions, positions + far]), cell, np.array(pbc), 4.0)
    first = both.receivers < 5
    assert as_set(*(x[first] for x in both)) == as_set(*near)
    again = (both.senders[~first] - 5, both.receivers[~first] - 5, both.shifts[~first])
    assert as_set(*again) == as_set(*near)


def test_what_users_write_is_understood() -> None:
    positions, cell = random_structure(4, 4)
    want = neighbor_list(positions, cell, np.ones(3, bool), 4.0)
    got = neighbor_list(positions.tolist(), Cell(cell), True, 4.0)
    assert as_set(*got) == as_set(*want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((0, 3))}, "at least one atom"),
        ({"positions": np.zeros(3)}, "at least one atom"),
        ({"cell": np.ones(3)}, "three lattice vectors as rows"),
        ({"cell": np.full((3, 3), np.nan)}, "three lattice vectors as rows"),
        ({"cutoff": 0.0}, "expected a positive number"),
        ({"cutoff": np.nan}, "expected a positive number"),
    ],
)
def test_what_is_no_structure_is_refused(change, message) -> None:
    given = {"positions": np.zeros((1, 3)), "cell": np.zeros((3, 3)), "pbc": False, "cutoff": 4.0}
    with pytest.raises(ValueError, match=message):
        neighbor_list(**(given | change))


def test_one_number_an_atom() -> None:
    with pytest.raises(ValueError, match="got 3 atomic numbers for 4 positions"):
        atom_graph([1, 1, 1], random_structure(4, 4)[0], np.zeros((3, 3)), np.zeros(3, bool), 4.0)
