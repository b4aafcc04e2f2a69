"""A run that is killed at random moments continues bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from clusters import clusters, untrained

from mlffjax import checkpoint
from mlffjax.config.training import OptimizerSettings, ScheduleSettings, TrainingSettings
from mlffjax.training import TrainingResult, train

TRAIN, VALID = clusters(10), clusters(14)[10:]
SETTINGS = TrainingSettings(
    steps=120,
    batch_size=4,
    validation_interval=6,
    checkpoint_interval=4,
    log_interval=3,
    progress=False,
    tensorboard=False,
    schedule=ScheduleSettings(name="plateau", patience=1),
    optimizer=OptimizerSettings(name="amsgrad", learning_rate=0.02),
)


def start(folder: Path, *, resume: bool) -> TrainingResult:
    """One run; what the processes that are killed execute."""
    return train(untrained(), TRAIN, VALID, SETTINGS, folder, resume=resume)


def start_process(folder: Path, *, resume: bool) -> subprocess.Popen:
    """The same in a process of its own, with the settings of the tests."""
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import conftest\n"
        "from pathlib import Path\n"
        "from test_training_kill import start\n"
        f"start(Path({str(folder)!r}), resume={resume})\n"
    )
    # XLA's loader writes kilobytes for every cached program: enough to fill the pipe and stop it.
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=quiet)


def kill_at_random(folder: Path, rng: random.Random, *, resume: bool) -> None:
    """Start or resume the run, and SIGKILL it some time after it has written a record."""
    metrics = folder / "metrics.jsonl"
    seen = metrics.stat().st_mtime_ns if metrics.exists() else 0
    process = start_process(folder, resume=resume)
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.stat().st_size and metrics.stat().st_mtime_ns > seen):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the run ended by itself: {process.communicate()[1].decode()[-2000:]}")
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.8))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def last_step(folder: Path) -> int:
    """The step a resumed run would start from."""
    found = sorted((folder / "checkpoints").glob("last-*"))
    return int(found[-1].name.split("-")[1]) if found else 0


def training_arrays(folder: Path) -> list[np.ndarray]:
    """All arrays of the last training state."""
    index = json.loads((folder / "last" / "checkpoint.json").read_text())
    return jax.tree.leaves(checkpoint._read_arrays(folder / "last", "state", index))


def check_killed_and_resumed(tmp_path: Path, kills: int, seed: int) -> None:
    whole = start(tmp_path / "whole", resume=False)
    folder, rng, reached = tmp_path / "killed", random.Random(seed), []
    for attempt in range(kills):
        kill_at_random(folder, rng, resume=attempt > 0)
        reached.append(last_step(folder))
        for link in ("last", "best"):
            if (folder / link).exists():
                checkpoint.load(folder / link)
    assert reached == sorted(reached)
    result = start(folder, resume=True)
    assert result.best_step == whole.best_step
    for a, b in ((result.potential, whole.potential),):
        for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
            np.testing.assert_array_equal(x, y)
    states = training_arrays(folder), training_arrays(whole.folder)
    for x, y in zip(*states, strict=True):
        np.testing.assert_array_equal(x, y)

    def comparable(run: TrainingResult) -> list:
        # All but the speed, which nothing can repeat.
        return [
            (r.kind, r.step, {k: v for k, v in r.values.items() if k != "structures_per_second"})
            for r in run.history
        ]

    assert comparable(result) == comparable(whole)


def test_killed_run_continues_bitwise(tmp_path: Path) -> None:
    check_killed_and_resumed(tmp_path, kills=1, seed=1)


@pytest.mark.slow
def test_run_killed_many_times_continues_bitwise(tmp_path: Path) -> None:
    check_killed_and_resumed(tmp_path, kills=12, seed=2)
