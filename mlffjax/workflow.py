"""From the settings of a run to a trained potential: the steps of ``mlffjax train``."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import jax
import numpy as np
from ase.data import chemical_symbols
from pydantic import create_model

from mlffjax import checkpoint, plots
from mlffjax.config.base import ConfigError, Settings
from mlffjax.config.files import write_text, write_yaml
from mlffjax.config.md import MDSettings
from mlffjax.config.run import ModelSettings, RunSettings
from mlffjax.config.training import MDValidationSettings
from mlffjax.data import Baseline, DataSets, Frame, Split, fit_baseline, load_sets
from mlffjax.data.loader import name_of
from mlffjax.data.report_warnings import training_warnings
from mlffjax.data.statistics import Statistics, compute_statistics, count_edges
from mlffjax.fine_tuning import starting_potential
from mlffjax.models import ARCHITECTURES, Architecture, build, hyperparameters
from mlffjax.potential import Potential
from mlffjax.prediction import compare
from mlffjax.training.callbacks import Callback, Record
from mlffjax.training.evaluate import Evaluation, evaluate
from mlffjax.training.folder import newest
from mlffjax.training.folder import remove as remove_training
from mlffjax.training.loop import train as run_training
from mlffjax.training.metrics import Metrics

if TYPE_CHECKING:
    from mlffjax.md.validation import ReplicaCheck

SETTINGS_FILE = "settings.yaml"
SPLIT_FILE = "split.json"
METRICS_FILE = "metrics.json"
TEST_FOLDER = "test"
_CURVE = "learning_curve.png"
_ENERGY_PARITY, _FORCE_PARITY = "energy_parity.png", "force_parity.png"
#: What a run writes besides the files of its training, below its folder.
_OWN = (
    SETTINGS_FILE,
    SPLIT_FILE,
    _CURVE,
    *(f"{TEST_FOLDER}/{name}" for name in (METRICS_FILE, _ENERGY_PARITY, _FORCE_PARITY)),
)


@dataclass(frozen=True, eq=False)
class Preparation:
    """All that stands before the first step of training.

    Attributes:
      sets: training, validation and test frames, and the split.
      baseline: element energies.
      statistics: of the training frames.
      potential: with random parameters, or those of ``model.start``.
      warnings: one line each: what looks wrong in the frames, and what to do.
    """

    sets: DataSets
    baseline: Baseline
    statistics: Statistics
    potential: Potential
    warnings: tuple[str, ...]


def architecture(settings: ModelSettings) -> Architecture:
    """The architecture of a ``model`` section; its fields are checked by name and type.

    Raises:
      ConfigError: an unknown architecture or field, with the nearest known one, or a value of
        the wrong type.
    """
    name = settings.architecture
    if name is None or name not in ARCHITECTURES:
        raise ConfigError(
            f"model: got the architecture {name!r}; expected one of "
            f"{', '.join(sorted(ARCHITECTURES))}"
        )
    cls = ARCHITECTURES[name]
    hints = get_type_hints(cls)
    schema: dict[str, Any] = {f: (hints[f], getattr(cls, f)) for f in hyperparameters(cls)}
    checked = create_model(f"{cls.__name__}Settings", __base__=Settings, **schema).parse(
        settings.fields, source=f"model ({name})"
    )
    if not checked.cutoff > 0:  # type: ignore[attr-defined]
        raise ConfigError(f"model: got the cutoff {settings.fields['cutoff']}; expected above 0")
    return build(name, dict(checked))


def prepare(
    settings: RunSettings, split: Split | None = None, last: Path | None = None
) -> Preparation:
    """Read the frames, divide them, fit the baseline, and make the potential to start with.

    Args:
      settings: of the run.
      split: one that an earlier part of the run saved.
      last: the newest checkpoint of the earlier part of the run.

    Raises:
      ConfigError: an unknown architecture or field.
      ValueError: wrong data, or a potential to start from that does not fit them; the message
        names the frame.
      OSError: a file cannot be read.
    """
    # What is wrong in the model section is found before the data are read.
    module = None if settings.model.start else architecture(settings.model)
    sets = load_sets(settings.data, split)
    if module is None:
        potential, baseline = _saved_start(settings, sets, last)
        statistics = _checked_statistics(sets, baseline, potential.cutoff)
    else:
        baseline = fit_baseline(sets.train, settings.data.baseline, sets.isolated)
        statistics = _checked_statistics(sets, baseline, module.cutoff)
        potential = _random_start(module, settings, baseline, statistics)
    potential = replace(potential, edges_per_block=settings.training.edges_per_block)
    warnings = training_warnings(sets.train, sets.valid, sets.test, statistics.force_rms)
    return Preparation(sets, baseline, statistics, potential, warnings)


def _random_start(
    module: Architecture, settings: RunSettings, baseline: Baseline, statistics: Statistics
) -> Potential:
    """Random parameters.

    The network's output is multiplied by the RMS force and shifted by the mean energy per
    atom, both of the training frames, as in MACE's ScaleShift models.
    """
    if "avg_num_neighbors" not in settings.model.fields:
        module = module.clone(avg_num_neighbors=max(statistics.mean_neighbors, 1.0))
    energies = dict(zip(baseline.elements, baseline.energies, strict=True))
    return Potential.init(
        module,
        statistics.elements,
        jax.random.key(settings.training.seed),
        baseline=[energies[z] for z in statistics.elements],
        scale=statistics.force_rms or statistics.energy_std or 1.0,
        shift=[statistics.energy_mean or 0.0] * len(statistics.elements),
        dtype=settings.training.dtype,
    )


def _saved_start(
    settings: RunSettings, sets: DataSets, last: Path | None
) -> tuple[Potential, Baseline]:
    """The potential of ``model.start``; on resuming what the run made of it."""
    if last is not None:
        potential = checkpoint.load(last, settings.training.dtype)
        count = len(potential.elements)
        return potential, Baseline(potential.elements, potential.baseline, "start", count)
    assert settings.model.start is not None
    return starting_potential(
        settings.model.start,
        sets.train,
        settings.data.baseline,
        sets.isolated,
        settings.training.dtype,
    )


def _checked_statistics(sets: DataSets, baseline: Baseline, cutoff: float) -> Statistics:
    """Statistics of the training frames, after a look at the others."""
    statistics = compute_statistics(sets.train, baseline, cutoff)
    for part, frames in (("validation", sets.valid), ("test", sets.test)):
        _check_frames(part, frames, statistics)
    return statistics


def _check_frames(part: str, frames: Sequence[Frame], trained: Statistics) -> None:
    """Find what is wrong with validation and test frames before hours of training.

    Raises:
      ValueError: a frame without a neighbour list, or an element that no training frame has.
    """
    for k, frame in enumerate(frames):
        unknown = sorted(set(frame.numbers.tolist()) - set(trained.elements))
        if unknown:
            raise ValueError(
                f"got {', '.join(chemical_symbols[z] for z in unknown)} in frame "
                f"{name_of(frame, k)} of the {part} frames, which no training frame has; expected "
                "the elements of the training frames; change the files, or data.split (its seed)"
            )
        count_edges(frame, trained.cutoff)


def check_folder(settings: RunSettings, *, resume: bool, overwrite: bool) -> Path:
    """The folder of a run: a new one, or an old one to go on with or to replace.

    Raises:
      ConfigError: the folder holds something, and it was not said what to do with it; there is
        nothing to resume; or the earlier run had other data or another model.
    """
    folder = Path(settings.output.folder)
    record = folder / SETTINGS_FILE
    if resume:
        if not record.is_file():
            raise ConfigError(
                f"got --resume for {folder}, which holds no run; expected the folder of one; "
                "check output.folder, or leave out --resume"
            )
        _check_same_run(settings, RunSettings.load(record), folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not record.is_file():
            raise ConfigError(
                f"got the output folder {folder}, which holds other files than a run; expected a "
                "new or empty folder; choose another output.folder"
            )
        if not overwrite:
            raise ConfigError(
                f"got the output folder {folder}, which holds a run; expected a new folder; add "
                "--resume to go on with it, --overwrite to replace it, or change output.folder"
            )
    return folder


def _check_same_run(now: RunSettings, before: RunSettings, folder: Path) -> None:
    for name in ("data", "model"):
        mine, theirs = getattr(now, name).model_dump(), getattr(before, name).model_dump()
        changed = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        if changed:
            raise ConfigError(
                f"got another {name}.{changed[0]} than that of the run in {folder}; expected the "
                "same data and model to resume; restore the setting, or start a new run"
            )


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished training run.

    Attributes:
      potential: the best one.
      history: all records of the training.
      sets: the frames.
      test: errors on the test frames; ``None`` without any.
      folder: of the run.
    """

    potential: Potential
    history: tuple[Record, ...]
    sets: DataSets
    test: Metrics | None
    folder: Path


def train(
    settings: RunSettings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """A whole run: data, training, errors on the test frames, figures.

    The folder then holds ``settings.yaml``, ``split.json``, the potential (``best``), the
    training state (``last``), ``metrics.jsonl``, and with test frames ``test/metrics.json``.

    Args:
      settings: of the run.
      resume: go on with the run in the folder.
      overwrite: replace the run in the folder; files that no run writes stay.
      callbacks: told of all records, besides those that the settings ask for.
      say: takes a line for each warning about the data, before the first step.

    Raises:
      ConfigError, ValueError, OSError: as :func:`prepare`, :func:`check_folder` and
        :func:`mlffjax.training.train`.
    """
    folder = check_folder(settings, resume=resume, overwrite=overwrite)
    split_file = folder / SPLIT_FILE
    split = Split.load(split_file) if resume and split_file.is_file() else None
    ready = prepare(settings, split, newest(folder) if resume else None)
    if say is not None:
        for line in ready.warnings:
            say(f"warning: {line}")
    # The earlier run goes only now, when the new one is known to start.
    if overwrite and folder.is_dir():
        _remove_run(folder)
    write_yaml(folder / SETTINGS_FILE, settings)
    if not split_file.exists():
        ready.sets.split.save(split_file)
    result = run_training(
        ready.potential,
        ready.sets.train,
        ready.sets.valid,
        settings.training,
        folder,
        resume=resume,
        overwrite=overwrite,
        callbacks=callbacks,
        dynamics=dynamics_check(settings.training.md_validation, ready.sets.valid),
    )
    if settings.output.figures:
        draw_learning_curve(folder / _CURVE, result.history)
    metrics = None
    if len(ready.sets.test):
        evaluation = evaluate(result.potential, ready.sets.test)
        write_evaluation(folder / TEST_FOLDER, ready.sets.test, evaluation, settings.output.figures)
        metrics = evaluation.metrics
    return Outcome(result.potential, result.history, ready.sets, metrics, folder)


def _remove_run(folder: Path) -> None:
    """Remove what a run wrote; its settings last, so that a kill leaves what is known as a run."""
    remove_training(folder)
    for name in reversed(_OWN):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # There is none, or it holds other files.
        (folder / TEST_FOLDER).rmdir()


def dynamics_check(
    settings: MDValidationSettings | None, frames: Sequence[Frame]
) -> "ReplicaCheck | None":
    """What runs the dynamics of validations; ``None`` without the setting or without frames."""
    if settings is None or not len(frames):
        return None
    # JAX-MD, which takes seconds to load, is not needed otherwise.
    from mlffjax.md.validation import ReplicaCheck, starting_frames

    md = MDSettings(
        ensemble=settings.ensemble,
        steps=settings.steps,
        timestep_fs=settings.timestep_fs,
        temperature=settings.temperature,
        bond_check=True,
        # The number of splines differs from one validation to the next: each would be compiled.
        compress=False,
    )
    return ReplicaCheck(starting_frames(frames, settings.frames), md)


def draw_learning_curve(path: Path, history: Sequence[Record]) -> None:
    """Loss and validation errors along a run; nothing where there was no validation."""
    train_records = [r for r in history if r.kind == "train"]
    valid = [r for r in history if r.kind == "valid"]
    if not train_records or not valid or "forces_mae" not in valid[0].values:
        return
    plots.learning_curve(
        path,
        epochs=[r.epoch for r in train_records],
        train_loss=[r.values["loss"] for r in train_records],
        valid_epochs=[r.epoch for r in valid],
        valid_loss=[r.values["loss"] for r in valid],
        energy_mae=[r.values.get("energy_mae", np.nan) for r in valid],
        force_mae=[r.values["forces_mae"] for r in valid],
    )


def write_evaluation(
    folder: Path, frames: Sequence[Frame], evaluation: Evaluation, figures: bool = True
) -> None:
    """Write ``metrics.json`` and parity plots of an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = evaluation.metrics.as_dict()
    write_text(folder / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    if not figures:
        return
    pairs = compare(frames, evaluation)
    if pairs.energy.size:
        plots.energy_parity(folder / _ENERGY_PARITY, pairs.energy, pairs.predicted_energy)
    if pairs.forces.size:
        plots.force_parity(folder / _FORCE_PARITY, pairs.forces, pairs.predicted_forces)


def metrics_table(metrics: Metrics) -> str:
    """Errors as a text table, with what they are about; quantities without labels are left out."""
    rmse_of, atoms_of = metrics.forces_rmse_by_element, metrics.num_forces_by_element
    rows = [
        ("energy", metrics.energy_mae, metrics.energy_rmse, "meV/atom", metrics.num_energies),
        ("forces", metrics.forces_mae, metrics.forces_rmse, "meV/Å", metrics.num_forces),
        *(
            (f"forces on {symbol}", value, rmse_of[symbol], "meV/Å", atoms_of[symbol])
            for symbol, value in metrics.forces_mae_by_element.items()
        ),
        ("stress", metrics.stress_mae, metrics.stress_rmse, "meV/Å³", metrics.num_stresses),
    ]
    lines = [f"{'':<16}{'MAE':>10}{'RMSE':>10}"]
    lines += [
        f"{name:<16} {1e3 * mae:>9.3f} {1e3 * rmse:>9.3f}  {unit:<9} of {count:,} "
        + ("atoms" if name.startswith("forces") else "structures")
        for name, mae, rmse, unit, count in rows
        if mae is not None and rmse is not None
    ]
    return "\n".join(lines) if len(lines) > 1 else "no labels to compare with"
