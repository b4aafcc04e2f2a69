"""Checks of structures and forces: balance, short distances, duplicates, molecules in boxes."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from mlffjax.data.frames import Frame
from mlffjax.neighbors import complete_cell, neighbor_list

#: Angstrom without atoms along every periodic direction, with which a molecule does not feel its
#: images; the same distance makes an isolated atom (:func:`mlffjax.data.checks.is_isolated_atom`).
VACUUM = 10.0
PAIR_CUTOFF = 4.0  # Angstrom; element pairs that never come this close are not listed


@dataclass(frozen=True)
class Balance:
    """Net force and torque, which no potential of the internal coordinates can give.

    Attributes:
      net_force_rms, net_force_max: length of the net force over the number of atoms, in
        eV/Angstrom; over all frames with forces. ``None`` without such frames.
      net_force_frame: name of the frame with the largest.
      torque_rms, torque_max: the same for the torque about the centre of geometry, in eV; over
        molecules.
      torque_frame: name of the frame with the largest.
    """

    net_force_rms: float | None
    net_force_max: float | None
    net_force_frame: str
    torque_rms: float | None
    torque_max: float | None
    torque_frame: str

    def lines(self) -> list[str]:
        """Lines of the report."""
        lines = []
        if self.net_force_rms is not None:
            lines.append(
                f"net force/atom  RMS {self.net_force_rms:.2e}, largest {self.net_force_max:.2e} "
                f"eV/Angstrom ({self.net_force_frame})"
            )
        if self.torque_rms is not None:
            lines.append(
                f"torque/atom     RMS {self.torque_rms:.2e}, largest {self.torque_max:.2e} eV "
                f"({self.torque_frame})"
            )
        return lines


@dataclass(frozen=True)
class ShortestDistance:
    """The closest two atoms of two elements come in a data set.

    Attributes:
      pair: atomic numbers, ascending.
      distance: in Angstrom.
      frame: name of the frame.
    """

    pair: tuple[int, int]
    distance: float
    frame: str

    @property
    def relative(self) -> float:
        """Distance over the sum of covalent radii (Cordero et al., Dalton Trans. 2008, 2832)."""
        return self.distance / float(covalent_radii[self.pair[0]] + covalent_radii[self.pair[1]])

    def line(self) -> str:
        """A line of the report."""
        a, b = (chemical_symbols[z] for z in self.pair)
        return f"{a}-{b} {self.distance:.3f} Angstrom ({self.frame})"


def without_box(frame: Frame) -> Frame:
    """A molecule in a periodic box as a molecule, any other frame as it is.

    A molecule is what has :data:`VACUUM` along every periodic direction, at the border of the box
    or, where the box's wall cuts it, inside; it is made whole.
    """
    if not frame.pbc.any():
        return frame
    cell = complete_cell(frame.cell, frame.pbc)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    fractional = np.linalg.solve(cell.T, frame.positions.T).T
    for k in np.flatnonzero(frame.pbc):
        places = np.sort(fractional[:, k] % 1)
        gaps = np.diff(places, append=places[0] + 1)
        widest = int(np.argmax(gaps))
        if gaps[widest] * heights[k] < VACUUM:
            return frame
        first = places[(widest + 1) % len(places)]
        fractional[:, k] = (fractional[:, k] - first + 1e-9) % 1
    return replace(frame, positions=fractional @ cell, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool))


def force_balance(frames: Sequence[Frame]) -> Balance:
    """Net forces of all frames with forces, torques of those that are molecules, in boxes too."""
    net, torque = [], []
    for frame in frames:
        if frame.forces is None:
            continue
        count = len(frame.numbers)
        net.append((float(np.linalg.norm(frame.forces.sum(0))) / count, frame.name))
        molecule = without_box(frame)
        if not molecule.pbc.any():
            arms = molecule.positions - molecule.positions.mean(0)
            moment = np.cross(arms, frame.forces).sum(0)
            torque.append((float(np.linalg.norm(moment)) / count, frame.name))
    return Balance(*_summary(net), *_summary(torque))


def shortest_distances(frames: Sequence[Frame]) -> tuple[ShortestDistance, ...]:
    """The shortest distance of each pair of elements, the most compressed pair first.

    Atoms at one place count as the distance zero.
    """
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for frame in frames:
        for pair, distance in _frame_distances(frame).items():
            if distance < best.get(pair, (np.inf, ""))[0]:
                best[pair] = (distance, frame.name)
    found = [ShortestDistance(pair, distance, name) for pair, (distance, name) in best.items()]
    return tuple(sorted(found, key=lambda item: item.relative))


def find_duplicates(frames: Sequence[Frame]) -> tuple[tuple[str, ...], ...]:
    """Names of frames with the same atoms, cell and positions up to a translation.

    Positions are compared to 1e-5 Angstrom, atoms in the order of the file.
    """
    seen: dict[bytes, list[str]] = defaultdict(list)
    for frame in frames:
        seen[structure_digest(frame)].append(frame.name)
    return tuple(tuple(names) for names in seen.values() if len(names) > 1)


def structure_digest(frame: Frame) -> bytes:
    """Equal for structures that are the same, as :func:`find_duplicates` compares them."""
    relative = np.round(frame.positions - frame.positions[0], 5) + 0.0  # no negative zero
    digest = hashlib.sha256(frame.numbers.tobytes())
    digest.update(relative.tobytes())
    digest.update((np.round(frame.cell, 5) + 0.0).tobytes())
    return digest.digest()


def _summary(values: list[tuple[float, str]]) -> tuple[float | None, float | None, str]:
    if not values:
        return None, None, ""
    largest, name = max(values)
    rms = float(np.sqrt(np.mean(np.square([value for value, _ in values]))))
    return rms, largest, name


def _frame_distances(frame: Frame) -> dict[tuple[int, int], float]:
    try:
        edges = neighbor_list(frame.positions, frame.cell, frame.pbc, PAIR_CUTOFF)
    except ValueError:  # two atoms at one place: the reader has checked everything else
        return {(int(frame.numbers.min()), int(frame.numbers.max())): 0.0}
    vectors = (
        frame.positions[edges.senders]
        - frame.positions[edges.receivers]
        + edges.shifts @ frame.cell
    )
    distances = np.linalg.norm(vectors, axis=1)
    ends = np.sort(np.stack([frame.numbers[edges.senders], frame.numbers[edges.receivers]]), axis=0)
    codes = ends[0] * 1000 + ends[1]
    return {
        (int(code) // 1000, int(code) % 1000): float(distances[codes == code].min())
        for code in np.unique(codes)
    }
