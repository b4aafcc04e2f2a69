"""A molecular dynamics run with everything it leaves behind: the steps of ``mlffjax md``."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlffjax import plots
from mlffjax.config.files import write_text, write_yaml
from mlffjax.config.md import MDSettings
from mlffjax.data import Frame
from mlffjax.interruption import interruptible
from mlffjax.md.engine import run_md
from mlffjax.md.observables import energy_drift
from mlffjax.md.records import MDResult, Thermo
from mlffjax.potential import Potential

SETTINGS_FILE = "settings.yaml"
SUMMARY_FILE = "summary.json"
#: Change of the conserved energy, as a part of the kinetic energy, beyond which a run is doubted.
#: Velocity Verlet at a sensible time step stays below a hundredth, an explosion is above one.
DOUBTFUL_CHANGE = 0.2


@dataclass(frozen=True, eq=False)
class Simulation:
    """A run that has ended.

    Attributes:
      result: rows and final state.
      drift: slope of the conserved quantity in meV/atom/ps; ``None`` for an ensemble without
        one, for targets that change, and for too few rows.
      change: largest departure of that quantity from its start in meV/atom; likewise ``None``.
      timestep_fs: in fs.
      folder: of the run.
      exit_code: of a command: 0, or 128 and the number of the signal that ended the run.
    """

    result: MDResult
    drift: float | None
    change: float | None
    timestep_fs: float
    folder: Path
    exit_code: int = 0

    @property
    def settled_temperature(self) -> float:
        """Mean of the second half in K."""
        temperature = self.result.thermo.temperature
        return float(temperature[len(temperature) // 2 :].mean())

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of a summary."""
        thermo, result = self.result.thermo, self.result
        late = slice(len(thermo.temperature) // 2, None)
        speed = result.steps_per_second
        rows = [
            ("ended", result.message),
            ("time", f"{thermo.time_fs[-1] / 1000:.3f} ps in {result.steps} steps"),
            ("temperature", f"{self.settled_temperature:.1f} K (second half)"),
        ]
        if thermo.pressure is not None and thermo.volume is not None:
            pressure, volume = thermo.pressure[late].mean(), thermo.volume[late].mean()
            rows.append(("pressure", f"{pressure:.4f} GPa (second half)"))
            rows.append(("volume", f"{volume:.2f} Å^3 (second half)"))
        if self.drift is not None:
            rows.append(("drift of conserved energy", f"{self.drift:+.4f} meV/atom/ps"))
        if self.change is not None:
            rows.append(("largest change of it", f"{self.change:.4f} meV/atom{self._doubt()}"))
        rows.append(
            ("speed", f"{speed:.0f} steps/s, {ns_per_day(speed, self.timestep_fs):.3g} ns/day")
        )
        rows.append(("neighbour list made", f"{result.rebuilds} times"))
        rows.append(("stretches redone", f"{result.redone_chunks}"))
        return rows

    def _doubt(self) -> str:
        """What to do about energy that came from nowhere, as by too long a time step."""
        thermo, atoms = self.result.thermo, len(self.result.final.numbers)
        usual = 1000 * float(np.median(thermo.kinetic)) / atoms
        if self.change is None or self.change < DOUBTFUL_CHANGE * usual:
            return ""
        return (
            f", {self.change / usual:.2g} times the kinetic energy: do not trust this run; shorten "
            "the time step, relax the start, or improve the potential"
        )


def ns_per_day(steps_per_second: float, timestep_fs: float) -> float:
    """Simulated nanoseconds a day.

    >>> ns_per_day(1000, 0.5)
    43.2
    """
    return steps_per_second * timestep_fs * 86_400 / 1e6


def simulate(
    potential: Potential,
    frame: Frame,
    settings: MDSettings,
    folder: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    initial_velocities: np.ndarray | None = None,
    progress: bool = False,
) -> Simulation:
    """Run dynamics, and write trajectory, thermodynamics, settings, summary and figures.

    Ctrl-C and SIGTERM end the run after the present stretch of steps, with a restart file.

    Args:
      potential: the force field.
      frame: where to start.
      settings: of the run.
      folder: where everything goes.
      overwrite: whether files of an earlier run may be replaced.
      resume: go on with the run in the folder.
      initial_velocities: ``[atoms, 3]`` in Angstrom/fs; drawn if not given.
      progress: show a progress bar.

    Raises:
      ValueError, FileExistsError, OSError: as :func:`mlffjax.md.engine.run_md`.
    """
    folder = Path(folder)
    bar = _Bar(settings, folder / SETTINGS_FILE, len(frame.numbers), hidden=not progress)
    with interruptible() as asked, bar:
        result = run_md(
            potential,
            frame,
            settings,
            folder=folder,
            overwrite=overwrite,
            resume=resume,
            initial_velocities=initial_velocities,
            progress=bar.show,
            stop=asked,
        )
    code = asked.exit_code if result.status == "interrupted" else 0
    drift, change = _conservation(result.thermo, settings, len(frame.numbers))
    simulation = Simulation(result, drift, change, settings.timestep_fs, folder, code)
    write_text(folder / SUMMARY_FILE, json.dumps(dict(simulation.rows()), indent=1) + "\n")
    _draw(simulation, settings, len(frame.numbers))
    return simulation


def _conservation(
    thermo: Thermo, settings: MDSettings, num_atoms: int
) -> tuple[float | None, float | None]:
    """Drift in meV/atom/ps and largest change in meV/atom of what is conserved, if known."""
    known = len(thermo.step) > 2 and bool(np.isfinite(thermo.conserved).all())
    if not known or settings.ramped:
        return None, None
    change = np.abs(thermo.conserved - thermo.conserved[0]).max() / num_atoms
    return 1000 * energy_drift(thermo, num_atoms)[0], 1000 * float(change)


class _Bar:
    """Notes the settings once the run has begun, and shows speed, temperature, pressure, drift."""

    def __init__(self, settings: MDSettings, record: Path, num_atoms: int, *, hidden: bool) -> None:
        self._settings, self._record, self._num_atoms = settings, record, num_atoms
        self._bar = tqdm(total=settings.steps, unit="step", disable=hidden)
        self._first: float | None = None
        self._begun = (0, 0.0)

    def show(self, done: int, thermo: Thermo) -> None:
        """Take the rows of a stretch."""
        now = time.perf_counter()
        if self._first is None:
            write_yaml(self._record, self._settings)
            self._first, self._begun = float(thermo.conserved[0]), (done, now)
            self._bar.reset()
            self._bar.initial = done
        shown = {}
        step, then = self._begun
        if done > step:
            speed = ns_per_day((done - step) / (now - then), self._settings.timestep_fs)
            shown["ns/day"] = f"{speed:.3g}"
        if len(thermo.step):
            shown["T"] = f"{thermo.temperature[-1]:.0f} K"
            if thermo.pressure is not None:
                shown["P"] = f"{thermo.pressure[-1]:.3f} GPa"
            drift = 1000 * (float(thermo.conserved[-1]) - self._first) / self._num_atoms
            if np.isfinite(drift):
                shown["dE"] = f"{drift:+.3f} meV/atom"
        self._bar.n = done
        self._bar.set_postfix(shown)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _draw(simulation: Simulation, settings: MDSettings, num_atoms: int) -> None:
    thermo, folder = simulation.result.thermo, simulation.folder
    time = thermo.time_fs / 1000
    target = None if settings.ensemble == "nve" else _targets(thermo, settings)
    plots.temperature(folder / "temperature.png", time, thermo.temperature, target)
    energy = folder / "energy_drift.png"
    if simulation.drift is not None and settings.ensemble == "nve":
        plots.energy_drift(energy, time, thermo.total / num_atoms, simulation.drift)
    else:
        energy.unlink(missing_ok=True)  # of a run that this one has overwritten


def _targets(thermo: Thermo, settings: MDSettings) -> np.ndarray:
    """Target of the thermostat at each row in K."""
    begin = settings.temperature
    end = begin if settings.temperature_end is None else settings.temperature_end
    return begin + (end - begin) * np.asarray(thermo.step) / max(settings.steps, 1)
