"""Disconnectivity graph: which minima can be reached from which below an energy.

Becker and Karplus, J. Chem. Phys. 106, 1495 (1997): at each of a ladder of energy levels the
minima fall into superbasins, sets that are connected by paths below that level; the superbasins
of all levels form a tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

#: Levels of the ladder unless they are given.
LEVELS = 40


@dataclass(frozen=True, eq=False)
class Disconnectivity:
    """A tree of superbasins, laid out for drawing.

    Attributes:
      minima: indices of the minima shown, the leaves ``[leaves]``, lowest first.
      places: where each leaf stands on the horizontal axis ``[leaves]``, 0 to ``leaves - 1``.
      lines: ``[lines, 2, 2]``: two points (place, energy in eV) of each line to draw.
      levels: of the ladder, in eV.
      basins: superbasin of each leaf at each level ``[levels, leaves]``; numbers mean nothing
        but sameness, -1 where the level lies below the minimum.
    """

    minima: Int[np.ndarray, "leaves"]
    places: Float[np.ndarray, "leaves"]
    lines: Float[np.ndarray, "lines 2 2"]
    levels: Float[np.ndarray, "levels"]
    basins: Int[np.ndarray, "levels leaves"]


def disconnectivity_graph(
    energies: Float[np.ndarray, "minima"],
    transitions: Sequence[tuple[int, int, float]],
    *,
    levels: Sequence[float] | None = None,
    most: int = 200,
) -> Disconnectivity:
    """Superbasin analysis of minima and the barriers between them.

    Paths through all minima count, also through those that are not shown.

    Args:
      energies: of the minima in eV.
      transitions: two minima and the highest energy between them in eV, in any order; of several
        between the same two the lowest counts, and none below the minima themselves.
      levels: of the ladder in eV, ascending; evenly from the lowest minimum to above the highest
        barrier unless given.
      most: leaves shown at most, the lowest.

    Raises:
      ValueError: no minima, energies that are not finite, or a transition of a minimum that is
        not there.
    """
    energies = np.asarray(energies, np.float64)
    edges = _checked(energies, transitions)
    shown = np.argsort(energies, kind="stable")[:most]
    ladder = _ladder(energies, edges) if levels is None else np.asarray(levels, np.float64)
    basins = _superbasins(energies, edges, ladder)[:, shown]
    places, lines = _draw(energies[shown], ladder, basins)
    return Disconnectivity(shown, places, lines, ladder, basins)


def _checked(
    energies: np.ndarray, transitions: Sequence[tuple[int, int, float]]
) -> list[tuple[int, int, float]]:
    """Transitions in order of their height, none below its minima."""
    if energies.ndim != 1 or not len(energies) or not np.isfinite(energies).all():
        raise ValueError(
            f"got energies of the shape {energies.shape}, {int((~np.isfinite(energies)).sum())} "
            "not finite; expected one finite energy for each of at least one minimum"
        )
    edges = []
    for a, b, height in transitions:
        if not (0 <= a < len(energies) and 0 <= b < len(energies)) or not np.isfinite(height):
            raise ValueError(
                f"got a transition from {a} to {b} at {height} eV among {len(energies)} minima; "
                "expected indices of minima and a finite energy; drop it"
            )
        if a != b:
            edges.append((int(a), int(b), max(float(height), energies[a], energies[b])))
    return sorted(edges, key=lambda edge: edge[2])


def _ladder(energies: np.ndarray, edges: list[tuple[int, int, float]]) -> np.ndarray:
    low = energies.min()
    high = max([energies.max(), *(height for _, _, height in edges)])
    step = max(high - low, 1e-9) / (LEVELS - 1)
    return low + step * np.arange(1, LEVELS + 1)


def _root(parent: np.ndarray, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return int(node)


def _superbasins(
    energies: np.ndarray, edges: list[tuple[int, int, float]], ladder: np.ndarray
) -> np.ndarray:
    """Representative of each minimum at each level ``[levels, minima]``; -1 below the minimum."""
    parent = np.arange(len(energies))
    rows, done = [], 0
    for level in ladder:
        while done < len(edges) and edges[done][2] <= level:
            a, b, _ = edges[done]
            parent[_root(parent, a)] = _root(parent, b)
            done += 1
        labels = np.array([_root(parent, k) for k in range(len(energies))])
        rows.append(np.where(energies <= level, labels, -1))
    return np.array(rows)


def _draw(
    energies: np.ndarray, ladder: np.ndarray, basins: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the leaves and lines of the tree; leaves come lowest first."""
    # Trees so far: the leaves of each in their order, and where its line has come to.
    trees = {leaf: [leaf] for leaf in range(len(energies))}
    merges: list[tuple[int, list[int]]] = []  # level, first leaves of the trees that join
    for index in range(len(ladder)):
        groups: dict[int, list[int]] = {}
        for first in trees:
            if basins[index, first] >= 0:
                groups.setdefault(int(basins[index, first]), []).append(first)
        for members in groups.values():
            if len(members) > 1:
                members.sort()
                merges.append((index, members))
                trees[members[0]] = _centred([trees[m] for m in members])
                for member in members[1:]:
                    del trees[member]
    order = [leaf for first in sorted(trees) for leaf in trees[first]]
    places = np.empty(len(energies))
    places[order] = np.arange(len(order))
    at = {leaf: (float(places[leaf]), float(energies[leaf])) for leaf in range(len(energies))}
    lines = []
    for index, members in merges:
        top = float(ladder[index])
        bend = float(ladder[index - 1]) if index else top
        middle = float(np.mean([at[m][0] for m in members]))
        for member in members:
            place, energy = at.pop(member)
            knee = max(bend, energy)
            lines += [[(place, energy), (place, knee)], [(place, knee), (middle, top)]]
        at[members[0]] = (middle, top)
    lines += [[point, (point[0], float(ladder[-1]))] for point in at.values()]
    return places, np.array(lines, np.float64).reshape(-1, 2, 2)


def _centred(parts: list[list[int]]) -> list[int]:
    """Parts side by side: the first, which holds the lowest minimum, in the middle."""
    left: list[list[int]] = []
    right: list[list[int]] = []
    for k, part in enumerate(parts[1:]):
        (right if k % 2 == 0 else left).append(part)
    return [leaf for part in [*left[::-1], parts[0], *right] for leaf in part]
