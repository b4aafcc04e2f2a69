"""Time correlations against sums by hand, an oscillator's frequency and a random walk."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mlffjax.analysis.correlation import Diffusion, VelocityCorrelation
from mlffjax.analysis.results import Curves, Scalar
from mlffjax.md.trajectory_readers import FrameBlock

PERIODIC = np.ones(3, bool)


def feed(observable, positions, velocities=None, parts=7, cell=None):
    """Hands the frames over in uneven blocks."""
    cells = np.broadcast_to(np.eye(3) if cell is None else cell, (len(positions), 3, 3))
    for k in np.array_split(np.arange(len(positions)), parts):
        v = None if velocities is None else velocities[k]
        observable.add(FrameBlock(positions[k], cells[k], v))
    return {r.name: r for r in observable.results()}


def test_correlation_equals_the_sums():
    rng = np.random.default_rng(0)
    numbers, lags = np.array([1, 8, 1]), 5
    v, x = rng.normal(size=(2, 23, 3, 3))
    masses = np.array([1.008, 15.999, 1.008])
    vacf = feed(VelocityCorrelation(numbers, 2.0, lags), x, v)["vacf"]
    msd = feed(Diffusion(numbers, PERIODIC, 2.0, lags), x)["msd"]
    assert isinstance(vacf, Curves)
    assert isinstance(msd, Curves)
    # Origins 0 to 14: three stretches of five, each followed by five more frames.
    x = x - (masses[:, None] * x).sum(axis=1, keepdims=True) / masses.sum()
    for atoms, label in (([0, 1, 2], "all"), ([0, 2], "H"), ([1], "O")):
        row = vacf.labels.index(label)
        c = np.array([
            sum((masses[a] * v[t, a] * v[t + k, a]).sum() for t in range(15) for a in atoms)
            for k in range(lags)
        ])  # fmt: skip
        assert_allclose(vacf.values[row], c / c[0], rtol=1e-9, atol=1e-12)
        d = [
            sum(((x[t + k, a] - x[t, a]) ** 2).sum() for t in range(15) for a in atoms)
            for k in range(lags)
        ]
        assert_allclose(msd.values[row], np.array(d) / 15 / len(atoms), rtol=1e-9, atol=1e-12)
    assert_allclose(vacf.x, [0, 2, 4, 6, 8])


@pytest.mark.parametrize("wave_number", [500.0, 1600.0, 3700.0])
def test_an_oscillator_has_its_wave_number(wave_number):
    """omega = 2 pi c nu, with c = 2.99792458e10 cm/s."""
    omega = 2 * np.pi * 2.99792458e10 * wave_number * 1e-15
    time = np.arange(4000) * 0.5
    rng = np.random.default_rng(1)
    phases = rng.uniform(0, 2 * np.pi, (2, 3))
    v = np.cos(omega * time[:, None, None] + phases)
    found = feed(VelocityCorrelation(np.array([1, 8]), 0.5, 1000), v, v)["spectrum"]
    assert isinstance(found, Curves)
    peak = found.x[found.values[0].argmax()]
    assert peak == pytest.approx(wave_number, abs=5)
    assert found.values[0].sum() * found.x[1] == pytest.approx(1)
    assert_allclose(found.values[1:].sum(axis=0), found.values[0], atol=1e-12)
    assert found.x[-1] == pytest.approx(1 / (2 * 0.5e-15 * 2.99792458e10))
    half = found.x[found.values[0] > 0.5 * found.values[0].max()]
    # A Hann window over lags up to T gives lines of the half width 1/(T c): 66.7 1/cm.
    assert np.ptp(half) == pytest.approx(66.7, rel=0.15)


def test_a_random_walk_diffuses():
    rng = np.random.default_rng(2)
    step, dt = 0.1, 10.0
    walk = np.cumsum(rng.normal(scale=step, size=(4000, 60, 3)), axis=0)
    found = feed(Diffusion(np.full(60, 18), PERIODIC, dt, 100), walk)
    d = found["diffusion coefficient"]
    assert isinstance(d, Scalar)
    # D = <step^2> / (2 dt) for each component; 1 Angstrom^2/fs = 0.1 cm^2/s.
    # The centre of mass of the walkers moves along: one part in 60 less.
    expected = step**2 / (2 * dt) * 0.1 / 1e-5 * (59 / 60)
    assert d.unit == "10⁻⁵ cm²/s"
    assert 0 < d.error < 0.1 * expected
    assert abs(d.value - expected) < 4 * d.error
    msd = found["msd"]
    assert isinstance(msd, Curves)
    assert_allclose(msd.values[0], 3 * step**2 * np.arange(100) * 59 / 60, rtol=0.05)
    assert msd.x[1] == pytest.approx(0.01)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)])
def test_confined_directions_do_not_count(pbc):
    """A slab and a wire along lattice vectors that are neither orthogonal nor axes."""
    rng = np.random.default_rng(3)
    cell = np.array([[5.0, 1.0, 2.0], [2.0, 6.0, -1.0], [0.0, 0.0, 0.0]])
    along, _ = np.linalg.qr(cell[np.array(pbc)].T)
    step, dt = 0.1, 10.0
    walk = np.cumsum(rng.normal(scale=step, size=(3000, 60, 3)), axis=0) @ along @ along.T
    across = rng.uniform(-3, 3, walk.shape)
    walk += across - across @ along @ along.T
    found = feed(Diffusion(np.full(60, 18), np.array(pbc), dt, 80), walk, cell=cell)
    d = found["diffusion coefficient"]
    assert isinstance(d, Scalar)
    expected = step**2 / (2 * dt) * 0.1 / 1e-5 * (59 / 60)
    assert 0 < d.error < 0.1 * expected
    assert abs(d.value - expected) < 4 * d.error
    assert "periodic directions" in found["msd"].title


def test_too_little_is_said():
    with pytest.raises(ValueError, match="two or more"):
        Diffusion(np.array([1]), PERIODIC, 1.0, 1)
    with pytest.raises(ValueError, match="no values"):
        feed(Diffusion(np.array([1, 1]), PERIODIC, 1.0, 50), np.zeros((60, 2, 3)))
    with pytest.raises(ValueError, match="without velocities"):
        feed(VelocityCorrelation(np.array([1, 1]), 1.0, 5), np.zeros((60, 2, 3)))
