"""A limit on the number of neighbours, for models that were trained with one."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mlffjax.graph import EdgeGraph
from mlffjax.types import EdgeScalars


def nearest_neighbors(distances: EdgeScalars, graph: EdgeGraph, count: int) -> Bool[Array, "edges"]:
    """Which edges are among the ``count`` shortest of their centre ``[edges]``; padding is not.

    Energies then jump as two neighbours change places, and an edge may lack its reverse.
    """
    lengths = jnp.where(graph.edge_mask, distances, jnp.inf)
    order = jnp.lexsort((lengths, graph.receivers))
    first = jnp.searchsorted(graph.receivers, jnp.arange(graph.num_atoms))
    # Receivers ascend, so that sorting leaves every centre's edges in their places.
    rank = jnp.arange(order.shape[0]) - first[graph.receivers]
    ranks = jnp.zeros_like(rank).at[order].set(rank)
    return graph.edge_mask & (ranks < count)
