"""What to read off a trajectory: pair distances, bond lengths, energy drift."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from mlffjax.data.frames import Frame
from mlffjax.md.records import Thermo
from mlffjax.neighbors import neighbor_list


@dataclass(frozen=True, eq=False)
class PairDistribution:
    """A histogram of pair distances.

    Attributes:
      r: centres of the bins ``[bins]`` in Angstrom.
      density: the distribution ``[bins]``: ``g(r)``, one at random places, for a periodic
        system; for a molecule the probability density in 1/Angstrom, with integral one over
        all its pairs, however far apart.
    """

    r: Float[np.ndarray, "bins"]
    density: Float[np.ndarray, "bins"]


def radial_distribution(
    frames: Sequence[Frame],
    r_max: float,
    num_bins: int = 200,
    pair: tuple[int, int] | None = None,
) -> PairDistribution:
    """Radial distribution function, or the pair-distance distribution of a molecule.

    ``g_ab(r) = V / (N_a N_b) <n_ab(r)> / (4 pi r^2 dr)`` with ``n_ab`` the number of ordered
    pairs in the shell (Allen and Tildesley, Computer Simulation of Liquids, sec. 2.6; the shell's
    volume is taken exactly). In a frame without three periodic directions, which has no
    density, the probability density of a pair's distance.

    Args:
      frames: structures of the same atoms.
      r_max: in Angstrom; may exceed half the cell, images are counted.
      num_bins: number of bins.
      pair: atomic numbers, centre and neighbour; all elements if not given.

    Raises:
      ValueError: no frames, or no atom of an element of the pair.
    """
    _at_least_one(frames)
    numbers = frames[0].numbers
    centres = np.ones(len(numbers), bool) if pair is None else numbers == pair[0]
    others = np.ones(len(numbers), bool) if pair is None else numbers == pair[1]
    # Ordered pairs of two different atoms; an atom that is in both groups is no pair of itself.
    pairs = int(centres.sum() * others.sum() - (centres & others).sum())
    if not centres.any() or not others.any():
        raise ValueError(
            f"got the pair {pair} for frames with the elements {np.unique(numbers).tolist()}; "
            "expected two of them; name elements of the frames"
        )
    edges = np.linspace(0, r_max, num_bins + 1)
    density = np.zeros(num_bins)
    for frame in frames:
        near = neighbor_list(frame.positions, frame.cell, frame.pbc, r_max)
        chosen = centres[near.receivers] & others[near.senders]
        i, j = near.receivers[chosen], near.senders[chosen]
        vectors = frame.positions[j] - frame.positions[i] + near.shifts[chosen] @ frame.cell
        count = np.histogram(np.linalg.norm(vectors, axis=1), edges)[0]
        if frame.pbc.all():
            volume = abs(np.linalg.det(frame.cell))
            shells = 4 / 3 * np.pi * np.diff(edges**3)
            density += count * volume / (centres.sum() * others.sum() * shells)
        else:
            density += count / (max(pairs, 1) * np.diff(edges))
    return PairDistribution((edges[1:] + edges[:-1]) / 2, density / len(frames))


def bond_lengths(
    frames: Sequence[Frame], bonds: Sequence[tuple[int, int]]
) -> Float[np.ndarray, "frames bonds"]:
    """Lengths of bonds in all frames ``[frames, bonds]`` in Angstrom.

    Bonds across a periodic border need unwrapped positions, as simulations write them.

    Args:
      frames: structures of the same atoms.
      bonds: pairs of atom indices, see :func:`find_bonds`.
    """
    _at_least_one(frames)
    i, j = np.asarray(bonds, int).reshape(-1, 2).T
    return np.stack([np.linalg.norm(f.positions[j] - f.positions[i], axis=1) for f in frames])


def find_bonds(frame: Frame, factor: float = 1.2) -> list[tuple[int, int]]:
    """Pairs of atoms closer than ``factor`` times the sum of their covalent radii.

    Radii of Cordero et al., Dalton Trans. 2008, 2832, as tabulated by ASE. Pairs within the
    frame as it is, without periodic images.
    """
    radii = covalent_radii[frame.numbers]
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(radii)), 2)
        if np.linalg.norm(frame.positions[i] - frame.positions[j]) < factor * (radii[i] + radii[j])
    ]


def energy_drift(thermo: Thermo, num_atoms: int) -> tuple[float, float]:
    """Drift and fluctuation of the conserved quantity.

    Args:
      thermo: rows of an NVE or Nose-Hoover simulation.
      num_atoms: atoms of the system.

    Returns:
      The slope of a straight line fitted to the conserved quantity in eV per atom and ps, and
      the standard deviation about that line in eV per atom.

    Raises:
      ValueError: fewer than three rows, or a dynamics that conserves nothing.
    """
    if len(thermo.step) < 3 or not np.isfinite(thermo.conserved).all():
        raise ValueError(
            f"got {len(thermo.step)} rows with the conserved quantity "
            f"{thermo.conserved[:1]}; expected three or more finite values; use NVE or "
            "Nose-Hoover, and a shorter thermo_interval"
        )
    time_ps = thermo.time_fs * 1e-3
    energy = (thermo.conserved - thermo.conserved[0]) / num_atoms
    slope, offset = np.polyfit(time_ps - time_ps.mean(), energy, 1)
    rest = energy - slope * (time_ps - time_ps.mean()) - offset
    return float(slope), float(rest.std())


def _at_least_one(frames: Sequence[Frame]) -> None:
    if not len(frames):
        raise ValueError("got no frames; expected at least one; check the trajectory")
