"""Parity plots: predicted against reference values."""

import os

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from mlffjax.plots.style import MODEL, REFERENCE, figure, finite

#: More points than this are drawn as a density.
DENSITY_FROM = 2000

_BLUES = LinearSegmentedColormap.from_list(
    "density", ["#cfe3f2", "#7fb6dc", "#2f86c0", "#0a5a94", "#06304f"]
)


def energy_parity(
    path: str | os.PathLike[str],
    reference: Float[np.ndarray, "frames"],
    predicted: Float[np.ndarray, "frames"],
) -> None:
    """Parity of energies per atom, relative to the mean of the reference.

    Args:
      path: PNG to write.
      reference: eV/atom.
      predicted: eV/atom.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("energy parity plot", reference, predicted)
    center = reference.mean()
    _parity(path, 1e3 * (reference - center), 1e3 * (predicted - center), "Energy", "meV/atom")


def force_parity(
    path: str | os.PathLike[str],
    reference: Float[np.ndarray, "atoms 3"],
    predicted: Float[np.ndarray, "atoms 3"],
) -> None:
    """Parity of all force components.

    Args:
      path: PNG to write.
      reference: eV/Angstrom.
      predicted: eV/Angstrom.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("force parity plot", reference, predicted)
    _parity(path, reference.ravel(), predicted.ravel(), "Force components", "eV/Å", 1e3, "meV/Å")


def _parity(
    path: str | os.PathLike[str],
    reference: np.ndarray,
    predicted: np.ndarray,
    quantity: str,
    unit: str,
    factor: float = 1.0,
    error_unit: str | None = None,
) -> None:
    error = factor * (predicted - reference)
    mae, rmse = np.abs(error).mean(), np.sqrt((error**2).mean())
    both = np.concatenate([reference, predicted])
    low, high = both.min(), both.max()
    margin = 0.04 * (high - low) or 1.0
    span = (low - margin, high + margin)
    with figure(path, 5.2, 4.9) as ax:
        ax.plot(span, span, color=REFERENCE, linewidth=0.9, dashes=(4, 3), zorder=1)
        if reference.size > DENSITY_FROM:
            drawn = ax.hexbin(
                reference,
                predicted,
                gridsize=90,
                extent=(*span, *span),
                mincnt=1,
                norm=LogNorm(),
                cmap=_BLUES,
                linewidths=0.1,
                zorder=2,
            )
            bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.75, pad=0.02, aspect=28)
            bar.set_label("values in a bin")
            bar.outline.set_visible(False)
        else:
            ax.scatter(reference, predicted, s=14, color=MODEL, alpha=0.55, linewidths=0, zorder=2)
        ax.set(xlim=span, ylim=span, aspect="equal")
        ax.set_xlabel(f"reference ({unit})")
        ax.set_ylabel(f"predicted ({unit})")
        ax.set_title(f"{quantity}: MAE {mae:.3g}, RMSE {rmse:.3g} {error_unit or unit}", loc="left")
