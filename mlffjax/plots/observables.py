"""Figures of the observables of a trajectory, alone or over those of a reference."""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from mlffjax.plots.style import ACCENT, FAINT, MODEL, REFERENCE, SECOND, figure, finite

#: Curves that share one panel; more have a panel each.
SHARED = 4
#: Panels of a figure, at most.
MAX_PANELS = 12
#: Characters of a label that has its error in the same line.
LONG_LABEL = 20
_COLOURS = (MODEL, ACCENT, SECOND, "#cc79a7")


def observable_curves(
    path: str | os.PathLike[str],
    title: str,
    axes: tuple[str, str],
    x: Float[np.ndarray, "points"],
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]],
    reference: Sequence[np.ndarray | None] = (),
    differences: Sequence[float | None] = (),
) -> None:
    """Curves with bands of one standard error; with a reference, a panel each.

    Args:
      path: PNG to write.
      title: of the figure.
      axes: labels of x and y.
      x: ``[points]``.
      curves: for each its label, values and standard errors ``[points]``; errors that are not
        finite are not drawn. The first twelve where each has a panel.
      reference: for each curve its values in the reference, or ``None``.
      differences: for each curve its mean absolute error, for the title of its panel.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    for label, values, _ in curves:
        finite(f"{title} ({label})", x, values)
    if not curves:
        raise ValueError(f"got no curves for the {title}; expected one or more; check the data")
    if not any(r is not None for r in reference) and len(curves) <= SHARED:
        with figure(path, 6.4, 3.8) as ax:
            for colour, (label, values, errors) in zip(_COLOURS, curves, strict=False):
                _curve(ax, x, values, errors, colour, label)
            _finish(ax, axes, x)
            ax.set_title(title, loc="left")
            if len(curves) > 1:
                ax.legend()
        return
    _panels(path, title, axes, x, curves, reference, differences)


def _panels(path, title, axes, x, curves, reference, differences) -> None:
    curves = curves[:MAX_PANELS]
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    size = (6.4, 3.8) if len(curves) == 1 else (3.6 * columns, 2.9 * rows)
    with figure(path, *size, rows=rows, columns=columns) as grid:
        panels = np.atleast_1d(grid).ravel()
        for k, (label, values, errors) in enumerate(curves):
            ax = panels[k]
            theirs = reference[k] if k < len(reference) else None
            if theirs is not None:
                ax.fill_between(x, theirs, color=FAINT, alpha=0.5, linewidth=0)
                ax.plot(x, theirs, color=REFERENCE, linewidth=1.0, label="reference")
            _curve(ax, x, values, errors, MODEL, "trajectory")
            _finish(ax, axes, x)
            mae = differences[k] if k < len(differences) else None
            # A long label leaves no room beside it.
            gap = "\n" if len(label) > LONG_LABEL else ", "
            ax.set_title(label if mae is None else f"{label}{gap}MAE {mae:.2g}", loc="left")
        for ax in panels[len(curves) :]:
            ax.set_visible(False)
        both = [k for k in range(len(curves)) if k < len(reference) and reference[k] is not None]
        if both:
            panels[both[0]].legend(fontsize=8.5)
        panels[0].figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)


def observable_map(
    path: str | os.PathLike[str],
    title: str,
    axes: tuple[str, str],
    x: Float[np.ndarray, "columns"],
    y: Float[np.ndarray, "rows"],
    values: Float[np.ndarray, "columns rows"],
    reference: Float[np.ndarray, "columns rows"] | None = None,
) -> None:
    """A map of two variables as free energy in kT, ``-ln p`` above its minimum.

    Args:
      path: PNG to write.
      title: of the figure.
      axes: labels of x and y.
      x, y: centres of the bins.
      values: probability density.
      reference: the same of the reference, drawn beside it.

    Raises:
      ValueError: no values or non-finite values.
    """
    finite(title, values)
    shown = [("trajectory", values)]
    if reference is not None:
        finite(title, values, reference)
        shown.append(("reference", reference))
    with figure(path, 4.9 * len(shown), 4.2, columns=len(shown)) as grid:
        panels = np.atleast_1d(grid).ravel()
        for ax, (label, density) in zip(panels, shown, strict=True):
            with np.errstate(divide="ignore"):
                energy = -np.log(density / density.max())
            empty = np.where(np.isfinite(energy), energy, np.nan)
            mesh = ax.pcolormesh(x, y, empty.T, cmap="viridis_r", vmin=0, vmax=8, shading="nearest")
            ax.set_xlabel(axes[0])
            ax.set_ylabel(axes[1])
            ax.set_aspect("equal")
            ax.grid(visible=False)
            ax.set_title(title if len(shown) == 1 else f"{title}: {label}", loc="left")
        panels[0].figure.colorbar(mesh, ax=panels.tolist(), label="−ln p (kT)", shrink=0.8)


def _curve(
    ax: Axes, x: np.ndarray, values: np.ndarray, errors: np.ndarray, colour: str, label: str
) -> None:
    known = np.where(np.isfinite(errors), errors, 0)
    ax.fill_between(x, values - known, values + known, color=colour, alpha=0.25, linewidth=0)
    ax.plot(x, values, color=colour, linewidth=1.4, label=label)


def _finish(ax: Axes, axes: tuple[str, str], x: np.ndarray) -> None:
    ax.set_xlabel(axes[0])
    ax.set_ylabel(axes[1])
    ax.set_xlim(x[0], x[-1])
