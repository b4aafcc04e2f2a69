"""Figures of a search for minima: its course, the disconnectivity graph, dihedral angles."""

import os

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from mlffjax.plots.style import ACCENT, FAINT, MODEL, REFERENCE, figure, finite

#: Fewer structures than this are drawn one by one in a map of dihedral angles.
DENSITY_FROM = 300


def disconnectivity(
    path: str | os.PathLike[str],
    lines: Float[np.ndarray, "lines 2 2"],
    places: Float[np.ndarray, "leaves"],
    energies: Float[np.ndarray, "leaves"],
) -> None:
    """Disconnectivity graph: a leaf for each minimum, joined where a path leads over.

    Args:
      path: PNG to write.
      lines: two points (place, energy in eV) of each line.
      places: of the leaves on the horizontal axis.
      energies: of the leaves in eV.

    Raises:
      ValueError: no leaves, or non-finite values.
    """
    finite("disconnectivity graph", places, energies)
    finite("disconnectivity graph", lines)
    low = energies.min()
    shifted = lines - np.array([0.0, low])
    width = float(np.clip(0.12 * len(places) + 2.5, 4.0, 12.0))
    with figure(path, width, 4.6) as ax:
        ax.add_collection(LineCollection(list(shifted), colors=MODEL, linewidths=1.1))
        best = int(np.argmin(energies))
        ax.plot(places[best], 0.0, "o", color=ACCENT, ms=6)
        top = max(float(shifted[..., 1].max()), 1e-6)
        ax.set_ylim(-0.04 * top, 1.04 * top)
        margin = 0.03 * max(np.ptp(places), 1.0) + 0.5
        ax.set_xlim(places.min() - margin, places.max() + margin)
        ax.set_xticks([])
        ax.grid(axis="x", visible=False)
        ax.set_ylabel("energy over the lowest minimum (eV)")
        ax.set_title(f"Disconnectivity graph, {len(places)} minima", loc="left")


def dihedral_density(
    path: str | os.PathLike[str],
    angles: Float[np.ndarray, "structures 2"],
    reference: Float[np.ndarray, "frames 2"] | None,
    labels: tuple[str, str],
    *,
    title: str = "minima",
    bins: int = 72,
) -> None:
    """Density of two dihedral angles (a Ramachandran map), the training data beside it.

    Args:
      path: PNG to write.
      angles: in degrees from -180 to 180.
      reference: the same of the training data, or ``None`` to leave that panel out.
      labels: of the two angles.
      title: what ``angles`` are of.
      bins: along each axis.

    Raises:
      ValueError: no or non-finite values.
    """
    panels = [(title, angles)] + ([] if reference is None else [("training data", reference)])
    for name, values in panels:
        finite(f"dihedral map of the {name}", values)
    edges = np.linspace(-180, 180, bins + 1)
    with figure(path, 4.6 * len(panels), 4.0, columns=len(panels)) as axes:
        for ax, (name, values) in zip(np.atleast_1d(axes), panels, strict=True):
            if len(values) < DENSITY_FROM:
                ax.plot(values[:, 0], values[:, 1], "o", color=MODEL, ms=5, alpha=0.6, mew=0)
            else:
                counts, _, _ = np.histogram2d(values[:, 0], values[:, 1], [edges, edges])
                shown = np.where(counts > 0, counts, np.nan)
                norm = LogNorm(1, max(float(counts.max()), 10.0))
                drawn = ax.pcolormesh(edges, edges, shown.T, cmap="viridis", norm=norm)
                bar = ax.figure.colorbar(drawn, ax=ax, pad=0.02, shrink=0.85)
                bar.outline.set_visible(False)
                bar.set_label("structures in a bin")
            ax.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal")
            ax.set_xticks(range(-180, 181, 90))
            ax.set_yticks(range(-180, 181, 90))
            ax.set_xlabel(labels[0])
            ax.set_ylabel(labels[1])
            ax.set_title(f"{name[0].upper()}{name[1:]}: {len(values)} structures", loc="left")


def minima_found(
    path: str | os.PathLike[str],
    escapes: Int[np.ndarray, "escapes"],
    energies: Float[np.ndarray, "escapes"],
    new: Bool[np.ndarray, "escapes"],
) -> None:
    """Energy of the minimum each escape ended in, and the lowest so far.

    Args:
      path: PNG to write.
      escapes: number of each, from 1; those that were rejected are left out.
      energies: of the minima in the order of the escapes, in eV.
      new: whether it had not been seen before.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("course of the search", escapes, energies, new)
    low = energies.min()
    with figure(path, 6.4, 3.7) as ax:
        ax.plot(escapes[~new], energies[~new] - low, ".", color=FAINT, ms=4, label="seen before")
        ax.plot(escapes[new], energies[new] - low, ".", color=MODEL, ms=5, label="new minimum")
        lowest = np.minimum.accumulate(energies) - low
        ax.step(escapes, lowest, where="post", color=ACCENT, linewidth=1.4, label="lowest so far")
        ax.set_xlabel("escape")
        ax.set_ylabel("energy over the lowest (eV)")
        ax.set_title(f"{int(new.sum())} new minima in {len(escapes)} escapes", loc="left")
        ax.legend(ncols=3, loc="upper right")
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom, top + 0.18 * (top - bottom))


def hopping_feedback(
    path: str | os.PathLike[str],
    walkers: Int[np.ndarray, "escapes"],
    temperatures: Float[np.ndarray, "escapes"],
    thresholds: Float[np.ndarray, "escapes"],
) -> None:
    """Temperature of the escapes and threshold of acceptance, a line for each walker.

    Args:
      path: PNG to write.
      walkers: who made each escape.
      temperatures: T0 in kelvin.
      thresholds: E_diff in eV.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("feedback", walkers, temperatures, thresholds)
    names = np.unique(walkers)
    with figure(path, 6.4, 5.0, rows=2) as axes:
        for ax, values, label in zip(
            axes, (temperatures, thresholds), ("T₀ (K)", "E_diff (eV)"), strict=True
        ):
            for name in names:
                own = np.flatnonzero(walkers == name)
                ax.plot(own + 1, values[own], color=MODEL, linewidth=0.8, alpha=0.6)
            ax.axhline(np.median(values), color=REFERENCE, dashes=(4, 3), linewidth=1.0)
            # Of a short search all values may be the same, which leaves no range to choose.
            ax.set_ylim(values.min() / 1.05, 1.05 * values.max())
            ax.set_yscale("log")
            # Plain numbers: a search seldom spans a power of ten.
            ax.yaxis.set_major_locator(MaxNLocator(5))
            ax.yaxis.set_major_formatter(ScalarFormatter())
            ax.yaxis.set_minor_locator(NullLocator())
            ax.set_ylabel(label)
        axes[1].set_xlabel("escape")
        plural = "walker" if len(names) == 1 else "walkers"
        axes[0].set_title(f"Feedback of {len(names)} {plural}, medians dashed", loc="left")
