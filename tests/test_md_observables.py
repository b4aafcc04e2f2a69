"""Distributions and drift."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from numpy.testing import assert_allclose

from mlffjax.data.frames import Frame
from mlffjax.md.observables import bond_lengths, energy_drift, find_bonds, radial_distribution
from mlffjax.md.records import Thermo


def _frame(atoms) -> Frame:
    return Frame(atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc)


def test_an_ideal_gas_has_no_structure():
    rng = np.random.default_rng(0)
    cell, pbc = np.diag([9.0, 10.0, 11.0]), np.ones(3, bool)
    numbers = np.array([1] * 60 + [8] * 30)
    frames = [Frame(numbers, rng.uniform(0, 1, (90, 3)) @ cell, cell, pbc) for _ in range(40)]
    for pair, expected in ((None, 89 / 90), ((1, 1), 59 / 60), ((1, 8), 1.0)):
        result = radial_distribution(frames, 8.0, 8, pair)
        assert_allclose(result.density[3:], expected, atol=0.04)


def test_a_crystal_has_its_shells():
    result = radial_distribution([_frame(bulk("Ar", "fcc", a=4.0))], 4.5, 450)
    peaks = result.r[result.density > 0]
    assert_allclose(peaks, [4 / np.sqrt(2), 4.0], atol=0.006)
    shells = 4 * np.pi * result.r**2 * 0.01 * 4 / 4.0**3
    assert_allclose((result.density * shells)[result.density > 0], [12, 6], rtol=0.01)


def test_pair_distances_of_a_molecule():
    water = _frame(molecule("H2O"))
    result = radial_distribution([water], 3.0, 300)
    assert_allclose(result.density.sum() * 0.01, 1)
    hydrogens = radial_distribution([water], 3.0, 300, (1, 1))
    distance = np.linalg.norm(water.positions[1] - water.positions[2])
    assert_allclose(hydrogens.r[hydrogens.density > 0], [distance], atol=0.006)
    assert_allclose(hydrogens.density.sum() * 0.01, 1)
    with pytest.raises(ValueError, match="name elements"):
        radial_distribution([water], 3.0, pair=(1, 6))
    with pytest.raises(ValueError, match="no frames"):
        radial_distribution([], 3.0)


def test_bonds():
    frame = _frame(molecule("CH3CH2OH"))
    bonds = find_bonds(frame)
    assert len(bonds) == 8
    lengths = bond_lengths([frame, frame], bonds)
    assert lengths.shape == (2, 8)
    assert 0.9 < lengths.min() < lengths.max() < 1.6


def test_drift_and_fluctuation():
    rng = np.random.default_rng(0)
    time_fs = np.arange(1000) * 10.0
    noise = rng.normal(size=1000) * 1e-3
    conserved = -5.0 + 0.02 * time_fs * 1e-3 + noise
    zeros = np.zeros(1000)
    thermo = Thermo(np.arange(1000), time_fs, conserved, zeros, conserved, zeros)
    drift, fluctuation = energy_drift(thermo, num_atoms=10)
    assert drift == pytest.approx(0.002, rel=0.02)
    assert fluctuation == pytest.approx(1e-4, rel=0.05)
    lost = Thermo(np.arange(1000), time_fs, conserved, zeros, zeros * np.nan, zeros)
    with pytest.raises(ValueError, match="use NVE"):
        energy_drift(lost, 10)
