"""Weighted sums of the values of neighbours as products of matrices.

Where attention has one number for each head and edge, its sum over the neighbours of an atom is the
product of a matrix of all pairs of atoms with their values. Of few atoms most pairs are neighbours;
then the matrix costs less than an array of edges times channels, which is written, read and summed.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.nn import backend

#: Pairs of atoms for each pair of neighbours up to which the matrix is quicker on a CPU: so it is
#: for 3 (a molecule) to 7 (192 atoms of water); for 24 no difference was seen
#: (``benchmarks/changes.md``).
PAIRS_OF_ATOMS = 16


def is_quicker(graph: EdgeGraph) -> bool:
    """Whether :func:`weighted_sums` beats sums over edges, by their numbers and the device.

    Of one structure only: in a product of matrices zero times what is not finite is not finite,
    and a structure that breaks must not break the others of its batch.
    """
    few = graph.num_atoms**2 <= PAIRS_OF_ATOMS * graph.senders.shape[0]
    return backend.on_cpu() and graph.num_graphs == 1 and few


def weighted_sums(
    weights: Sequence[Float[Array, "edges heads"]],
    values: Float[Array, "atoms channels"],
    graph: EdgeGraph,
) -> Float[Array, "atoms channels"]:
    """``sum_j w_ij v_j`` of each atom, whose channels are those of one head after the other.

    Args:
      weights: of the values at receivers for the sums at senders, and the other way round; zero for
        padded edges.
      values: ``v_j`` ``[atoms, channels]``.
      graph: one edge of each pair of neighbours.
    """
    at_senders, at_receivers = weights
    count, heads = graph.num_atoms, at_senders.shape[1]
    matrix = jnp.zeros((count, count, heads), values.dtype)
    for rows, columns, part in (
        (graph.receivers, graph.senders, at_receivers),
        (graph.senders, graph.receivers, at_senders),
    ):
        matrix = matrix.at[rows, columns].add(part, mode="promise_in_bounds")
    parts = values.reshape(count, heads, -1)
    return jnp.einsum("ijh,jhc->ihc", matrix, parts).reshape(values.shape)
