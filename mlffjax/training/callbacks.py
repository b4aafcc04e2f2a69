"""What a training run tells: a progress bar, JSON lines, TensorBoard, and your own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from mlffjax.config.files import write_text
from mlffjax.potential import Potential


@dataclass(frozen=True)
class RunInfo:
    """A training run as it starts.

    Attributes:
      folder: of the run.
      first_step: steps done before, other than zero for a resumed run.
      total_steps: at which the run ends.
      steps_per_epoch: batches to one pass over the data.
      num_parameters: of the potential.
      num_training, num_validation: structures.
    """

    folder: Path
    first_step: int
    total_steps: int
    steps_per_epoch: int
    num_parameters: int
    num_training: int
    num_validation: int


@dataclass(frozen=True)
class Record:
    """Errors at a step: of the training batches since the last record, or of a validation.

    Attributes:
      kind: ``train`` or ``valid``.
      step: number of updates so far.
      epoch: passes over the data so far, with a fraction.
      values: errors and rates by name, as of :meth:`Metrics.as_dict`.
    """

    kind: Literal["train", "valid"]
    step: int
    epoch: float
    values: Mapping[str, float]


class DynamicsCheck(Protocol):
    """Short dynamics with the potential as it is, at validations.

    Must depend on nothing but its argument, so that a resumed run repeats it. The program
    should be compiled once, with the parameters as an argument.
    """

    def __call__(self, potential: Potential) -> Mapping[str, float]:
        """At least ``md_stability``, from 0 to 1; ``md_drift`` where a simulation was stable."""
        ...


class Callback:
    """Base of all callbacks; override what is of interest."""

    def started(self, info: RunInfo) -> None:
        """Before the first step."""

    def recorded(self, record: Record) -> None:
        """At each training record and each validation."""

    def finished(self) -> None:
        """After the last step, also when it ended in an error."""


class ProgressBar(Callback):
    """A bar with the loss, the errors, structures a second and the time to go.

    Where the standard error is no terminal there are only the lines of the validations.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def started(self, info: RunInfo) -> None:
        # None: a bar only on a terminal.
        self._bar = tqdm(total=info.total_steps, initial=info.first_step, unit="step", disable=None)

    def recorded(self, record: Record) -> None:
        if record.kind == "train":
            self._bar.set_postfix_str(summary(record.values), refresh=False)
            self._bar.update(record.step - self._bar.n)
        else:
            self._bar.write(_validation(record))

    def finished(self) -> None:
        if self._bar is not None:
            self._bar.close()


class ValidationLines(Callback):
    """The lines of validations that the bar writes, without a bar: for logs."""

    def recorded(self, record: Record) -> None:
        if record.kind == "valid":
            print(_validation(record), flush=True)


def _validation(record: Record) -> str:
    return f"step {record.step}: validation {summary(record.values)}"


def summary(values: Mapping[str, float]) -> str:
    """The main errors in one line, in meV and Angstrom."""
    parts = [f"loss {values['loss']:.3g}"] if "loss" in values else []
    for name, key, unit in (
        ("E", "energy_mae", "meV/atom"),
        ("F", "forces_mae", "meV/Å"),
        ("S", "stress_mae", "meV/Å³"),
    ):
        if key in values:
            parts.append(f"{name} {1e3 * values[key]:.4g} {unit}")
    if "md_stability" in values:
        parts.append(f"MD {100 * values['md_stability']:.4g} % stable")
    if "md_drift" in values:
        parts.append(f"drift {1e3 * values['md_drift']:.3g} meV/atom/ps")
    if "structures_per_second" in values:
        parts.append(f"{values['structures_per_second']:.0f} structures/s")
    return ", ".join(parts)


class JsonLines(Callback):
    """Appends each record to ``metrics.jsonl``; a resumed run first drops what came later."""

    def __init__(self) -> None:
        self._file: Any = None

    def started(self, info: RunInfo) -> None:
        path = info.folder / "metrics.jsonl"
        kept = [r for r in read_records(path) if r.step <= info.first_step]
        write_text(path, "".join(_line(r) for r in kept))
        self._file = path.open("a")

    def recorded(self, record: Record) -> None:
        self._file.write(_line(record))
        self._file.flush()

    def finished(self) -> None:
        if self._file is not None:
            self._file.close()


def read_records(path: Path) -> list[Record]:
    """The records of ``metrics.jsonl``; a line that was cut off at the end is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
        except ValueError:
            break
        records.append(Record(values.pop("kind"), values.pop("step"), values.pop("epoch"), values))
    return records


def _line(record: Record) -> str:
    head = {"kind": record.kind, "step": record.step, "epoch": record.epoch}
    return json.dumps({**head, **record.values}) + "\n"


class TensorBoard(Callback):
    """Writes each record as TensorBoard scalars into ``tensorboard`` of the run's folder."""

    def __init__(self) -> None:
        self._writer: Any = None

    def started(self, info: RunInfo) -> None:
        from tensorboardX import SummaryWriter  # Slow to import, and only needed here.

        self._writer = SummaryWriter(
            str(info.folder / "tensorboard"), purge_step=info.first_step + 1
        )

    def recorded(self, record: Record) -> None:
        for name, value in record.values.items():
            self._writer.add_scalar(f"{record.kind}/{name}", value, record.step)

    def finished(self) -> None:
        if self._writer is not None:
            self._writer.close()
