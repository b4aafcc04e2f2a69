"""Initial velocities and degrees of freedom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from numpy.testing import assert_allclose

from mlffjax.md import velocities
from mlffjax.units import BOLTZMANN

NO_PBC, PBC = np.zeros(3, bool), np.ones(3, bool)


def test_time_unit():
    # sqrt(amu Angstrom^2 / eV) from CODATA, as ASE has it the other way round.
    from ase import units

    assert pytest.approx(1 / units.fs, rel=1e-6) == velocities.TIME_UNIT_FS
    assert pytest.approx(10.1805, abs=1e-4) == velocities.TIME_UNIT_FS


def test_maxwell_boltzmann_has_the_width_of_each_mass():
    masses = jnp.tile(jnp.array([1.0, 16.0]), 20_000)
    momenta = velocities.maxwell_boltzmann(jax.random.key(0), masses, 300.0)
    for k, mass in enumerate((1.0, 16.0)):
        assert_allclose(np.asarray(momenta[k::2]).std(), np.sqrt(mass * BOLTZMANN * 300), rtol=0.02)
    assert momenta.dtype == masses.dtype
    single = velocities.maxwell_boltzmann(jax.random.key(0), masses.astype(jnp.float32), 300.0)
    assert single.dtype == jnp.float32


@pytest.mark.parametrize("name", ["H2O", "CO2", "CH3CH2OH"])
def test_drift_and_rotation_are_removed_and_counted(name):
    atoms = molecule(name)
    masses, positions = jnp.asarray(atoms.get_masses()), jnp.asarray(atoms.positions)

    def free(key):
        momenta = velocities.maxwell_boltzmann(key, masses, 300.0)
        momenta = velocities.remove_drift(momenta, masses)
        return velocities.remove_rotation(momenta, masses, positions)

    momenta = jax.vmap(free)(jax.random.split(jax.random.key(1), 4000))
    assert_allclose(momenta.sum(1), 0, atol=1e-10)
    centre = (masses[:, None] * positions).sum(0) / masses.sum()
    assert_allclose(jnp.cross(positions - centre, momenta).sum(1), 0, atol=1e-9)
    single = jax.tree.map(
        lambda x: x.astype(jnp.float32), (momenta[0] + positions, masses, positions)
    )
    left = velocities.remove_rotation(*single)
    assert left.dtype == jnp.float32
    assert_allclose(jnp.cross(positions - centre, left).sum(0), 0, atol=1e-4)
    dof = 3 * len(atoms) - (5 if name == "CO2" else 6)  # CO2 is straight in all samples
    kinetic = jax.vmap(velocities.kinetic_energy, (0, None))(momenta, masses)
    assert_allclose(velocities.temperature(kinetic, dof).mean(), 300, rtol=0.03)


def test_degrees_of_freedom():
    def dof(atoms, pbc=NO_PBC, drift=True, rotation=True):
        return velocities.degrees_of_freedom(
            len(atoms),
            pbc,
            without_drift=drift,
            without_rotation=rotation,
        )

    water = molecule("H2O")
    assert dof(water) == 3
    assert dof(water, pbc=PBC) == 6
    assert dof(water, rotation=False) == 6
    assert dof(water, drift=False) == 9
    assert dof(molecule("H")) == 3
    assert dof(molecule("O2")) == 1
    assert dof(molecule("CO2")) == 3


def test_momenta_are_scaled_to_a_temperature():
    masses = jnp.asarray(molecule("H2O").get_masses(), jnp.float32)
    momenta = velocities.maxwell_boltzmann(jax.random.key(0), masses, 300.0)
    scaled = velocities.scaled_to(momenta, masses, 120.0, 3)
    kinetic = velocities.kinetic_energy(scaled, masses)
    assert_allclose(velocities.temperature(kinetic, 3), 120.0, rtol=1e-6)
    assert_allclose(jnp.cross(scaled, momenta), 0, atol=1e-6)
    assert scaled.dtype == jnp.float32
    assert (velocities.scaled_to(0 * momenta, masses, 120.0, 3) == 0).all()
    assert (velocities.scaled_to(momenta, masses, 0.0, 3) == 0).all()
