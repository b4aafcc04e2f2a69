"""The steps of ``mlffjax analyze``: observables of trajectories, written and drawn."""

import contextlib
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlffjax.analysis.results import Curves, Map, Result, Scalar
from mlffjax.analysis.run import Analysis, analyze
from mlffjax.analysis.sources import open_replicas
from mlffjax.config.analysis import AnalysisSettings
from mlffjax.config.files import write_text, write_yaml
from mlffjax.plots.observables import observable_curves, observable_map

SETTINGS_FILE = "settings.yaml"
SUMMARY_FILE = "summary.json"
SCALARS_FILE = "scalars.csv"

#: Drawn up to here: no vibration is above.
_HIGHEST_WAVE_NUMBER = 4500.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """A trajectory and, where there is one, its reference.

    Attributes:
      trajectory: what it gave.
      reference: the same of the reference, on the same grids; ``None`` without one.
      folder: where everything was written.
    """

    trajectory: Analysis
    reference: Analysis | None
    folder: Path

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of a summary."""
        several = self.trajectory.trajectories
        of = f" of {several} trajectories" if several > 1 else ""
        rows = [("frames", f"{self.trajectory.frames}{of}")]
        for result in self.trajectory.results:
            if isinstance(result, Scalar):
                other = _counterpart(result, self.reference)
                beside = f"   reference {other}" if isinstance(other, Scalar) else ""
                rows.append((result.name, f"{result}{beside}"))
        for name, value in self.differences().items():
            rows.append((f"MAE {name}", f"{value:.3g}"))
        return rows

    def notes(self) -> list[str]:
        """What was left out, of the trajectory and of the reference, and what limits a result."""
        ours = list(self.trajectory.notes)
        theirs = () if self.reference is None else self.reference.notes
        return ours + [f"reference: {note}" for note in theirs if note not in ours]

    def differences(self) -> dict[str, float]:
        """Mean absolute errors against the reference, by curve or map."""
        found = {}
        for result in self.trajectory.results:
            other = _counterpart(result, self.reference)
            if isinstance(result, Curves) and isinstance(other, Curves):
                for label, mae in zip(result.labels, _curve_errors(result, other), strict=True):
                    if mae is not None:
                        found[f"{result.name} {label}"] = mae
            elif isinstance(result, Map) and isinstance(other, Map):
                found[result.name] = float(np.abs(result.values - other.values).mean())
        return found


def analyze_files(
    source: str | Sequence[str],
    folder: Path,
    settings: AnalysisSettings,
    reference: str | None = None,
) -> Comparison:
    """Observables of a file as CSV and figures, and the mean absolute error to a reference.

    Args:
      source: a trajectory, the folder of a simulation or of a run of replicas, or a data set; or
        several of these, of the same atoms. All trajectories together give one result.
      folder: where everything is written.
      settings: which observables.
      reference: one of these too.

    Raises:
      ValueError, OSError: a file cannot be read, or an observable that was asked for by name
        cannot be made of it.
    """
    sources = [source] if isinstance(source, str) else list(source)
    ours = _analyzed(sources, settings)
    theirs = None
    if reference is not None:
        # On the same grid; its own frames, as it may be of another length.
        own = {"start": 0, "stop": None, "step": 1, "what": None, "frame_fs": None}
        shared = ours.settings.model_copy(update=own)
        theirs = _analyzed([reference], shared)
    folder.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(ours, theirs, folder)
    for result in ours.results:
        other = _counterpart(result, theirs)
        if isinstance(result, Curves):
            _write_curves(folder, result, other if isinstance(other, Curves) else None)
        elif isinstance(result, Map):
            _write_map(folder, result, other if isinstance(other, Map) else None)
    _write_scalars(folder, comparison)
    write_yaml(folder / SETTINGS_FILE, ours.settings)
    summary = {
        "trajectory": sources[0] if len(sources) == 1 else sources,
        "reference": reference,
        "frames": ours.frames,
        "trajectories": ours.trajectories,
        "scalars": {
            r.name: {"value": r.value, "error": _or_none(r.error), "unit": r.unit}
            for r in ours.results
            if isinstance(r, Scalar)
        },
        "mae": comparison.differences(),
        "notes": comparison.notes(),
    }
    write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return comparison


def _analyzed(sources: Sequence[str], settings: AnalysisSettings) -> Analysis:
    with contextlib.ExitStack() as stack:
        trajectories = [
            stack.enter_context(trajectory)
            for source in sources
            for trajectory in open_replicas(source)
        ]
        return analyze(trajectories, settings)


def _counterpart(result: Result, analysis: Analysis | None) -> Result | None:
    if analysis is None:
        return None
    same = (r for r in analysis.results if r.name == result.name and type(r) is type(result))
    return next(same, None)


def _on_grid_of(ours: Curves, theirs: Curves) -> list[np.ndarray | None]:
    """The reference's curves at our points; ``None`` for a curve it lacks, NaN beyond its range."""
    found: list[np.ndarray | None] = []
    for label in ours.labels:
        if label not in theirs.labels:
            found.append(None)
            continue
        values = theirs.values[theirs.labels.index(label)]
        found.append(np.interp(ours.x, theirs.x, values, left=np.nan, right=np.nan))
    return found


def _curve_errors(ours: Curves, theirs: Curves) -> list[float | None]:
    errors: list[float | None] = []
    for values, other in zip(ours.values, _on_grid_of(ours, theirs), strict=True):
        both = None if other is None else np.isfinite(other)
        if other is None or both is None or not both.any():
            errors.append(None)
        else:
            errors.append(float(np.abs(values - other)[both].mean()))
    return errors


def _write_curves(folder: Path, ours: Curves, theirs: Curves | None) -> None:
    others = [None] * len(ours.labels) if theirs is None else _on_grid_of(ours, theirs)
    head, columns = [ours.x_label], [ours.x]
    for k, label in enumerate(ours.labels):
        head += [label, f"{label} error"]
        columns += [ours.values[k], ours.errors[k]]
        other = others[k]
        if other is not None:
            head.append(f"{label} reference")
            columns.append(other)
    _write_table(folder / f"{ours.name}.csv", head, np.stack(columns, axis=1).tolist())
    shown = _shown(ours, [other for other in others if other is not None])
    observable_curves(
        folder / f"{ours.name}.png",
        ours.title,
        (ours.x_label, ours.y_label),
        ours.x[shown],
        [
            (label, values[shown], errors[shown])
            for label, values, errors in zip(ours.labels, ours.values, ours.errors, strict=True)
        ],
        [None if other is None else other[shown] for other in others],
        [] if theirs is None else _curve_errors(ours, theirs),
    )


def _shown(curves: Curves, others: list[np.ndarray]) -> np.ndarray:
    """Which points ``[points]`` a figure has."""
    if curves.name == "spectrum":
        return curves.x <= _HIGHEST_WAVE_NUMBER
    points = np.arange(len(curves.x))
    there = np.nan_to_num(np.stack([*curves.values, *others])).any(axis=0)
    if curves.name != "extent" or not there.any():
        return points >= 0
    # The grid is wider than any chain of the molecule.
    filled = points[there]
    return (points >= filled[0] - 2) & (points <= filled[-1] + 2)


def _write_map(folder: Path, ours: Map, theirs: Map | None) -> None:
    x, y = np.meshgrid(ours.x, ours.y, indexing="ij")
    head = [ours.x_label, ours.y_label, "density", "error"]
    columns = [x, y, ours.values, ours.errors]
    if theirs is not None:
        head.append("reference")
        columns.append(theirs.values)
    rows = np.stack([c.ravel() for c in columns], axis=1).tolist()
    _write_table(folder / f"{ours.name}.csv", head, rows)
    observable_map(
        folder / f"{ours.name}.png",
        ours.title,
        (ours.x_label, ours.y_label),
        ours.x,
        ours.y,
        ours.values,
        None if theirs is None else theirs.values,
    )


def _write_scalars(folder: Path, comparison: Comparison) -> None:
    rows = []
    for result in comparison.trajectory.results:
        if isinstance(result, Scalar):
            other = _counterpart(result, comparison.reference)
            beside = [other.value, other.error] if isinstance(other, Scalar) else ["", ""]
            rows.append([result.name, result.value, result.error, result.unit, *beside])
    head = ["name", "value", "error", "unit", "reference", "reference error"]
    _write_table(folder / SCALARS_FILE, head, rows)


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(head)
        table.writerows([f"{x:.8g}" if isinstance(x, float) else x for x in row] for row in rows)


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else value
