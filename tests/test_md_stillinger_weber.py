"""The silicon frames: labels against finite differences, and known values of the crystal."""

import numpy as np
import pytest

from mlffjax.data.consistency import check_consistency
from mlffjax.md.stillinger_weber import (
    DIAMOND,
    LATTICE_CONSTANT,
    silicon_frames,
    stillinger_weber_labels,
)

STEP = 1e-4  # Angstrom or strain: errors of the central difference near 1e-7


@pytest.fixture(scope="module")
def frames():
    return silicon_frames(6, seed=3)


def test_the_crystal_has_the_published_cohesive_energy():
    steps = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = (steps + DIAMOND).reshape(-1, 3) * LATTICE_CONSTANT
    labels = stillinger_weber_labels(positions, 2 * LATTICE_CONSTANT * np.eye(3))
    # Four bonds of depth epsilon = 2.16826 eV an atom, each shared by two atoms.
    assert labels.energy / 64 == pytest.approx(-2 * 2.16826, rel=1e-5)
    assert np.abs(labels.forces).max() < 1e-10
    assert np.abs(labels.stress).max() < 1e-4


def test_forces_are_the_gradient(frames):
    frame = frames[0]
    for atom, axis in ((0, 0), (17, 1), (60, 2)):
        shift = np.zeros_like(frame.positions)
        shift[atom, axis] = STEP
        low, high = (
            stillinger_weber_labels(frame.positions + sign * shift, frame.cell).energy
            for sign in (-1, 1)
        )
        assert -(high - low) / (2 * STEP) == pytest.approx(frame.forces[atom, axis], abs=1e-5)


def test_stress_is_the_strain_derivative(frames):
    frame = frames[0]
    volume = np.linalg.det(frame.cell)
    for i, j in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5 * STEP
        strain[j, i] += 0.5 * STEP
        low, high = (
            stillinger_weber_labels(
                frame.positions @ (np.eye(3) + sign * strain),
                frame.cell @ (np.eye(3) + sign * strain),
            ).energy
            for sign in (-1, 1)
        )
        assert (high - low) / (2 * STEP * volume) == pytest.approx(frame.stress[i, j], abs=1e-6)


def test_frames_are_reproducible_varied_and_triclinic(frames):
    again = silicon_frames(2, seed=3)
    np.testing.assert_array_equal(again[1].positions, frames[1].positions)
    assert again[1].energy == frames[1].energy
    assert silicon_frames(1, seed=4)[0].energy != frames[0].energy
    assert len({round(f.energy, 3) for f in frames}) == 6
    assert all(abs(f.cell[0, 1]) > 0 and f.pbc.all() for f in frames)
    assert all(f.forces.dtype == np.float64 for f in frames)
    assert all(np.abs(f.forces.sum(0)).max() < 1e-9 for f in frames)


def test_labels_agree_with_one_another():
    result = check_consistency(silicon_frames(8, seed=0, max_rattle=0.05, max_strain=0.02))
    assert result.stress_sign == 1


def test_thin_cells_are_refused():
    with pytest.raises(ValueError, match=r"got a cell 5\.\d+ Angstrom thick.*repeat the cell"):
        silicon_frames(1, seed=0, repeats=(1, 2, 2))
