"""Replicas in one program against single runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import HarmonicPairs, LennardJones, PairModel, Repulsive
from ase.build import bulk, molecule
from ase.data import atomic_masses
from numpy.testing import assert_allclose, assert_array_equal

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md import device_neighbors, replica_batch, replica_chunk
from mlffjax.md.engine import run_md
from mlffjax.md.replicas import run_replicas
from mlffjax.models import SO3krates
from mlffjax.neighbors import neighbor_list
from mlffjax.potential import Potential

ELEMENTS = [1, 6, 8]


def _potential(module, elements=ELEMENTS, dtype=jnp.float64) -> Potential:
    baseline = [-1.0 * z for z in elements]
    return Potential.init(module, elements, jax.random.key(0), dtype=dtype, baseline=baseline)


class Springs(PairModel):
    """A smooth pull of all pairs towards a distance, within a wide cutoff."""

    def pair_energy(self, r):
        x = jnp.clip(r / self.cutoff, 0, 1)
        return 0.3 * (r - 2.0) ** 2 * (1 - x**2) ** 3


def _settings(**kwargs) -> MDSettings:
    return MDSettings(
        **{
            "ensemble": "nve",
            "steps": 60,
            "timestep_fs": 0.5,
            "temperature": 300.0,
            "thermo_interval": 7,
            "frame_interval": 20,
            "chunk_steps": 25,
            **kwargs,
        }
    )


def _same(together, single, atol=1e-9):
    assert together.status == single.status
    assert together.message == single.message
    assert together.steps == single.steps
    assert together.degrees_of_freedom == single.degrees_of_freedom
    assert_array_equal(together.thermo.step, single.thermo.step)
    for name in ("potential", "kinetic", "conserved", "temperature", "volume", "pressure"):
        ours, theirs = getattr(together.thermo, name), getattr(single.thermo, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert_allclose(ours, theirs, rtol=1e-9, atol=atol)
    assert_allclose(together.final.cell, single.final.cell, rtol=0, atol=atol)
    assert_allclose(together.final.positions, single.final.positions, rtol=0, atol=atol)
    assert_allclose(together.velocities, single.velocities, rtol=0, atol=atol)
    assert together.final.energy == pytest.approx(single.final.energy, abs=atol)


DIFFERENT = ("CH3CH2OH", "H2O", "CH4")


@pytest.mark.parametrize(
    ("ensemble", "names"),
    [
        ("csvr", DIFFERENT),
        pytest.param("nve", DIFFERENT, marks=pytest.mark.slow),
        pytest.param("langevin", DIFFERENT, marks=pytest.mark.slow),
        pytest.param("nose-hoover", DIFFERENT, marks=pytest.mark.slow),
    ],
)
def test_molecules_and_temperatures_as_in_single_runs(ensemble, names):
    potential = _potential(Springs(cutoff=6.0))
    structures = [molecule(name) for name in names]
    each = [
        _settings(ensemble=ensemble, temperature=t, seed=k, steps=n)
        for k, (t, n) in enumerate([(300.0, 60), (500.0, 33), (50.0, 60)])
    ]
    together = run_replicas(potential, structures, each)
    assert [r.steps for r in together] == [60, 33, 60]
    for result, structure, settings in zip(together, structures, each, strict=True):
        _same(result, run_md(potential, structure, settings))


@pytest.mark.slow
def test_copies_differ_by_their_seeds_and_pass_the_cell_and_the_skin():
    potential = _potential(LennardJones(cutoff=6.0), [18])
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    settings = _settings(temperature=200.0, timestep_fs=8.0, skin=0.3, seed=5)
    together = run_replicas(potential, [atoms] * 2, settings)
    assert together[0].thermo.kinetic[0] != together[1].thermo.kinetic[0]
    for k, result in enumerate(together):
        single = run_md(potential, atoms, settings.model_copy(update={"seed": 5 + k}))
        assert single.rebuilds > 1
        _same(result, single)


def _argon(repeat, a):
    atoms = bulk("Ar", "fcc", a=a).repeat(repeat)  # a triclinic cell
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize(
    "special",
    [
        {"ensemble": "nve", "record_pressure": True, "exact_temperature": True},
        pytest.param(
            {"ensemble": "npt-nose-hoover", "barostat_period_fs": 100.0}, marks=pytest.mark.slow
        ),
        {"ensemble": "npt-scr", "cell_motion": "flexible", "skin": 0.0},
        pytest.param(
            {"ensemble": "npt-scr", "cell_motion": "orthorhombic"}, marks=pytest.mark.slow
        ),
    ],
    ids=["pressure", "npt-nose-hoover", "flexible", "orthorhombic"],
)
def test_each_has_its_own_cell_as_in_single_runs(special):
    potential = _potential(LennardJones(cutoff=5.0), [18])
    structure = _argon((2, 2, 1), 5.3)
    settings = _settings(**{"timestep_fs": 4.0, "skin": 0.3, "pressure_gpa": 0.5, **special})
    together = run_replicas(potential, [structure] * 2, settings)
    for k, result in enumerate(together):
        single = run_md(potential, structure, settings.model_copy(update={"seed": k}))
        assert single.rebuilds > 2
        _same(result, single)
    moved = [abs(np.log(r.thermo.volume[-1] / r.thermo.volume[0])) for r in together]
    assert (min(moved) > 1e-4) == special["ensemble"].startswith("npt")


@pytest.mark.slow
def test_different_cells_and_pressures_and_a_cell_that_shrinks_below_its_copies():
    potential = _potential(LennardJones(cutoff=5.0), [18])
    structures = [_argon((2, 2, 2), 9.4), _argon((3, 2, 2), 9.6)]
    each = [
        _settings(
            ensemble="npt-scr",
            steps=30,
            pressure_gpa=pressure,
            pressure_end_gpa=0.5,
            timestep_fs=4.0,
            skin=0.4,
            barostat_period_fs=20.0,
        )
        for pressure in (1.0, 0.0)
    ]
    together = run_replicas(potential, structures, each)
    assert together[0].redone_chunks > 0
    for result, structure, settings in zip(together, structures, each, strict=True):
        _same(result, run_md(potential, structure, settings))


@pytest.mark.slow
def test_a_barostat_with_chains_of_different_degrees_of_freedom():
    potential = _potential(LennardJones(cutoff=5.0), [18])
    structures = [_argon((2, 2, 1), 5.3), _argon((2, 1, 1), 5.6)]
    settings = _settings(
        ensemble="npt-nose-hoover", timestep_fs=4.0, skin=0.3, barostat_period_fs=100.0
    )
    together = run_replicas(potential, structures, settings)
    for k, structure in enumerate(structures):
        single = settings.model_copy(update={"seed": k})
        _same(together[k], run_md(potential, structure, single))


@pytest.mark.slow
def test_cell_lists_of_different_structures_as_in_single_runs(monkeypatch):
    monkeypatch.setattr(device_neighbors, "CELL_SLOT_COST", 0.01)
    potential = _potential(LennardJones(cutoff=4.5), [18])
    structures = [_argon((3, 3, 3), 5.3), _argon((3, 3, 4), 5.5)]
    settings = _settings(
        ensemble="npt-scr", temperature=150.0, timestep_fs=4.0, skin=0.4, barostat_period_fs=50.0
    )
    programs = []
    advance = replica_chunk.advance

    def noted(program, *arguments):
        programs.append(program)
        return advance(program, *arguments)

    monkeypatch.setattr(replica_chunk, "advance", noted)
    together = run_replicas(potential, structures, settings)
    assert all(program.plan.cells is not None for program in programs)
    for k, structure in enumerate(structures):
        single = run_md(potential, structure, settings.model_copy(update={"seed": k}))
        assert single.rebuilds > 2
        _same(together[k], single)


@pytest.mark.slow
def test_a_lone_atom_beside_others_keeps_its_momentum():
    potential = _potential(LennardJones(cutoff=5.0), [18])
    lone = _argon((1, 1, 1), 5.3)
    settings = _settings(ensemble="csvr", steps=10)
    alone = run_replicas(potential, [lone, _argon((2, 1, 1), 5.3)], settings)[0]
    _same(alone, run_md(potential, lone, settings))
    assert np.abs(alone.velocities).min() > 0


def test_no_rotation_that_is_not_counted_grows_under_velocity_rescaling():
    potential = _potential(Springs(cutoff=6.0), dtype=jnp.float32)
    structures = [molecule(name) for name in ("H2O", "O2", "H2O", "H2O")]
    settings = _settings(
        ensemble="csvr", steps=2000, chunk_steps=500, timestep_fs=2.0, thermostat_period_fs=5.0
    )
    together = run_replicas(potential, structures, settings)
    for result in [*together, run_md(potential, structures[0], settings)]:
        masses = atomic_masses[result.final.numbers]
        arms = result.final.positions - np.average(result.final.positions, 0, masses)
        momenta = masses[:, None] * result.velocities
        angular = np.cross(arms, momenta).sum(0)
        assert np.abs(angular).max() < 1e-6 * np.abs(arms).max() * np.abs(momenta).max()


def test_the_number_of_copies_is_a_setting_of_replicas_alone():
    potential = _potential(LennardJones(cutoff=6.0), [18])
    settings = _settings(steps=2, replicas=3)
    assert len(run_replicas(potential, bulk("Ar", "fcc", a=5.3), settings)) == 3
    with pytest.raises(ValueError, match="got replicas=3 for run_md; expected 1"):
        run_md(potential, bulk("Ar", "fcc", a=5.3), settings)


def test_a_network_of_the_registry():
    module = SO3krates(num_features=16, num_layers=1, num_heads=2, degrees=(1, 2), cutoff=4.0)
    potential = _potential(module)
    structures = [molecule("CH3CH2OH") for _ in range(2)]
    structures[1].rattle(0.05, seed=1)
    settings = _settings(steps=20, temperature=50.0)
    together = run_replicas(potential, structures, settings)
    assert together[0].final.energy != together[1].final.energy
    for k, result in enumerate(together):
        single = settings.model_copy(update={"seed": k})
        _same(result, run_md(potential, structures[k], single), atol=1e-8)


def _pair(distance: float, z: int = 6) -> Frame:
    positions = np.array([[0, 0, 0], [distance, 0, 0]])
    return Frame(np.array([z, z]), positions, np.zeros((3, 3)), np.zeros(3, bool))


def test_one_that_explodes_leaves_the_others_alone(tmp_path):
    potential = _potential(Repulsive(cutoff=6.0, limit=2.0))
    three = Frame(
        np.array([1, 6, 8]),
        np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.6, 0]]),
        np.zeros((3, 3)),
        np.zeros(3, bool),
    )
    structures = [_pair(0.5), _pair(1.5), three, _pair(0.7, 8)]
    settings = _settings(
        steps=100, temperature=0.0, timestep_fs=0.5, explosion_temperature=1e9, thermo_interval=1
    )
    together = run_replicas(potential, structures, settings, folder=tmp_path)
    singles = [run_md(potential, structure, settings) for structure in structures]
    assert {r.status for r in singles} == {"finished", "exploded"}
    for result, single in zip(together, singles, strict=True):
        _same(result, single)
    exploded = [k for k, r in enumerate(together) if r.status == "exploded"]
    rows = (tmp_path / f"replica_{exploded[0]:03d}" / "thermo.csv").read_text().splitlines()
    assert int(rows[-1].split(",")[0]) == together[exploded[0]].steps
    assert all(np.isfinite(r.final.positions).all() for r in together)


def test_broken_bonds_stop_one_replica():
    potential = _potential(HarmonicPairs(cutoff=9.0, stiffness=2.0, length=1.5))
    structures = [_pair(1.5), _pair(1.4)]
    settings = _settings(bond_check=True, temperature=0.0, explosion_temperature=1e7)
    speeds = [np.array([[-v, 0, 0], [v, 0, 0]]) for v in (0.001, 0.08)]
    together = run_replicas(potential, structures, settings, initial_velocities=speeds)
    assert [r.status for r in together] == ["finished", "exploded"]
    assert "broken bond C0-C1" in together[1].message
    for k, result in enumerate(together):
        single = run_md(potential, structures[k], settings, initial_velocities=speeds[k])
        _same(result, single)


def test_overflow_is_redone_and_changes_nothing(monkeypatch):
    potential = _potential(LennardJones(cutoff=6.0), [18])
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.05, seed=1)
    settings = _settings(steps=100, timestep_fs=5.0, temperature=300.0, skin=0.3)
    exact = 2 * len(neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 6.0).senders)
    plan_replicas = replica_batch.plan_replicas

    def run(edges):
        def plan(*sizes, half):
            made = plan_replicas(*sizes, half=half)[0]
            return dataclasses.replace(made, candidates=2 * made.candidates), edges

        monkeypatch.setattr(replica_batch, "plan_replicas", plan)
        return run_replicas(potential, [atoms] * 2, settings)

    full, redone = run(2 * exact), run(exact + 4)
    assert full[0].redone_chunks == 0
    assert redone[0].redone_chunks >= 1
    for a, b in zip(redone, full, strict=True):
        assert_allclose(a.thermo.potential, b.thermo.potential, rtol=0, atol=1e-10)
        assert_allclose(a.final.positions, b.final.positions, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_rebuilding_one_after_the_other_changes_nothing(monkeypatch):
    potential = _potential(Springs(cutoff=6.0))
    structures = [molecule("H2O"), molecule("CH4"), molecule("CO2")]
    settings = _settings(steps=10)
    together = run_replicas(potential, structures, settings)
    replica_chunk.advance.clear_cache()
    replica_chunk.start.clear_cache()
    monkeypatch.setattr(replica_chunk, "PAIRS_TOGETHER", 50)
    for a, b in zip(run_replicas(potential, structures, settings), together, strict=True):
        _same(a, b)
    replica_chunk.advance.clear_cache()
    replica_chunk.start.clear_cache()


def test_one_compilation_for_all_stretches_and_a_second_run():
    potential = _potential(Springs(cutoff=6.0))
    run_replicas(potential, [molecule("H2O")] * 2, _settings())
    before = replica_chunk.advance._cache_size()
    run_replicas(potential, [molecule("H2O")] * 2, _settings(seed=3, temperature=250.0))
    assert replica_chunk.advance._cache_size() == before


def test_what_cannot_run_together_is_refused():
    potential = _potential(LennardJones(cutoff=6.0), [18])
    crystal, free = bulk("Ar", "fcc", a=5.3), bulk("Ar", "fcc", a=5.3)
    free.pbc = False
    with pytest.raises(ValueError, match="other timestep_fs for replica 1"):
        run_replicas(potential, crystal, [_settings(), _settings(timestep_fs=1.0)])
    with pytest.raises(ValueError, match="periodic directions"):
        run_replicas(potential, [crystal, free], _settings())
    with pytest.raises(ValueError, match="2 structures and 3 settings"):
        run_replicas(potential, [crystal] * 2, [_settings()] * 3)
    with pytest.raises(ValueError, match="replicas=4 in the settings of 2 replicas"):
        run_replicas(potential, [crystal] * 2, _settings(replicas=4))
    pair = _potential(Springs(cutoff=6.0))
    with pytest.raises(ValueError, match="three periodic directions"):
        run_replicas(pair, [molecule("H2O")] * 2, _settings(ensemble="npt-scr"))
