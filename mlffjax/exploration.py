"""What paths, scans, vibrations and searches for minima leave behind: files and figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from mlffjax import plots
from mlffjax.config.files import write_text, write_yaml
from mlffjax.config.paths import NEBSettings
from mlffjax.data import Frame, write_extxyz
from mlffjax.explore.coordinates import dihedral_angles
from mlffjax.explore.disconnectivity import Disconnectivity, disconnectivity_graph
from mlffjax.explore.hop_store import Escape, read_history, read_minima
from mlffjax.explore.neb import NEBResult
from mlffjax.explore.phonons import ForceConstants, phonon_frequencies
from mlffjax.explore.scan import ScanResult
from mlffjax.explore.vibrations import SOFT, Vibrations, wave_number_text

SUMMARY_FILE = "summary.json"
SETTINGS_FILE = "settings.yaml"
PATH_FILE = "path.extxyz"
SCAN_FILE = "scan.extxyz"
MODES_FILE = "modes.npz"


def write_neb(folder: Path, result: NEBResult, settings: NEBSettings) -> dict[str, Any]:
    """Images, settings, summary and figure of a path.

    Args:
      folder: where they go; files of the same names are replaced.
      result: of :func:`mlffjax.explore.neb.nudged_elastic_band`.
      settings: it was found with.

    Returns:
      The summary: energies in eV, lengths in Angstrom.
    """
    summary = {
        "status": result.status,
        "barrier_eV": result.barrier,
        "reverse_barrier_eV": result.reverse_barrier,
        "highest_image": result.saddle,
        "residual_eV_per_Angstrom": result.residual,
        "steps": result.steps,
        "force_calls": result.force_calls,
        "lengths_Angstrom": result.lengths.tolist(),
        "energies_eV": result.energies.tolist(),
        "warnings": list(result.warnings),
    }
    _write(folder, PATH_FILE, result.frames, summary)
    write_yaml(folder / SETTINGS_FILE, settings)
    energies = result.energies - result.energies[0]
    plots.reaction_path(folder / "path.png", result.lengths, energies, result.profile())
    return summary


def write_scan(folder: Path, result: ScanResult) -> dict[str, Any]:
    """Structures, summary and, for one or two coordinates, the figure of a scan.

    Args:
      folder: where they go; files of the same names are replaced.
      result: of a scan.

    Returns:
      The summary: energies in eV.

    Raises:
      ValueError: no point has an energy.
    """
    energies = np.where(np.isfinite(result.energies), result.energies, np.nan)
    if np.isnan(energies).all():
        raise ValueError(
            f"got no finite energy at any of {energies.size} points of a scan; expected some; "
            "check that atoms do not overlap, and the potential on the start"
        )
    summary = {
        "coordinates": list(result.labels),
        "values": [values.tolist() for values in result.values],
        "energies_eV": [None if np.isnan(e) else float(e) for e in energies.ravel()],
        "shape": list(energies.shape),
        "span_eV": float(np.nanmax(energies) - np.nanmin(energies)),
        "not_converged": int((~result.converged).sum()),
        "force_calls": result.force_calls,
    }
    # A file of structures keeps no energies that are not numbers.
    frames = [f if np.isfinite(f.energy or 0.0) else replace(f, energy=None) for f in result.frames]
    _write(folder, SCAN_FILE, frames, summary)
    if len(result.values) == 1:
        name, values = folder / "scan.png", result.values[0]
        plots.scan_line(name, values, {"scan": energies}, result.labels[0], result.converged)
    elif len(result.values) == 2 and min(energies.shape) > 1:
        labels = (result.labels[0], result.labels[1])
        plots.scan_map(folder / "scan.png", *result.values, energies, labels)
    return summary


def write_vibrations(folder: Path, result: Vibrations) -> dict[str, Any]:
    """Frequencies, modes, Hessian and spectrum.

    Args:
      folder: where they go; files of the same names are replaced.
      result: of :func:`mlffjax.explore.vibrations.vibrations`.

    Returns:
      The summary: wave numbers in cm^-1, imaginary ones negative.
    """
    summary = {
        "frequencies_per_cm": result.frequencies.tolist(),
        "zero_point_energy_eV": result.zero_point_energy,
        "is_minimum": result.is_minimum(),
        "imaginary": result.num_imaginary(),
        "max_force_eV_per_Angstrom": result.max_force,
        "hessian_asymmetry_eV_per_Angstrom2": result.asymmetry,
    }
    _write(folder, None, (), summary)
    np.savez(
        folder / MODES_FILE,
        eigenvalues=result.eigenvalues,
        modes=result.modes,
        hessian=result.hessian,
    )
    if len(result.frequencies):
        plots.vibrational_spectrum(folder / "spectrum.png", result.frequencies)
    return summary


def vibration_rows(result: Vibrations) -> list[tuple[str, str]]:
    """Names and values of a table."""
    rows = [(f"mode {k}", f"{wave_number_text(f)} cm^-1") for k, f in enumerate(result.frequencies)]
    kind = "a minimum" if result.is_minimum() else f"{result.num_imaginary()} imaginary frequencies"
    return [
        *rows,
        ("zero-point energy", f"{result.zero_point_energy:.4f} eV"),
        ("largest force", f"{result.max_force:.2g} eV/Angstrom"),
        ("this is", f"{kind} (above {SOFT:g} cm^-1)"),
    ]


def write_bands(
    folder: Path, constants: ForceConstants, points: int = 120, special: str | None = None
) -> Float[np.ndarray, "points modes"]:
    """Phonon bands along a path through the Brillouin zone, as figure and table.

    Args:
      folder: where ``bands.png`` and ``bands.npz`` go.
      constants: of a supercell.
      points: of the path.
      special: names of the special points, as ``GXWKGLUWLK``; ASE's path for the lattice
        unless given.

    Returns:
      Wave numbers in cm^-1 ``[points, modes]``, imaginary ones negative.

    Raises:
      ValueError: a name that is no special point of the lattice.
    """
    cell = ase.Atoms(cell=constants.cell, pbc=constants.pbc).cell
    try:
        band = cell.bandpath(special, npoints=points, pbc=constants.pbc.tolist())
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"got the path {special!r} through the Brillouin zone ({error}); expected special "
            "points of the lattice, such as GX; mend it, or leave it out"
        ) from None
    frequencies = phonon_frequencies(constants, band.kpts)
    distances, at, names = band.get_linear_kpoint_axis()
    folder.mkdir(parents=True, exist_ok=True)
    ticks: dict[float, str] = {}
    for x, name in zip(at.tolist(), names, strict=True):
        # Two names at one place where the path jumps.
        ticks[x] = f"{ticks[x]}|{name}" if x in ticks else name.replace("G", "Γ")
    plots.phonon_bands(folder / "bands.png", distances, frequencies, list(ticks.items()))
    np.savez(folder / "bands.npz", wave_vectors=band.kpts, frequencies=frequencies)
    return frequencies


@dataclass(frozen=True)
class HopReport:
    """Figures of a search and what they rest on.

    Attributes:
      figures: the files written.
      minima: number of minima.
      escapes: number of escapes.
      tree: the disconnectivity graph.
    """

    figures: tuple[Path, ...]
    minima: int
    escapes: int
    tree: Disconnectivity


def report_hopping(
    folder: Path,
    *,
    dihedrals: Sequence[Sequence[int]] | None = None,
    training: Sequence[Frame] = (),
    most: int = 200,
) -> HopReport:
    """Figures of a minima hopping: course, feedback, disconnectivity graph, dihedral angles.

    Args:
      folder: of the search, with ``minima.extxyz`` and ``history.jsonl``.
      dihedrals: the atoms of two dihedral angles to map, or ``None``.
      training: frames of the same molecule to map beside the minima.
      most: minima in the disconnectivity graph at most, the lowest.

    Raises:
      ValueError: no minima, or not two dihedral angles of four atoms.
      OSError: the files are not there.
    """
    minima = list(read_minima(folder))
    if not minima:
        raise ValueError(f"got no minima in {folder}; expected a search that has found some")
    history = read_history(folder)
    energies = np.array([minimum.energy for minimum in minima])
    tree = disconnectivity_graph(energies, transitions(history), most=most)
    figures = [folder / "disconnectivity.png"]
    plots.disconnectivity(figures[0], tree.lines, tree.places, energies[tree.minima])
    reached = [(e.step + 1, e.target, e.status == "new") for e in history if e.target is not None]
    if reached:
        escapes, targets, new = (np.array(column) for column in zip(*reached, strict=True))
        figures.append(folder / "minima.png")
        plots.minima_found(figures[-1], escapes, energies[targets], new)
    if history:
        figures.append(folder / "feedback.png")
        plots.hopping_feedback(
            figures[-1],
            np.array([e.walker for e in history]),
            np.array([e.temperature for e in history], np.float64),
            np.array([e.energy_difference for e in history], np.float64),
        )
    if dihedrals is not None:
        figures.append(folder / "dihedrals.png")
        positions = np.array([minimum.positions for minimum in minima])
        map_dihedrals(figures[-1], positions, dihedrals, training)
    return HopReport(tuple(figures), len(minima), len(history), tree)


def transitions(history: Sequence[Escape]) -> list[tuple[int, int, float]]:
    """Pairs of minima and the highest energy on the way between them, from a history."""
    return [
        (e.origin, e.target, e.barrier)
        for e in history
        if e.target is not None and e.barrier is not None and e.target != e.origin
    ]


def map_dihedrals(
    path: Path,
    positions: Float[np.ndarray, "structures atoms 3"],
    dihedrals: Sequence[Sequence[int]],
    training: Sequence[Frame] = (),
) -> None:
    """A density map of two dihedral angles, with the training data beside it.

    Args:
      path: PNG to write.
      positions: of all structures in Angstrom.
      dihedrals: the atoms of the two angles.
      training: frames of the same molecule; others are left out.

    Raises:
      ValueError: not two dihedral angles of four atoms of the molecule.
    """
    atoms = positions.shape[1]
    if len(dihedrals) != 2 or any(
        len(d) != 4 or any(not 0 <= k < atoms for k in d) for d in dihedrals
    ):
        raise ValueError(
            f"got the dihedral angles {[list(d) for d in dihedrals]}; expected two of four atoms "
            f"each, indices from 0 to {atoms - 1}"
        )
    angles = np.stack([dihedral_angles(positions, d) for d in dihedrals], axis=1)
    same = [frame.positions for frame in training if len(frame.numbers) == atoms]
    reference = None
    if same:
        reference = np.stack([dihedral_angles(np.array(same), d) for d in dihedrals], axis=1)
    labels = [f"dihedral {'-'.join(map(str, d))} (°)" for d in dihedrals]
    plots.dihedral_density(path, angles, reference, (labels[0], labels[1]))


def _write(
    folder: Path, name: str | None, frames: Sequence[Frame], summary: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if name is not None:
        (folder / name).unlink(missing_ok=True)
        write_extxyz(frames, folder / name)
    write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
