"""Replicas that were interrupted or killed go on as if nothing had happened."""

import resource
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import pytest
from ase.io import read
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


def _same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one.status, one.message, one.steps) == (other.status, other.message, other.steps)
        assert_same_end(one, other)
        assert one.thermo.step.tolist() == other.thermo.step.tolist()


def _same_files(ours, theirs, count):
    for k in range(count):
        for name in ("thermo.csv", "trajectory.extxyz"):
            one, other = (folder / f"replica_{k:03d}" / name for folder in (ours, theirs))
            assert one.read_bytes() == other.read_bytes()


def _killed_while_writing(folder):
    """What a process leaves that was killed after its last restart file: more, and half lines."""
    for path in folder.glob("replica_*/*"):
        with path.open("ab") as file:
            file.write(b"63,252,0.1")
    (folder / f".{restart.RESTART_FILE}.partial").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("dtype", "special"),
    [
        (jnp.float32, {}),
        (jnp.float64, {"ensemble": "npt-scr", "cell_motion": "flexible", "pressure_end_gpa": 0.2}),
    ],
    ids=["csvr", "npt-scr"],
)
def test_a_run_in_parts_is_the_whole_run(tmp_path, dtype, special):
    # Of different sizes; one explodes, and where there is no ramp another ends before the rest.
    structures = [argon((2, 2, 1)), argon((2, 1, 1)), argon((2, 2, 1))]
    own = [{}, {"explosion_temperature": 150.0}, {} if special else {"steps": 50}]
    each = [short_run(**special, **o, seed=k) for k, o in enumerate(own)]
    run = partial(run_replicas, argon_potential(dtype), structures, each)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = run(folder=whole)
    assert [r.status for r in expected] == ["finished", "exploded", "finished"]
    assert expected[0].rebuilds > 2
    part = run(folder=parts, stop=stop_after(2))
    assert (part[0].status, part[0].steps) == ("interrupted", 40)
    _killed_while_writing(parts)
    part = run(folder=parts, stop=stop_after(1), resume=True)
    assert (part[0].status, part[0].steps) == ("interrupted", 60)
    _killed_while_writing(parts)
    _same(run(folder=parts, resume=True), expected)
    _same_files(parts, whole, 3)


CHILD = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, {tests!r})
from test_md_replica_restart import argon, argon_potential, short_run, run_replicas
settings = short_run(steps=100_000, replicas=2, restart_seconds=0.01, restart_interval=None)
run_replicas(argon_potential(), argon((2, 2, 1)), settings, folder={folder!r})
"""


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(killed))
    reached = killed_after(code, killed, 300)
    settings = short_run(steps=reached + 50, replicas=2)
    last = run_replicas(argon_potential(), argon((2, 2, 1)), settings, folder=killed, resume=True)
    _same(last, run_replicas(argon_potential(), argon((2, 2, 1)), settings, folder=whole))
    _same_files(killed, whole, 2)
    frames = [read(killed / f"replica_00{k}" / "trajectory.extxyz", ":") for k in range(2)]
    assert [len(f) for f in frames] == [settings.steps // 7 + 1] * 2


def test_a_full_disk_keeps_the_restart(tmp_path):
    run = partial(
        run_replicas, argon_potential(), argon((2, 2, 1)), short_run(steps=200, replicas=2)
    )
    folder = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step):
        if step == 60:
            size = (folder / "replica_001" / "trajectory.extxyz").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, hard))

    try:
        with pytest.raises(OSError, match=r"File too large: .*run/"):
            run(folder=folder, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.glob(".*partial"))
    assert 20 <= restart.read_meta(folder / restart.RESTART_FILE)["step"] < 200
    _same(run(folder=folder, resume=True), run(folder=tmp_path / "whole"))
    _same_files(folder, tmp_path / "whole", 2)


def test_another_run_is_not_continued(tmp_path):
    potential, atoms = argon_potential(), argon((2, 2, 1))
    go_on = partial(run_replicas, potential, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="nothing to go on with"):
        go_on(atoms, short_run(replicas=2))
    each = [short_run(seed=0), short_run(seed=1, steps=20)]
    run_replicas(potential, atoms, each, folder=tmp_path, stop=stop_after(2))
    with pytest.raises(ValueError, match="got 3 replicas to go on with 2 replicas"):
        go_on(atoms, short_run(replicas=3))
    with pytest.raises(ValueError, match="got a single run to go on with 2 replicas"):
        run_md(potential, atoms, short_run(), folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"seed = \[5, 6\] to go on with .* \[0, 1\]"):
        go_on(atoms, short_run(replicas=2, seed=5))
    with pytest.raises(ValueError, match="another structure"):
        go_on([atoms, argon((2, 1, 1))], each)
    with pytest.raises(ValueError, match="110 steps for replica 1, which has done 20"):
        go_on(atoms, short_run(replicas=2))
    with pytest.raises(ValueError, match="expected more steps"):
        go_on(atoms, [s.model_copy(update={"steps": 20}) for s in each])
    with pytest.raises(ValueError, match="without a folder"):
        run_replicas(potential, atoms, each, resume=True)
    with pytest.raises(FileExistsError):
        run_replicas(potential, atoms, each, folder=tmp_path)
