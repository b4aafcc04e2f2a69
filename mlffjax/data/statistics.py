"""Numbers of a data set that a model and a training run are set up with."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mlffjax.data.baseline import Baseline
from mlffjax.data.frames import Frame
from mlffjax.neighbors import neighbor_list


@dataclass(frozen=True)
class Statistics:
    """Statistics of frames at a cutoff.

    Attributes:
      num_frames: number of frames.
      elements: atomic numbers that occur, ascending.
      cutoff: in Angstrom.
      mean_neighbors: mean number of neighbours of an atom.
      max_atoms, max_edges: of the largest frames.
      force_rms: root mean square of the force components in eV/Angstrom; ``None`` without
        forces.
      energy_mean, energy_std: of the energy per atom less the baseline, in eV; ``None`` without
        energies.
    """

    num_frames: int
    elements: tuple[int, ...]
    cutoff: float
    mean_neighbors: float
    max_atoms: int
    max_edges: int
    force_rms: float | None
    energy_mean: float | None
    energy_std: float | None


def compute_statistics(frames: Iterable[Frame], baseline: Baseline, cutoff: float) -> Statistics:
    """Go through the frames once.

    Args:
      frames: at least one.
      baseline: element energies for all elements of the frames.
      cutoff: in Angstrom.

    Raises:
      ValueError: no frames, an element without baseline energy, or a frame without a neighbour
        list (the message names it).
    """
    elements: set[int] = set()
    atoms, edges, energies = [], [], []
    squares, components = 0.0, 0
    for frame in frames:
        elements.update(np.unique(frame.numbers).tolist())
        atoms.append(len(frame.numbers))
        edges.append(count_edges(frame, cutoff))
        if frame.energy is not None:
            energies.append((frame.energy - baseline.total(frame.numbers)) / len(frame.numbers))
        if frame.forces is not None:
            squares += float(np.sum(frame.forces**2))
            components += frame.forces.size
    if not atoms:
        raise ValueError("got no frames; expected at least one")
    return Statistics(
        num_frames=len(atoms),
        elements=tuple(sorted(elements)),
        cutoff=float(cutoff),
        mean_neighbors=sum(edges) / sum(atoms),
        max_atoms=max(atoms),
        max_edges=max(edges),
        force_rms=float(np.sqrt(squares / components)) if components else None,
        energy_mean=float(np.mean(energies)) if energies else None,
        energy_std=float(np.std(energies)) if energies else None,
    )


def count_edges(frame: Frame, cutoff: float) -> int:
    """Number of directed edges of a frame within a cutoff in Angstrom.

    Raises:
      ValueError: there is no neighbour list; the message names the frame.
    """
    try:
        edges = neighbor_list(frame.positions, frame.cell, frame.pbc, cutoff)
    except ValueError as error:
        raise ValueError(f"{frame.name}: {error}") from None
    return len(edges.senders)
