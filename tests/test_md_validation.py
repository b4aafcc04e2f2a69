"""Short dynamics as a measure of a potential."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import HarmonicPairs
from ase import Atoms

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md import replica_chunk
from mlffjax.md.validation import ReplicaCheck, starting_frames
from mlffjax.potential import Potential

SETTINGS = MDSettings(ensemble="nve", steps=60, temperature=100.0, bond_check=True)


def dimer(length: float, count: int = 2) -> Frame:
    positions = np.zeros((count, 3))
    positions[:, 0] = length * np.arange(count)
    return Frame(np.full(count, 6), positions, np.zeros((3, 3)), np.zeros(3, bool))


def harmonic(factor: float) -> Potential:
    """Carbon pairs at 1.4 Angstrom with ``factor`` times the stiffness."""
    module = HarmonicPairs(cutoff=6.0, length=1.4)
    potential = Potential.init(module, [6], jax.random.key(0), dtype=jnp.float64)
    return replace(potential, params=jax.tree.map(lambda x: factor * x, potential.params))


def test_stable_and_unstable_potentials_in_one_program():
    check = ReplicaCheck((dimer(1.4), dimer(1.35), dimer(1.45)), SETTINGS)
    good = check(harmonic(1.0))
    assert good["md_stability"] == 1
    assert 0 <= good["md_drift"] < 1e-3
    assert 10 < good["md_temperature"] < 500
    compiled = replica_chunk.advance._cache_size()
    softer = check(harmonic(0.5))
    assert softer["md_drift"] != good["md_drift"]
    # With the sign turned round the atoms fly apart; at the equilibrium length later than beside.
    bad = check(harmonic(-1.0))
    assert 0 < bad["md_stability"] < 1
    assert "md_drift" not in bad
    assert replica_chunk.advance._cache_size() == compiled
    assert check(harmonic(1.0)) == good


def test_start_frames_are_taken_evenly():
    frames = [dimer(1.0 + 0.1 * k) for k in range(7)]
    periodic = Atoms("C2", cell=np.eye(3) * 9, pbc=True)
    other = Frame(periodic.numbers, frames[0].positions, periodic.cell.array, periodic.pbc)
    mixed = [*frames[:3], other, dimer(1.0, count=1), *frames[3:]]
    chosen = starting_frames(mixed, 3)
    assert [f.positions[1, 0] for f in chosen] == pytest.approx([1.0, 1.3, 1.6])
    assert len(starting_frames(mixed, 99)) == 7
    assert len(starting_frames([dimer(1.0, count=1)], 3)) == 1
