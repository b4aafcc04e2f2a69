"""Figures of the energy surface: reaction paths, scans, vibrations."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mlffjax.plots.style import ACCENT, FAINT, MODEL, REFERENCE, figure, finite, note


def reaction_path(
    path: str | os.PathLike[str],
    lengths: Float[np.ndarray, "nodes"],
    energies: Float[np.ndarray, "nodes"],
    curve: tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]],
    *,
    reference: tuple[Float[np.ndarray, "other"], Float[np.ndarray, "other"]] | None = None,
    reference_label: str = "reference",
) -> None:
    """Energy along a minimum energy path.

    Args:
      path: PNG to write.
      lengths: of the path up to each image in Angstrom.
      energies: over the start in eV.
      curve: lengths and energies of the line through the images.
      reference: lengths and energies of another path beside it.
      reference_label: what that is.

    Raises:
      ValueError: no values, unequal shapes or non-finite values.
    """
    finite("reaction path", lengths, energies)
    finite("reaction path", *curve)
    top = int(np.argmax(energies))
    with figure(path, 5.6, 3.7) as ax:
        if reference is not None:
            finite("reaction path", *reference)
            ax.plot(*reference, "s", color=REFERENCE, ms=9, mfc="none", label=reference_label)
        ax.plot(*curve, color=MODEL)
        ax.plot(lengths, energies, "o", color=MODEL, ms=5, label="images")
        ax.plot(lengths[top], energies[top], "o", color=ACCENT, ms=8, label="highest image")
        # Between the images the line may lie below them all, or above: another minimum or barrier.
        drawn = np.concatenate([energies, curve[1]])
        reach = max(float(np.ptp(drawn)), 1e-6)
        ax.set_ylim(drawn.min() - 0.08 * reach, drawn.max() + 0.3 * reach)
        ax.set_xlabel("length of the path (Å)")
        ax.set_ylabel("energy over the start (eV)")
        ax.set_title(f"Barrier {energies.max():.3f} eV", loc="left")
        note(ax, f"reverse {energies.max() - energies[-1]:.3f} eV")
        ax.legend(loc="upper right")


def scan_line(
    path: str | os.PathLike[str],
    values: Float[np.ndarray, "points"],
    energies: Mapping[str, Float[np.ndarray, "points"]],
    label: str,
    converged: Bool[np.ndarray, "points"] | None = None,
) -> None:
    """Energies along one coordinate, one line each, over the lowest of all.

    Args:
      path: PNG to write.
      values: of the coordinate.
      energies: name of a line to its energies in eV; NaN leaves a gap.
      label: of the coordinate, with its unit.
      converged: points of the first line that are not are drawn hollow; all if not given.

    Raises:
      ValueError: no or non-finite values, unequal shapes, or a line without any energy.
    """
    finite("scan", values)
    for name, line in energies.items():
        if line.shape != values.shape or not np.isfinite(line).any():
            raise ValueError(
                f"got {line.shape} energies of {name!r} for {values.shape} values, "
                f"{int(np.isfinite(line).sum())} finite; expected one each, some finite"
            )
    low = min(float(np.nanmin(line)) for line in energies.values())
    with figure(path, 5.6, 3.7) as ax:
        for (name, line), color, marker in zip(
            energies.items(), (MODEL, ACCENT, REFERENCE), "os^", strict=False
        ):
            ax.plot(values, line - low, color=color, marker=marker, ms=4, label=name)
        if converged is not None and not converged.all():
            left, line = ~converged, next(iter(energies.values())) - low
            hollow = {"mfc": "white", "mec": MODEL, "label": "not converged"}
            ax.plot(values[left], line[left], "o", ms=5, **hollow)
        ax.set_xlabel(label)
        ax.set_ylabel("energy over the lowest (eV)")
        spread = max(float(np.nanmax(line)) for line in energies.values()) - low
        ax.set_title(f"Scan, {spread:.3f} eV from lowest to highest", loc="left")
        if len(ax.lines) > 1:
            ax.legend()


def scan_map(
    path: str | os.PathLike[str],
    first: Float[np.ndarray, "rows"],
    second: Float[np.ndarray, "columns"],
    energies: Float[np.ndarray, "rows columns"],
    labels: tuple[str, str],
) -> None:
    """Energies over two coordinates as a map with contours, over the lowest.

    Args:
      path: PNG to write.
      first: values of the first coordinate, upwards.
      second: values of the second, to the right.
      energies: in eV; NaN is left white.
      labels: of the coordinates, with units.

    Raises:
      ValueError: fewer than two values of a coordinate, unequal shapes, or no finite energy.
    """
    finite("scan map", first)
    finite("scan map", second)
    shape = (len(first), len(second))
    if energies.shape != shape or min(shape) < 2 or not np.isfinite(energies).any():
        raise ValueError(
            f"got energies of the shape {energies.shape} for {shape} values; expected equal "
            "shapes, two values of each coordinate at least, and some finite energies"
        )
    heights = energies - np.nanmin(energies)
    top = max(float(np.nanmax(heights)), 1e-9)
    unit, factor = ("meV", 1e3) if top < 0.3 else ("eV", 1.0)
    with figure(path, 5.4, 4.4) as ax:
        drawn = ax.contourf(second, first, factor * heights, levels=24, cmap="viridis")
        ax.contour(
            second, first, factor * heights, levels=10, colors="white", linewidths=0.5, alpha=0.6
        )
        bar = ax.figure.colorbar(drawn, ax=ax, pad=0.02)
        bar.set_label(f"energy over the lowest ({unit})")
        bar.outline.set_visible(False)
        ax.grid(visible=False)
        ax.set_xlabel(labels[1])
        ax.set_ylabel(labels[0])
        ax.set_title(f"Energy surface, highest {factor * top:.3g} {unit}", loc="left")


def vibrational_spectrum(
    path: str | os.PathLike[str],
    frequencies: Float[np.ndarray, "modes"],
    width: float = 10.0,
) -> None:
    """Harmonic frequencies as sticks under a density of states; imaginary ones left of zero.

    Args:
      path: PNG to write.
      frequencies: wave numbers in cm^-1, imaginary ones negative.
      width: of the Gaussians of the density in cm^-1.

    Raises:
      ValueError: no or non-finite values.
    """
    finite("spectrum", frequencies)
    low, high = min(float(frequencies.min()), 0.0), max(float(frequencies.max()), 1.0)
    grid = np.linspace(low - 5 * width, high + 5 * width, 2000)
    density = np.exp(-0.5 * ((grid[:, None] - frequencies) / width) ** 2).sum(1)
    real, imaginary = frequencies[frequencies >= 0], frequencies[frequencies < 0]
    with figure(path, 6.4, 3.2) as ax:
        ax.fill_between(grid, density, color=FAINT, alpha=0.6, linewidth=0)
        ax.vlines(real, 0, 0.5, color=MODEL, linewidth=1.4, label="real")
        if len(imaginary):
            ax.vlines(imaginary, 0, 0.5, color=ACCENT, linewidth=1.8, label="imaginary")
            ax.legend()
        ax.set_ylim(bottom=0)
        ax.set_yticks([])
        ax.set_xlabel("wave number (cm⁻¹), imaginary ones negative")
        ax.set_ylabel("density of states")
        ax.set_title(f"{len(real)} real, {len(imaginary)} imaginary frequencies", loc="left")


def phonon_bands(
    path: str | os.PathLike[str],
    distances: Float[np.ndarray, "points"],
    frequencies: Float[np.ndarray, "points modes"],
    ticks: Sequence[tuple[float, str]],
) -> None:
    """Phonon bands along a path of wave vectors.

    Args:
      path: PNG to write.
      distances: along the path.
      frequencies: wave numbers in cm^-1 ``[points, modes]``, imaginary ones negative.
      ticks: distance and name of each special point.

    Raises:
      ValueError: no or non-finite values.
    """
    finite("phonon bands", distances)
    finite("phonon bands", frequencies)
    with figure(path, 5.6, 3.8) as ax:
        ax.plot(distances, frequencies, color=MODEL, linewidth=1.2)
        ax.axhline(0, color=REFERENCE, linewidth=0.8)
        ax.set_xticks([at for at, _ in ticks], [name for _, name in ticks])
        ax.set_xlim(distances[0], distances[-1])
        ax.set_ylabel("wave number (cm⁻¹), imaginary negative")
        ax.set_title(f"Phonons, highest {frequencies.max():.0f} cm⁻¹", loc="left")
