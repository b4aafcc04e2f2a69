"""Dynamics with splines for filters: when, and that they change nothing but rounding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from helpers import small
from interruptions import assert_same_end, stop_after
from numpy.testing import assert_allclose

from mlffjax.config.md import MDSettings
from mlffjax.md import replicas
from mlffjax.md.engine import run_md
from mlffjax.md.filters import FEW_ATOMS, for_dynamics
from mlffjax.potential import Potential

ELEMENTS = [1, 6, 8]
SETTINGS = MDSettings(steps=60, chunk_steps=20, seed=3, thermo_interval=1)


def _potential(name: str = "so3krates", dtype=jnp.float32) -> Potential:
    return Potential.init(small(name), ELEMENTS, jax.random.key(0), dtype=dtype, scale=0.1)


def _two():
    """Two molecules of ethanol: 18 atoms."""
    atoms = molecule("CH3CH2OH")
    other = atoms.copy()
    other.translate([0, 0, 4])
    return atoms + other


@pytest.mark.parametrize("name", ["so3krates", "schnet"])
def test_splines_where_they_are_faster(name):
    chosen = partial(for_dynamics, settings=SETTINGS)
    potential = _potential(name)
    assert chosen(potential, num_atoms=FEW_ATOMS + 1).is_compressed
    assert chosen(potential, num_atoms=FEW_ATOMS) is potential
    double = _potential(name, jnp.float64)
    assert chosen(double, num_atoms=100) is double
    given = potential.compressed(1e-2)
    assert chosen(given, num_atoms=100) is given
    exact = SETTINGS.model_copy(update={"compress": False})
    assert for_dynamics(potential, exact, 100) is potential


def test_networks_where_there_is_nothing_to_compress():
    potential = _potential("painn")
    assert for_dynamics(potential, SETTINGS, 100) is potential
    broken = _potential()
    params = jax.tree.map(lambda x: x * jnp.nan, broken.params)
    broken = broken.replace(params=params)
    assert for_dynamics(broken, SETTINGS, 100) is broken


def test_a_run_with_splines_is_the_run_with_networks():
    exact = SETTINGS.model_copy(update={"compress": False})
    run = partial(run_md, _potential(), _two())
    near, far = run(SETTINGS), run(exact)
    scale = np.abs(far.final.forces).max()
    assert not np.array_equal(near.final.forces, far.final.forces)
    assert_allclose(near.final.forces, far.final.forces, atol=2e-5 * scale)
    assert_allclose(near.thermo.potential, far.thermo.potential, rtol=1e-5)
    assert_allclose(near.final.positions, far.final.positions, atol=1e-5)


def test_such_a_run_in_parts_is_the_whole_run(tmp_path):
    run = partial(run_md, _potential(), _two(), SETTINGS)
    whole = run(folder=tmp_path / "whole")
    run(folder=tmp_path / "parts", stop=stop_after(1))
    assert_same_end(run(folder=tmp_path / "parts", resume=True), whole)
    with pytest.raises(ValueError, match="got compress = False to go on with a run of compress"):
        run_md(
            _potential(),
            _two(),
            SETTINGS.model_copy(update={"compress": False, "steps": 80}),
            folder=tmp_path / "parts",
            resume=True,
        )


def test_atoms_of_all_replicas_count(monkeypatch):
    asked = []

    def note(*arguments):
        asked.append(arguments[2])
        raise InterruptedError

    monkeypatch.setattr(replicas, "for_dynamics", note)
    with pytest.raises(InterruptedError):
        replicas.run_replicas(_potential(), [molecule("CH3CH2OH")] * 2, SETTINGS)
    assert asked == [18]
