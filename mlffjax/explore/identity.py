"""Whether two structures are the same: RMSD minimised over what does not matter."""

import bisect
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from mlffjax.config.explore import HoppingSettings
from mlffjax.explore.fingerprint import fingerprint_bound, overlap_fingerprint
from mlffjax.types import HostNumbers, HostVectors

#: Alignments tried for a pair of structures with permutations.
MAX_STARTS = 2000


def rotation_onto(a: HostVectors, b: HostVectors) -> Float[np.ndarray, "3 3"]:
    """The proper rotation ``R`` for which ``a @ R`` is nearest to ``b``.

    Kabsch, Acta Cryst. A 32, 922 (1976), by singular values.

    Args:
      a: ``[points, 3]``, relative to the centre of rotation.
      b: ``[points, 3]``, likewise.
    """
    u, _, v = np.linalg.svd(a.T @ b)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(v))
    return u @ np.diag([1, 1, sign]) @ v


def aligned_rmsd(a: HostVectors, b: HostVectors) -> float:
    """RMSD in Angstrom, least over rotations and translations; atoms in the same order.

    Args:
      a: ``[atoms, 3]`` in Angstrom.
      b: ``[atoms, 3]`` in Angstrom.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    return _rmsd(a @ rotation_onto(a, b), b)


def permuted_rmsd(
    a: HostVectors, b: HostVectors, numbers: HostNumbers, tolerance: float = 0.1
) -> float:
    """RMSD in Angstrom, least over rotations, translations and permutations of like atoms.

    Each alignment alternates the best assignment (Hungarian algorithm) with the best rotation
    until nothing changes. It finds the nearest of the many minima, so that it is begun from many
    rotations: those that bring two atoms of ``a`` onto two of ``b`` with like surroundings. The
    search ends with the first alignment within ``tolerance``; otherwise the result is an upper
    bound of the least RMSD.

    Args:
      a: ``[atoms, 3]`` in Angstrom.
      b: ``[atoms, 3]`` in Angstrom.
      numbers: atomic numbers ``[atoms]`` of both.
      tolerance: in Angstrom.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    best = np.inf
    for start in _starts(a, b, numbers, tolerance):
        best = min(best, _alternate(a @ start, b, numbers))
        if best <= tolerance:
            break
    return float(best)


def widest_gap(positions: HostVectors) -> float:
    """The widest gap in Angstrom that the atoms must bridge to hang together.

    The longest edge of the minimum spanning tree of the distances.

    Args:
      positions: ``[atoms, 3]`` in Angstrom.
    """
    if len(positions) < 2:
        return 0.0
    return float(minimum_spanning_tree(cdist(positions, positions)).data.max())


class KnownMinima:
    """The minima found so far, in the order of their discovery, with a quick search.

    A structure is aligned only with minima of nearly its energy whose fingerprint is within the
    distance that :func:`~mlffjax.explore.fingerprint.fingerprint_bound` allows, the nearest
    fingerprint first.

    Args:
      numbers: atomic numbers ``[atoms]``.
      settings: tolerances and what does not matter.
    """

    def __init__(self, numbers: HostNumbers, settings: HoppingSettings) -> None:
        self.numbers, self.settings = np.asarray(numbers), settings
        self.positions: list[np.ndarray] = []
        self.energies: list[float] = []
        self.alignments = 0
        self._bound = fingerprint_bound(self.numbers, settings.rmsd)
        self._sorted: list[tuple[float, int]] = []
        self._fingerprints = np.zeros((64, len(self.numbers)))

    def __len__(self) -> int:
        return len(self.positions)

    def add(self, energy: float, positions: HostVectors) -> int:
        """Append a minimum and return its index."""
        index = len(self)
        if index == len(self._fingerprints):
            self._fingerprints = np.concatenate([self._fingerprints, 0 * self._fingerprints])
        self._fingerprints[index] = overlap_fingerprint(self.numbers, positions)
        bisect.insort(self._sorted, (energy, index))
        self.positions.append(np.asarray(positions, np.float64))
        self.energies.append(float(energy))
        return index

    def find(self, energy: float, positions: HostVectors) -> int | None:
        """Index of the minimum this structure is, or ``None``.

        Args:
          energy: in eV.
          positions: ``[atoms, 3]`` in Angstrom.
        """
        reach = self.settings.energy_tolerance
        low = bisect.bisect_left(self._sorted, (energy - reach, -1))
        high = bisect.bisect_right(self._sorted, (energy + reach, len(self)))
        indices = np.array([index for _, index in self._sorted[low:high]], int)
        if not len(indices):
            return None
        own = overlap_fingerprint(self.numbers, positions)
        away = np.linalg.norm(self._fingerprints[indices] - own, axis=1)
        for k in np.argsort(away, kind="stable"):
            if away[k] > self._bound:
                break
            if self._same(self.positions[indices[k]], positions):
                return int(indices[k])
        return None

    def _same(self, known: HostVectors, positions: HostVectors) -> bool:
        for mirrored in (positions, -positions) if self.settings.mirror else (positions,):
            self.alignments += 1
            if self.settings.permutations:
                rmsd = permuted_rmsd(known, mirrored, self.numbers, self.settings.rmsd)
            else:
                rmsd = aligned_rmsd(known, mirrored)
            if rmsd <= self.settings.rmsd:
                return True
        return False


def _rmsd(a: HostVectors, b: HostVectors) -> float:
    return float(np.sqrt(((a - b) ** 2).sum(-1).mean()))


def _alternate(a: HostVectors, b: HostVectors, numbers: HostNumbers) -> float:
    """RMSD after alternating assignment and rotation until the assignment stays."""
    order = None
    for _ in range(20):
        new = _assign(a, b, numbers)
        if order is not None and (new == order).all():
            break
        order = new
        a = a @ rotation_onto(a, b[order])
    return _rmsd(a, b[order])


def _assign(a: HostVectors, b: HostVectors, numbers: HostNumbers) -> np.ndarray:
    """For each atom of ``a`` the atom of ``b`` it belongs to ``[atoms]``."""
    order = np.empty(len(a), int)
    for number in np.unique(numbers):
        own = np.flatnonzero(numbers == number)
        rows, columns = linear_sum_assignment(cdist(a[own], b[own], "sqeuclidean"))
        order[own[rows]] = own[columns]
    return order


def _starts(
    a: HostVectors, b: HostVectors, numbers: HostNumbers, tolerance: float
) -> Iterator[np.ndarray]:
    """Rotations of ``a`` that may bring it onto ``b``; the present order of atoms first."""
    yield rotation_onto(a, b)
    alike = _like_surroundings(a, b, numbers, tolerance)
    # Of atoms with few partners few rotations follow; those near the centre fix no direction.
    radius = np.linalg.norm(a, axis=1)
    outer = np.flatnonzero(radius >= 0.5 * radius.max())
    ranked = outer[np.argsort(alike[outer].sum(1), kind="stable")]
    for p, q in pairwise(ranked):
        area = np.linalg.norm(np.cross(a[p], a[q]))
        if area > 0.2 * radius[p] * radius[q] or len(ranked) == 2:
            break
    else:
        return
    apart = np.linalg.norm(a[p] - a[q])
    count = 0
    for i in np.flatnonzero(alike[p]):
        for j in np.flatnonzero(alike[q]):
            if i == j or abs(np.linalg.norm(b[i] - b[j]) - apart) > 4 * tolerance:
                continue
            count += 1
            if count > MAX_STARTS:
                return
            yield rotation_onto(a[[p, q]], b[[i, j]])


def _like_surroundings(
    a: HostVectors, b: HostVectors, numbers: HostNumbers, tolerance: float
) -> np.ndarray:
    """Whether an atom of ``a`` and one of ``b`` see alike distances ``[atoms, atoms]``."""
    like = numbers[:, None] == numbers[None]
    for number in np.unique(numbers):
        of = numbers == number
        sa, sb = np.sort(cdist(a, a[of]), axis=1), np.sort(cdist(b, b[of]), axis=1)
        like &= np.sqrt(((sa[:, None] - sb[None]) ** 2).mean(-1)) <= 2 * tolerance
    return like
