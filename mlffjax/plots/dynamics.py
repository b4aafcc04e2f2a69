"""Figures of a molecular-dynamics run: conservation of energy, temperature."""

import os

import numpy as np
from jaxtyping import Float

from mlffjax.plots.style import ACCENT, FAINT, MODEL, REFERENCE, figure, finite, note


def energy_drift(
    path: str | os.PathLike[str],
    time: Float[np.ndarray, "samples"],
    total_energy: Float[np.ndarray, "samples"],
    drift: float,
) -> None:
    """Total energy per atom along NVE dynamics, relative to its start.

    Args:
      path: PNG to write.
      time: in ps.
      total_energy: potential and kinetic energy in eV/atom.
      drift: slope of the energy in meV/atom/ps, drawn as a line through its centre.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("energy drift", time, total_energy)
    change = 1e3 * (total_energy - total_energy[0])
    line = change.mean() + drift * (time - time.mean())
    with figure(path, 5.6, 3.5) as ax:
        ax.plot(time, change, color=MODEL, linewidth=0.9)
        ax.plot(time, line, color=ACCENT, dashes=(5, 3), linewidth=1.6)
        reach = max(float(np.abs(change).max()) * 1.5, 1e-3)
        ax.set_ylim(-reach, reach)
        ax.set_xlim(time[0], time[-1] if time[-1] > time[0] else time[0] + 1)
        ax.set_xlabel("time (ps)")
        ax.set_ylabel("change of total energy (meV/atom)")
        ax.set_title("Energy conservation, NVE", loc="left")
        spread = change.std()
        note(ax, f"drift {drift:+.4f} meV/atom/ps\nfluctuation {spread:.3g} meV/atom")


def temperature(
    path: str | os.PathLike[str],
    time: Float[np.ndarray, "samples"],
    values: Float[np.ndarray, "samples"],
    target: Float[np.ndarray, "samples"] | None = None,
) -> None:
    """Temperature along a run, with its running mean and the target of the thermostat.

    The mean in the title is that of the second half, as in the summary of a run.

    Args:
      path: PNG to write.
      time: in ps.
      values: in K.
      target: of the thermostat at each time in K, or ``None`` without one.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("temperature", time, values, *(() if target is None else (target,)))
    width = max(1, len(values) // 40)
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    center = time[(width - 1) // 2 : (width - 1) // 2 + len(smooth)]
    with figure(path, 5.6, 3.5) as ax:
        ax.plot(time, values, color=FAINT, linewidth=0.7, label="instantaneous")
        ax.plot(center, smooth, color=MODEL, label="running mean")
        if target is not None:
            ax.plot(time, target, color=REFERENCE, dashes=(4, 3), linewidth=1.1, label="target")
        ax.set_xlim(time[0], time[-1] if time[-1] > time[0] else time[0] + 1)
        ax.set_ylim(bottom=0, top=1.3 * values.max())
        ax.set_xlabel("time (ps)")
        ax.set_ylabel("temperature (K)")
        settled = values[len(values) // 2 :].mean()
        ax.set_title(f"Temperature, mean {settled:.0f} K in the second half", loc="left")
        ax.legend(ncols=3, loc="upper right")
