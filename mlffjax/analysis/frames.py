"""Frames on their way to the observables: made continuous, and mapped over on the device."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from mlffjax.md.bonds import Bonds
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.neighbors import complete_cell
from mlffjax.types import HostPbc


def continuous(blocks: Iterable[FrameBlock], pbc: HostPbc, bonds: Bonds) -> Iterator[FrameBlock]:
    """Frames in which atoms cross no periodic border and molecules are whole.

    An atom that seems to move more than half the cell between two frames has been wrapped and
    is put back; so frames must follow each other closely. What was not wrapped stays as it is.

    Args:
      blocks: in order.
      pbc: periodic directions ``[3]``.
      bonds: of the first frame.
    """
    if not np.any(pbc):
        yield from blocks
        return
    last: np.ndarray | None = None
    for block in blocks:
        boxes = np.stack([complete_cell(c, pbc) for c in block.cell])
        inverse = np.linalg.inv(boxes)
        fractional = block.positions @ inverse
        if last is None:
            fractional = fractional + whole_molecules(bonds, fractional.shape[1])
        before = fractional[:1] if last is None else last[None]
        steps = np.diff(fractional, axis=0, prepend=before)
        jumps = np.where(pbc, np.round(steps), 0)
        fractional = fractional - np.cumsum(jumps, axis=0)
        last = fractional[-1]
        yield replace(block, positions=fractional @ boxes)


def whole_molecules(bonds: Bonds, atoms: int) -> np.ndarray:
    """Lattice translations ``[atoms, 3]`` that put bonded atoms next to each other."""
    shifts = np.zeros((atoms, 3))
    i, j = bonds.pairs.T
    step = {}
    for a, b, shift in zip(i.tolist(), j.tolist(), bonds.shifts, strict=True):
        step[a, b], step[b, a] = shift, -shift
    molecule = connected_components(bond_graph(bonds, atoms), directed=False)[1]
    # One search for all molecules, from a node that leads to one atom of each.
    firsts = np.unique(molecule, return_index=True)[1]
    root = np.stack([np.full_like(firsts, atoms), firsts], axis=1)
    i, j = np.concatenate([bonds.pairs, root]).T
    graph = csr_array((np.ones(len(i)), (i, j)), shape=(atoms + 1, atoms + 1))
    order, parent = breadth_first_order(graph, atoms, directed=False)
    for atom in order[1:].tolist():
        above = int(parent[atom])
        if above != atoms:
            shifts[atom] = shifts[above] + step[above, atom]
    return shifts


def bond_graph(bonds: Bonds, atoms: int) -> csr_array:
    """The adjacency matrix ``[atoms, atoms]``, one direction of each bond."""
    other = bonds.pairs[:, 0] != bonds.pairs[:, 1]
    i, j = bonds.pairs[other].T
    return csr_array((np.ones(len(i)), (i, j)), shape=(atoms, atoms))


def map_frames(
    function: Callable[..., Array], size: int, *arrays: Float[np.ndarray, "frames *shape"]
) -> Float[np.ndarray, "frames *result"]:
    """A compiled function of batches of frames, over any number of them.

    Every batch has ``size`` frames, the last filled up with copies whose results are dropped,
    so one program serves all.

    Args:
      function: takes ``[size, ...]`` arrays, gives ``[size, ...]``.
      size: frames at once.
      arrays: along the first axis.
    """
    count = len(arrays[0])
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        result = function(*(jnp.asarray(a[rows]) for a in arrays))
        parts.append(np.asarray(result)[: count - first])
    return np.concatenate(parts)
