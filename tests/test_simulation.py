"""A run with all its files: interrupted, resumed, exploded; in Python and from the command line."""

import json
import os
import signal

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import LennardJones
from ase.build import bulk

from mlffjax import simulation
from mlffjax.cli import main, potential
from mlffjax.config.files import read_yaml
from mlffjax.interruption import interruptible
from mlffjax.potential import Potential

SETTINGS = ("ensemble=csvr", "steps=60", "timestep_fs=4", "temperature=60", "chunk_steps=20")


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A structure on disk and, in place of a saved potential, Lennard-Jones."""
    module = LennardJones(cutoff=5.0)
    made = Potential.init(module, [18], jax.random.key(0), dtype=jnp.float32)
    monkeypatch.setattr(potential, "load_potential", {"model": made}.__getitem__)
    atoms = bulk("Ar", "fcc", a=5.3).repeat((2, 2, 2))
    atoms.rattle(0.05, seed=1)
    ase.io.write(tmp_path / "start.xyz", atoms)
    return str(tmp_path / "start.xyz")


def _interrupted_by(number, monkeypatch):
    """Send a signal to this process after the first stretch of steps."""
    show = simulation._Bar.show

    def shown(bar, done, thermo):
        show(bar, done, thermo)
        if done == 20:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(simulation._Bar, "show", shown)
    return show


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_goes_on(start, tmp_path, monkeypatch, capsys, number):
    out = tmp_path / "run"
    before = signal.getsignal(number)
    show = _interrupted_by(number, monkeypatch)
    arguments = ["md", "model", start, "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *SETTINGS])
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before
    said = capsys.readouterr()
    assert "interrupted after 40 steps" in said.out
    assert "--resume" in said.err
    monkeypatch.setattr(simulation._Bar, "show", show)
    assert main([*arguments, "--resume", "steps=80"]) == 0
    shown = capsys.readouterr().out
    assert "80 steps, 320 fs" in shown
    assert "ns/day" in shown
    assert read_yaml(out / "settings.yaml")["steps"] == 80
    assert json.loads((out / "summary.json").read_text())["ended"] == "80 steps, 320 fs"
    assert main([*arguments, "--resume"]) == 2
    assert "expected more steps" in capsys.readouterr().err


def test_nothing_to_resume(start, tmp_path, capsys):
    assert main(["md", "model", start, "--out", str(tmp_path / "none"), "--resume"]) == 2
    assert "nothing to go on with" in capsys.readouterr().err


def test_constant_pressure_from_the_command_line(start, tmp_path, capsys):
    out = tmp_path / "npt"
    settings = ["ensemble=npt-scr", "pressure_gpa=0.2", "cell_motion=flexible", *SETTINGS[1:]]
    assert main(["md", "model", start, "--out", str(out), *settings, "frame_interval=20"]) == 0
    shown = capsys.readouterr().out
    assert "pressure" in shown
    assert "volume" in shown
    table = np.genfromtxt(out / "thermo.csv", delimiter=",", names=True)
    frames = ase.io.read(out / "trajectory.extxyz", ":")
    volumes = [frame.get_volume() for frame in frames]
    assert len(set(volumes)) == 4
    np.testing.assert_allclose(volumes, table["volume_A3"][::2], rtol=1e-6)


def test_a_second_signal_ends_the_process_as_before():
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        assert asked.exit_code == 130
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_whose_energy_came_from_nowhere_is_doubted(start, tmp_path, monkeypatch, capsys):
    arguments = ["md", "model", start, "ensemble=nve", "steps=40", "temperature=60"]
    assert main([*arguments, "timestep_fs=2", "--out", str(tmp_path / "good")]) == 0
    said = capsys.readouterr().out
    assert "largest change of it" in said
    assert "do not trust" not in said
    # Of a sound run, too, some energy comes and goes.
    monkeypatch.setattr(simulation, "DOUBTFUL_CHANGE", 1e-6)
    assert main([*arguments, "timestep_fs=2", "--out", str(tmp_path / "bad")]) == 0
    assert "times the kinetic energy: do not trust this run" in capsys.readouterr().out


def test_figures_are_of_this_run(start, tmp_path, monkeypatch):
    drawn, earlier = [], tmp_path / "ramp" / "energy_drift.png"
    earlier.parent.mkdir()
    earlier.touch()
    monkeypatch.setattr(simulation.plots, "temperature", lambda *values: drawn.append(values))
    arguments = ["md", "model", start, *SETTINGS, "temperature_end=120"]
    assert main([*arguments, "--out", str(tmp_path / "ramp")]) == 0
    ((_, time, _, target),) = drawn
    np.testing.assert_allclose(target, 60 + 60 * time / time[-1])
    assert len(time) == 7
    assert not earlier.exists()
