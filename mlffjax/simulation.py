"""A molecular dynamics run with everything it leaves behind: the steps of ``mlffjax md``."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlffjax import plots
from mlffjax.config.files import write_yaml
from mlffjax.config.md import MDSettings
from mlffjax.data import Frame
from mlffjax.md.engine import run_md
from mlffjax.md.observables import energy_drift
from mlffjax.md.records import MDResult
from mlffjax.potential import Potential

SETTINGS_FILE = "settings.yaml"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, eq=False)
class Simulation:
    """A finished run.

    Attributes:
      result: rows and final state.
      drift: slope of the total energy in meV/atom/ps, for NVE; ``None`` for another ensemble
        and for too few rows.
      folder: of the run.
    """

    result: MDResult
    drift: float | None
    folder: Path

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of a summary."""
        thermo, result = self.result.thermo, self.result
        late = thermo.temperature[len(thermo.temperature) // 2 :]
        rows = [
            ("ended", result.message),
            ("time", f"{thermo.time_fs[-1] / 1000:.3f} ps in {result.steps} steps"),
            ("temperature", f"{late.mean():.1f} K (second half)"),
            ("speed", f"{result.steps_per_second:.0f} steps/s"),
        ]
        if self.drift is not None:
            rows.append(("drift of total energy", f"{self.drift:+.4f} meV/atom/ps"))
        return rows


def simulate(
    potential: Potential,
    frame: Frame,
    settings: MDSettings,
    folder: Path,
    *,
    overwrite: bool = False,
    initial_velocities: np.ndarray | None = None,
) -> Simulation:
    """Run dynamics, and write trajectory, thermodynamics, settings, summary and figures.

    Args:
      potential: the force field.
      frame: where to start.
      settings: of the run.
      folder: where everything goes.
      overwrite: whether files of an earlier run may be replaced.
      initial_velocities: ``[atoms, 3]`` in Angstrom/fs; drawn if not given.

    Raises:
      ValueError, FileExistsError: as :func:`mlffjax.md.engine.run_md`.
    """
    result = run_md(
        potential,
        frame,
        settings,
        folder=folder,
        overwrite=overwrite,
        initial_velocities=initial_velocities,
    )
    drift = None
    if settings.ensemble == "nve" and len(result.thermo.step) > 2:
        drift = 1000 * energy_drift(result.thermo, len(frame.numbers))[0]
    simulation = Simulation(result, drift, folder)
    write_yaml(folder / SETTINGS_FILE, settings)
    (folder / SUMMARY_FILE).write_text(json.dumps(dict(simulation.rows()), indent=1) + "\n")
    _draw(simulation, settings, len(frame.numbers))
    return simulation


def _draw(simulation: Simulation, settings: MDSettings, num_atoms: int) -> None:
    thermo, folder = simulation.result.thermo, simulation.folder
    time = thermo.time_fs / 1000
    target = None if settings.ensemble == "nve" else settings.temperature
    plots.temperature(folder / "temperature.png", time, thermo.temperature, target)
    if simulation.drift is not None:
        total = thermo.total / num_atoms
        plots.energy_drift(folder / "energy_drift.png", time, total, simulation.drift)
