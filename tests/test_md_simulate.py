"""Ensembles: what they conserve, sample and keep at rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import HarmonicPairs, LennardJones, Repulsive
from ase import Atoms
from ase.build import bulk
from numpy.testing import assert_allclose

from mlffjax import atom_graph, units
from mlffjax.config.base import ConfigError
from mlffjax.config.md import MDSettings
from mlffjax.md import barostat, chunk
from mlffjax.md.engine import run_md
from mlffjax.md.simulate import Integrator
from mlffjax.md.thermostats import rescaling_factor
from mlffjax.potential import Potential


def _potential(module, elements=(18,), dtype=jnp.float64):
    return Potential.init(module, list(elements), jax.random.key(0), dtype=dtype)


def _settings(**kwargs):
    common = {"steps": 200, "timestep_fs": 4.0, "temperature": 60.0, "thermo_interval": 1}
    return MDSettings(**{**common, "frame_interval": 1000, **kwargs})


@pytest.mark.parametrize("dof", [1, 2, 5])
def test_velocity_rescaling_samples_the_kinetic_energies(dof):
    kT = jnp.asarray(0.1)

    def step(kinetic, key):
        factor = rescaling_factor(key, kinetic, kT, dof, jnp.asarray(0.6))
        return factor**2 * kinetic, kinetic

    keys = jax.random.split(jax.random.key(1), 20_000)
    kinetic = np.asarray(jax.lax.scan(step, jnp.asarray(1e-3), keys)[1])[100:]
    assert kinetic.mean() == pytest.approx(dof / 2 * 0.1, rel=0.05)
    assert kinetic.var() == pytest.approx(dof / 2 * 0.1**2, rel=0.15)
    assert rescaling_factor(keys[0], jnp.zeros(()), kT, dof, jnp.asarray(0.6)) == 1


@pytest.mark.parametrize("motion", ["isotropic", "orthorhombic", "flexible"])
def test_strains_have_the_same_volume_part(motion):
    excess = jnp.asarray([[3.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    call = lambda key, kT: barostat.strain(key, excess, kT, 50.0, 0.01, motion)  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 20_000)
    strains = np.asarray(jax.vmap(call, (0, None))(keys, jnp.asarray(0.02)))
    drift = np.asarray(call(keys[0], jnp.asarray(0.0)))
    assert_allclose(strains, strains.swapaxes(1, 2))
    assert np.trace(drift) == pytest.approx(0.01 * 6)
    trace = np.trace(strains, axis1=1, axis2=2)
    # eq. 5 of Bernetti and Bussi: variance 2 kT beta dt / (V tau) = 6 kT rate / V.
    assert trace.var() == pytest.approx(6 * 0.02 * 0.01 / 50, rel=0.04)
    beside = strains[:, 0, 1] - drift[0, 1]
    if motion == "flexible":
        assert_allclose(drift, 0.01 * excess)
        assert beside.var() == pytest.approx(0.02 * 0.01 / 50, rel=0.04)
        deviation = strains[:, 0, 0] - drift[0, 0]
        assert deviation.var() == pytest.approx(2 * 0.02 * 0.01 / 50, rel=0.04)
    else:
        assert not beside.any()


def test_matrix_exponential():
    rng = np.random.default_rng(0)
    matrix = 0.01 * rng.normal(size=(3, 3))
    assert_allclose(barostat.exponential(matrix), jax.scipy.linalg.expm(matrix), atol=1e-15)


@pytest.mark.slow
def test_the_volume_of_an_ideal_gas():
    # <V> = (f/3 + 1) kT / P with f = 3 N - 3: p(V) ~ V^(f/3) exp(-P V / kT).
    count, kT = 8, units.BOLTZMANN * 300
    edge = 12.0
    target = count * kT / edge**3
    rng = np.random.default_rng(0)
    gas = Atoms(f"Ar{count}", rng.uniform(0, edge, (count, 3)), cell=[edge] * 3, pbc=True)
    settings = _settings(
        ensemble="npt-scr",
        steps=60_000,
        temperature=300.0,
        thermostat_period_fs=60.0,
        barostat_period_fs=150.0,
        compressibility_per_gpa=units.GPA / target,
        pressure_gpa=target / units.GPA,
        thermo_interval=5,
        skin=0.0,
    )
    potential = _potential(HarmonicPairs(cutoff=1.0, stiffness=0.0))
    thermo = run_md(potential, gas, settings).thermo
    assert thermo.volume is not None
    assert thermo.pressure is not None
    late = slice(1000, None)
    assert thermo.volume[late].mean() == pytest.approx(count * kT / target, rel=0.05)
    spread = np.sqrt(count) * kT / target
    assert thermo.volume[late].std() == pytest.approx(spread, rel=0.12)
    assert thermo.temperature[late].mean() == pytest.approx(300, rel=0.03)
    # <P V> = P_0 <V> - kT
    work = (thermo.pressure * thermo.volume)[late].mean() * units.GPA
    assert work == pytest.approx((count - 1) * kT, rel=0.05)


@pytest.mark.slow
def test_a_primitive_cell_behaves_as_its_supercell():
    cell = np.array([[3.9, 0.1, 0.0], [0.3, 4.1, 0.2], [-0.2, 0.4, 3.8]])
    primitive = Atoms("Ar2", scaled_positions=[[0, 0, 0], [0.45, 0.5, 0.52]], cell=cell, pbc=True)
    velocities = np.array([[1e-3, 2e-3, -1e-3], [-1e-3, -2e-3, 1e-3]])
    settings = _settings(
        ensemble="npt-scr",
        cell_motion="flexible",
        steps=60,
        temperature=1e-20,  # no noise
        explosion_temperature=1e6,
        barostat_period_fs=200.0,
        compressibility_per_gpa=0.5,
    )
    potential = _potential(LennardJones(cutoff=6.0))

    def run(repeat):
        atoms = primitive.repeat((repeat,) * 3)
        start = np.tile(velocities, (repeat**3, 1))
        return run_md(potential, atoms, settings, initial_velocities=start)

    one, many = run(1), run(3)
    assert many.thermo.pressure is not None
    assert_allclose(one.thermo.pressure, many.thermo.pressure, rtol=0, atol=1e-9)
    assert_allclose(3 * one.final.cell, many.final.cell, rtol=0, atol=1e-9)
    assert np.abs(one.final.cell - cell).max() > 0.05
    assert_allclose(27 * one.thermo.total, many.thermo.total, rtol=1e-9)


def _solid():
    atoms = bulk("Ar", "fcc", a=5.0).repeat((3, 3, 3))
    atoms.rattle(0.02, seed=3)
    return atoms


def test_nose_hoover_conserves_its_energy_while_the_cell_moves():
    settings = _settings(
        ensemble="npt-nose-hoover",
        steps=600,
        pressure_gpa=0.3,
        thermostat_period_fs=200.0,
        barostat_period_fs=1000.0,
    )
    thermo = run_md(_potential(LennardJones(cutoff=6.0)), _solid(), settings).thermo
    assert thermo.volume is not None
    assert np.ptp(thermo.volume) > 0.01 * thermo.volume[0]
    assert np.ptp(thermo.conserved) < 1e-3 * np.ptp(thermo.total)


@pytest.mark.slow
def test_a_flexible_triclinic_cell_reaches_its_pressure():
    settings = _settings(
        ensemble="npt-scr",
        cell_motion="flexible",
        steps=6000,
        pressure_gpa=0.3,
        temperature=30.0,
        barostat_period_fs=500.0,
        compressibility_per_gpa=0.5,
        thermo_interval=5,
    )
    potential, start = _potential(LennardJones(cutoff=6.0)), _solid()
    result = run_md(potential, start, settings)
    late = slice(len(result.thermo.step) // 5, None)
    assert result.thermo.pressure is not None
    # The mean is off by sqrt(2 kT tau / (V beta t)) = 0.008 GPa, by the noise of the barostat.
    assert result.thermo.pressure[late].mean() == pytest.approx(0.3, abs=0.025)
    assert result.thermo.temperature[late].mean() == pytest.approx(30, rel=0.03)
    isotropic = run_md(potential, start, settings.model_copy(update={"cell_motion": "isotropic"}))
    assert result.thermo.volume is not None
    assert isotropic.thermo.volume is not None
    expected = isotropic.thermo.volume[late].mean()
    assert result.thermo.volume[late].mean() == pytest.approx(expected, rel=5e-3)


def test_the_logged_pressure_is_kinetic_less_virial():
    atoms, potential = _solid(), _potential(LennardJones(cutoff=6.0))
    settings = _settings(ensemble="nve", steps=2, record_pressure=True)
    result = run_md(potential, atoms, settings)
    final = result.final
    graph = atom_graph(
        final.numbers, final.positions, final.cell, final.pbc, potential.cutoff, np.float64
    )
    stress = potential.energy_forces_stress(graph).stress
    assert stress is not None
    volume = atoms.get_volume()
    kinetic = 2 * result.thermo.kinetic[-1] / (3 * volume)
    expected = (kinetic - np.trace(stress[0]) / 3) / units.GPA
    assert result.thermo.pressure is not None
    assert result.thermo.volume is not None
    assert result.thermo.pressure[-1] == pytest.approx(expected, rel=1e-9)
    assert_allclose(result.thermo.volume, volume)
    plain = run_md(potential, atoms, settings.model_copy(update={"record_pressure": False}))
    assert plain.thermo.pressure is None
    assert_allclose(plain.final.positions, final.positions, atol=1e-12)


def test_csvr_conserves_its_energy_and_a_ramp_compiles_once():
    potential = _potential(LennardJones(cutoff=6.0))
    steady = run_md(potential, _solid(), _settings(ensemble="csvr", steps=400)).thermo
    assert np.ptp(steady.conserved) < 2e-3 * np.ptp(steady.total)
    settings = _settings(
        ensemble="csvr",
        steps=1500,
        temperature=20.0,
        temperature_end=80.0,
        thermostat_period_fs=20.0,
        chunk_steps=300,
    )
    before = chunk.advance._cache_size()
    result = run_md(potential, _solid(), settings)
    thermo = result.thermo
    assert chunk.advance._cache_size() == before + 1 + result.redone_chunks
    target = 20 + 60 * thermo.step / 1500
    slope = np.polyfit(target, thermo.temperature, 1)[0]
    assert slope == pytest.approx(1, abs=0.2)
    assert thermo.temperature[-300:].mean() == pytest.approx(74, rel=0.1)


def test_targets_of_a_ramp():
    settings = MDSettings(
        ensemble="npt-scr", steps=100, temperature=100.0, temperature_end=300.0, pressure_gpa=1.0
    )
    integrator = Integrator.from_settings(settings, 3, 2)
    for step, expected in ((0, 100), (50, 200), (100, 300)):
        conditions = integrator.conditions(jnp.asarray(step), jnp.float64)
        assert conditions.kT == pytest.approx(units.BOLTZMANN * expected)
        assert conditions.pressure == pytest.approx(units.GPA)


@pytest.mark.slow
def test_the_centre_of_mass_stays_in_langevin_dynamics_on_request():
    potential = _potential(LennardJones(cutoff=6.0))
    settings = _settings(ensemble="langevin", steps=50, friction_per_ps=10.0)
    free = run_md(potential, _solid(), settings)
    fixed = run_md(potential, _solid(), settings.model_copy(update={"fix_center": True}))
    assert free.degrees_of_freedom == 3 * 27
    assert fixed.degrees_of_freedom == 3 * 27 - 3
    assert np.abs(fixed.velocities.sum(0)).max() < 1e-15
    assert np.abs(free.velocities.sum(0)).max() > 1e-6


def test_a_broken_bond_stops_the_run():
    potential = _potential(Repulsive(cutoff=50.0, limit=60.0), [6])
    pair = Atoms("C2", [[0, 0, 0], [1.4, 0, 0]])
    settings = _settings(
        ensemble="nve", steps=2000, temperature=0.0, timestep_fs=0.5, bond_check=True
    )
    result = run_md(potential, pair, settings)
    assert result.status == "exploded"
    assert "broken bond C0-C1 (2.1" in result.message
    assert f"in step {result.steps + 1} (" in result.message
    distance = np.linalg.norm(np.diff(result.final.positions, axis=0))
    assert 2.0 < distance < 2.1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ensemble": "nve", "temperature_end": 100.0}, "with a thermostat"),
        ({"ensemble": "csvr", "pressure_end_gpa": 1.0}, "npt-nose-hoover or npt-scr"),
        ({"ensemble": "npt-nose-hoover", "cell_motion": "flexible"}, "expected npt-scr"),
        ({"ensemble": "csvr", "temperature_end": 0.0}, "more than 0 K"),
        ({"fix_center": True, "remove_drift": False}, "leave one of the two out"),
    ],
)
def test_settings_without_effect_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        MDSettings.parse(settings)


def test_constant_pressure_needs_three_periodic_directions():
    slab = _solid()
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match="three periodic directions"):
        run_md(_potential(LennardJones(cutoff=6.0)), slab, _settings(ensemble="npt-scr"))
