"""The ASE calculator."""

import ase
import ase.units
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import LennardJones
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from numpy.testing import assert_allclose

from mlffjax import calculator
from mlffjax.calculator import MLFFCalculator
from mlffjax.potential import Potential

E0 = -14_359.123456789


def _argon(dtype=jnp.float64, cutoff: float = 6.0) -> Potential:
    module = LennardJones(cutoff=cutoff)
    return Potential.init(module, [18, 36], jax.random.key(0), baseline=[E0, 2 * E0], dtype=dtype)


def _crystal(skin: float = 0.5, dtype=jnp.float64) -> ase.Atoms:
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = MLFFCalculator(_argon(dtype), skin)
    return atoms


def test_energies_forces_and_stress_agree_with_each_other():
    atoms = _crystal()
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-8)
    assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy(), rtol=1e-14)
    assert atoms.calc.results["free_energy"] == atoms.get_potential_energy()


def test_single_precision_keeps_the_digits_of_a_large_baseline():
    energy = {}
    for dtype in (jnp.float32, jnp.float64):
        atoms = _crystal(dtype=dtype)
        atoms.positions += 300.0
        energy[dtype] = atoms.get_potential_energy()
    assert abs(energy[jnp.float64]) > 5e4
    assert_allclose(energy[jnp.float32], energy[jnp.float64], rtol=0, atol=1e-6)


def test_a_skin_changes_no_result():
    with_skin, without = _crystal(skin=1.0), _crystal(skin=0.0)
    rng = np.random.default_rng(0)
    for _ in range(6):
        move = rng.normal(size=(len(with_skin), 3)) * 0.15
        for atoms in (with_skin, without):
            atoms.positions += move
        assert_allclose(with_skin.get_forces(), without.get_forces(), rtol=0, atol=1e-12)
    for atoms in (with_skin, without):
        atoms.set_cell(atoms.cell[:] * 0.98, scale_atoms=False)
    assert_allclose(with_skin.get_stress(), without.get_stress(), rtol=0, atol=1e-13)


def test_no_new_compilation_while_little_changes():
    atoms = _crystal()
    atoms.get_forces()
    before = calculator._energy_forces._cache_size()
    for scale in (0.99, 0.98, 1.01):
        atoms.set_cell(atoms.cell[:] * scale, scale_atoms=True)
        atoms.get_forces()
    del atoms[0]
    atoms.get_forces()
    assert calculator._energy_forces._cache_size() == before


def test_other_element_energies_and_provenance_need_no_new_compilation():
    atoms = _crystal()
    atoms.get_forces()
    energy, before = atoms.get_potential_energy(), calculator._energy_forces._cache_size()
    potential = atoms.calc.potential
    other = potential.replace(baseline=(-1.5,) * len(potential.elements), metadata='{"n": 1}')
    atoms.calc = MLFFCalculator(other, atoms.calc._list.skin)
    assert atoms.get_potential_energy() == pytest.approx(
        energy + sum(-1.5 - potential.baseline[potential.elements.index(z)] for z in atoms.numbers)
    )
    assert calculator._energy_forces._cache_size() == before


def test_molecules_and_stress():
    atoms = ase.Atoms("ArKr", [[0, 0, 0], [0, 0, 3.8]])
    atoms.calc = MLFFCalculator(_argon())
    assert atoms.get_forces().shape == (2, 3)
    with pytest.raises(PropertyNotImplementedError, match="without volume"):
        atoms.get_stress()
    lonely = ase.Atoms("Kr", calculator=MLFFCalculator(_argon()))
    assert lonely.get_potential_energy() == pytest.approx(2 * E0, rel=1e-15)
    assert not lonely.get_forces().any()


def test_an_unknown_element_is_named():
    atoms = molecule("H2O")
    atoms.calc = MLFFCalculator(_argon())
    with pytest.raises(ValueError, match=r"\[1, 8\].*not trained on"):
        atoms.get_potential_energy()


def test_two_atoms_at_one_place_are_named():
    atoms = _crystal()
    atoms.get_forces()
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(ValueError, match="duplicate atom"):
        atoms.get_forces()


def test_optimizers_and_cell_filters():
    atoms = _crystal()
    with BFGS(FrechetCellFilter(atoms), logfile=None) as optimizer:
        assert optimizer.run(fmax=1e-4, steps=100)
    assert abs(atoms.get_stress()).max() < 1e-5
    assert abs(atoms.get_forces()).max() < 1e-4


def test_molecular_dynamics_of_ase_conserves_energy():
    atoms = _crystal()
    with VelocityVerlet(atoms, timestep=2 * ase.units.fs) as dynamics:
        start = atoms.get_total_energy()
        dynamics.run(50)
    assert abs(atoms.get_kinetic_energy()) > 1e-4
    assert abs(atoms.get_total_energy() - start) < 2e-5


def test_settings_that_would_give_other_energies_are_refused():
    with pytest.raises(ValueError, match="got a skin of -1"):
        MLFFCalculator(_argon(), -1.0)
    with pytest.raises(AttributeError, match="potential"):
        MLFFCalculator(_argon()).potential = _argon(cutoff=7.0)


def test_calculate_by_itself_needs_no_cell():
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])
    alone = MLFFCalculator(_argon())
    alone.calculate(atoms)
    atoms.calc = MLFFCalculator(_argon())
    assert_allclose(alone.results["forces"], calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)


def test_an_atom_that_flew_away_feels_nothing():
    atoms = ase.Atoms("Ar3", [[0, 0, 0], [0, 0, 3.8], [1e6, 1e6, 0]])
    atoms.calc = MLFFCalculator(_argon())
    assert_allclose(atoms.get_forces()[2], 0, atol=1e-12)
