"""Histograms of energies, forces and pressures of a data set."""

import os

import numpy as np
from jaxtyping import Float

from mlffjax.plots.style import REFERENCE, figure, finite


def data_report(
    path: str | os.PathLike[str],
    energies: Float[np.ndarray, "labelled"],
    forces: Float[np.ndarray, "vectors"],
    pressures: Float[np.ndarray, "stressed"],
    bins: int = 60,
) -> None:
    """One panel for each label there is; counts on a logarithmic scale.

    Args:
      path: PNG to write.
      energies: per atom, less the element energies, in eV; may be empty, as the others.
      forces: magnitudes of force vectors in eV/Angstrom.
      pressures: in GPa.
      bins: of each histogram.

    Raises:
      ValueError: all three are empty, or a value is not finite.
    """
    labels = {
        "energy per atom − E0 (eV)": np.asarray(energies),
        "force magnitude (eV/Å)": np.asarray(forces),
        "pressure (GPa)": np.asarray(pressures),
    }
    panels = {label: values for label, values in labels.items() if values.size}
    if not panels:
        raise ValueError("got no energies, forces or pressures to plot; expected labelled frames")
    for label, values in panels.items():
        finite(label, values)
    with figure(path, 3.2 * len(panels) + 0.6, 3.0, columns=len(panels)) as axes:
        for ax, (label, values) in zip(np.atleast_1d(axes), panels.items(), strict=True):
            ax.hist(values, bins=bins, color=REFERENCE, log=True)
            ax.set_xlabel(label)
        np.atleast_1d(axes)[0].set_ylabel("count")
