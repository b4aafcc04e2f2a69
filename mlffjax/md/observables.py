"""What to read off the log of a simulation: energy drift."""

import numpy as np

from mlffjax.md.records import Thermo


def energy_drift(thermo: Thermo, num_atoms: int) -> tuple[float, float]:
    """Drift and fluctuation of the conserved quantity.

    Args:
      thermo: rows of an NVE or Nose-Hoover simulation.
      num_atoms: atoms of the system.

    Returns:
      The slope of a straight line fitted to the conserved quantity in eV per atom and ps, and
      the standard deviation about that line in eV per atom.

    Raises:
      ValueError: fewer than three rows, or a dynamics that conserves nothing.
    """
    if len(thermo.step) < 3 or not np.isfinite(thermo.conserved).all():
        raise ValueError(
            f"got {len(thermo.step)} rows with the conserved quantity "
            f"{thermo.conserved[:1]}; expected three or more finite values; use NVE or "
            "Nose-Hoover, and a shorter thermo_interval"
        )
    time_ps = thermo.time_fs * 1e-3
    energy = (thermo.conserved - thermo.conserved[0]) / num_atoms
    slope, offset = np.polyfit(time_ps - time_ps.mean(), energy, 1)
    rest = energy - slope * (time_ps - time_ps.mean()) - offset
    return float(slope), float(rest.std())
