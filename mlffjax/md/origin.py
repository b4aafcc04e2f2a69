"""Keeping a simulation near the origin, for the sake of the digits of single precision.

What drifts freely (a molecule in a Langevin bath goes hundreds of Angstroms in some nanoseconds)
is moved back between two stretches of steps; what is written stays where the user has it.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Array, Float

from mlffjax.md.replica_chunk import ReplicaNeighbors
from mlffjax.md.simulate import State
from mlffjax.types import HostVectors

#: A system whose middle has gone further from the origin, in Angstrom, is moved back there.
FAR = 20.0


def way_gone(positions: HostVectors) -> Float[np.ndarray, "3"]:
    """How far positions are to be moved back, in whole Angstroms; zeros where that is not far.

    Args:
      positions: ``[atoms, 3]`` in Angstrom, from the origin.
    """
    middle = np.round(np.asarray(positions, np.float64).mean(axis=0))
    return middle if np.abs(middle).max() > FAR else np.zeros(3)


def moved_back(state: State, way: Float[Array, "... 3"]) -> State:
    """The state with its positions, and those of its neighbour list, less ``way``.

    Args:
      state: of a run, or of replicas.
      way: in Angstrom ``[3]``, or ``[replicas, 1, 3]``.
    """
    force, neighbors = state.force, state.force.neighbors
    if isinstance(neighbors, ReplicaNeighbors):
        lists = replace(neighbors.list, reference=neighbors.list.reference - way)
        neighbors = replace(neighbors, list=lists)
    else:
        neighbors = replace(neighbors, reference=neighbors.reference - way)
    return state.set(position=state.position - way, force=replace(force, neighbors=neighbors))
