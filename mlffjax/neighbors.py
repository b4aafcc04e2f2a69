"""Neighbour lists on the host: positions and cell to an :class:`AtomGraph`.

The lists come from vesin (cell lists in C++, any triclinic cell, any mix of periodic
directions, self-images of cells shorter than the cutoff).
"""

from typing import Any, NamedTuple

import numpy as np
import vesin
from jaxtyping import Float, Int

from mlffjax.graph import AtomGraph
from mlffjax.types import HostCell, HostNumbers, HostPbc, HostVectors


class Edges(NamedTuple):
    """Directed edges of one structure, sorted by receiver, then sender, then shift."""

    senders: Int[np.ndarray, "edges"]
    receivers: Int[np.ndarray, "edges"]
    shifts: Int[np.ndarray, "edges 3"]


def neighbor_list(positions: HostVectors, cell: HostCell, pbc: HostPbc, cutoff: float) -> Edges:
    """All ordered pairs within ``cutoff``, periodic images included.

    Args:
      positions: ``[atoms, 3]`` in Angstrom, inside or outside the cell.
      cell: rows are lattice vectors, in Angstrom; rows of directions that are not periodic
        may be zero.
      pbc: periodic directions ``[3]``, or one for all.
      cutoff: in Angstrom; a pair at exactly this distance carries no weight and may be left
        out.

    Raises:
      ValueError: no atoms, another shape, a cutoff that is not positive, a periodic direction
        without volume, a number that is not finite, or two atoms at one place.
    """
    i, j, shifts, distances = _listed(positions, cell, pbc, cutoff, full=True, quantities="ijSd")
    if distances.size and distances.min() < 1e-3:
        k = int(distances.argmin())
        raise ValueError(
            f"got atoms {i[k]} and {j[k]} at a distance of {distances[k]:.1e} Angstrom; "
            "expected two different places; remove the duplicate atom"
        )
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))
    return Edges(
        j[order].astype(np.int32), i[order].astype(np.int32), shifts[order].astype(np.int32)
    )


def pair_distances(
    positions: HostVectors, cell: HostCell, pbc: HostPbc, radius: float
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Float[np.ndarray, "pairs"]]:
    """Both atoms and the distance of all pairs within ``radius``, each pair once.

    Args:
      positions, cell, pbc: as of :func:`neighbor_list`; two atoms may be at one place.
      radius: in Angstrom, the longest distance included or not.

    Raises:
      ValueError: a periodic direction without volume, or a non-finite coordinate.
    """
    i, j, distances = _listed(positions, cell, pbc, radius, full=False, quantities="ijd")
    return i, j, distances


def pair_vectors(
    positions: HostVectors, cell: HostCell, pbc: HostPbc, radius: float
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Float[np.ndarray, "pairs 3"]]:
    """Both atoms, ``i`` ascending, and the vector ``r_ij`` of all ordered pairs within ``radius``.

    Args:
      positions, cell, pbc: as of :func:`neighbor_list`; two atoms may be at one place.
      radius: in Angstrom, the longest distance included or not.

    Raises:
      ValueError: a periodic direction without volume, or a non-finite coordinate.
    """
    i, j, vectors = _listed(positions, cell, pbc, radius, full=True, quantities="ijD")
    order = np.argsort(i, kind="stable")
    return i[order], j[order], vectors[order]


def _listed(
    positions: HostVectors,
    cell: HostCell,
    pbc: HostPbc,
    radius: float,
    *,
    full: bool,
    quantities: str,
) -> list[np.ndarray]:
    positions = np.ascontiguousarray(positions, np.float64)
    # ASE's Cell holds its array.
    cell = np.array(getattr(cell, "array", cell), np.float64)
    pbc = np.broadcast_to(np.asarray(pbc, bool), 3)
    _check_structure(positions, cell, radius)
    box = complete_cell(cell, pbc)
    return vesin.NeighborList(cutoff=float(radius), full_list=full).compute(
        points=_without_gaps(positions, box[~pbc], 2 * radius),
        box=box,
        periodic=pbc,
        quantities=quantities,
    )


def _check_structure(positions: HostVectors, cell: HostCell, radius: float) -> None:
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise ValueError(
            f"got positions of shape {positions.shape}; expected [atoms, 3] with at least one atom"
        )
    if cell.shape != (3, 3) or not np.isfinite(cell).all():
        raise ValueError(
            f"got the cell {cell.tolist()}; expected three lattice vectors as rows, of finite "
            "numbers; zeros for a molecule"
        )
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"got the radius {radius} Angstrom; expected a positive number")
    if not np.isfinite(positions).all():
        index = int(np.argwhere(~np.isfinite(positions).all(1))[0, 0])
        raise ValueError(
            f"got the position {positions[index]} for atom {index}; expected finite numbers; "
            "remove the frame or mend its coordinates"
        )


def _without_gaps(
    positions: HostVectors, normals: Float[np.ndarray, "directions 3"], gap: float
) -> HostVectors:
    """Positions with wider gaps narrowed to ``gap`` Angstrom along directions not periodic.

    Atoms nearer than ``gap`` keep their distance, all others stay at least so far apart. The list
    is made on a grid as wide as the structure, which an atom that flew away would make too large.
    """
    for normal in normals:
        along = positions @ normal
        order = np.argsort(along)
        steps = np.diff(along[order])
        if (steps > gap).any():
            narrowed = np.concatenate([[0], np.cumsum(np.minimum(steps, gap))])
            moved = np.empty_like(along)
            moved[order] = along[order[0]] + narrowed
            positions = positions + (moved - along)[:, None] * normal
    return positions


def complete_cell(cell: HostCell, pbc: HostPbc) -> HostCell:
    """A cell of full rank: rows of directions that are not periodic replaced by normals.

    Raises:
      ValueError: the periodic lattice vectors span no length, area or volume.
    """
    periodic = cell[pbc]
    if len(periodic):
        lengths = np.linalg.norm(periodic, axis=1)
        flat = (lengths < 1e-6).any() or (
            np.linalg.svd(periodic / np.maximum(lengths, 1e-6)[:, None], compute_uv=False)[-1]
            < 1e-4
        )
        if flat:
            raise ValueError(
                f"got a periodic frame (pbc {pbc.tolist()}) with the cell {cell.tolist()} of "
                "zero volume; expected independent lattice vectors; set the cell, or pbc to "
                "false"
            )
    if pbc.all():
        return cell
    # The orthogonal complement of the periodic vectors, from the SVD's null space.
    complement = np.eye(3) if not len(periodic) else np.linalg.svd(periodic)[2][len(periodic) :]
    box = cell.copy()
    box[~pbc] = complement[: int((~pbc).sum())]
    return box


def atom_graph(
    numbers: HostNumbers,
    positions: HostVectors,
    cell: HostCell,
    pbc: HostPbc,
    cutoff: float,
    dtype: np.dtype | type = np.float32,
) -> AtomGraph:
    """The graph of one structure on the host, without padding.

    Args:
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom.
      cell: rows are lattice vectors, in Angstrom; zeros for a molecule.
      pbc: periodic directions ``[3]``.
      cutoff: in Angstrom.
      dtype: of positions and cell; the list itself is made in float64. In float32 a structure
        far from the origin loses digits: give positions around it.

    Raises:
      ValueError: as :func:`neighbor_list`, or not one atomic number an atom.
    """
    return graph_of(numbers, positions, cell, neighbor_list(positions, cell, pbc, cutoff), dtype)


def graph_of(
    numbers: HostNumbers,
    positions: HostVectors,
    cell: HostCell,
    edges: Edges,
    dtype: np.dtype | type = np.float32,
) -> AtomGraph:
    """The graph of one structure from its edges, on the host, without padding.

    Args:
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom, those the edges were made for.
      cell: rows are lattice vectors, in Angstrom; zeros for a molecule.
      edges: as :func:`neighbor_list` makes them.
      dtype: of positions and cell.

    Raises:
      ValueError: not one atomic number an atom.
    """
    count = len(numbers)
    if count != len(positions):
        raise ValueError(
            f"got {count} atomic numbers for {len(positions)} positions; expected one each"
        )
    host: Any = np.asarray  # on the host, NumPy arrays stand where JAX arrays are annotated
    return AtomGraph(
        numbers=host(numbers, np.int32),
        positions=host(positions, dtype),
        cell=host(getattr(cell, "array", cell), dtype)[None],
        graph_index=host(np.zeros(count, np.int32)),
        senders=host(edges.senders),
        receivers=host(edges.receivers),
        shifts=host(edges.shifts),
        node_mask=host(np.ones(count, bool)),
        edge_mask=host(np.ones(len(edges.senders), bool)),
        graph_mask=host(np.ones(1, bool)),
    )
