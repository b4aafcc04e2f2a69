"""Distributions of geometry in dynamics against those of reference frames."""

import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from mlffjax.plots.style import FAINT, MODEL, REFERENCE, figure, finite


def bond_lengths(
    path: str | os.PathLike[str],
    model: Mapping[str, Float[np.ndarray, "_"]],
    reference: Mapping[str, Float[np.ndarray, "_"]],
    bins: int = 40,
) -> None:
    """Histograms of bond lengths, one panel for each kind of bond.

    Args:
      path: PNG to write.
      model: kind of bond, such as ``C-H``, to its lengths in Angstrom during dynamics.
      reference: the same in the reference frames.
      bins: of each histogram.

    Raises:
      ValueError: the kinds differ, or a kind has no or non-finite lengths.
    """
    if not reference or set(model) != set(reference):
        raise ValueError(
            f"got the bonds {sorted(model)} of the model and {sorted(reference)} of the "
            "reference; expected the same kinds, at least one"
        )
    kinds = sorted(reference)
    columns = min(len(kinds), 4)
    rows = -(-len(kinds) // columns)
    with figure(path, 2.9 * columns + 0.6, 2.8 * rows + 0.2, rows=rows, columns=columns) as axes:
        grid = np.atleast_1d(axes).ravel()
        for ax, kind in zip(grid, kinds, strict=False):
            ours, theirs = np.asarray(model[kind]), np.asarray(reference[kind])
            finite(f"bond {kind}", ours)
            finite(f"bond {kind}", theirs)
            both = np.concatenate([ours, theirs])
            edges = np.linspace(both.min() - 1e-6, both.max() + 1e-6, bins + 1)
            _compare(ax, ours, theirs, edges.tolist())
            ax.set_title(kind.replace("-", "–"))
            ax.set_xlabel("length (Å)")
            ax.set_yticks([])
        for ax in grid[len(kinds) :]:
            ax.set_visible(False)
        grid[0].set_ylabel("probability density")
        grid[0].legend(loc="upper left", fontsize=8.5, handlelength=1.2)
        low, high = grid[0].get_ylim()
        grid[0].set_ylim(low, 1.3 * high)


def radial_distribution(
    path: str | os.PathLike[str],
    distances: Float[np.ndarray, "bins"],
    model: Float[np.ndarray, "bins"],
    reference: Float[np.ndarray, "bins"],
    ylabel: str = "g(r)",
) -> None:
    """The distribution of all interatomic distances, of dynamics and of reference frames.

    Args:
      path: PNG to write.
      distances: centre of each bin in Angstrom.
      model: value of each bin in dynamics.
      reference: value of each bin in the reference frames.
      ylabel: what the values are.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("radial distribution", distances, model, reference)
    with figure(path, 8.0, 3.6) as ax:
        ax.fill_between(distances, reference, color=FAINT, alpha=0.6, linewidth=0)
        ax.plot(distances, reference, color=REFERENCE, linewidth=0.9, label="reference frames")
        ax.plot(distances, model, color=MODEL, label="dynamics")
        ax.set_xlim(distances[0], distances[-1])
        ax.set_ylim(bottom=0)
        ax.set_xlabel("distance (Å)")
        ax.set_ylabel(ylabel)
        ax.set_title("Interatomic distances", loc="left")
        ax.legend()


def _compare(ax: Axes, model: np.ndarray, reference: np.ndarray, edges: list[float]) -> None:
    ax.hist(reference, edges, density=True, color=FAINT, alpha=0.75, label="reference frames")
    ax.hist(
        model, edges, density=True, histtype="step", color=MODEL, linewidth=1.6, label="dynamics"
    )
    ax.grid(visible=False)
