"""Replicas of one structure with everything they leave behind: ``mlffjax md ... replicas=N``."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlffjax.config.files import write_text, write_yaml
from mlffjax.config.md import MDSettings
from mlffjax.data import Frame
from mlffjax.interruption import interruptible
from mlffjax.md.records import MDResult
from mlffjax.md.replicas import run_replicas
from mlffjax.md.stability import stability_coefficient
from mlffjax.potential import Potential
from mlffjax.simulation import SETTINGS_FILE, SUMMARY_FILE, ns_per_day


@dataclass(frozen=True, eq=False)
class ReplicaSimulation:
    """Replicas that have ended.

    Attributes:
      results: one for each replica.
      settings: of the run.
      folder: of the run; replica ``k`` is in ``replica_00k``.
      exit_code: of a command: 0, or 128 and the number of the signal that ended the run.
    """

    results: Sequence[MDResult]
    settings: MDSettings
    folder: Path
    exit_code: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of a summary."""
        results, total = self.results, self.settings.steps
        speed = float(np.nansum([result.steps_per_second for result in results]))
        rows = [(f"replica {k}", _ended(result)) for k, result in enumerate(results)]
        stable = stability_coefficient([result.steps for result in results], total)
        rows.append(("stability coefficient", f"{stable:.3f}"))
        per_day = ns_per_day(speed, self.settings.timestep_fs)
        rows.append(("speed of all together", f"{speed:.0f} steps/s, {per_day:.3g} ns/day"))
        return rows


def _ended(result: MDResult) -> str:
    """How a replica ended, and its means over the second half."""
    thermo = result.thermo
    late = slice(len(thermo.step) // 2, None)
    means = f"{thermo.temperature[late].mean():.1f} K"
    if thermo.pressure is not None and thermo.volume is not None:
        means += f", {thermo.pressure[late].mean():.4f} GPa, {thermo.volume[late].mean():.2f} Å^3"
    return f"{result.message}, {means} (second half)"


def simulate_replicas(
    potential: Potential,
    frame: Frame,
    settings: MDSettings,
    folder: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
) -> ReplicaSimulation:
    """Run ``settings.replicas`` copies in one program, each with a seed of its own.

    Trajectories and logs go to ``replica_000`` and so on in the folder; settings, summary and
    the restart file of all to the folder itself. Ctrl-C and SIGTERM end the run after the
    present stretch of steps, with a restart file.

    Args:
      potential: the force field.
      frame: where all replicas start.
      settings: of the run.
      folder: where everything goes.
      overwrite: whether files of an earlier run may be replaced.
      resume: go on with the run in the folder.
      progress: show a progress bar.

    Raises:
      ValueError, FileExistsError, OSError: as :func:`mlffjax.md.replicas.run_replicas`.
    """
    folder = Path(folder)
    bar = _Bar(settings, folder / SETTINGS_FILE, hidden=not progress)
    with interruptible() as asked, bar:
        results = run_replicas(
            potential,
            [frame] * settings.replicas,
            settings,
            folder=folder,
            overwrite=overwrite,
            resume=resume,
            progress=bar.show,
            stop=asked,
        )
    interrupted = any(result.status == "interrupted" for result in results)
    code = asked.exit_code if interrupted else 0
    simulation = ReplicaSimulation(results, settings, folder, code)
    write_text(folder / SUMMARY_FILE, json.dumps(dict(simulation.rows()), indent=1) + "\n")
    return simulation


class _Bar:
    """Notes the settings once the run has begun, and shows the speed of all together."""

    def __init__(self, settings: MDSettings, record: Path, *, hidden: bool) -> None:
        self._settings, self._record = settings, record
        self._bar = tqdm(total=settings.steps, unit="step", disable=hidden)
        self._begun: tuple[int, float] | None = None

    def show(self, done: int) -> None:
        """Take the steps done."""
        now = time.perf_counter()
        if self._begun is None:
            write_yaml(self._record, self._settings)
            self._begun = done, now
            self._bar.reset()
            self._bar.initial = done
        step, then = self._begun
        shown = {}
        if done > step:
            rate = self._settings.replicas * (done - step) / (now - then)
            shown["ns/day"] = f"{ns_per_day(rate, self._settings.timestep_fs):.3g}"
        self._bar.n = done
        self._bar.set_postfix(shown)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
