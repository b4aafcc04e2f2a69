"""Training runs: they learn, compile once, and leave what they promise."""

import errno
import json
import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clusters import clusters, untrained

from mlffjax import checkpoint
from mlffjax.config.training import (
    LossSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
)
from mlffjax.data.frames import Frame
from mlffjax.models import SchNet
from mlffjax.potential import Potential
from mlffjax.training import (
    Callback,
    NonFiniteError,
    Record,
    RunInfo,
    Terminated,
    evaluate,
    folder,
    loop,
    train,
)

TRAIN, VALID = clusters(10), clusters(14)[10:]
SETTINGS = TrainingSettings(
    steps=12,
    batch_size=4,
    validation_interval=5,
    log_interval=4,
    progress=False,
    tensorboard=False,
    optimizer=OptimizerSettings(learning_rate=0.01),
)


def changed(**settings) -> TrainingSettings:
    return SETTINGS.model_copy(update=settings)


def same_params(a: Potential, b: Potential) -> bool:
    leaves = zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True)
    return all(np.array_equal(x, y) for x, y in leaves)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """The undisturbed run that others are compared with."""
    return train(untrained(), TRAIN, VALID, SETTINGS, tmp_path_factory.mktemp("runs") / "run")


def test_a_log_has_the_validations_and_no_bar(tmp_path, capsys):
    train(untrained(), TRAIN, VALID, changed(progress=True), tmp_path / "run")
    said = capsys.readouterr()
    assert "step 10: validation loss" in said.out
    assert "\r" not in said.out + said.err


def test_it_learns(tmp_path: Path) -> None:
    settings = changed(steps=300, validation_interval=100)
    result = train(untrained(), TRAIN, VALID, settings, tmp_path)
    losses = [r.values["loss"] for r in result.history if r.kind == "train"]
    assert losses[-1] < 0.1 * losses[0]
    metrics = evaluate(result.potential, VALID).metrics
    best = min(r.values["loss"] for r in result.history if r.kind == "valid")
    chosen = next(r for r in result.history if r.kind == "valid" and r.step == result.best_step)
    assert chosen.values["loss"] == best
    assert chosen.values["forces_mae"] == pytest.approx(metrics.forces_mae, rel=1e-4)


def test_what_a_run_leaves(run) -> None:
    assert {p.name for p in run.folder.iterdir()} == {
        "training.json", "metrics.jsonl", "checkpoints", "last", "best",
    }  # fmt: skip
    assert len(list((run.folder / "checkpoints").iterdir())) == 2
    assert same_params(checkpoint.load(run.folder), run.potential)
    about = json.loads(run.potential.metadata)
    chosen = next(r for r in run.history if r.kind == "valid" and r.step == run.best_step)
    assert about["metrics"] == chosen.values
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    steps = {(x["kind"], x["step"]) for x in lines}
    assert steps == {("train", k) for k in (4, 5, 8, 10, 12)} | {("valid", k) for k in (5, 10, 12)}
    assert all(np.isfinite(v) for x in lines for v in x.values() if isinstance(v, float))


def test_an_existing_run_is_never_overwritten_unasked(run, tmp_path: Path) -> None:
    before = (run.folder / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match=r"holds a training run .* expected a new folder"):
        train(untrained(), TRAIN, VALID, SETTINGS, run.folder)
    assert (run.folder / "metrics.jsonl").read_text() == before
    (tmp_path / "keep.txt").write_text("mine")
    train(untrained(), TRAIN, (), changed(steps=1), tmp_path)
    train(untrained(), TRAIN, (), changed(steps=2), tmp_path, overwrite=True)
    assert (tmp_path / "keep.txt").read_text() == "mine"
    assert not (tmp_path / "best").exists()
    with pytest.raises(ValueError, match="holds no training run to resume"):
        train(untrained(), TRAIN, (), SETTINGS, tmp_path / "other", resume=True)


def test_resume_refuses_another_run(run) -> None:
    with pytest.raises(ValueError, match=r"got batch_size = 5 .* which has 4"):
        train(untrained(), TRAIN, VALID, changed(batch_size=5), run.folder, resume=True)
    with pytest.raises(ValueError, match="other training data"):
        train(untrained(), TRAIN[1:], VALID, SETTINGS, run.folder, resume=True)
    with pytest.raises(ValueError, match="other validation data"):
        train(untrained(), TRAIN, VALID[1:], SETTINGS, run.folder, resume=True)
    with pytest.raises(ValueError, match="other validation data"):
        train(untrained(), TRAIN, (), SETTINGS, run.folder, resume=True)
    with pytest.raises(ValueError, match="another architecture or baseline"):
        train(untrained().replace(scale=2.0), TRAIN, VALID, SETTINGS, run.folder, resume=True)


def test_a_run_with_edges_by_blocks_is_resumed(tmp_path: Path) -> None:
    potential, settings = untrained().replace(edges_per_block=64), changed(edges_per_block=64)
    for steps in (1, 2):
        part = settings.model_copy(update={"steps": steps})
        train(potential, TRAIN, (), part, tmp_path, resume=steps > 1)
    assert (tmp_path / "last").resolve().name == "last-000000002"


def test_resume_refuses_a_run_of_another_revision(run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run", symlinks=True)
    index = tmp_path / "run" / "last" / "checkpoint.json"
    values = json.loads(index.read_text())
    values["training"]["progress"] = {"best_step": 5, "data": "0123"}
    index.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"which another revision of mlffjax wrote"):
        train(untrained(), TRAIN, VALID, SETTINGS, tmp_path / "run", resume=True)


class Terminator(Callback):
    """Sends SIGTERM to the process at the first record from a step on."""

    def __init__(self, step: int):
        self.step = step

    def recorded(self, record: Record) -> None:
        if record.step >= self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [4, 10])
def test_sigterm_saves_and_resume_is_bitwise(run, tmp_path: Path, step: int) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught:
        train(untrained(), TRAIN, VALID, SETTINGS, tmp_path, callbacks=[Terminator(step)])
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == handler
    result = train(untrained(), TRAIN, VALID, SETTINGS, tmp_path, resume=True)
    assert same_params(result.potential, run.potential)
    assert same_params(checkpoint.load(tmp_path / "last"), checkpoint.load(run.folder / "last"))
    valid = lambda history: [  # noqa: E731
        (r.step, r.values) for r in history if r.kind == "valid"
    ]
    assert valid(result.history) == valid(run.history)


def test_sigterm_between_records_leaves_the_same_records(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def after_three_chunks():
        asked = iter([False, False, True])
        yield lambda: next(asked)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHUNK_SECONDS", 0.0)  # one step each
        patch.setattr(loop, "_termination", after_three_chunks)
        with pytest.raises(Terminated):
            train(untrained(), TRAIN, VALID, SETTINGS, tmp_path)
    newest = folder.newest(tmp_path)
    assert newest is not None
    assert newest.name == "last-000000003"
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    result = train(untrained(), TRAIN, VALID, SETTINGS, tmp_path, resume=True)
    records = [
        # All but the speed, which nothing can repeat.
        [(r.step, {**r.values, "structures_per_second": 0}) for r in history]
        for history in (result.history, run.history)
    ]
    assert records[0] == records[1]


@pytest.mark.parametrize(("kind", "save"), [("last", 1), ("last", 2), ("best", 2)])
def test_a_kill_before_a_link_is_set_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, save: int
) -> None:
    replace, calls = os.replace, []

    def killed(source, target) -> None:
        calls.append(Path(target).name)
        if calls.count(kind) == save and calls[-1] == kind:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("mlffjax.training.folder.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            train(untrained(), TRAIN, VALID, SETTINGS, tmp_path)
    newest = folder.newest(tmp_path)
    assert newest is not None
    step = int(newest.name.split("-")[1])
    # The end of the run has come where nothing is left to do but to mend the links.
    settings = changed(steps=step)
    result = train(untrained(), TRAIN, VALID, settings, tmp_path, resume=True)
    assert (tmp_path / "last").resolve() == newest
    assert result.best_step == step
    assert same_params(checkpoint.load(tmp_path / "best"), checkpoint.load(newest))


def test_streamed_data_give_the_same_bits(run, tmp_path: Path) -> None:
    result = train(untrained(), TRAIN, VALID, changed(data_on_device=False), tmp_path)
    assert same_params(result.potential, run.potential)


class Started(Callback):
    info: RunInfo

    def started(self, info: RunInfo) -> None:
        self.info = info


def test_one_program_serves_all_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("make_training_program", "make_validation_program"):
        make = getattr(loop, name)

        def keep(*args, make=make, **kwargs):
            made.append(make(*args, **kwargs))
            return made[-1]

        monkeypatch.setattr(loop, name, keep)
    started = Started()
    # The last batch of an epoch is smaller, chunks differ in length: still one shape.
    settings = changed(steps=20, log_interval=7, validation_interval=6, tensorboard=True)
    result = train(untrained(), TRAIN, VALID, settings, tmp_path, callbacks=[started])
    assert [program._cache_size() for program in made] == [1, 1]
    assert (started.info.total_steps, started.info.steps_per_epoch) == (20, 3)
    assert any((result.folder / "tensorboard").iterdir())


class Exploding(SchNet):
    """Energies that are NaN for structures with more than six atoms."""

    def __call__(self, graph):
        output = super().__call__(graph)
        count = jax.ops.segment_sum(graph.node_mask * 1.0, graph.graph_index, graph.num_graphs)
        bad = (count[graph.graph_index] > 6) & graph.node_mask
        return output.replace(energy=jnp.where(bad, jnp.nan, 1) * output.energy)


def test_non_finite_loss_names_batch_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlffjax.models.ARCHITECTURES", {"schnet": Exploding})
    potential = untrained()
    potential = potential.replace(module=Exploding(**_fields(potential.module)))
    frames = [*TRAIN, *clusters(1, (8,))]
    settings = changed(batch_size=1, steps=11, checkpoint_interval=1, loss=LossSettings())
    with pytest.raises(NonFiniteError) as caught:
        train(potential, frames, (), settings, tmp_path)
    message = str(caught.value)
    step = int(message.split("step ")[1].split(";")[0])
    order = np.random.default_rng([0, 0]).permutation(11)
    assert order[step - 1] == 10
    assert "frames of the batch: cluster#0; last good checkpoint" in message
    if step > 1:
        assert f"last-{step - 1:09d}" in message
        checkpoint.load(tmp_path / "last")


def _fields(module: SchNet) -> dict:
    return {
        f.name: getattr(module, f.name) for f in fields(module) if f.name not in ("parent", "name")
    }


def test_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = checkpoint._write_arrays, []

    def full(folder: Path, tree) -> None:
        calls.append(folder)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, tree)

    monkeypatch.setattr(checkpoint, "_write_arrays", full)
    with pytest.raises(OSError, match="No space left on device; earlier checkpoints"):
        train(untrained(), TRAIN, VALID, SETTINGS, tmp_path)
    assert (tmp_path / "last").resolve().name == "last-000000005"
    checkpoint.load(tmp_path / "last")
    checkpoint.load(tmp_path / "best")


@pytest.mark.slow
def test_plateau_lowers_the_rate_and_survives_a_resume(tmp_path: Path) -> None:
    settings = changed(
        validation_interval=2,
        log_interval=2,
        schedule=ScheduleSettings(name="plateau", factor=0.5, patience=0),
        optimizer=OptimizerSettings(learning_rate=3.0, clip_norm=None),
    )
    whole = train(untrained(), TRAIN, VALID, settings, tmp_path / "a")
    rates = [r.values["learning_rate"] for r in whole.history if r.kind == "train"]
    assert min(rates) < max(rates) == 3.0
    with pytest.raises(Terminated):
        train(untrained(), TRAIN, VALID, settings, tmp_path / "b", callbacks=[Terminator(6)])
    resumed = train(untrained(), TRAIN, VALID, settings, tmp_path / "b", resume=True)
    again = [r.values["learning_rate"] for r in resumed.history if r.kind == "train"]
    assert set(again) == set(rates)
    assert same_params(checkpoint.load(tmp_path / "a/last"), checkpoint.load(tmp_path / "b/last"))


def test_settings_that_ask_for_missing_labels(tmp_path: Path) -> None:
    bare = [Frame(f.numbers, f.positions, f.cell, f.pbc, f.energy) for f in TRAIN]
    with pytest.raises(ValueError, match=r"forces_weight = 0.99 .* without forces labels"):
        train(untrained(), bare, VALID, SETTINGS, tmp_path / "a")
    with pytest.raises(ValueError, match="stress_weight"):
        train(untrained(), TRAIN, VALID, changed(loss=LossSettings(stress_weight=1)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stress_and_mixed_sizes_in_float64(tmp_path: Path) -> None:
    frames = clusters(6, (4, 8), periodic=True) + clusters(3, (6,))
    settings = changed(
        dtype="float64", loss=LossSettings(stress_weight=100.0), steps=3, ema=0.0, batch_size=3
    )
    result = train(untrained(), frames, frames, settings, tmp_path)
    assert result.potential.dtype == np.float64
    last = result.history[-1].values
    assert {"energy_mae", "forces_rmse", "stress_mae", "forces_mae/O"} <= set(last)
    assert all(np.isfinite(list(last.values())))


def test_validation_frames_without_stress_in_a_training_on_stress(tmp_path: Path) -> None:
    settings = changed(loss=LossSettings(stress_weight=100.0), steps=1)
    result = train(untrained(), clusters(4, periodic=True), VALID, settings, tmp_path)
    last = result.history[-1].values
    assert "stress_mae" not in last
    assert np.isfinite(last["loss"])
