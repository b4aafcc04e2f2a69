"""Dynamics with cell lists against lists of the host and of all pairs."""

import dataclasses
from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from numpy.testing import assert_allclose

from mlffjax.config.md import MDSettings
from mlffjax.md import device_neighbors as dn
from mlffjax.md import engine
from mlffjax.md.cell_lists import CellLists
from mlffjax.md.engine import run_md
from mlffjax.neighbors import atom_graph
from mlffjax.pair_potentials import lennard_jones

CUTOFF = 6.0


def _argon(repeats: int):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.05, seed=1)
    return atoms


def _settings(**kwargs) -> MDSettings:
    return MDSettings(
        **{
            "ensemble": "nve",
            "steps": 60,
            "timestep_fs": 4.0,
            "temperature": 120.0,
            "skin": 0.4,
            "thermo_interval": 5,
            "chunk_steps": 30,
            **kwargs,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [6, 11])
def test_energies_equal_those_of_the_host_and_are_conserved(repeats, monkeypatch):
    monkeypatch.setattr(dn, "CELL_SLOT_COST", 0.1)
    atoms, potential = _argon(repeats), lennard_jones(cutoff=CUTOFF, dtype=jnp.float64)
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, CUTOFF, 0.4)
    assert plan.cells is not None
    result = run_md(potential, atoms, _settings())
    assert result.rebuilds > 2
    final = result.final
    place = final.numbers, final.positions, final.cell, final.pbc
    expected = potential.energy_forces(atom_graph(*place, CUTOFF, np.float64))
    assert result.thermo.potential[-1] == pytest.approx(float(expected.energy[0]), abs=1e-8)
    assert_allclose(final.forces, expected.forces, rtol=0, atol=1e-10)
    assert np.ptp(result.thermo.potential) > 1.0
    assert np.ptp(result.thermo.conserved) < 2e-3 * np.ptp(result.thermo.potential)


def test_cells_with_too_little_room_get_more_and_change_nothing(monkeypatch):
    atoms, potential = _argon(6), lennard_jones(cutoff=CUTOFF, dtype=jnp.float64)
    settings = _settings(steps=20, chunk_steps=20)
    plan_neighbors = engine.plan_neighbors
    full = run_md(potential, atoms, settings)
    planned = []

    def tight(*arguments, half):
        cells = dn.cell_lists(*arguments[:2], (True,) * 3, CUTOFF + 0.4)
        planned.append(dataclasses.replace(plan_neighbors(*arguments, half=half), cells=cells))
        return dataclasses.replace(planned[0], cells=cells.with_capacity(4))

    monkeypatch.setattr(engine, "plan_neighbors", tight)
    redone = run_md(potential, atoms, settings)
    assert planned[0].cells.capacity > 10
    assert_allclose(redone.thermo.potential, full.thermo.potential, rtol=0, atol=1e-8)
    assert_allclose(redone.final.positions, full.final.positions, rtol=0, atol=1e-9)


def test_a_cell_that_changes_remakes_the_list_in_time():
    atoms = _argon(3)
    plan = dn.plan_neighbors(atoms.positions, atoms.cell[:], atoms.pbc, CUTOFF, 0.5)
    plan = dataclasses.replace(plan, candidates=8192, edges=8192)
    box, positions = jnp.asarray(atoms.cell[:]), jnp.asarray(atoms.positions)
    neighbors = dn.allocate(plan, positions, box)
    # A pair left out at 6.5 comes to the cutoff of 6 when all shrinks by 8 %.
    for scale, rebuilds in ((0.97, 1), (0.9, 2)):
        now = dn.update(plan, neighbors, scale * positions, scale * box)
        assert int(now.rebuilds) == rebuilds
        graph, now = dn.current_graph(
            plan, now, jnp.asarray(atoms.numbers), scale * positions, scale * box
        )
        expected = dn.neighbor_list(scale * atoms.positions, scale * atoms.cell[:], [True] * 3, 6.0)
        assert not bool(now.overflow(plan))
        assert int(graph.edge_mask.sum()) == len(expected.senders)
    moved = dn.update(plan, neighbors, positions.at[0, 0].add(0.24), box)
    assert int(moved.rebuilds) == 1


def test_more_slots_than_can_be_counted_are_refused():
    lists = CellLists((True,) * 3, (1, 1, 1), (1.0,) * 3, (100, 100, 100), 64, CUTOFF)
    box = jnp.eye(3)
    for atoms, refused in ((1_200_000, False), (1_300_000, True)):
        positions = jax.ShapeDtypeStruct((atoms, 3), jnp.float32)
        with pytest.raises(ValueError, match="2\\^31 slots") if refused else nullcontext():
            jax.eval_shape(partial(lists.pairs, size=32), positions, box)
