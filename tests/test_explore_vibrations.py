"""Vibrations against exact solutions and finite differences; phonons against the chain and ASE."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_masses
from ase.phonons import Phonons
from ase.vibrations import Vibrations as AseVibrations
from clusters import cluster, untrained

from mlffjax.calculator import MLFFCalculator
from mlffjax.data.frames import Frame
from mlffjax.explore.phonons import force_constants, phonon_frequencies
from mlffjax.explore.vibrations import hessian, vibrations, wave_number_text, wave_numbers
from mlffjax.md.stillinger_weber import LATTICE_CONSTANT
from mlffjax.neighbors import atom_graph
from mlffjax.pair_potentials import lennard_jones, morse
from mlffjax.potential import Potential
from mlffjax.stillinger_weber_model import stillinger_weber

COPPER = atomic_masses[29]
STIFFNESS = 2 * 1.0 * 1.5**2  # second derivative of the Morse potential at its minimum
MORSE = morse(29, depth=1.0, steepness=1.5, length=2.0, cutoff=3.0, dtype=np.float64)
LJ = lennard_jones(18, depth=1.0, diameter=1.0, cutoff=20.0, dtype=np.float64)
SILICON = stillinger_weber(dtype=np.float64)
TETRAHEDRON = 2 ** (1 / 6) / 8**0.5 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def molecule(number, positions) -> Frame:
    """Atoms of one element, not periodic."""
    positions = np.asarray(positions, np.float64)
    numbers = np.full(len(positions), number, np.int32)
    return Frame(numbers, positions, np.zeros((3, 3)), np.zeros(3, bool))


def chain(count: int) -> Frame:
    """Copper atoms 2 Angstrom apart, periodic along x."""
    positions = np.zeros((count, 3))
    positions[:, 0] = 2.0 * np.arange(count)
    cell = np.diag([2.0 * count, 10.0, 10.0])
    return Frame(np.full(count, 29, np.int32), positions, cell, np.array([True, False, False]))


def primitive_silicon() -> Frame:
    """Two atoms in the primitive cell of diamond, smaller than the cutoff."""
    cell = LATTICE_CONSTANT / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    positions = np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]]) * LATTICE_CONSTANT
    return Frame(np.full(2, 14, np.int32), positions, cell, np.ones(3, bool))


def test_diatomic_has_its_one_frequency():
    found = vibrations(MORSE, molecule(29, [[0, 0, 0], [1.2, 1.6, 0]]))
    expected = wave_numbers(np.array([STIFFNESS / (COPPER / 2)]))
    np.testing.assert_allclose(found.frequencies, expected, rtol=1e-10)
    # h nu / 2 by the constants of CODATA 2018: 1 cm^-1 is 1.239841984e-4 eV.
    assert found.zero_point_energy == pytest.approx(0.5 * expected[0] * 1.239841984e-4, rel=1e-9)
    np.testing.assert_allclose(COPPER * (found.modes[0] ** 2).sum(), 1, rtol=1e-12)
    assert found.is_minimum()


def test_cluster_is_as_by_finite_differences_of_ase(tmp_path):
    frame = molecule(18, TETRAHEDRON)
    atoms = Atoms(frame.numbers, frame.positions, calculator=MLFFCalculator(LJ))
    reference = AseVibrations(atoms, name=str(tmp_path / "vib"), delta=1e-3)
    reference.run()
    data = reference.get_vibrations()
    found = vibrations(LJ, frame)
    np.testing.assert_allclose(found.hessian, data.get_hessian_2d(), atol=1e-2)
    np.testing.assert_allclose(found.frequencies, data.get_frequencies().real[6:], rtol=1e-4)
    assert found.max_force < 1e-8
    assert found.is_minimum()


def test_network_is_as_by_finite_differences():
    potential, frame = untrained("float64"), cluster(5, seed=1)
    # The last layer of a new SchNet is zero.
    potential = replace(potential, params=jax.tree.map(lambda x: x + 0.05, potential.params))
    matrix, forces = hessian(potential, frame, np.arange(5), block=4)
    graph = atom_graph(
        frame.numbers, frame.positions, frame.cell, frame.pbc, potential.cutoff, np.float64
    )
    predict, step = jax.jit(Potential.energy_forces), 1e-4
    differences = []
    for direction in np.eye(15).reshape(15, 5, 3):
        ends = [frame.positions + sign * step * direction for sign in (-1, 1)]
        pair = [np.asarray(predict(potential, graph.replace(positions=x)).forces) for x in ends]
        differences.append((pair[0] - pair[1]).ravel() / (2 * step))
    scale = np.abs(matrix).max()
    assert scale > 1e-3
    np.testing.assert_allclose(matrix, differences, atol=1e-6 * scale)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12 * scale)
    np.testing.assert_allclose(forces, (pair[0] + pair[1]) / 2, atol=1e-5)


def test_square_is_no_minimum():
    side = 1.1
    square = molecule(18, side * np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]))
    found = vibrations(LJ, square)
    assert not found.is_minimum()
    assert found.num_imaginary() >= 1
    assert wave_number_text(found.frequencies[0]).endswith("i")


def test_rigid_motions_are_those_the_structure_has():
    linear = vibrations(MORSE, molecule(29, [[0, 0, 0], [2, 0, 0], [4, 0, 0]]))
    assert len(linear.frequencies) == 4
    wire = vibrations(MORSE, chain(2))
    assert len(wire.frequencies) == 3  # the rotation about a chain is none
    crystal = vibrations(SILICON, primitive_silicon())
    assert len(crystal.frequencies) == 3


def test_fixed_atoms_do_not_move():
    frame = molecule(18, TETRAHEDRON)
    whole, part = vibrations(LJ, frame), vibrations(LJ, frame, fixed=(0, 2))
    kept = [3, 4, 5, 9, 10, 11]
    np.testing.assert_allclose(part.hessian, whole.hessian[np.ix_(kept, kept)], atol=1e-10)
    assert len(part.frequencies) == 6
    assert np.all(part.modes[:, [0, 2]] == 0)
    with pytest.raises(ValueError, match="expected indices from 0 to 3"):
        vibrations(LJ, frame, fixed=(4,))
    with pytest.raises(ValueError, match="all 4 atoms"):
        vibrations(LJ, frame, fixed=(0, 1, 2, 3))


def test_chain_has_the_known_dispersion():
    waves = np.array([0.0, 1 / 8, 0.5, 0.2])  # the last is not commensurate
    points = np.stack([waves, 0 * waves, 0 * waves], axis=1)
    expected = wave_numbers(4 * STIFFNESS / COPPER * np.sin(np.pi * waves) ** 2)
    found = phonon_frequencies(force_constants(MORSE, chain(1), (8, 1, 1)), points)
    np.testing.assert_allclose(found[:, -1], expected, atol=1e-4)
    np.testing.assert_allclose(found[:, :2], 0, atol=1e-3)


def test_gamma_of_a_small_cell_is_that_of_a_supercell():
    small = vibrations(SILICON, primitive_silicon()).frequencies
    at_gamma = phonon_frequencies(
        force_constants(SILICON, primitive_silicon(), (3, 3, 3)), np.zeros((1, 3))
    )[0]
    np.testing.assert_allclose(at_gamma[:3], 0, atol=1e-3)
    np.testing.assert_allclose(at_gamma[3:], small, atol=1e-4)
    assert np.ptp(small) < 1e-6


def test_phonons_are_those_of_ase(tmp_path):
    frame = primitive_silicon()
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True)
    reference = Phonons(
        atoms, MLFFCalculator(SILICON), supercell=(2, 2, 2), name=str(tmp_path / "ph"), delta=1e-3
    )
    reference.run()
    reference.read(acoustic=False)
    points = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.0]])  # X and L
    expected = reference.band_structure(points, verbose=False) * 8065.543937  # eV to cm^-1
    found = phonon_frequencies(force_constants(SILICON, frame, (2, 2, 2)), points)
    np.testing.assert_allclose(found, np.sort(expected, axis=1), rtol=2e-5)


def test_phonons_do_not_depend_on_the_cell_that_describes_the_crystal():
    frame = primitive_silicon()
    points = np.array([[0.2, 0.1, 0.05], [0.5, 0.0, 0.0]])
    expected = phonon_frequencies(force_constants(SILICON, frame, (2, 2, 2)), points)
    # An atom that was never wrapped, and lattice vectors far from the shortest ones.
    away = (
        frame.positions
        + np.array([[0], [7]]) * frame.cell[0]
        - np.array([[4], [0]]) * frame.cell[2]
    )
    skewed = np.array([[1, 0, 0], [3, 1, 0], [0, -2, 1]])
    frame = replace(frame, positions=away, cell=skewed @ frame.cell)
    found = phonon_frequencies(force_constants(SILICON, frame, (2, 2, 2)), points @ skewed.T)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_phonons_need_a_crystal():
    with pytest.raises(ValueError, match="got a molecule"):
        force_constants(MORSE, molecule(29, [[0, 0, 0], [2, 0, 0]]))
    with pytest.raises(ValueError, match="one where the structure is not periodic"):
        force_constants(MORSE, chain(1), (2, 2, 1))
