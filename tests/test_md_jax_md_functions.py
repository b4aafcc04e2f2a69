"""A simulation driven by JAX-MD itself."""

import jax
import jax.numpy as jnp
import numpy as np
from analytic_models import LennardJones
from ase.build import bulk
from jax_md import simulate
from numpy.testing import assert_allclose

from mlffjax.md import jax_md_functions
from mlffjax.md.jax_md_functions import as_jax_md
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.potential import Potential


def test_a_simulation_by_jax_md_conserves_energy():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    potential = Potential.init(LennardJones(cutoff=6.0), [18], jax.random.key(0))
    fns = as_jax_md(potential, atoms.numbers, atoms.cell[:], atoms.pbc)
    positions = jnp.asarray(atoms.positions, jnp.float32)
    neighbor = fns.allocate(positions)
    init, step = simulate.nve(fns.force_fn, fns.shift_fn, dt=2.0 / TIME_UNIT_FS)
    mass = jnp.asarray(atoms.get_masses(), jnp.float32)
    state = init(jax.random.key(1), positions, kT=0.01, mass=mass, neighbor=neighbor)

    def total(state, neighbor):
        kinetic = simulate.kinetic_energy(state)
        return fns.energy_fn(state.position, neighbor=neighbor) + kinetic, kinetic

    @jax.jit
    def many(state, neighbor):
        def body(_, carry):
            state, neighbor = carry
            neighbor = neighbor.update(state.position)
            return step(state, neighbor=neighbor), neighbor

        return jax.lax.fori_loop(0, 200, body, (state, neighbor))

    before, kinetic_before = total(state, neighbor)
    after = many(state, neighbor)
    assert not bool(after[1].did_buffer_overflow)
    assert int(after[1].neighbors.rebuilds) > 1
    energy, kinetic = total(*after)
    assert abs(float(kinetic - kinetic_before)) > 1e-3
    assert_allclose(float(energy), float(before), atol=5e-5)
    force = fns.force_fn(after[0].position, neighbor=after[1])
    gradient = jax.grad(fns.energy_fn)(after[0].position, neighbor=after[1])
    assert_allclose(np.asarray(force), -np.asarray(gradient), atol=1e-5)


def test_atoms_wrapped_after_the_list_was_made_have_the_same_forces():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    potential = Potential.init(LennardJones(cutoff=6.0), [18], jax.random.key(0), dtype=jnp.float64)
    fns = as_jax_md(potential, atoms.numbers, atoms.cell[:], atoms.pbc)
    positions = jnp.asarray(atoms.positions)
    neighbor = fns.allocate(positions)
    moved = positions + 0.02
    wrapped = moved + jnp.asarray([[1, 0, 0], [0, -1, 1], [0, 0, 0], [-2, 0, 0]]) @ atoms.cell[:]
    want = fns.force_fn(moved, neighbor=neighbor)
    assert_allclose(fns.force_fn(wrapped, neighbor=neighbor), want, atol=1e-12)


def test_a_list_updated_step_by_step_is_compiled_once():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    potential = Potential.init(LennardJones(cutoff=6.0), [18], jax.random.key(0))
    fns = as_jax_md(potential, atoms.numbers, atoms.cell, atoms.pbc)  # a cell of ASE
    positions = jnp.asarray(atoms.positions, jnp.float32)
    neighbor = fns.allocate(positions).update(positions)
    before = jax_md_functions._update._cache_size()
    moved = positions.at[0].add(1.0)
    neighbor = neighbor.update(moved)
    assert jax_md_functions._update._cache_size() == before
    assert int(neighbor.neighbors.rebuilds) == 2
    force = fns.force_fn(moved, neighbor=neighbor)
    assert_allclose(force, fns.force_fn(moved, neighbor=fns.allocate(moved)), atol=1e-6)


def test_a_temperature_ramp_by_jax_md():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    potential = Potential.init(LennardJones(cutoff=6.0), [18], jax.random.key(0), dtype=jnp.float64)
    fns = as_jax_md(potential, atoms.numbers, atoms.cell[:], atoms.pbc)
    positions = jnp.asarray(atoms.positions)
    neighbor = fns.allocate(positions)
    init, step = simulate.nvt_nose_hoover(fns.force_fn, fns.shift_fn, dt=0.1, kT=0.01)
    state = init(jax.random.key(1), positions, mass=40.0, neighbor=neighbor)
    program = jax.jit(step)
    hot, cold = (program(state, neighbor=neighbor, kT=kT).momentum for kT in (0.02, 0.01))
    assert np.linalg.norm(hot) > np.linalg.norm(cold) > 0
