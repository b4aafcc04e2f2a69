"""Runs that were interrupted, killed or out of disk go on as if nothing had happened."""

import resource
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from interruptions import (
    argon,
    argon_potential,
    assert_same_end,
    killed_after,
    short_run,
    stop_after,
)

from mlffjax.md import restart
from mlffjax.md.engine import run_md
from mlffjax.md.replicas import run_replicas
from mlffjax.md.trajectory_readers import H5MDTrajectory


@pytest.mark.parametrize(
    ("dtype", "special"),
    [
        (jnp.float32, {"ensemble": "langevin"}),
        (jnp.float64, {"ensemble": "npt-nose-hoover", "pressure_gpa": 0.1}),
        (jnp.float64, {"ensemble": "npt-scr", "cell_motion": "flexible", "pressure_end_gpa": 0.2}),
    ],
    ids=["langevin", "npt-nose-hoover", "npt-scr"],
)
def test_a_run_in_parts_is_the_whole_run(tmp_path, dtype, special):
    settings = short_run(**special)
    run = partial(run_md, argon_potential(dtype), argon(), settings)
    whole = run(folder=tmp_path / "whole")
    part = run(folder=tmp_path / "parts", stop=stop_after(2))
    assert part.status == "interrupted"
    assert part.steps == 40
    part = run(folder=tmp_path / "parts", stop=stop_after(1), resume=True)
    assert part.steps == 60
    last = run(folder=tmp_path / "parts", resume=True)
    assert last.status == whole.status == "finished"
    assert whole.rebuilds > 2
    assert_same_end(last, whole)
    assert last.thermo.step.tolist() == whole.thermo.step.tolist()
    for name in ("thermo.csv", "trajectory.extxyz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_setting_younger_than_the_restart_has_its_default(tmp_path, monkeypatch):
    run = partial(run_md, argon_potential(), argon(), folder=tmp_path)
    kept = restart._kept
    with monkeypatch.context() as earlier:
        without = lambda s: {k: v for k, v in kept(s).items() if k != "exact_temperature"}  # noqa: E731
        earlier.setattr(restart, "_kept", without)
        run(short_run(), stop=stop_after(1))
    with pytest.raises(ValueError, match="got exact_temperature = True to go on with a run of"):
        run(short_run(exact_temperature=True), resume=True)
    assert run(short_run(), resume=True).status == "finished"


def test_what_goes_far_is_moved_back_and_written_where_it_is(tmp_path, monkeypatch):
    settings = short_run(ensemble="nve", explosion_temperature=1e9)
    speeds = np.random.default_rng(0).normal(0, 1e-3, (8, 3)) + 0.4
    run = partial(run_md, argon_potential(), argon(), settings, initial_velocities=speeds)
    parts = partial(run, folder=tmp_path / "parts")
    whole = run(folder=tmp_path / "whole")
    assert parts(stop=stop_after(4)).steps == 80
    last = parts(resume=True)
    assert_same_end(last, whole)
    for name in ("thermo.csv", "trajectory.extxyz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    (origin,) = restart.read_meta(tmp_path / "whole" / restart.RESTART_FILE)["origins"]
    assert min(origin) > 100
    many = partial(
        run_replicas,
        argon_potential(),
        [argon()] * 2,
        settings,
        initial_velocities=[-speeds, speeds],
        folder=tmp_path / "many",
    )
    many(stop=stop_after(4))
    together = many(resume=True)[1]
    # Beside a run that stays where it went.
    monkeypatch.setattr("mlffjax.md.origin.FAR", np.inf)
    stayed = run()
    for result in (last, together):
        for name in ("positions", "forces"):
            ours, theirs = getattr(result.final, name), getattr(stayed.final, name)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


CHILD = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, {tests!r})
from test_md_restart import argon, argon_potential, short_run, run_md
settings = short_run(trajectory_format="h5md", steps=100_000, restart_seconds=0.01,
                     restart_interval=None)
run_md(argon_potential(), argon(), settings, folder={folder!r})
"""


def test_a_killed_process_goes_on(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(killed))
    reached = killed_after(code, killed, 500)
    settings = short_run(trajectory_format="h5md", steps=reached + 150)
    short = settings.model_copy(update={"steps": reached})
    with pytest.raises(ValueError, match="expected more steps"):
        run_md(argon_potential(), argon(), short, folder=killed, resume=True)
    last = run_md(argon_potential(), argon(), settings, folder=killed, resume=True)
    expected = run_md(argon_potential(), argon(), settings, folder=whole)
    assert_same_end(last, expected)
    assert (killed / "thermo.csv").read_bytes() == (whole / "thermo.csv").read_bytes()
    with (
        H5MDTrajectory(killed / "trajectory.h5") as one,
        H5MDTrajectory(whole / "trajectory.h5") as other,
    ):
        assert len(one) == len(other) == settings.steps // 7 + 1
        for k in range(len(one)):
            np.testing.assert_array_equal(one[k].positions, other[k].positions)


def test_a_full_disk_keeps_the_restart(tmp_path):
    settings = short_run(steps=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, rows):
        del rows
        if step == 60:
            size = (tmp_path / "run" / "trajectory.extxyz").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2000, hard))

    run = partial(run_md, argon_potential(), argon(), settings)
    try:
        with pytest.raises(OSError, match=r"File too large: .*run/") as caught:
            run(folder=tmp_path / "run", progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(caught.value.filename).parent == tmp_path / "run"
    assert not list((tmp_path / "run").glob(".*partial"))
    assert 20 <= restart.read_meta(tmp_path / "run" / restart.RESTART_FILE)["step"] < 200
    assert_same_end(run(folder=tmp_path / "run", resume=True), run(folder=tmp_path / "whole"))


def test_another_run_is_not_continued(tmp_path):
    settings = short_run()
    with pytest.raises(ValueError, match="nothing to go on with"):
        run_md(argon_potential(), argon(), settings, folder=tmp_path, resume=True)
    run_md(argon_potential(), argon(), settings, folder=tmp_path, stop=stop_after(1))
    go_on = partial(run_md, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="another potential"):
        go_on(argon_potential(depth=0.02), argon(), settings)
    with pytest.raises(ValueError, match="another potential"):
        go_on(argon_potential().replace(baseline=(-1.0,)), argon(), settings)
    moved = argon()
    moved.positions[0] += 0.1
    with pytest.raises(ValueError, match="another structure"):
        go_on(argon_potential(), moved, settings)
    with pytest.raises(ValueError, match=r"timestep_fs = 2.0 .* 4.0"):
        go_on(argon_potential(), argon(), short_run(timestep_fs=2.0))
    with pytest.raises(ValueError, match="without a folder"):
        run_md(argon_potential(), argon(), settings, resume=True)
    longer = go_on(argon_potential(), argon(), short_run(steps=130))
    assert longer.steps == 130


@pytest.mark.parametrize("harm", ["empty", "cut", "changed"])
def test_a_damaged_restart_is_named(tmp_path, harm):
    path = tmp_path / restart.RESTART_FILE
    np.savez(path, meta=np.asarray('{"version": 2}'))
    data = path.read_bytes()
    letter = data.index("v".encode("utf-32-le"))
    changed = data[:letter] + b"w" + data[letter + 1 :]
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "changed": changed}[harm])
    with pytest.raises(ValueError, match=r"got the damaged file .*restart\.npz"):
        restart.read_meta(path)
