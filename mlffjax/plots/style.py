"""The common look of all figures: size, fonts, colours, and how a figure is saved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Colours of the colour-blind safe palette of Okabe and Ito (2008).
MODEL = "#0072b2"
REFERENCE = "#4d4d4d"
ACCENT = "#d55e00"
SECOND = "#009e73"
FAINT = "#b8bec6"
INK = "#22272e"

DPI = 160

_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlepad": 8.0,
    "axes.labelsize": 10.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a929c",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "mathtext.fontset": "dejavusans",
}


@contextmanager
def figure(
    path: str | os.PathLike[str],
    width: float = 6.0,
    height: float = 4.0,
    *,
    rows: int = 1,
    columns: int = 1,
) -> Iterator[Any]:
    """Axes of a new figure, which is written to ``path`` as PNG at the end of the block.

    No window system and no state of ``matplotlib.pyplot`` is touched. The file appears whole
    or not at all.

    Args:
      path: file to write; missing folders are made.
      width: in inches.
      height: in inches.
      rows: of axes.
      columns: of axes.

    Yields:
      one ``Axes``, or an array of them ``[rows, columns]`` with single dimensions dropped.
    """
    path = Path(path)
    with matplotlib.rc_context(_SETTINGS):
        canvas = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield canvas.subplots(rows, columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        canvas.savefig(partial, format="png", facecolor="white")
        os.replace(partial, path)


def finite(what: str, *arrays: np.ndarray) -> None:
    """Refuse empty, unequal or non-finite series.

    Raises:
      ValueError: with the name of the figure and what is wrong.
    """
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"got arrays of the shapes {sorted(shapes)} for the {what}; expected equal shapes"
        )
    if arrays[0].size == 0:
        raise ValueError(f"got no data for the {what}; expected at least one value")
    for array in arrays:
        if not np.isfinite(array).all():
            raise ValueError(
                f"got {int((~np.isfinite(array)).sum())} non-finite values for the {what}; "
                "expected finite numbers; drop them or look for what diverged"
            )


def note(ax: Axes, text: str, *, where: str = "upper left") -> None:
    """A small text in a corner of the axes."""
    vertical, horizontal = where.split()
    ax.text(
        0.03 if horizontal == "left" else 0.97,
        0.97 if vertical == "upper" else 0.03,
        text,
        transform=ax.transAxes,
        ha="left" if horizontal == "left" else "right",
        va="top" if vertical == "upper" else "bottom",
        fontsize=9.5,
        linespacing=1.4,
    )
