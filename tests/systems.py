"""Small structures the contract is checked on, and what may stand in their padding."""

from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlffjax.graph import AtomGraph


def molecule(seed: int = 0) -> Atoms:
    """A molecule like ethanol, distorted: chiral, no two atoms alike."""
    atoms = Atoms(
        "C2OH6",
        [
            [-1.17, -0.39, 0.0],
            [0.05, 0.53, 0.0],
            [1.20, -0.28, 0.0],
            [1.96, 0.30, 0.1],
            [-2.08, 0.21, 0.0],
            [-1.19, -1.04, 0.89],
            [-1.19, -1.04, -0.89],
            [0.07, 1.18, 0.89],
            [0.07, 1.18, -0.89],
        ],
    )
    atoms.positions += np.random.default_rng(seed).normal(0, 0.1, (9, 3))
    return atoms


def silicon(seed: int = 0) -> Atoms:
    """Two atoms of Si and O in a triclinic cell shorter than the cutoff."""
    cell = np.array([[0.0, 2.7, 2.9], [2.6, 0.2, 2.7], [2.8, 2.5, -0.1]])
    shift = np.random.default_rng(seed).normal(0, 0.1, 3)
    return Atoms("SiO", [[0.1, 0.0, 0.2], cell.sum(0) / 4 + shift], cell=cell, pbc=True)


def one_atom_cell() -> Atoms:
    """One Si in a triclinic cell in which every neighbour is an image of itself."""
    cell = np.array([[2.6, 0.1, 0.0], [0.4, 2.7, 0.2], [0.1, -0.3, 2.9]])
    return Atoms("Si", [[0.3, 0.2, 0.1]], cell=cell, pbc=True)


def slab() -> Atoms:
    """Four atoms periodic in two directions that are not its first two."""
    cell = np.array([[12.0, 0.0, 0.0], [0.3, 3.3, 0.1], [0.0, 0.8, 3.6]])
    positions = [[0.2, 0.1, 0.0], [1.6, 1.5, 1.9], [3.0, 0.3, 0.2], [2.5, 3.1, 1.0]]
    return Atoms("SiOSiH", positions, cell=cell, pbc=[False, True, True])


def water_box() -> Atoms:
    """Three molecules of water across the faces of a small cell."""
    single = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    turns = Rotation.random(3, random_state=1).as_matrix()
    places = np.array([[0.1, 0.2, 0.1], [2.6, 2.4, 0.3], [0.4, 2.5, 2.8]])
    positions = np.concatenate([single @ turn + at for turn, at in zip(turns, places, strict=True)])
    return Atoms("OH2OH2OH2", positions, cell=[5.2, 5.0, 5.4], pbc=True)


def poisoned(graph: AtomGraph, seed: int = 0) -> AtomGraph:
    """A padded graph with NaN or random numbers in everything that is padding.

    Indices stay in range and sorted, as the graph promises; padded edges end also at real
    atoms, and padded atoms lie also in real structures.
    """
    rng = np.random.default_rng(seed)
    nodes, edges, graphs = ~graph.node_mask, ~graph.edge_mask, ~graph.graph_mask
    last_atom = int(graph.receivers[graph.edge_mask].max(initial=0))
    last_graph = int(graph.graph_index[graph.node_mask].max())

    def replace(array: np.ndarray, where: np.ndarray, values: Any) -> np.ndarray:
        array = np.array(array)
        array[where] = values
        return array

    def ascending(low: int, high: int, count: int) -> np.ndarray:
        return np.sort(rng.integers(low, high, count))

    size = graph.size
    return graph.replace(
        numbers=replace(graph.numbers, nodes, rng.integers(0, 119, nodes.sum())),
        positions=replace(graph.positions, nodes, np.nan),
        cell=replace(graph.cell, graphs, np.nan),
        graph_index=replace(
            graph.graph_index, nodes, ascending(last_graph, size.graphs, nodes.sum())
        ),
        senders=replace(graph.senders, edges, rng.integers(0, size.atoms, edges.sum())),
        receivers=replace(graph.receivers, edges, ascending(last_atom, size.atoms, edges.sum())),
        shifts=replace(graph.shifts, edges, rng.integers(-9, 10, (edges.sum(), 3))),
    )
