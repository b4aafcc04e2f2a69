"""Dihedral angles, shape and thermodynamics against ASE and numbers by hand."""

import ase
import ase.md.velocitydistribution
import ase.units
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.testing import assert_allclose

from mlffjax.analysis import conformations as shape
from mlffjax.analysis.results import Curves, Map, Scalar
from mlffjax.analysis.thermodynamics import Thermodynamics
from mlffjax.data.frames import Frame
from mlffjax.md.bonds import find_bonds
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.units import AMU_ANGSTROM2_PER_FS2, BOLTZMANN

BUTANE = molecule("trans-butane")


def bonds_of(atoms):
    return find_bonds(Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc))


def frames(positions, **more) -> FrameBlock:
    positions = np.asarray(positions, float)
    return FrameBlock(positions, np.zeros((len(positions), 3, 3)), **more)


def twisted(angles):
    """Frames of butane with the dihedral angle of its carbon chain set."""
    chain, bonds = shape.rotatable_dihedrals(BUTANE.numbers, bonds_of(BUTANE))[0], bonds_of(BUTANE)
    side = np.zeros(len(BUTANE), bool)
    side[chain[3]] = True
    for i, j in bonds.pairs.tolist() * 3:
        if chain[2] in (i, j) and {i, j} != {chain[1], chain[2]}:
            side[[i, j]] = True
        if chain[3] in (i, j):
            side[[i, j]] = True
    side[chain[2]] = True
    images = []
    for angle in angles:
        atoms = BUTANE.copy()
        atoms.set_dihedral(*chain, angle, mask=side)
        images.append(atoms)
    return chain, images


def test_dihedral_angles_equal_those_of_ase():
    rng = np.random.default_rng(0)
    atoms = ase.Atoms("H8", rng.normal(size=(8, 3)))
    four = np.array([[0, 1, 2, 3], [4, 2, 7, 1], [3, 5, 6, 0]])
    found = shape.dihedral_angles(atoms.positions[None], four)
    expected = np.array([atoms.get_dihedral(*f.tolist()) for f in four])
    assert_allclose(np.mod(found[0], 360), expected)


def test_rotatable_bonds_of_molecules():
    butane = shape.rotatable_dihedrals(BUTANE.numbers, bonds_of(BUTANE))
    kinds = [sorted(BUTANE.numbers[list(four)].tolist()) for four in butane]
    assert kinds == [[6, 6, 6, 6], [1, 6, 6, 6], [1, 6, 6, 6]]
    benzene = molecule("C6H6")
    assert shape.rotatable_dihedrals(benzene.numbers, bonds_of(benzene)) == []
    ends = shape.chain_ends(BUTANE.numbers, bonds_of(BUTANE))
    assert set(ends) == {butane[0][0], butane[0][3]}


def test_distribution_of_a_known_angle():
    chain, images = twisted([60.0, 60.0, 60.0, -60.0])
    dihedrals = shape.DihedralDistribution(BUTANE.numbers, [chain], num_bins=72)
    dihedrals.add(frames([a.positions for a in images]))
    (result,) = dihedrals.results()
    assert isinstance(result, Curves)
    inside = lambda a: np.abs(result.x - a) < 5.1  # noqa: E731
    assert 5 * result.values[0, inside(60)].sum() == pytest.approx(0.75)
    assert 5 * result.values[0, inside(-60)].sum() == pytest.approx(0.25)


#: N-acetyl-N-methyl-alaninamide: bonded atoms in a row, as it matters for the search.
DIPEPTIDE = ["C", "C", "O", "N", "C", "C", "C", "O", "N", "C"]
DIPEPTIDE_BONDS = [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9)]


def test_backbone_of_a_peptide():
    numbers = ase.Atoms(DIPEPTIDE).numbers
    pairs = np.array(DIPEPTIDE_BONDS)
    bonds = shape.Bonds(pairs, np.zeros((9, 3), int), np.ones(9))
    assert shape.backbone_dihedrals(numbers, bonds) == [((1, 3, 4, 6), (3, 4, 6, 8))]
    assert shape.backbone_dihedrals(BUTANE.numbers, bonds_of(BUTANE)) == []


def test_ramachandran_map():
    rng = np.random.default_rng(1)
    positions = rng.normal(size=(500, 10, 3))
    phi, psi = (1, 3, 4, 6), (3, 4, 6, 8)
    ramachandran = shape.Ramachandran([(phi, psi), (psi, phi)], num_bins=12)
    for part in np.array_split(positions, 3):
        ramachandran.add(frames(part))
    first, second = ramachandran.results()
    assert isinstance(first, Map)
    assert isinstance(second, Map)
    angles = [[ase.Atoms(DIPEPTIDE, x).get_dihedral(*f) for f in (phi, psi)] for x in positions]
    angles = (np.array(angles) + 180) % 360 - 180
    expected = np.histogram2d(*angles.T, bins=np.linspace(-180, 180, 13))[0] / 500 / 900
    assert_allclose(first.values, expected)
    assert_allclose(second.values, expected.T)
    assert first.values.sum() * 900 == pytest.approx(1)
    assert (first.errors[expected > 4 / 500 / 900] > 0).all()


def test_extent_of_a_molecule():
    ends = shape.chain_ends(BUTANE.numbers, bonds_of(BUTANE))
    extent = shape.Extent(BUTANE.numbers, ends, r_max=10.0, num_bins=1000)
    extent.add(frames([BUTANE.positions, 1.1 * BUTANE.positions]))
    radius, length, density = extent.results()
    assert isinstance(radius, Scalar)
    assert isinstance(length, Scalar)
    arms = BUTANE.positions - BUTANE.get_center_of_mass()
    masses = BUTANE.get_masses()
    expected = np.sqrt((masses[:, None] * arms**2).sum() / masses.sum())
    assert radius.value == pytest.approx(1.05 * expected)
    assert radius.error == pytest.approx(0.05 * expected)
    assert length.value == pytest.approx(1.05 * BUTANE.get_distance(*ends))
    assert isinstance(density, Curves)
    places = density.x[np.flatnonzero(density.values[0])]
    assert_allclose(places, [expected, 1.1 * expected], atol=0.006)
    assert_allclose(density.values.sum(axis=1) * 0.01, 1)


def test_one_molecule_or_not():
    water = molecule("H2O")
    assert shape.is_one_molecule(bonds_of(water), 3)
    far = water.copy()
    far.positions[1] += 10
    assert not shape.is_one_molecule(bonds_of(far), 3)
    chain = bulk("C", "sc", a=1.5)
    assert not shape.is_one_molecule(bonds_of(chain), 1)
    # Two atoms of a chain, each bonded to the other and to its image.
    pair = ase.Atoms("C2", [[0, 0, 0], [1.5, 0, 0]], cell=[3, 9, 9], pbc=True)
    assert not shape.is_one_molecule(bonds_of(pair), 2)
    across = molecule("H2O", cell=3 * [6.0], pbc=True)
    across.positions -= across.positions[1]
    across.wrap()
    assert shape.is_one_molecule(bonds_of(across), 3)


def test_thermodynamics_equal_those_of_ase():
    rng = np.random.default_rng(2)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.set_momenta(rng.normal(size=(8, 3)))
    stress = rng.normal(size=6) * 0.01
    atoms.calc = SinglePointCalculator(atoms, energy=-4.0, stress=stress)
    block = FrameBlock(
        atoms.positions[None],
        atoms.cell.array[None],
        velocities=atoms.get_velocities()[None] * ase.units.fs,
        energy=np.array([-4.0]),
        stress=atoms.get_stress(voigt=False)[None],
    )
    thermo = Thermodynamics(atoms.numbers, atoms.pbc)
    thermo.add(block)
    found = {r.name: r.value for r in thermo.results() if isinstance(r, Scalar)}
    assert found["temperature"] == pytest.approx(atoms.get_temperature(), rel=1e-5)
    assert found["potential energy"] == -0.5
    assert found["volume"] == pytest.approx(5.6**3)
    assert found["density"] == pytest.approx(4 * 58.44 / (5.6**3 * 0.602214), rel=1e-4)
    pressure = -atoms.get_stress(include_ideal_gas=True)[:3].mean() / ase.units.GPa
    assert found["pressure"] == pytest.approx(pressure, rel=1e-5)


def test_removed_motion_counts_no_degrees_of_freedom():
    water = molecule("H2O")
    water.set_momenta(np.random.default_rng(3).normal(size=(3, 3)))
    ase.md.velocitydistribution.Stationary(water)
    ase.md.velocitydistribution.ZeroRotation(water)
    thermo = Thermodynamics(water.numbers, water.pbc)
    thermo.add(frames([water.positions], velocities=water.get_velocities()[None] * ase.units.fs))
    (found,) = thermo.results()
    assert isinstance(found, Scalar)
    expected = 2 * water.get_kinetic_energy() / (3 * ase.units.kB)
    assert found.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("rate", "dof"), [(0.0, 3), (0.5, 9)])
def test_motion_that_comes_back_counts_degrees_of_freedom(rate, dof):
    water = molecule("H2O")
    rng = np.random.default_rng(4)
    masses = water.get_masses()[:, None]
    still = rng.normal(size=(200, 3, 3)) / np.sqrt(masses)
    noise = rng.normal(size=(200, 3, 3)) / np.sqrt(masses)
    for velocities in still:
        water.set_velocities(velocities)
        ase.md.velocitydistribution.Stationary(water)
        ase.md.velocitydistribution.ZeroRotation(water)
        velocities[:] = water.get_velocities()
    part = np.exp(-rate * np.arange(200))[:, None, None]
    velocities = part * still + np.sqrt(1 - part**2) * noise
    thermo = Thermodynamics(water.numbers, water.pbc)
    for few in (slice(0, 1), slice(1, 30), slice(30, None)):
        thermo.add(frames([water.positions] * len(velocities[few]), velocities=velocities[few]))
    (found,) = thermo.results()
    assert isinstance(found, Scalar)
    kinetic = 0.5 * AMU_ANGSTROM2_PER_FS2 * (masses * velocities**2).sum() / 200
    assert found.value == pytest.approx(2 * kinetic / (dof * BOLTZMANN))
