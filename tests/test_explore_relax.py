"""Batched relaxation against ASE one by one, its constraints, cells and failures."""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import Repulsive
from ase.constraints import FixAtoms, FixBondLengths
from ase.filters import UnitCellFilter
from ase.optimize import FIRE, LBFGS

from mlffjax.calculator import MLFFCalculator
from mlffjax.config.explore import RelaxSettings
from mlffjax.data.frames import Frame
from mlffjax.explore.relax import relax
from mlffjax.explore.relax_constraints import Fixed
from mlffjax.pair_potentials import lennard_jones, morse
from mlffjax.potential import Potential
from mlffjax.units import GPA

LJ = lennard_jones(depth=1.0, diameter=1.0, cutoff=20.0, dtype=jnp.float64)
COPPER = morse(cutoff=4.2, dtype=jnp.float64)


def cluster(num_atoms: int, seed: int, spacing: float = 1.12, rattle: float = 0.05) -> ase.Atoms:
    """A rattled piece of the fcc lattice around an atom."""
    steps = np.stack(np.meshgrid(*3 * [np.arange(-2, 3)], indexing="ij"), -1).reshape(-1, 3)
    sites = steps[steps.sum(1) % 2 == 0] * spacing / 2**0.5
    sites = sites[np.argsort((sites**2).sum(1), kind="stable")][:num_atoms]
    noise = np.random.default_rng(seed).normal(0, rattle, sites.shape)
    return ase.Atoms(["Ar"] * num_atoms, sites + noise)


def crystal(seed: int) -> ase.Atoms:
    """Two atoms of copper in a strained triclinic cell thinner than twice the cutoff."""
    rng = np.random.default_rng(seed)
    cell = 3.6 * np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [1.0, 1.0, 0.0]])
    positions = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]]) * 3.6
    cell = cell @ (np.eye(3) + rng.normal(0, 0.03, (3, 3)))
    return ase.Atoms("Cu2", positions + rng.normal(0, 0.05, (2, 3)), cell=cell, pbc=True)


def energy_of(potential: Potential, frame: Frame) -> float:
    atoms = ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.calc = MLFFCalculator(potential, skin=0)
    return atoms.get_potential_energy()


@pytest.mark.parametrize(("method", "optimizer"), [("lbfgs", LBFGS), ("fire", FIRE)])
def test_equals_ase_one_by_one(method, optimizer) -> None:
    structures = [cluster(n, seed) for seed, n in enumerate((5, 6, 8, 7, 6, 8))]
    # Fewer slots than structures: they are refilled.
    settings = RelaxSettings(method=method, fmax=1e-4, batch_size=3)
    results = relax(LJ, structures, settings)
    calls = []
    for atoms, result in zip(structures, results, strict=True):
        assert result.converged
        assert result.fmax < 1e-4
        copy = atoms.copy()
        copy.calc = MLFFCalculator(LJ)
        with optimizer(copy, logfile=None) as run:
            run.run(1e-4, 1000)
        assert result.energy == pytest.approx(copy.get_potential_energy(), abs=1e-5)
        assert result.energy == pytest.approx(energy_of(LJ, result.frame), abs=1e-9)
        calls.append((result.force_calls, run.nsteps + 1))
    own, reference = np.sum(calls, axis=0)
    assert own < 1.3 * reference


def test_neighbours_in_the_batch_do_not_matter() -> None:
    structures = [cluster(8, seed, rattle=0.02) for seed in range(3)]
    settings = RelaxSettings(fmax=1e-4, batch_size=3)
    together = relax(LJ, structures, settings)
    # A batch of the same shape, of which the others are other structures.
    alone = relax(LJ, [cluster(7, 5), structures[1], cluster(8, 9)], settings)[1]
    assert alone.force_calls == together[1].force_calls
    np.testing.assert_allclose(
        alone.frame.positions, together[1].frame.positions, rtol=0, atol=1e-12
    )


def test_cell_under_pressure_equals_ase() -> None:
    pressure = 5.0
    structures = [crystal(seed) for seed in range(2)]
    settings = RelaxSettings(fmax=1e-4, cell=True, pressure_gpa=pressure)
    for atoms, result in zip(structures, relax(COPPER, structures, settings), strict=True):
        copy = atoms.copy()
        copy.calc = MLFFCalculator(COPPER, skin=0)
        with LBFGS(UnitCellFilter(copy, scalar_pressure=pressure * GPA), logfile=None) as run:
            run.run(1e-4, 500)
        assert result.converged
        volume = abs(np.linalg.det(result.frame.cell))
        assert volume == pytest.approx(copy.get_volume(), rel=1e-4)
        enthalpy = copy.get_potential_energy() + pressure * GPA * copy.get_volume()
        assert result.energy + pressure * GPA * volume == pytest.approx(enthalpy, abs=1e-5)
        assert result.frame.stress is not None
        np.testing.assert_allclose(
            result.frame.stress, -pressure * GPA * np.eye(3), rtol=0, atol=2e-5
        )
        assert result.energy == pytest.approx(energy_of(COPPER, result.frame), abs=1e-9)


def test_a_cell_that_shrinks_gets_more_copies() -> None:
    atoms = crystal(0)
    atoms.set_cell(1.5 * atoms.cell.array, scale_atoms=True)
    result = relax(COPPER, [atoms], RelaxSettings(fmax=1e-3, cell=True))[0]
    assert result.converged
    assert np.linalg.det(result.frame.cell) < 0.5 * np.linalg.det(atoms.cell.array)
    assert result.energy == pytest.approx(energy_of(COPPER, result.frame), abs=1e-9)


def test_fixed_atoms_and_bonds() -> None:
    atoms = cluster(8, 1)
    atoms.set_constraint([FixAtoms([0, 3]), FixBondLengths([[1, 2], [2, 4], [1, 4]])])
    other = cluster(7, 2)
    other.set_constraint(FixBondLengths([[0, 6]]))
    for structure, result in zip(
        (atoms, other),
        relax(LJ, [atoms, other], RelaxSettings(fmax=1e-5, steps=500)),
        strict=True,
    ):
        assert result.converged
        fixed = Fixed.of(structure)
        for k in fixed.atoms:
            assert (result.frame.positions[k] == structure.positions[k]).all()
        for a, b in fixed.bonds:
            length = np.linalg.norm(result.frame.positions[a] - result.frame.positions[b])
            assert length == pytest.approx(structure.get_distance(a, b), abs=1e-9)
        # A true constrained minimum: no small move along the constraints goes down.
        free = structure.copy()
        free.positions = result.frame.positions
        free.calc = MLFFCalculator(LJ)
        rng = np.random.default_rng(0)
        for _ in range(4):
            free.set_positions(result.frame.positions + rng.normal(0, 1e-3, (len(free), 3)))
            assert free.get_potential_energy() > result.energy - 1e-7


def test_far_from_the_origin_single_precision_is_as_good() -> None:
    potential = lennard_jones(depth=1.0, diameter=1.0, cutoff=20.0, dtype=jnp.float32)
    far, near = cluster(5, 0), cluster(5, 0)
    far.positions += [1000.0, -500.0, 2000.0]
    settings = RelaxSettings(fmax=1e-4, fixed_atoms=(1,))
    results = relax(potential, [far, near], settings)
    assert all(result.converged for result in results)
    assert results[0].energy == pytest.approx(results[1].energy, abs=1e-5)
    apart = results[0].frame.positions - results[1].frame.positions
    np.testing.assert_allclose(apart, np.tile([1000.0, -500.0, 2000.0], (5, 1)), atol=5e-3)
    for atoms, result in zip((far, near), results, strict=True):
        assert (result.frame.positions[1] == atoms.positions[1]).all()


def test_a_relaxed_cell_takes_the_structure_along() -> None:
    near, far = crystal(0), crystal(0)
    far.positions += [100.0, -50.0, 70.0]
    one, other = relax(COPPER, [near, far], RelaxSettings(fmax=1e-4, cell=True))
    np.testing.assert_allclose(one.frame.cell, other.frame.cell, atol=1e-6)
    shift = np.array([100.0, -50.0, 70.0]) @ np.linalg.inv(near.cell.array)
    apart = (other.frame.positions - one.frame.positions) @ np.linalg.inv(one.frame.cell)
    np.testing.assert_allclose(apart, np.tile(shift, (2, 1)), atol=1e-6)


def test_a_fixed_bond_across_a_periodic_border() -> None:
    atoms = crystal(2)
    # The pair that is bonded across the border, and not wrapped into one cell.
    atoms.positions[1] += 3 * atoms.cell[0] - 2 * atoms.cell[1]
    length = atoms.get_distance(0, 1, mic=True)
    assert length < 0.5 * atoms.get_distance(0, 1)
    settings = RelaxSettings(fmax=1e-5, fixed_bonds=((0, 1),))
    fixed, free = (
        relax(COPPER, [atoms], s)[0]
        for s in (settings, settings.model_copy(update={"fixed_bonds": ()}))
    )
    assert fixed.converged
    for result, same in ((fixed, True), (free, False)):
        moved = ase.Atoms("Cu2", result.frame.positions, cell=atoms.cell, pbc=True)
        assert (moved.get_distance(0, 1, mic=True) == pytest.approx(length, abs=1e-9)) == same


def test_edges_that_come_in_are_not_lost() -> None:
    potential = lennard_jones(depth=1.0, diameter=1.0, cutoff=2.0, dtype=jnp.float64)
    atoms = cluster(13, 0, spacing=1.75, rattle=0.02)
    result = relax(potential, [atoms], RelaxSettings(fmax=1e-3))[0]
    assert result.converged
    assert result.energy < -30
    assert result.energy == pytest.approx(energy_of(potential, result.frame), abs=1e-9)


def test_a_failure_stays_with_its_structure() -> None:
    module = Repulsive(limit=2.0, cutoff=5.0)
    potential = Potential.init(module, [18], jax.random.key(0), dtype=jnp.float64)
    pair = ase.Atoms("Ar2", [[0, 0, 0], [1.0, 0, 0]])
    held = pair.copy()
    held.set_constraint(FixAtoms([0, 1]))
    broken, still = relax(potential, [pair, held], RelaxSettings(fmax=1e-3, steps=100))
    assert broken.status == "failed"
    apart = np.linalg.norm(broken.frame.positions[0] - broken.frame.positions[1])
    assert 1.0 < apart <= 2.0
    assert still.converged
    few = relax(potential, [pair, held], RelaxSettings(fmax=1e-3, steps=2))
    assert [r.status for r in few] == ["unfinished", "converged"]
    assert few[0].force_calls == 2


@pytest.mark.parametrize(
    ("atoms", "settings", "fixed", "message"),
    [
        (cluster(5, 0), {"cell": True}, None, "three periodic"),
        (cluster(5, 0), {"fixed_atoms": (5,)}, None, "fixed atoms"),
        (ase.Atoms("Ne2", [[0, 0, 0], [1, 0, 0]]), {}, None, "atomic numbers"),
        (cluster(5, 0), {}, [], "constraints for 0 of 1"),
    ],
)
def test_bad_input_is_refused(atoms, settings, fixed, message) -> None:
    with pytest.raises(ValueError, match=message):
        relax(LJ, [atoms], RelaxSettings(**settings), fixed=fixed)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="set cell=true"):
        RelaxSettings.parse({"pressure_gpa": 1.0})
    with pytest.raises(ValueError, match="drop one"):
        RelaxSettings.parse({"cell": True, "fixed_bonds": [[0, 1]]})
