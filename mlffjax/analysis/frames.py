"""Frames on their way to the observables: made continuous, and mapped over on the device."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from mlffjax.analysis.images import boxes_of
from mlffjax.md.bonds import Bonds
from mlffjax.md.trajectory_readers import FrameBlock, Trajectory
from mlffjax.types import HostPbc

#: Frames at least that tell whether a trajectory was wrapped.
SAMPLES = 16
#: Cells that an atom which is wrapped gets away from where it began: one, and a half for a molecule
#: that is wrapped whole.
WRAPPED_REACH = 1.5


def continuous_frames(trajectory: Trajectory, frames: range, bonds: Bonds) -> Iterator[FrameBlock]:
    """Frames of a trajectory in which atoms cross no periodic border and molecules are whole.

    Frames that were wrapped into the cell are put together with all those between them, also
    where only some are asked for; those that were not stay as they are, see :func:`were_wrapped`.

    Args:
      trajectory: the file.
      frames: those that are asked for.
      bonds: of the first frame.
    """
    if not were_wrapped(trajectory, frames):
        blocks = trajectory.blocks(frames.start, frames.stop, frames.step)
        yield from continuous(blocks, trajectory.pbc, bonds, wrapped=False)
        return
    blocks = trajectory.blocks(frames.start, frames.stop)
    passed = 0
    for block in continuous(blocks, trajectory.pbc, bonds):
        kept = block.rows(slice(-passed % frames.step, None, frames.step))
        passed += len(block)
        if len(kept):
            yield kept


def were_wrapped(trajectory: Trajectory, frames: range) -> bool:
    """Whether atoms were, or may have been, put back into the cell as they left it.

    An atom that was is never more than a cell from where it began, or, where molecules are put
    back whole, a cell and the length of its molecule. So one that is further away than a cell and
    a half has not been wrapped. Where atoms that were not wrapped stay nearer than that, they
    hardly move half a cell between two frames, and what :func:`continuous` does changes nothing.

    Args:
      trajectory: the file, of which a few frames are read.
      frames: those that are looked at.
    """
    pbc = np.asarray(trajectory.pbc, bool)
    if not pbc.any():
        return False
    looked_at = frames[:: max(1, len(frames) // SAMPLES)]
    first = None
    for block in trajectory.blocks(looked_at.start, looked_at.stop, looked_at.step):
        fractional = block.positions @ np.linalg.inv(boxes_of(block.cell, pbc))
        first = fractional[0] if first is None else first
        if (np.abs(fractional - first)[..., pbc] > WRAPPED_REACH).any():
            return False
    return True


def continuous(
    blocks: Iterable[FrameBlock], pbc: HostPbc, bonds: Bonds, *, wrapped: bool = True
) -> Iterator[FrameBlock]:
    """Frames in which atoms cross no periodic border and molecules are whole.

    Args:
      blocks: in order.
      pbc: periodic directions ``[3]``.
      bonds: of the first frame.
      wrapped: an atom that seems to move more than half the cell between two frames has been
        wrapped and is put back; so frames must follow each other closely. If false, atoms move
        as the frames say.
    """
    if not np.any(pbc):
        yield from blocks
        return
    shifts: np.ndarray | None = None
    last: np.ndarray | None = None
    for block in blocks:
        boxes = boxes_of(block.cell, pbc)
        if shifts is None:
            shifts = whole_molecules(bonds, block.positions.shape[1])
        fractional = block.positions @ np.linalg.inv(boxes) + shifts
        if wrapped:
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
