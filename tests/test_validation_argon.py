"""Lennard-Jones argon against the literature, as in ``experiments/validation``."""

from types import ModuleType

import numpy as np
import pytest
from ase.build import bulk
from validation_scripts import script

from mlffjax.config.md import MDSettings
from mlffjax.md.engine import run_md
from mlffjax.pair_potentials import lennard_jones
from mlffjax.units import BOLTZMANN, GPA


@pytest.fixture(scope="module")
def johnson() -> ModuleType:
    return script("lj_equation_of_state")


@pytest.fixture(scope="module")
def argon(johnson: ModuleType) -> ModuleType:
    assert johnson.GAMMA == 3
    return script("argon")


def test_equation_of_state_at_the_state_points_of_nist(johnson, argon):
    for state in argon.STATES[:2]:
        assert state.energy is not None
        assert state.pressure is not None
        at = (state.temperature, state.density)
        assert johnson.energy(*at) == pytest.approx(state.energy[0], abs=0.01)
        assert johnson.pressure(*at) == pytest.approx(state.pressure[0], abs=0.01)


@pytest.mark.parametrize("at", [(0.85, 0.776), (2.0, 0.5), (1.3, 0.1)])
def test_pressure_is_the_derivative_of_the_free_energy(johnson, at):
    temperature, density = at
    step = 1e-5
    above, below = (johnson.helmholtz(temperature, density + s) for s in (step, -step))
    expected = density * temperature + density**2 * (above - below) / (2 * step)
    assert johnson.pressure(*at) == pytest.approx(expected, abs=1e-7)


def test_critical_point(johnson):
    # Johnson, Zollweg and Gubbins constrained theirs to T* = 1.313, rho* = 0.310.
    step = 1e-3
    low, at, high = (johnson.pressure(1.313, 0.310 + s) for s in (-step, 0, step))
    assert abs(high - low) / (2 * step) < 2e-3
    assert abs(high - 2 * at + low) / step**2 < 0.1


def test_tail_of_a_sharp_cutoff_in_the_limit(argon):
    # All that lies beyond the end of the taper is in it, and a part of what lies within.
    beyond = lambda r: 8 * np.pi * (r**-9 / 9 - r**-3 / 3)  # noqa: E731
    energy, pressure = argon.tail(0.5)
    assert 0.5 * beyond(argon.CUTOFF) > energy > 0.5 * beyond(argon.TAPER_ONSET * argon.CUTOFF)
    assert pressure == pytest.approx(0.5 * energy)


def test_first_peak_of_a_parabola(argon):
    r = np.linspace(0, 1, 51)
    assert argon.first_peak(r, 2 - (r - 0.433) ** 2)["r"] == pytest.approx(0.433)


@pytest.mark.slow
def test_pressure_and_energy_of_a_dense_fluid(johnson, argon):
    temperature, density, sigma, epsilon = 2.0, 0.5, argon.SIGMA, argon.EPSILON
    kelvin = temperature * epsilon / BOLTZMANN
    atoms = bulk("Ar", "fcc", a=sigma * (4 / density) ** (1 / 3), cubic=True) * (3, 3, 3)
    settings = MDSettings(
        ensemble="csvr",
        temperature=kelvin,
        initial_temperature=2 * kelvin,
        steps=2000,
        timestep_fs=8.0,
        thermo_interval=5,
        frame_interval=2000,
        record_pressure=True,
    )
    thermo = run_md(lennard_jones(cutoff=argon.CUTOFF * sigma), atoms, settings).thermo
    assert thermo.pressure is not None
    late = slice(len(thermo.step) // 5, None)
    more_energy, more_pressure = argon.tail(density)
    energy = thermo.potential[late].mean() / len(atoms) / epsilon + more_energy
    pressure = thermo.pressure[late].mean() * GPA * sigma**3 / epsilon + more_pressure
    assert energy == pytest.approx(johnson.energy(temperature, density), rel=0.03)
    assert pressure == pytest.approx(johnson.pressure(temperature, density), rel=0.1)
