"""Replicas of one structure with everything they leave behind: ``mlffjax md ... replicas=N``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlffjax.config.files import write_yaml
from mlffjax.config.md import MDSettings
from mlffjax.data import Frame
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
    """

    results: Sequence[MDResult]
    settings: MDSettings
    folder: Path

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of a summary."""
        results, total = self.results, self.settings.steps
        late = [r.thermo.temperature[len(r.thermo.step) // 2 :].mean() for r in results]
        speed = float(np.nansum([result.steps_per_second for result in results]))
        rows = [
            (f"replica {k}", f"{result.message}, {temperature:.1f} K (second half)")
            for k, (result, temperature) in enumerate(zip(results, late, strict=True))
        ]
        stable = stability_coefficient([result.steps for result in results], total)
        rows.append(("stability coefficient", f"{stable:.3f}"))
        per_day = ns_per_day(speed, self.settings.timestep_fs)
        rows.append(("speed of all together", f"{speed:.0f} steps/s, {per_day:.3g} ns/day"))
        return rows


def simulate_replicas(
    potential: Potential,
    frame: Frame,
    settings: MDSettings,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> ReplicaSimulation:
    """Run ``settings.replicas`` copies in one program, each with a seed of its own.

    Trajectories and logs go to ``replica_000`` and so on in the folder, settings and summary to
    the folder itself.

    Args:
      potential: the force field.
      frame: where all replicas start.
      settings: of the run.
      folder: where everything goes.
      overwrite: whether files of an earlier run may be replaced.
      progress: show a progress bar.

    Raises:
      ValueError, FileExistsError, OSError: as :func:`mlffjax.md.replicas.run_replicas`.
    """
    folder = Path(folder)
    with tqdm(total=settings.steps, unit="step", disable=not progress) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        frames = [frame] * settings.replicas
        results = run_replicas(
            potential, frames, settings, folder=folder, overwrite=overwrite, progress=show
        )
    simulation = ReplicaSimulation(results, settings, folder)
    write_yaml(folder / SETTINGS_FILE, settings)
    (folder / SUMMARY_FILE).write_text(json.dumps(dict(simulation.rows()), indent=1) + "\n")
    return simulation
