"""Training of a potential: from frames to a folder with checkpoints and metrics.

A run that is killed at any moment continues from its last checkpoint bit for bit as if nothing
had happened, on devices of the same kind and number whose programs are deterministic (on GPUs
with ``XLA_FLAGS=--xla_gpu_deterministic_ops=true``). Each batch is split over all devices.
"""

import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlffjax import checkpoint
from mlffjax.config.training import TrainingSettings
from mlffjax.data.frames import Frame
from mlffjax.data.loader import PackedFrames, name_of, pack
from mlffjax.potential import Potential
from mlffjax.training.callbacks import (
    Callback,
    DynamicsCheck,
    JsonLines,
    ProgressBar,
    Record,
    RunInfo,
    TensorBoard,
    read_records,
)
from mlffjax.training.chunks import BatchStream, Chunk
from mlffjax.training.folder import RunFolder
from mlffjax.training.metrics import Metrics, MetricsAccumulator
from mlffjax.training.optimizer import make_optimizer
from mlffjax.training.state import Progress, TrainingState
from mlffjax.training.step import (
    StepRecords,
    make_mesh,
    make_training_program,
    make_validation_program,
    replicated,
)

#: Seconds of work handed to the device at once: short enough to answer SIGTERM in time.
CHUNK_SECONDS = 0.5


class NonFiniteError(FloatingPointError):
    """A loss or gradient that is not finite; names the batch and the last good checkpoint."""


class Terminated(SystemExit):
    """SIGTERM came, the state is saved; leaves with the exit code 143 = 128 + SIGTERM."""

    def __init__(self) -> None:
        super().__init__(143)


@dataclass(frozen=True)
class TrainingResult:
    """What a training run leaves.

    Attributes:
      potential: the best one by validation, or the last one without validation data.
      history: all records of the run, those before a resume included.
      best_step: step of the best validation; the last step without validation data.
      folder: where everything is kept.
    """

    potential: Potential
    history: tuple[Record, ...]
    best_step: int
    folder: Path


def train(
    potential: Potential,
    train_frames: Sequence[Frame],
    valid_frames: Sequence[Frame],
    settings: TrainingSettings,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    dynamics: DynamicsCheck | None = None,
) -> TrainingResult:
    """Fit the parameters of a potential to labelled frames.

    Args:
      potential: where training starts; its baseline, scale and shift are kept.
      train_frames, valid_frames: the data; validation data may be empty.
      settings: loss, optimiser, lengths.
      folder: for checkpoints and metrics.
      resume: continue the run in ``folder`` bit for bit.
      overwrite: delete the run in ``folder`` first.
      callbacks: told of all records, besides those that the settings ask for.
      dynamics: runs short dynamics at validations, as ``settings.md_validation`` says; what it
        gives goes into their records.

    Raises:
      ValueError: data or settings that cannot be used, or a folder that holds another run.
      NonFiniteError: a loss or gradient is not finite.
      OSError: a checkpoint cannot be written; the previous one is whole.
      Terminated: on SIGTERM, after a checkpoint.
    """
    if settings.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "got dtype float64 while jax computes in float32; expected x64 mode; set "
            "JAX_ENABLE_X64=1 or use float32"
        )
    potential = potential.astype(settings.dtype)
    _check_labels(train_frames, settings)
    _check_dynamics(dynamics, valid_frames, settings)
    run = _Run(potential, train_frames, valid_frames, settings, dynamics)
    files = RunFolder(folder, settings, resume=resume, overwrite=overwrite)
    if resume and files.last is not None:
        run.restore(files.last)
    tell: list[Callback] = [JsonLines()]
    tell += [ProgressBar()] if settings.progress else []
    tell += [TensorBoard()] if settings.tensorboard else []
    try:
        return run.finish(files, [*tell, *callbacks])
    finally:
        for callback in (*tell, *callbacks):
            callback.finished()


class _Run:
    """One training run: the state, the programs, and the batches they consume."""

    def __init__(
        self,
        potential: Potential,
        train_frames: Sequence[Frame],
        valid_frames: Sequence[Frame],
        settings: TrainingSettings,
        dynamics: DynamicsCheck | None,
    ):
        self.settings, self.potential, self.train_frames = settings, potential, train_frames
        self.dynamics = dynamics
        mesh = make_mesh(jax.local_devices()[: settings.batch_size])
        baseline = dict(zip(potential.elements, potential.baseline, strict=True))
        data = pack(train_frames, potential.cutoff, baseline, np.dtype(settings.dtype))
        self.data_hashes = {"training": _hash(data), "validation": ""}
        self.stream = BatchStream(
            data, settings.batch_size, settings.seed, mesh, settings.data_on_device
        )
        self.steps_per_epoch = self.stream.order.steps_per_epoch
        self.total_steps = settings.total_steps(self.steps_per_epoch)
        optimizer = make_optimizer(potential.params, settings.optimizer)
        state = TrainingState.create(potential.params, optimizer, average=settings.ema > 0)
        self.mesh, self.state, self.step = mesh, replicated(mesh, state), 0
        self.progress = Progress()
        self.program = make_training_program(potential, optimizer, settings, self.total_steps, mesh)
        self.num_validation = len(valid_frames)
        if len(valid_frames):
            valid = pack(valid_frames, potential.cutoff, baseline, np.dtype(settings.dtype))
            self.data_hashes["validation"] = _hash(valid)
            size = settings.validation_batch_size or settings.batch_size
            self.valid_stream = BatchStream(valid, size, None, mesh, settings.data_on_device)
            # The loss asks for the stress even where no validation frame has one.
            with_stress = settings.loss.stress_weight > 0 or bool(np.any(valid.has_stress))
            self.validation = make_validation_program(
                potential, settings, mesh, with_stress=with_stress
            )
        self.metrics = MetricsAccumulator(potential.elements)
        self.seconds_per_step: float | None = None
        self.compiled = False
        self.rates = 0.0, 0.0
        self.started = time.perf_counter()

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        stored = checkpoint.load(path)
        # What changes with training, and what says how to compute and is not saved.
        plain: dict[str, Any] = {"params": None, "metadata": "{}", "edges_per_block": None}
        if replace(stored, **plain) != replace(self.potential, **plain):
            raise ValueError(
                f"got another architecture or baseline than the run in {path} has; expected "
                "the potential the run was started with"
            )
        state, kept = checkpoint.load_training(path, self.state)
        self._take_up(kept, path)
        self.state, self.step = replicated(self.mesh, state), int(state.step)

    def _take_up(self, kept: Mapping[str, Any], path: Path) -> None:
        """Take the host's share of the run from what :meth:`_kept` left."""
        if kept.keys() != self._kept().keys():
            raise ValueError(
                f"got the run in {path}, which another revision of mlffjax wrote; expected one of "
                "this revision; resume it with that one, or start a new run"
            )
        for name, stored in kept["data"].items():
            if stored != self.data_hashes[name]:
                raise ValueError(
                    f"got other {name} data than the run in {path} has; expected the same frames "
                    "in the same order; restore the data, or start a new run"
                )
        self.progress = Progress(**kept["progress"])
        self.metrics = MetricsAccumulator(self.potential.elements, kept["sums"])

    def _kept(self) -> dict[str, Any]:
        """The host's share of the run as JSON, for a checkpoint."""
        return {
            "progress": asdict(self.progress),
            "data": self.data_hashes,
            "sums": self.metrics.sums(),
        }

    def finish(self, files: RunFolder, callbacks: Sequence[Callback]) -> TrainingResult:
        """Train to the end and return the result."""
        info = RunInfo(
            folder=files.path,
            first_step=self.step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            num_parameters=self.potential.num_parameters,
            num_training=len(self.train_frames),
            num_validation=self.num_validation,
        )
        for callback in callbacks:
            callback.started(info)
        self._complete_best(files)
        with _termination() as terminated:
            self._loop(files, callbacks, terminated)
        best = self.progress.best_value is not None
        return TrainingResult(
            potential=checkpoint.load(files.path / ("best" if best else "last")),
            history=tuple(read_records(files.path / "metrics.jsonl")),
            best_step=self.progress.best_step if best else self.step,
            folder=files.path,
        )

    def _loop(
        self, files: RunFolder, callbacks: Sequence[Callback], terminated: Callable[[], bool]
    ) -> None:
        pending: Chunk | None = None
        records: StepRecords | None = None
        self.started = time.perf_counter()
        for chunk in self.stream.chunks(self.step, self._boundary, self._chunk_length):
            factor = np.asarray(self.progress.plateau_factor, self.settings.dtype)
            count = np.int32(chunk.count)
            self.state, new = self.program(
                self.state, chunk.packed, chunk.rows, count, factor, room=chunk.room
            )
            # Only now wait for the chunk before, while the device is busy with this one.
            if pending is not None and records is not None:
                self._consume(pending, records, files)
            pending, records = chunk, new
            event, stopping = self._is_event(chunk.first + chunk.count), terminated()
            if not (stopping or event):
                continue
            self._consume(pending, records, files)
            pending = None
            if event:
                self._event(files, callbacks, stopping=stopping)
            else:
                self._save(files, None)
            if stopping:
                raise Terminated

    def _boundary(self, step: int) -> int:
        """The next step after ``step`` at which something happens; never beyond the end."""
        intervals = (*self._intervals(), self.settings.log_interval)
        return min(self.total_steps, *((step // n + 1) * n for n in intervals))

    def _intervals(self) -> tuple[int, ...]:
        validation = self.settings.validation_interval or self.steps_per_epoch
        return validation, self.settings.checkpoint_interval or validation

    def _is_event(self, step: int) -> bool:
        return step == self._boundary(step - 1)

    def _chunk_length(self) -> int:
        if self.seconds_per_step is None:
            return 1
        return max(1, int(CHUNK_SECONDS / self.seconds_per_step))

    def _consume(self, chunk: Chunk, records: StepRecords, files: RunFolder) -> None:
        """Take the errors of a chunk from the device; this waits for it."""
        records = jax.device_get(records)
        now = time.perf_counter()
        if self.compiled:
            self.seconds_per_step = (now - self.started) / chunk.count
        self.compiled, self.started = True, now
        done = int(records.step) - chunk.first
        self.metrics.add(jax.tree.map(lambda x: x[:done], records.sums))
        self.step = int(records.step)
        self.rates = float(records.learning_rate[done - 1]), float(records.gradient_norm[done - 1])
        if not records.finite:
            self._report_non_finite(chunk, records, files)

    def _report_non_finite(self, chunk: Chunk, records: StepRecords, files: RunFolder) -> None:
        index = self.step - chunk.first
        loss, norm = records.sums.loss[index], records.gradient_norm[index]
        frames = [k for k in chunk.frames[index] if k >= 0]
        names = ", ".join(name_of(self.train_frames[k], int(k)) for k in frames[:10])
        more = f" and {len(frames) - 10} more" if len(frames) > 10 else ""
        raise NonFiniteError(
            f"got the loss {loss} and the gradient norm {norm} in step {self.step + 1}; expected "
            f"finite numbers; frames of the batch: {names}{more}; last good checkpoint: "
            f"{files.last or 'none yet'}; check these frames, or lower the learning rate"
        )

    def _event(self, files: RunFolder, callbacks: Sequence[Callback], *, stopping: bool) -> None:
        """Record, validate and save, whatever is due at this step."""
        validation, saving = self._intervals()
        end = self.step == self.total_steps
        self._record("train", self._training_values(), callbacks)
        if self.num_validation and (end or self.step % validation == 0):
            metrics = self._validate()
            moved = self._dynamics(self.step // validation, end=end)
            values = {**metrics.as_dict(), **moved}
            self._record("valid", values, callbacks)
            self._select(metrics, moved)
        elif not (end or stopping or self.step % saving == 0 or self.step % validation == 0):
            return
        else:
            values = None
        self._save(files, values)

    def _save(self, files: RunFolder, values: dict[str, float] | None) -> None:
        potential = replace(self.potential, params=self.state.evaluation_params)
        files.save("last", self.step, potential, values, (self.state, self._kept()))
        if values is not None and self.progress.best_step == self.step:
            files.save("best", self.step, potential, values)

    def _complete_best(self, files: RunFolder) -> None:
        """Save the best potential if a kill came between it and the last checkpoint."""
        progress = self.progress
        if progress.best_value is None or progress.best_step != self.step:
            return
        if files.last is None or files.has_best(self.step):
            return
        files.save("best", self.step, checkpoint.load(files.last))

    def _validate(self) -> Metrics:
        metrics = MetricsAccumulator(self.potential.elements)
        stream = self.valid_stream
        end = stream.order.steps_per_epoch
        for chunk in stream.chunks(0, lambda _: end, lambda: stream.chunk_size):
            sums = self.validation(
                self.state.evaluation_params, chunk.packed, chunk.rows, np.int32(chunk.count),
                room=chunk.room,
            )  # fmt: skip
            count = chunk.count
            metrics.add(jax.tree.map(lambda x, n=count: x[:n], jax.device_get(sums)))
        self.started = time.perf_counter()
        return metrics.result()

    def _dynamics(self, validation: int, *, end: bool) -> dict[str, float]:
        """Short dynamics, where this validation has them; depends on the parameters alone."""
        settings = self.settings.md_validation
        if settings is None or self.dynamics is None:
            return {}
        if not end and validation % settings.interval:
            return {}
        values = dict(self.dynamics(replace(self.potential, params=self.state.evaluation_params)))
        self.started = time.perf_counter()
        return values

    def _select(self, metrics: Metrics, moved: dict[str, float]) -> None:
        """Take note if this is the best validation so far."""
        step, schedule = self.step, self.settings.schedule
        if self.settings.selection != "md":
            self.progress = self.progress.validated(self._selection(metrics), step, schedule)
        elif moved:
            unstable, drift = 1 - moved["md_stability"], moved.get("md_drift", math.inf)
            self.progress = self.progress.validated(unstable, step, schedule, drift)

    def _selection(self, metrics: Metrics) -> float:
        name = self.settings.selection
        value = metrics.loss if name == "loss" else getattr(metrics, f"{name}_mae")
        if value is None:
            raise ValueError(
                f"got validation data without {name} labels while selection is {name!r}; "
                "expected labels; choose another selection"
            )
        if not np.isfinite(value):
            raise NonFiniteError(
                f"got the validation {name} {value} at step {self.step}; expected a finite number; "
                "check the validation data, or lower the learning rate"
            )
        return value

    def _training_values(self) -> dict[str, float]:
        values = self.metrics.result().as_dict()
        self.metrics = MetricsAccumulator(self.potential.elements)
        rate, norm = self.rates
        values |= {"learning_rate": rate, "gradient_norm": norm}
        if self.seconds_per_step:
            values["structures_per_second"] = self.settings.batch_size / self.seconds_per_step
        return values

    def _record(self, kind, values: dict[str, float], callbacks: Sequence[Callback]) -> None:
        record = Record(kind, self.step, self.step / self.steps_per_epoch, values)
        for callback in callbacks:
            callback.recorded(record)


def _check_labels(frames: Sequence[Frame], settings: TrainingSettings) -> None:
    for name in ("energy", "forces", "stress"):
        weight = getattr(settings.loss, f"{name}_weight")
        if weight and all(getattr(frame, name) is None for frame in frames):
            raise ValueError(
                f"got {name}_weight = {weight} and training data without {name} labels; "
                f"expected labels; set {name}_weight to 0, or use other data"
            )


def _check_dynamics(
    dynamics: DynamicsCheck | None, valid_frames: Sequence[Frame], settings: TrainingSettings
) -> None:
    if settings.md_validation is None:
        return
    if dynamics is None or not len(valid_frames):
        raise ValueError(
            f"got md_validation with {len(valid_frames)} validation frames and "
            f"{'no' if dynamics is None else 'a'} function for the dynamics; expected both; add "
            "validation data, pass dynamics, or leave out md_validation"
        )


def _hash(data: PackedFrames) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(data):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


@contextmanager
def _termination() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come; the previous handler is put back at the end."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag.is_set
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: flag.set())
    try:
        yield flag.is_set
    finally:
        signal.signal(signal.SIGTERM, previous)
