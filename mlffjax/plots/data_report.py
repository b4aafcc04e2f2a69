"""Histograms of energies, forces and pressures of a data set."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure


def data_report_figure(
    energies: Float[np.ndarray, "labelled"],
    forces: Float[np.ndarray, "vectors"],
    pressures: Float[np.ndarray, "stressed"],
    title: str = "",
) -> Figure:
    """One panel for each label there is; counts on a logarithmic scale.

    Save it with ``figure.savefig(path)``.

    Args:
      energies: per atom, less the element energies, in eV.
      forces: magnitudes of force vectors in eV/Angstrom.
      pressures: in GPa.
      title: of the figure.

    Raises:
      ValueError: all three are empty.
    """
    panels = [
        (energies, "energy per atom - E0 (eV)"),
        (forces, "force magnitude (eV/Å)"),
        (pressures, "pressure (GPa)"),
    ]
    panels = [(values, label) for values, label in panels if values.size]
    if not panels:
        raise ValueError("got no energies, forces or pressures to plot; expected labelled frames")
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (values, label) in zip(axes, panels, strict=True):
        axis.hist(values, bins=60, color="tab:blue", log=True)
        axis.set_xlabel(label)
    axes[0].set_ylabel("count")
    figure.suptitle(title)
    return figure
