"""Scans: coordinates against ASE and by symmetry, rigid and relaxed energies with known answers."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from mlffjax.config.explore import RelaxSettings
from mlffjax.data.frames import Frame
from mlffjax.exploration import write_scan
from mlffjax.explore.coordinates import dihedral, dihedral_angles, distance, shift
from mlffjax.explore.scan import grid_frames, relaxed_scan, rigid_scan
from mlffjax.pair_potentials import lennard_jones, morse

MORSE = morse(29, depth=1.0, steepness=1.5, length=2.0, cutoff=12.0, dtype=np.float64)
LJ = lennard_jones(18, depth=1.0, diameter=1.0, cutoff=20.0, dtype=np.float64)
ETHANOL = np.array(
    [
        [-1.17, -0.39, 0.0],
        [0.05, 0.53, 0.0],
        [1.20, -0.28, 0.0],
        [1.96, 0.30, 0.1],
        [-2.08, 0.21, 0.0],
        [-1.19, -1.04, 0.89],
        [-1.19, -1.04, -0.89],
        [0.07, 1.18, 0.89],
        [0.07, 1.18, -0.89],
    ]
)


def free(numbers, positions) -> Frame:
    """A structure that is not periodic."""
    return Frame(
        np.asarray(numbers), np.array(positions, float), np.zeros((3, 3)), np.zeros(3, bool)
    )


@pytest.fixture
def ethanol() -> Frame:
    return free([6, 6, 8, 1, 1, 1, 1, 1, 1], ETHANOL)


@pytest.mark.parametrize(
    ("atoms", "group"), [((0, 1, 2, 3), {2, 3}), ((4, 0, 1, 2), {1, 2, 3, 7, 8})]
)
def test_dihedral_turns_one_side_of_the_bond(ethanol, atoms, group):
    found = dihedral(ethanol, atoms)
    assert set(found.group) == group
    reference = Atoms(ethanol.numbers, ethanol.positions)
    for target in (-170.0, 35.0):
        moved = found.place(ethanol.positions, target)
        reference.positions = moved
        assert reference.get_dihedral(*atoms) == pytest.approx(target % 360)
        assert float(found.value(jnp.asarray(moved))) == pytest.approx(target)
        assert dihedral_angles(moved[None], atoms)[0] == pytest.approx(target)
        still = sorted(set(range(9)) - group)
        np.testing.assert_array_equal(moved[still], ethanol.positions[still])
        one, other = (x[sorted(group)] for x in (moved, ethanol.positions))
        np.testing.assert_allclose(
            np.linalg.norm(one[:, None] - one, axis=-1),
            np.linalg.norm(other[:, None] - other, axis=-1),
            atol=1e-12,
        )


def test_distance_and_shift_move_their_groups(ethanol):
    stretch = distance(ethanol, (1, 2))
    assert set(stretch.group) == {2, 3}
    moved = stretch.place(ethanol.positions, 1.9)
    assert float(stretch.value(jnp.asarray(moved))) == pytest.approx(1.9)
    slide = shift(ethanol, (0, 4, 5, 6), (0, 0, 2.0))
    assert float(slide.value(jnp.asarray(ethanol.positions))) == pytest.approx(0, abs=1e-6)
    moved = slide.place(ethanol.positions, 0.7)
    np.testing.assert_allclose((moved - ethanol.positions)[[0, 4]], [[0, 0, 0.7]] * 2, atol=1e-6)
    np.testing.assert_array_equal(moved[1], ethanol.positions[1])


def test_rigid_scan_of_a_pair_is_its_potential():
    frame = free([29, 29], [[0, 0, 0], [2.0, 0, 0]])
    values = np.linspace(1.7, 4.0, 7)
    found = rigid_scan(MORSE, frame, [distance(frame, (0, 1), (1,))], [values], batch_size=3)
    x = np.exp(-1.5 * (values - 2.0))
    np.testing.assert_allclose(found.energies, x * (x - 2), atol=1e-10)
    assert found.force_calls == 7


def test_rigid_slide_over_a_row_has_its_period():
    """Two periodic rows of atoms: sliding one by the lattice constant changes nothing."""
    cell, pbc = np.diag([2.0, 20.0, 20.0]), np.array([True, False, False])
    frame = Frame(np.array([18, 18]), np.array([[0.0, 0, 0], [0.3, 1.6, 0]]), cell, pbc)
    short = lennard_jones(18, depth=1.0, diameter=1.3, cutoff=6.0, dtype=np.float64)
    slides = [shift(frame, (1,), (1, 0, 0)), shift(frame, (1,), (0, 1, 0))]
    along = [0.0, 0.7, 2.0, 2.7]
    found = rigid_scan(short, frame, slides, [along, [0.0, 0.4]])
    assert found.energies.shape == (4, 2)
    np.testing.assert_allclose(found.energies[:2], found.energies[2:], atol=1e-10)
    assert np.abs(found.energies[0] - found.energies[1]).min() > 1e-3


def test_relaxed_scan_of_three_atoms_has_the_exact_answer():
    """With one distance held, the third Lennard-Jones atom goes to the best place for both."""
    corner = 2 ** (1 / 6)
    frame = free([18] * 3, [[0, 0, 0], [corner, 0, 0], [0.5, 0.95, 0.1]])
    values = [1.0, 1.2, 1.5]
    found = relaxed_scan(
        LJ, frame, [distance(frame, (0, 1), (1,))], [values], RelaxSettings(fmax=1e-5)
    )
    pair = 4 * (np.array(values) ** -12 - np.array(values) ** -6)
    np.testing.assert_allclose(found.energies, pair - 2, atol=1e-8)
    assert found.converged.all()
    for frame, value in zip(found.frames, values, strict=True):
        assert np.linalg.norm(frame.positions[1] - frame.positions[0]) == pytest.approx(value)


def test_relaxed_scan_keeps_the_atoms_that_ase_fixes():
    places = [[0, 0, 0], [2 ** (1 / 6), 0, 0], [0.5, 0.95, 0.1]]
    atoms = Atoms("Ar3", places, constraint=FixAtoms([2]))
    held = distance(atoms, (0, 1), (1,))
    found = relaxed_scan(LJ, atoms, [held], [[1.0, 1.2, 1.5]], RelaxSettings(fmax=1e-5))
    for frame in found.frames:
        np.testing.assert_allclose(frame.positions[2], places[2], atol=1e-12)
        assert np.abs(frame.positions[0]).max() > 1e-3


def test_relaxed_dihedral_keeps_the_angle_and_fixed_atoms():
    chain = free([29] * 4, [[0.6, 1.9, 0], [0, 0, 0], [2, 0, 0], [2.6, 1.2, 1.4]])
    turn = dihedral(chain, (0, 1, 2, 3), (3,))
    targets = [60.0, 180.0, -179.0]
    settings = RelaxSettings(fmax=1e-4, fixed_atoms=(1,), batch_size=2, method="fire")
    found = relaxed_scan(MORSE, chain, [turn], [targets], settings)
    assert found.converged.all()
    rigid = rigid_scan(MORSE, chain, [turn], [targets])
    assert (found.energies < rigid.energies).all()
    for frame, target in zip(found.frames, targets, strict=True):
        missed = dihedral_angles(frame.positions[None], turn.atoms)[0] - target
        assert abs((missed + 180) % 360 - 180) < 1e-6
        np.testing.assert_allclose(frame.positions[1], chain.positions[1], atol=1e-12)


def test_wrong_scans_are_refused(ethanol):
    with pytest.raises(ValueError, match="4 different indices from 0 to 8"):
        dihedral(ethanol, (0, 1, 2, 9))
    ring = free([6] * 4, [[0, 0, 0], [1.5, 0, 0], [1.5, 1.5, 0], [0, 1.5, 0]])
    with pytest.raises(ValueError, match="in a ring cannot turn"):
        dihedral(ring, (0, 1, 2, 3))
    with pytest.raises(ValueError, match="all atoms in the shifted group"):
        shift(ethanol, range(9), (1, 0, 0))
    turn = dihedral(ethanol, (0, 1, 2, 3))
    with pytest.raises(ValueError, match="disturb one another"):
        grid_frames(ethanol, [turn, dihedral(ethanol, (7, 1, 2, 3))], [[0.0], [0.0]])
    with pytest.raises(ValueError, match="at least one coordinate"):
        grid_frames(ethanol, [turn], [])
    with pytest.raises(ValueError, match="expected neither"):
        relaxed_scan(
            LJ,
            replace(ethanol, numbers=np.full(9, 18)),
            [turn],
            [[0.0]],
            RelaxSettings(fixed_bonds=((0, 1),)),
        )


def test_a_scan_without_any_energy_is_an_error(tmp_path):
    pair = free([18, 18], [[0, 0, 0], [2.0, 0, 0]])
    result = rigid_scan(LJ, pair, [distance(pair, (0, 1))], [[1.5, 2.0]])
    bare = replace(result, energies=np.full(2, np.nan))
    with pytest.raises(ValueError, match="got no finite energy at any of 2 points"):
        write_scan(tmp_path, bare)
    assert not list(tmp_path.iterdir())
    assert write_scan(tmp_path, result)["energies_eV"] == pytest.approx(result.energies.tolist())
