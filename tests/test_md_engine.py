"""Running molecular dynamics: physics, neighbour lists that grow, runs that explode."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import HarmonicPairs, LennardJones, Repulsive
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from numpy.testing import assert_allclose

from mlffjax import units
from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md import chunk, engine
from mlffjax.md.device_neighbors import plan_neighbors
from mlffjax.md.engine import run_md
from mlffjax.md.observables import energy_drift
from mlffjax.md.structure import frame_of
from mlffjax.models import SchNet, SO3krates
from mlffjax.neighbors import neighbor_list
from mlffjax.potential import Potential

CARBON = 12.011


def _potential(module, elements, dtype=jnp.float64, **kwargs) -> Potential:
    return Potential.init(module, elements, jax.random.key(0), dtype=dtype, **kwargs)


def _pair(distance: float) -> Frame:
    positions = np.array([[0, 0, 0], [distance, 0, 0]])
    return Frame(np.array([6, 6]), positions, np.zeros((3, 3)), np.zeros(3, bool))


@cache
def _argon():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 2, 2))
    atoms.rattle(0.05, seed=1)
    return atoms


def _settings(**kwargs) -> MDSettings:
    return MDSettings(
        **{
            "ensemble": "nve",
            "steps": 300,
            "timestep_fs": 2.0,
            "temperature": 60.0,
            "thermo_interval": 1,
            "frame_interval": 100,
            **kwargs,
        }
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_period_of_a_diatomic_is_that_of_the_formula(dtype):
    settings = _settings(steps=1000, timestep_fs=0.1, temperature=0.0)
    result = run_md(_potential(HarmonicPairs(cutoff=4.0), [6], dtype), _pair(1.1), settings)
    omega = np.sqrt(20.0 / (CARBON / 2 * units.AMU_ANGSTROM2_PER_FS2))
    expected = 0.5 * 20.0 * (0.1 * np.cos(omega * result.thermo.time_fs)) ** 2
    assert omega * result.thermo.time_fs[-1] > 4 * np.pi
    # Velocity Verlet is fast by (omega dt)^2 / 24.
    assert_allclose(result.thermo.potential, expected, atol=3e-5)
    assert result.degrees_of_freedom == 1
    assert result.status == "finished"


def test_nve_conserves_energy_to_second_order_in_the_time_step():
    potential = _potential(LennardJones(cutoff=6.0), [18])
    fluctuations = []
    for timestep in (8.0, 4.0):
        settings = _settings(timestep_fs=timestep, steps=int(1600 / timestep))
        result = run_md(potential, _argon(), settings)
        drift, fluctuation = energy_drift(result.thermo, len(_argon()))
        assert abs(drift) < 2e-6
        fluctuations.append(fluctuation)
    assert result.thermo.kinetic.std() > 100 * 32 * fluctuations[1]
    assert fluctuations[0] / fluctuations[1] == pytest.approx(4, rel=0.5)


def test_nve_of_a_network_in_single_precision():
    module = SO3krates(num_features=16, num_layers=1, num_heads=2, degrees=(1, 2), cutoff=4.0)
    potential = _potential(module, [1, 6, 8], jnp.float32, baseline=[-13.0, -1000.0, -2000.0])
    settings = _settings(steps=200, timestep_fs=0.2, temperature=30.0)
    result = run_md(potential, molecule("CH3CH2OH"), settings)
    assert result.final.positions.dtype == np.float64
    assert np.ptp(result.thermo.potential) > 1e-4
    assert np.ptp(result.thermo.conserved) < 0.02 * np.ptp(result.thermo.potential) + 2e-5
    expected = result.thermo.potential[-1] + potential.baseline_energy(result.final.numbers)
    assert result.final.energy == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_nose_hoover_conserves_its_extended_energy(dtype):
    potential = _potential(LennardJones(cutoff=6.0), [18], dtype)
    settings = _settings(
        ensemble="nose-hoover", steps=600, timestep_fs=4.0, thermostat_period_fs=100.0
    )
    result = run_md(potential, _argon(), settings)
    assert np.ptp(result.thermo.conserved) < 0.002 * np.ptp(result.thermo.total) + 2e-5
    assert result.thermo.temperature[150:].mean() == pytest.approx(60, rel=0.1)
    assert result.degrees_of_freedom == 3 * 32 - 3


def test_langevin_samples_the_temperature():
    numbers = np.full(40, 6)
    rng = np.random.default_rng(0)
    start = 0.057 * rng.normal(size=(40, 3))
    frame = Frame(numbers, start, np.zeros((3, 3)), np.zeros(3, bool))
    potential = _potential(HarmonicPairs(cutoff=40.0, stiffness=0.2, length=0.0), [6])
    settings = _settings(
        ensemble="langevin", steps=4000, temperature=300.0, friction_per_ps=100.0, timestep_fs=1.0
    )
    result = run_md(potential, frame, settings)
    settled = result.thermo.temperature[500:]
    assert settled.mean() == pytest.approx(300, rel=0.03)
    # Canonical: the variance of the kinetic energy of 3 N momenta.
    assert settled.std() == pytest.approx(300 * np.sqrt(2 / 120), rel=0.2)
    # Equipartition of 3 (N - 1) modes of a harmonic system, ideal for the centre of mass.
    potential_energy = result.thermo.potential[1500:].mean()
    assert potential_energy == pytest.approx(0.5 * 117 * units.BOLTZMANN * 300, rel=0.1)
    assert np.isnan(result.thermo.conserved).all()


def test_overflow_is_redone_and_changes_nothing(monkeypatch):
    potential = _potential(LennardJones(cutoff=6.0), [18])
    settings = _settings(steps=120, chunk_steps=40, timestep_fs=5.0, temperature=300.0, skin=0.3)
    plan_neighbors = engine.plan_neighbors

    def run(room):
        def plan(positions, cell, pbc, cutoff, skin, half):
            exact = len(neighbor_list(positions, cell, pbc, cutoff).senders)
            made = plan_neighbors(positions, cell, pbc, cutoff, skin, half=half)
            return dataclasses.replace(made, candidates=2 * made.candidates, edges=room(exact))

        monkeypatch.setattr(engine, "plan_neighbors", plan)
        return run_md(potential, _argon(), settings)

    full, redone = run(lambda exact: 2 * exact), run(lambda exact: exact + 4)
    assert full.redone_chunks == 0
    assert redone.redone_chunks >= 1
    assert_allclose(redone.thermo.potential, full.thermo.potential, rtol=0, atol=1e-10)
    assert_allclose(redone.final.positions, full.final.positions, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(redone.thermo.step, np.arange(121))


@pytest.mark.parametrize("skin", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_a_list_of_pairs_gives_the_run_of_a_list_of_edges(monkeypatch, skin):
    module = SchNet(cutoff=3.0, num_features=8, num_layers=1, num_basis=8)
    assert module.pairwise
    potential = _potential(module, [6, 8, 1], scale=0.1)
    settings = _settings(steps=40, timestep_fs=0.5, skin=skin)
    plans = []

    def plan_of(half):
        def plan(*sizes, **_):
            plans.append(plan_neighbors(*sizes, half=half))
            return plans[-1]

        return plan

    runs = []
    for half in (True, False):
        monkeypatch.setattr(engine, "plan_neighbors", plan_of(half))
        runs.append(run_md(potential, molecule("CH3CH2OH"), settings))
    assert plans[0].candidates < plans[1].candidates
    monkeypatch.undo()
    runs.append(run_md(potential, molecule("CH3CH2OH"), settings))
    for run in runs[1:]:
        assert_allclose(run.thermo.potential, runs[0].thermo.potential, rtol=0, atol=1e-12)
        assert_allclose(run.final.positions, runs[0].final.positions, rtol=0, atol=1e-12)


def test_the_skin_changes_nothing():
    potential = _potential(LennardJones(cutoff=6.0), [18])
    runs = [
        run_md(potential, _argon(), _settings(steps=150, temperature=200.0, skin=skin))
        for skin in (0.0, 0.4, 1.5)
    ]
    assert runs[0].rebuilds > runs[1].rebuilds > runs[2].rebuilds
    for run in runs[1:]:
        assert_allclose(run.final.positions, runs[0].final.positions, rtol=0, atol=1e-9)


def test_a_cluster_needs_no_list_and_gets_room_for_more_edges(monkeypatch):
    def tight(*arguments, **options):
        return dataclasses.replace(plan_neighbors(*arguments, **options), edges=80)

    monkeypatch.setattr(engine, "plan_neighbors", tight)
    potential = _potential(LennardJones(cutoff=6.0), [18])
    atoms = bulk("Ar", "fcc", a=5.3).repeat((4, 2, 2))
    atoms.pbc = False
    settings = _settings(steps=60, timestep_fs=10.0, temperature=20.0, chunk_steps=30)
    kept = run_md(potential, atoms, settings)
    anew = run_md(potential, atoms, settings.model_copy(update={"skin": 0.0}))
    assert kept.rebuilds == 1
    assert anew.rebuilds > 60
    assert_allclose(kept.final.positions, anew.final.positions, rtol=0, atol=1e-9)


def test_a_skin_thinner_than_rounding_renews_the_list_in_every_step():
    potential = _potential(LennardJones(cutoff=6.0), [18])
    thin, none = (
        run_md(potential, _argon(), _settings(steps=20, temperature=200.0, skin=skin))
        for skin in (1e-15, 0.0)
    )
    assert thin.status == "finished"
    assert thin.rebuilds == 21
    assert_allclose(thin.final.positions, none.final.positions, rtol=0, atol=1e-12)


def test_a_model_that_fails_stops_with_a_clear_status():
    potential = _potential(Repulsive(cutoff=6.0, limit=2.0), [6])
    settings = _settings(
        steps=2000,
        timestep_fs=0.5,
        temperature=0.0,
        chunk_steps=200,
        explosion_temperature=1e9,
    )
    result = run_md(potential, _pair(1.0), settings)
    assert result.status == "exploded"
    assert "not finite in step" in result.message
    assert "atoms 0, 1" in result.message
    assert 0 < result.steps < 200
    assert result.thermo.step[-1] == result.steps
    assert np.isfinite(result.thermo.potential).all()
    distance = np.linalg.norm(result.final.positions[1] - result.final.positions[0])
    assert 1.9 < distance < 2.0
    assert f"in step {result.steps + 1} " in result.message
    shorter = run_md(potential, _pair(1.0), settings.model_copy(update={"steps": result.steps}))
    assert shorter.status == "finished"
    np.testing.assert_array_equal(result.final.positions, shorter.final.positions)
    np.testing.assert_array_equal(result.velocities, shorter.velocities)


def test_a_temperature_beyond_the_limit_stops_the_run():
    potential = _potential(Repulsive(cutoff=50.0, limit=60.0), [6])
    settings = _settings(steps=500, temperature=0.0, explosion_temperature=2000.0)
    result = run_md(potential, _pair(1.0), settings)
    assert result.status == "exploded"
    assert "temperature beyond the limit" in result.message
    assert result.thermo.temperature.max() < 2000


def test_a_start_that_is_not_finite_is_refused():
    potential = _potential(Repulsive(cutoff=6.0), [6])
    with pytest.raises(ValueError, match="at the start"):
        run_md(potential, _pair(2.5), _settings())


def test_rows_and_frames_fall_on_multiples_of_their_intervals():
    steps = []

    class Collect:
        def write(self, block):
            steps.extend(block.step.tolist())
            assert block.positions.shape == (len(block.step), 2, 3)

        def close(self):
            raise AssertionError("a writer of the caller must stay open")

    settings = _settings(
        steps=103, thermo_interval=7, frame_interval=25, chunk_steps=40, timestep_fs=0.2
    )
    potential = _potential(HarmonicPairs(cutoff=4.0), [6])
    result = run_md(potential, _pair(1.1), settings, writers=[Collect()])
    assert steps == [0, 25, 50, 75, 100]
    assert result.thermo.step.tolist() == list(range(0, 104, 7))
    assert result.steps == 103


def test_one_compilation_for_all_stretches_and_a_second_run():
    potential = _potential(HarmonicPairs(cutoff=4.0), [6])
    settings = _settings(steps=95, chunk_steps=20, timestep_fs=0.2, temperature=10.0)
    run_md(potential, _pair(1.1), settings)
    before = chunk.advance._cache_size()
    run_md(potential, _pair(1.05), settings.model_copy(update={"seed": 3}))
    assert chunk.advance._cache_size() == before


def test_drawn_velocities_have_exactly_the_temperature_where_that_is_asked_for():
    potential = _potential(HarmonicPairs(cutoff=4.0), [6])
    begun = [
        run_md(potential, _pair(1.0), _settings(steps=1, initial_temperature=45.0, **exact))
        for exact in ({}, {"exact_temperature": True})
    ]
    assert abs(begun[0].thermo.temperature[0] - 45) > 0.1
    assert begun[1].thermo.temperature[0] == pytest.approx(45, rel=1e-12)


def test_given_velocities_and_their_shape():
    potential = _potential(HarmonicPairs(cutoff=4.0), [6])
    velocities = np.array([[0, 0.01, 0], [0, -0.01, 0]])
    settings = _settings(steps=1, timestep_fs=1e-3, temperature=0.0)
    result = run_md(potential, _pair(1.0), settings, initial_velocities=velocities)
    kinetic = CARBON * 0.01**2 * units.AMU_ANGSTROM2_PER_FS2
    assert_allclose(result.thermo.kinetic, kinetic, rtol=1e-6)
    assert_allclose(result.velocities, velocities, atol=1e-7)
    with pytest.raises(ValueError, match="one vector for each atom"):
        run_md(potential, _pair(1.0), settings, initial_velocities=velocities[:1])


@pytest.mark.parametrize(
    ("ensemble", "special", "kept"),
    [
        ("nose-hoover", {}, False),
        ("npt-nose-hoover", {}, False),
        ("npt-scr", {}, False),
        ("csvr", {}, False),
        ("langevin", {"fix_center": True}, False),
        ("langevin", {}, True),
        ("nve", {}, True),
        ("nose-hoover", {"remove_drift": False}, True),
    ],
)
def test_a_drift_of_given_velocities_goes_where_it_is_not_counted(ensemble, special, kept):
    potential = _potential(LennardJones(cutoff=6.0), [18])
    speeds = np.random.default_rng(0).normal(2e-3, 2e-3, (32, 3))
    settings = _settings(ensemble=ensemble, **special)
    run = engine.Run(potential, frame_of(_argon()), settings, speeds)
    found = run.make.velocities(np.asarray(run.start_arguments(speeds)[1]))
    assert_allclose(found, speeds - (not kept) * speeds.mean(0), rtol=0, atol=1e-12)
    assert run.make.dof == 3 * 32 - 3 * (not kept)


def test_a_chain_keeps_a_drift_away():
    potential = _potential(HarmonicPairs(cutoff=4.0), [6])
    speeds = np.array([[0.03, 0.01, 0], [0.01, 0.01, 0]])
    settings = _settings(ensemble="nose-hoover", steps=50, timestep_fs=0.2)
    result = run_md(potential, _pair(1.0), settings, initial_velocities=speeds)
    kinetic = CARBON * 0.01**2 * units.AMU_ANGSTROM2_PER_FS2
    assert result.thermo.kinetic[0] == pytest.approx(kinetic)
    assert_allclose(result.velocities.mean(0), 0, atol=1e-12)


class Direct(HarmonicPairs):
    """Forces that are no gradient, and none at all."""

    @property
    def direct_forces(self) -> bool:
        return True

    def __call__(self, graph):
        output = super().__call__(graph)
        return output.replace(forces=jnp.zeros((graph.num_atoms, 3), graph.vectors.dtype))


def test_direct_forces_warn_in_nve():
    potential = _potential(Direct(cutoff=4.0), [6])
    with pytest.warns(UserWarning, match="direct forces in NVE"):
        run_md(potential, _pair(1.0), _settings(steps=1))


@pytest.mark.parametrize(
    ("ensemble", "dof"), [("nose-hoover", 3), ("csvr", 3), ("langevin", 6), ("nve", 6)]
)
@pytest.mark.filterwarnings("ignore:got direct forces in NVE")
def test_direct_forces_turn_a_molecule(ensemble, dof):
    settings = _settings(ensemble=ensemble)
    run = engine.Run(_potential(Direct(cutoff=4.0), [6]), _pair(1.0), settings, None)
    assert run.make.dof == run.integrator.dof == dof
    run = engine.Run(_potential(HarmonicPairs(cutoff=4.0), [6]), _pair(1.0), settings, None)
    assert run.make.dof == (6 if ensemble == "langevin" else 1)


def test_far_from_the_origin_single_precision_is_as_good():
    potential = _potential(HarmonicPairs(cutoff=4.0), [6], jnp.float32)
    settings = _settings(steps=40, timestep_fs=0.2, frame_interval=20, thermo_interval=4)
    frames, offset = [], np.array([3000.0, -2000.0, 5000.0])

    class Collect:
        def write(self, block):
            frames.extend(block.positions)

        def close(self):
            raise AssertionError("a writer of the caller must stay open")

    moved = dataclasses.replace(_pair(1.1), positions=_pair(1.1).positions + offset)
    near, far = (run_md(potential, f, settings, writers=[Collect()]) for f in (_pair(1.1), moved))
    assert_allclose(far.thermo.total, near.thermo.total, rtol=1e-6)
    for here, there in zip(frames[:3], frames[3:], strict=True):
        assert_allclose(there - here, np.tile(offset, (2, 1)), rtol=0, atol=1e-6)
    assert_allclose(frames[3][1], [3001.1, -2000, 5000], rtol=0, atol=1e-6)
    assert_allclose(far.final.positions, frames[-1], rtol=0, atol=1e-9)


def test_a_cell_that_moves_takes_the_origin_along():
    potential, far = _potential(LennardJones(cutoff=6.0), [18]), np.array([300.0, -200.0, 70.0])
    settings = _settings(
        ensemble="npt-scr", cell_motion="flexible", steps=20, barostat_period_fs=20.0,
        pressure_gpa=1.0, frame_interval=20,
    )  # fmt: skip
    moved = _argon().copy()
    moved.positions += far
    near, there = run_md(potential, _argon(), settings), run_md(potential, moved, settings)
    assert_allclose(there.final.cell, near.final.cell, atol=1e-9)
    assert near.thermo.volume is not None
    assert near.thermo.volume[-1] < 0.99 * near.thermo.volume[0]
    # In lattice vectors it is where it was.
    place = lambda frame: frame.positions @ np.linalg.inv(frame.cell)  # noqa: E731
    shift = far @ np.linalg.inv(_argon().cell.array)
    assert_allclose(place(there.final) - place(near.final), np.tile(shift, (32, 1)), atol=1e-8)
    centre = place(near.final).mean(0) - _argon().get_scaled_positions(wrap=False).mean(0)
    assert_allclose(centre, 0, atol=1e-8)


def test_an_unknown_element_is_refused():
    with pytest.raises(ValueError, match="not trained on"):
        run_md(_potential(HarmonicPairs(), [6]), molecule("H2O"), _settings())


def test_what_dynamics_does_not_know_of_a_structure_is_refused():
    atoms = molecule("H2O")
    potential = _potential(LennardJones(cutoff=4.0), [1, 8])
    held = atoms.copy()
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="got 1 constraints"):
        run_md(potential, held, _settings(steps=1))
    heavy = atoms.copy()
    heavy.set_masses([15.999, 2.014, 2.014])
    with pytest.raises(ValueError, match="got masses that are not those of the elements"):
        run_md(potential, heavy, _settings(steps=1))
