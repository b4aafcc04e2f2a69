"""Replicas from the command's point of view: files and summary, interrupted and resumed."""

import json
import os
import signal

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import HarmonicPairs, LennardJones
from ase.build import bulk

from mlffjax import replica_simulation
from mlffjax.analysis.sources import open_replicas
from mlffjax.cli import main, potential
from mlffjax.config.files import read_yaml
from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.engine import run_md
from mlffjax.md.replicas import run_replicas
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


def test_a_run_in_place_of_another_leaves_nothing_of_it_to_be_analysed(tmp_path):
    positions = np.array([[0.0, 0, 0], [1.1, 0, 0]])
    frame = Frame(np.array([6, 6]), positions, np.zeros((3, 3)), np.zeros(3, bool))
    potential = Potential.init(HarmonicPairs(cutoff=9.0), [6], jax.random.key(0), dtype=jnp.float32)
    settings = MDSettings(steps=10, frame_interval=10, timestep_fs=0.2, replicas=3)
    run_replicas(potential, frame, settings, folder=tmp_path)
    (tmp_path / "replica_000" / "notes").write_text("mine")
    single = settings.model_copy(update={"replicas": 1})
    with pytest.raises(FileExistsError, match="replica_000"):
        run_md(potential, frame, single, folder=tmp_path)
    run_md(potential, frame, single, folder=tmp_path, overwrite=True)
    assert [t.path for t in open_replicas(tmp_path)] == [tmp_path / "trajectory.extxyz"]
    assert [p.name for p in tmp_path.glob("replica_*/*")] == ["notes"]
    fewer = settings.model_copy(update={"replicas": 2, "trajectory_format": "h5md"})
    run_replicas(potential, frame, fewer, folder=tmp_path, overwrite=True)
    found = [t.path for t in open_replicas(tmp_path)]
    assert found == [tmp_path / f"replica_00{k}" / "trajectory.h5" for k in range(2)]


def test_interrupted_replicas_are_saved_and_go_on(tmp_path, monkeypatch, capsys):
    made = Potential.init(LennardJones(cutoff=5.0), [18], jax.random.key(0), dtype=jnp.float32)
    monkeypatch.setattr(potential, "load_potential", {"model": made}.__getitem__)
    atoms = bulk("Ar", "fcc", a=5.3).repeat((2, 2, 1))
    atoms.rattle(0.05, seed=1)
    ase.io.write(tmp_path / "start.xyz", atoms)
    arguments = ["md", "model", str(tmp_path / "start.xyz"), "--out"]
    settings = ["ensemble=npt-scr", "pressure_gpa=0.2", "replicas=2", "timestep_fs=4"]
    settings += ["temperature=60", "chunk_steps=20", "thermo_interval=5", "frame_interval=10"]
    out, whole = tmp_path / "run", tmp_path / "whole"
    show = replica_simulation._Bar.show

    def shown(bar, done):
        show(bar, done)
        if done == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(replica_simulation._Bar, "show", shown)
        with pytest.raises(SystemExit) as ended:
            main([*arguments, str(out), *settings, "steps=60"])
    assert ended.value.code == 128 + signal.SIGINT
    said = capsys.readouterr()
    assert "interrupted after 40 steps" in said.out
    assert "--resume" in said.err
    assert main([*arguments, str(out), "--resume", "steps=80"]) == 0
    assert "80 steps, 320 fs" in json.loads((out / "summary.json").read_text())["replica 1"]
    assert read_yaml(out / "settings.yaml")["steps"] == 80
    assert main([*arguments, str(whole), *settings, "steps=80"]) == 0
    assert "GPa" in capsys.readouterr().out
    for name in ("replica_000/thermo.csv", "replica_001/trajectory.extxyz"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert main([*arguments, str(out), "--resume", "replicas=3"]) == 2
    assert "got 3 replicas to go on with 2 replicas" in capsys.readouterr().err
