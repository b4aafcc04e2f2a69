"""Short dynamics from a few frames, as a measure of a potential: stability and drift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.observables import energy_drift
from mlffjax.md.replicas import run_replicas
from mlffjax.md.stability import stability_coefficient
from mlffjax.potential import Potential


@dataclass(frozen=True, eq=False)
class ReplicaCheck:
    """Dynamics from given frames with whatever potential it is called with.

    The same frames, velocities and settings at every call: what changes is due to the potential.
    Parameters are arguments of the compiled program, so one compilation serves all potentials
    of one architecture, unless the neighbour lists need more room.

    Attributes:
      frames: where the replicas start; all with the same periodic directions.
      settings: of each replica.
    """

    frames: tuple[Frame, ...]
    settings: MDSettings

    def __call__(self, potential: Potential) -> dict[str, float]:
        """Stability and drift of a potential.

        Returns:
          ``md_stability``, the mean stability coefficient (eq. 28 of SO3krates);
          ``md_temperature``, the mean temperature in kelvin, over the second half of the runs;
          and, if a run was stable to its end, ``md_drift``, the mean size of the drift of the
          conserved energy over these in eV per atom and ps.
        """
        results = run_replicas(potential, self.frames, self.settings)
        stable = [r.steps for r in results]
        values = {"md_stability": stability_coefficient(stable, self.settings.steps)}
        late = [r.thermo.temperature[len(r.thermo.step) // 2 :].mean() for r in results]
        values["md_temperature"] = float(np.mean(late))
        drifts = [
            abs(energy_drift(r.thermo, len(r.final.numbers))[0])
            for r in results
            if r.status == "finished"
        ]
        if drifts:
            values["md_drift"] = float(np.mean(drifts))
        return values


def starting_frames(frames: Sequence[Frame], count: int) -> tuple[Frame, ...]:
    """Up to ``count`` frames, taken evenly from those like the first in their periodicity.

    Args:
      frames: at least one.
      count: wanted.
    """
    alike = [
        k
        for k in range(len(frames))
        if len(frames[k].numbers) > 1 and (frames[k].pbc == frames[0].pbc).all()
    ] or [0]
    chosen = np.linspace(0, len(alike) - 1, min(count, len(alike))).astype(int)
    return tuple(frames[alike[k]] for k in chosen)
