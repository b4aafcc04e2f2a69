"""The atom graph: one frozen pytree for a structure, a batch, and a padded batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int

from mlffjax.compaction import first_true
from mlffjax.types import (
    AtomMask,
    Cells,
    EdgeIndex,
    EdgeMask,
    EdgeVectors,
    GraphMask,
    Positions,
    Species,
)


@struct.dataclass
class AtomGraph:
    """Atoms, cells and edges of a batch of structures.

    Atoms and edges of one structure are contiguous; edges are sorted by receiver. With every edge
    ``i-j`` there is the edge ``j-i``, except where ``halved``. Compiled programs cannot look
    whether that holds; of a graph from elsewhere, :func:`check_graph` can.

    Attributes:
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom.
      cell: lattice vectors as rows ``[graphs, 3, 3]`` in Angstrom, zeros for a molecule.
      graph_index: the structure each atom belongs to ``[atoms]``, ascending.
      senders: neighbour ``j`` of each edge ``[edges]``.
      receivers: centre ``i`` of each edge ``[edges]``, ascending.
      shifts: integer lattice translation ``S_ij`` of the sender ``[edges, 3]``.
      node_mask: true for real atoms ``[atoms]``.
      edge_mask: true for real edges ``[edges]``.
      graph_mask: true for real structures ``[graphs]``.
      halved: there is one edge of each pair only, as :func:`half` keeps it; for architectures
        that are ``pairwise`` (static).
    """

    numbers: Species
    positions: Positions
    cell: Cells
    graph_index: Int[Array, "atoms"]
    senders: EdgeIndex
    receivers: EdgeIndex
    shifts: Int[Array, "edges 3"]
    node_mask: AtomMask
    edge_mask: EdgeMask
    graph_mask: GraphMask
    halved: bool = struct.field(pytree_node=False, default=False)

    @property
    def size(self) -> "GraphSize":
        """Padded number of atoms, edges and graphs."""
        return GraphSize(
            self.positions.shape[-2], self.senders.shape[-1], self.graph_mask.shape[-1]
        )

    @property
    def num_atoms(self) -> int:
        """Padded number of atoms (static)."""
        return self.numbers.shape[0]

    @property
    def num_graphs(self) -> int:
        """Padded number of structures (static)."""
        return self.graph_mask.shape[0]


@struct.dataclass
class EdgeGraph:
    """What an architecture sees of an :class:`AtomGraph`: edge vectors, never positions.

    Translation, periodic images and strain are thereby handled once, outside the models.
    Vectors of padded edges are a harmless constant beyond every cutoff.

    Attributes:
      vectors: ``r_ij = r_j - r_i + S_ij @ cell`` ``[edges, 3]`` in Angstrom.
      species: index of each atom into the potential's elements ``[atoms]``.
      numbers: atomic numbers ``[atoms]``.
      senders, receivers, graph_index and the masks: as in :class:`AtomGraph`; of :func:`half`
        for an architecture that is ``pairwise``.
      edges_per_block: most edges that a loop over edges computes at a time; ``None`` for the
        number measured to be fastest (static).
    """

    vectors: EdgeVectors
    species: Species
    numbers: Species
    graph_index: Int[Array, "atoms"]
    senders: EdgeIndex
    receivers: EdgeIndex
    node_mask: AtomMask
    edge_mask: EdgeMask
    graph_mask: GraphMask
    edges_per_block: int | None = struct.field(pytree_node=False, default=None)

    @property
    def num_atoms(self) -> int:
        """Padded number of atoms (static)."""
        return self.species.shape[0]

    @property
    def num_graphs(self) -> int:
        """Padded number of structures (static)."""
        return self.graph_mask.shape[0]


@dataclass(frozen=True, order=True)
class GraphSize:
    """Numbers of atoms, edges and structures a padded batch has room for."""

    atoms: int
    edges: int
    graphs: int

    def __add__(self, other: "GraphSize") -> "GraphSize":
        return GraphSize(
            self.atoms + other.atoms, self.edges + other.edges, self.graphs + other.graphs
        )

    def fits(self, room: "GraphSize") -> bool:
        """Whether a batch of this size can be padded to ``room``."""
        return self.atoms <= room.atoms and self.edges <= room.edges and self.graphs <= room.graphs

    def bucket(self) -> "GraphSize":
        """The next size of a fixed ladder, so that few shapes are ever compiled."""
        return GraphSize(bucket(self.atoms, 4), bucket(self.edges, 32), self.graphs)


def bucket(count: int, smallest: int) -> int:
    """Round ``count`` up to a ladder that grows by an eighth: at most 12.5 % of padding.

    The rungs are ``2^k (8 + m) / 8`` with ``m`` from 0 to 7, and multiples of ``smallest``
    below eight times it.

    >>> [bucket(n, 4) for n in (1, 4, 9, 33, 100, 1000)]
    [4, 4, 12, 36, 104, 1024]
    """
    step = smallest
    while count > 16 * step:
        step *= 2
    return max(smallest, -(-count // step) * step)


def edge_vectors(graph: AtomGraph, far: float = 1e3) -> EdgeVectors:
    """Edge vectors ``r_j - r_i + S @ cell`` ``[edges, 3]`` in Angstrom.

    Args:
      graph: the batch.
      far: length of the constant vector that padded edges get, beyond every cutoff; it
        keeps norms and their derivatives finite there.
    """
    cell = graph.cell[graph.graph_index[graph.receivers]]
    shifts = graph.shifts.astype(graph.positions.dtype)
    vectors = (
        graph.positions[graph.senders]
        - graph.positions[graph.receivers]
        + jnp.einsum("ek,ekx->ex", shifts, cell)
    )
    padding = jnp.array([far, 0.0, 0.0], vectors.dtype)
    return jnp.where(graph.edge_mask[:, None], vectors, padding)


def half(graph: AtomGraph) -> AtomGraph:
    """The graph with one of the two edges of every pair of neighbours; can be compiled.

    The edges kept are those that :func:`is_forward` names. They stay sorted by receiver, and there
    is room for half as many.
    """
    forward = is_forward(graph.senders, graph.receivers, graph.shifts)
    index, mask, _ = first_true(graph.edge_mask & forward, (graph.senders.shape[0] + 1) // 2)
    last = graph.num_atoms - 1
    return replace(
        graph,
        senders=jnp.where(mask, graph.senders[index], last),
        receivers=jnp.where(mask, graph.receivers[index], last),
        shifts=jnp.where(mask[:, None], graph.shifts[index], 0),
        edge_mask=mask,
        halved=True,
    )


def is_forward(
    senders: EdgeIndex, receivers: EdgeIndex, shifts: Int[Array, "edges 3"]
) -> Bool[Array, "edges"]:
    """True for one of the two edges of every pair ``[edges]``.

    Of the edges ``i-j`` and ``j-i`` the one whose receiver comes later, of an atom and its own
    images the one whose first shift that is not zero is positive.
    """
    rank = shifts[:, 2]
    for axis in (1, 0):
        rank = jnp.where(shifts[:, axis] != 0, shifts[:, axis], rank)
    return (receivers > senders) | ((receivers == senders) & (rank > 0))


def check_graph(graph: AtomGraph) -> None:
    """Check a graph that was made by hand, on the host: what every architecture relies on.

    Nothing calls this: what :func:`mlffjax.atom_graph`, :func:`batch` and :func:`pad` make is
    right, and inside a compiled program there are no values to look at. Architectures that are
    ``pairwise`` compute one edge of each pair, so an edge without its reverse would silently count
    twice or not at all. Whether pairs within the cutoff are missing is not checked.

    Args:
      graph: of concrete arrays, padded or not.

    Raises:
      ValueError: one edge of each pair only, lengths that differ, an index out of range or out of
        order, an edge between two structures, of an atom with itself, given twice, or without its
        reverse.
    """
    if graph.halved:
        raise ValueError(
            "got a graph with one edge of each pair; expected both; check it before it is halved"
        )
    groups = {
        "atoms": ("numbers", "positions", "graph_index", "node_mask"),
        "edges": ("senders", "receivers", "shifts", "edge_mask"),
        "graphs": ("cell", "graph_mask"),
    }
    host = {name: np.asarray(getattr(graph, name)) for names in groups.values() for name in names}
    for what, names in groups.items():
        lengths = {name: len(host[name]) for name in names}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"got the lengths {lengths}; expected as many as there are {what}")
    for name, of in (("graph_index", "cell"), ("receivers", "numbers"), ("senders", "numbers")):
        index, room = host[name], len(host[of])
        if len(index) and (index.min() < 0 or index.max() >= room):
            raise ValueError(
                f"got {name} from {index.min()} to {index.max()}; expected 0 to {room - 1}"
            )
        if name != "senders" and (np.diff(index) < 0).any():
            raise ValueError(f"got {name} out of order; expected them ascending; sort by them")
    real = host["edge_mask"]
    _check_edges(
        host["senders"][real],
        host["receivers"][real],
        host["shifts"][real],
        np.where(host["node_mask"], host["graph_index"], -1),
    )


def _check_edges(
    senders: np.ndarray, receivers: np.ndarray, shifts: np.ndarray, structure: np.ndarray
) -> None:
    """Raise the error of :func:`check_graph` for wrong edges; ``structure`` of padding is -1."""

    def refuse(edge: int, what: str, fix: str) -> None:
        raise ValueError(
            f"got the edge from atom {senders[edge]} to atom {receivers[edge]} with the shift "
            f"{shifts[edge].tolist()} {what}; {fix}"
        )

    ends = structure[senders], structure[receivers]
    between = np.flatnonzero((ends[0] != ends[1]) | (ends[0] < 0))
    if len(between):
        refuse(
            int(between[0]),
            "between two structures or to padding",
            "expected both atoms in one; mask or remove it",
        )
    itself = np.flatnonzero((senders == receivers) & ~shifts.any(axis=1))
    if len(itself):
        refuse(int(itself[0]), "of an atom with itself", "expected another place; remove it")
    edges = np.column_stack([receivers, senders, shifts])
    mirrored = np.column_stack([senders, receivers, -shifts])
    order, other = np.lexsort(edges.T), np.lexsort(mirrored.T)
    twice = np.flatnonzero((np.diff(edges[order], axis=0) == 0).all(axis=1))
    if len(twice):
        refuse(int(order[twice[0]]), "twice", "expected it once; remove one")
    if (edges[order] != mirrored[other]).any():
        known = set(map(tuple, edges.tolist()))
        lacking = next(k for k, row in enumerate(mirrored.tolist()) if tuple(row) not in known)
        refuse(
            lacking,
            "without its reverse",
            "expected both edges of every pair; add the others, or make the graph with "
            "mlffjax.atom_graph",
        )


def batch(graphs: Sequence[AtomGraph]) -> AtomGraph:
    """Concatenate host graphs into one batch without padding.

    Args:
      graphs: graphs of NumPy arrays; none of them padded.

    Raises:
      ValueError: no graphs were given, or some have one edge of each pair and others both.
    """
    if not graphs:
        raise ValueError("got no graphs to batch; expected at least one")
    if len({g.halved for g in graphs}) > 1:
        raise ValueError(
            "got graphs with one and graphs with both edges of each pair; expected all alike; "
            "halve the batch"
        )
    atoms = np.cumsum([0] + [g.numbers.shape[0] for g in graphs[:-1]])
    count = np.cumsum([0] + [g.graph_mask.shape[0] for g in graphs[:-1]])

    def join(name: str, offsets: np.ndarray | None = None) -> Any:  # NumPy, on the host
        parts = [np.asarray(getattr(g, name)) for g in graphs]
        if offsets is not None:
            parts = [p + o for p, o in zip(parts, offsets.astype(np.int32), strict=True)]
        return np.concatenate(parts)

    return AtomGraph(
        numbers=join("numbers"),
        positions=join("positions"),
        cell=join("cell"),
        graph_index=join("graph_index", count),
        senders=join("senders", atoms),
        receivers=join("receivers", atoms),
        shifts=join("shifts"),
        node_mask=join("node_mask"),
        edge_mask=join("edge_mask"),
        graph_mask=join("graph_mask"),
        halved=graphs[0].halved,
    )


def pad(graph: AtomGraph, room: GraphSize) -> AtomGraph:
    """Pad a host graph to ``room``; padded entries are marked in the masks.

    Padded atoms join the last graph and padded edges the last atom, so that both index
    arrays stay sorted.

    Raises:
      ValueError: the graph does not fit, with the sizes and what to enlarge.
    """
    size = graph.size
    if not size.fits(room):
        raise ValueError(
            f"got a batch of {size.atoms} atoms, {size.edges} edges, {size.graphs} graphs; "
            f"expected at most {room.atoms}, {room.edges}, {room.graphs}; enlarge the padded "
            "size, or lower the cutoff or the batch size"
        )
    atoms, edges, graphs = (
        room.atoms - size.atoms,
        room.edges - size.edges,
        room.graphs - size.graphs,
    )

    def fill(array: Any, extra: int, value: int = 0) -> Any:  # NumPy, on the host
        array = np.asarray(array)
        width = [(0, extra)] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, width, constant_values=value)

    return AtomGraph(
        numbers=fill(graph.numbers, atoms),
        positions=fill(graph.positions, atoms),
        cell=fill(graph.cell, graphs),
        graph_index=fill(graph.graph_index, atoms, room.graphs - 1),
        senders=fill(graph.senders, edges, room.atoms - 1),
        receivers=fill(graph.receivers, edges, room.atoms - 1),
        shifts=fill(graph.shifts, edges),
        node_mask=fill(graph.node_mask, atoms),
        edge_mask=fill(graph.edge_mask, edges),
        graph_mask=fill(graph.graph_mask, graphs),
        halved=graph.halved,
    )
