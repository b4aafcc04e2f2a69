"""The learning curve of a training run."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlffjax.plots.style import ACCENT, FAINT, MODEL, figure, finite


def learning_curve(
    path: str | os.PathLike[str],
    *,
    epochs: Sequence[float],
    train_loss: Sequence[float],
    valid_epochs: Sequence[float],
    valid_loss: Sequence[float],
    energy_mae: Sequence[float],
    force_mae: Sequence[float],
) -> None:
    """Loss of training and validation, and the validation errors of forces and energies.

    Args:
      path: PNG to write.
      epochs: of each training entry.
      train_loss: mean training loss of each entry.
      valid_epochs: of each validation entry.
      valid_loss: loss on the validation frames.
      energy_mae: mean absolute error of the energy in eV/atom.
      force_mae: mean absolute error of a force component in eV/Angstrom.

    Raises:
      ValueError: lengths differ, nothing was recorded, or a value is not finite.
    """
    train = np.asarray(epochs, float), np.asarray(train_loss, float)
    finite("learning curve", *train)
    valid = tuple(np.asarray(x, float) for x in (valid_epochs, valid_loss, energy_mae, force_mae))
    finite("validation curve", *valid)
    with figure(path, 11.0, 3.4, columns=3) as (left, middle, right):
        left.plot(*train, color=FAINT, label="training", marker=_marker(train[0]), ms=3)
        left.plot(valid[0], valid[1], color=MODEL, label="validation", marker=_marker(valid[0]))
        left.set_title("Loss")
        left.legend()
        middle.plot(valid[0], 1e3 * valid[3], color=MODEL, marker=_marker(valid[0]))
        middle.set_title("Force MAE, validation")
        middle.set_ylabel("meV/Å")
        right.plot(valid[0], 1e3 * valid[2], color=ACCENT, marker=_marker(valid[0]))
        right.set_title("Energy MAE, validation")
        right.set_ylabel("meV/atom")
        for ax in (left, middle, right):
            ax.set_xlabel("epoch")
            ax.set_yscale("log")
            ax.grid(which="minor", axis="y", linewidth=0.4)
            _few_ticks(ax)


def _marker(x: np.ndarray) -> str:
    """Points too, where a line alone could not be seen."""
    return "o" if len(x) < 3 else ""


def _few_ticks(ax: Axes) -> None:
    """Plain numbers on a logarithmic axis, also where it spans less than a decade."""
    low, high = ax.get_ylim()
    if high / low < 100:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
