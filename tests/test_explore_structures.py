"""Structures of ASE in explorations: constraints and masses count, or are refused."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLengths, FixedPlane

from mlffjax.config.paths import NEBSettings
from mlffjax.data import Frame, read_structures
from mlffjax.explore import neb
from mlffjax.explore.coordinates import dihedral, distance
from mlffjax.explore.minima_hopping import hop
from mlffjax.explore.phonons import force_constants, phonon_frequencies
from mlffjax.explore.scan import grid_frames
from mlffjax.explore.vibrations import vibrations, wave_numbers
from mlffjax.pair_potentials import lennard_jones, morse

LJ = lennard_jones(18, depth=1.0, diameter=1.0, cutoff=20.0, dtype=np.float64)
MORSE = morse(29, depth=1.0, steepness=1.5, length=2.0, cutoff=3.0, dtype=np.float64)
STIFFNESS = 2 * 1.0 * 1.5**2  # second derivative of the Morse potential at its minimum


def pair(**arguments) -> Atoms:
    """Two atoms at the minimum of their potential."""
    return Atoms("Cu2", [[0, 0, 0], [2.0, 0, 0]], **arguments)


def test_vibrations_take_the_masses_of_isotopes():
    """``omega^2 = k / mu`` with the reduced mass of 20 and 30 amu."""
    atoms = pair(masses=[20.0, 30.0])
    found = vibrations(MORSE, atoms)
    assert found.frequencies[-1] == pytest.approx(wave_numbers(np.array(STIFFNESS / 12.0)))
    assert len(found.frequencies) == 1
    plain = vibrations(MORSE, Frame.from_ase(atoms)).frequencies
    np.testing.assert_array_equal(plain, vibrations(MORSE, pair()).frequencies)
    assert plain[0] < found.frequencies[0]
    with pytest.raises(ValueError, match="positive masses"):
        vibrations(MORSE, pair(masses=[0.0, 30.0]))


def test_a_single_atom_has_no_vibrations():
    found = vibrations(MORSE, Atoms("Cu"))
    assert found.frequencies.shape == (0,)
    assert found.modes.shape == (0, 1, 3)
    assert found.zero_point_energy == 0


def test_phonons_take_the_masses_of_isotopes():
    atoms = Atoms("Cu", cell=[2.0, 9, 9], pbc=[True, False, False], masses=[20.0])
    edge = np.array([[0.5, 0.0, 0.0]])
    found = phonon_frequencies(force_constants(MORSE, atoms, (8, 1, 1)), edge)
    expected = wave_numbers(np.array(4 * STIFFNESS / 20.0))
    assert found[0, -1] == pytest.approx(expected, abs=1e-4)
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="all atoms move"):
        force_constants(MORSE, atoms, (8, 1, 1))


def test_vibrations_keep_fixed_atoms_and_refuse_other_constraints():
    atoms = pair(constraint=FixAtoms([0]))
    found = vibrations(MORSE, atoms)
    np.testing.assert_array_equal(
        found.frequencies, vibrations(MORSE, Frame.from_ase(atoms), fixed=[0]).frequencies
    )
    assert len(found.frequencies) == 3
    for constraint in (FixBondLengths([[0, 1]]), FixedPlane(0, [1, 0, 0])):
        atoms.set_constraint(constraint)
        with pytest.raises(ValueError, match=r"expected (fixed atoms|FixAtoms)"):
            vibrations(MORSE, atoms)


def test_hopping_refuses_what_it_does_not_keep(tmp_path: Path):
    with pytest.raises(ValueError, match="got 1 constraints for minima hopping"):
        hop(LJ, Atoms("Ar2", np.eye(2, 3), constraint=FixAtoms([0])), folder=tmp_path / "a")
    with pytest.raises(ValueError, match="one of a single atom"):
        hop(LJ, Atoms("Ar"), folder=tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_paths_keep_fixed_atoms_of_either_end():
    start = Atoms("Ar3", [[0, 0, 0], [1.1, 0, 0], [0.5, 0.9, 0]], constraint=FixAtoms([0]))
    end = Atoms("Ar3", [[0, 0, 0], [1.1, 0, 0], [0.5, -0.9, 0.1]], constraint=FixAtoms([1]))
    frames = [Frame.from_ase(atoms) for atoms in (start, end)]
    path = neb.interpolate(start, end, 3)
    np.testing.assert_array_equal(path, neb.interpolate(frames[0], frames[1], 3, fixed=[0, 1]))
    start.set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(ValueError, match="got the fixed bonds"):
        neb.nudged_elastic_band(LJ, start, end)


def test_a_first_path_is_put_together_across_the_border():
    """Images that were wrapped into the cell are as far apart as those that were not."""
    cell = 5.0 * np.eye(3)
    ends = [Atoms("Ar2", [[x, 0, 0], [2.5, 2.5, 2.5]], cell=cell, pbc=True) for x in (0.2, 4.7)]
    image = Atoms("Ar2", [[4.95, 0, 0], [2.5, 2.5, 2.5]], cell=cell, pbc=True)
    start, end = (Frame.from_ase(atoms) for atoms in ends)
    first = neb._first_path(start, end, NEBSettings(images=1), [image])
    np.testing.assert_allclose(first[:, 0, 0], [0.2, -0.05, -0.3], atol=1e-12)


def test_values_that_cannot_be_reached_are_named():
    atoms = Atoms("Ar4", [[0, 0, 0], [1.1, 0, 0], [2.2, 0, 0], [2.5, 1, 0]])
    with pytest.raises(ValueError, match="which no motion"):
        grid_frames(atoms, [distance(atoms, (0, 1), (1,))], [[-1.0]])
    turn = dihedral(atoms, (0, 1, 2, 3), (3,))
    with pytest.raises(ValueError, match="which no motion"):
        grid_frames(atoms, [turn], [[90.0]])
    atoms = Atoms("Ar2", [[0.2, 0, 0], [4.8, 0, 0]], cell=5 * np.eye(3), pbc=True)
    with pytest.raises(ValueError, match="across a periodic border"):
        distance(atoms, (0, 1))
    # The hydrogen of the hydroxyl group, which would stay, is on the other side of the cell.
    atoms = Atoms("COH", [[3.2, 0, 0], [4.6, 0, 0], [0.5, 0.3, 0]], cell=5 * np.eye(3), pbc=True)
    with pytest.raises(ValueError, match="atoms 1 and 2, bonded across"):
        distance(atoms, (0, 1))
    assert distance(atoms, (0, 1), (1,)).group == (1,)
    atoms.positions[2, 0] += 5
    assert distance(atoms, (0, 1)).group == (1, 2)


def test_files_give_their_constraints_and_masses(tmp_path: Path):
    plain, fixed, heavy = pair(), pair(constraint=FixAtoms([1])), pair(masses=[64.0, 62.0])
    for name, atoms in (("plain.xyz", plain), ("POSCAR", fixed), ("heavy.traj", heavy)):
        atoms.set_cell(9 * np.eye(3))
        atoms.write(tmp_path / name)
    assert isinstance(read_structures(tmp_path / "plain.xyz")[0], Frame)
    (held,) = read_structures(tmp_path / "POSCAR")
    assert isinstance(held, Atoms)
    assert held.constraints[0].index.tolist() == [1]
    (isotopes,) = read_structures(tmp_path / "heavy.traj")
    assert isinstance(isotopes, Atoms)
    np.testing.assert_allclose(isotopes.get_masses(), [64.0, 62.0])
    with pytest.raises(FileNotFoundError):
        read_structures(tmp_path / "none.xyz")
