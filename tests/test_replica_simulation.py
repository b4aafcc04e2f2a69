"""Replicas from the command's point of view: files and summary."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import HarmonicPairs

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.trajectory import read_thermo
from mlffjax.potential import Potential
from mlffjax.replica_simulation import simulate_replicas


def test_replicas_leave_their_files_and_a_summary(tmp_path):
    positions = np.array([[0.0, 0, 0], [1.1, 0, 0]])
    frame = Frame(np.array([6, 6]), positions, np.zeros((3, 3)), np.zeros(3, bool))
    potential = Potential.init(HarmonicPairs(cutoff=9.0), [6], jax.random.key(0), dtype=jnp.float32)
    settings = MDSettings(steps=40, frame_interval=10, timestep_fs=0.2, replicas=3, seed=2)
    simulation = simulate_replicas(potential, frame, settings, tmp_path)
    assert dict(simulation.rows())["stability coefficient"] == "1.000"
    assert "replica 2" in json.loads((tmp_path / "summary.json").read_text())
    assert "replicas: 3" in (tmp_path / "settings.yaml").read_text()
    kinetic = [
        read_thermo(tmp_path / f"replica_{k:03d}" / "thermo.csv").kinetic[-1] for k in range(3)
    ]
    assert len(set(kinetic)) == 3
    with pytest.raises(FileExistsError):
        simulate_replicas(potential, frame, settings, tmp_path)
