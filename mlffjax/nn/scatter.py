"""Sums, means and softmax over the edges of an atom and the atoms of a structure.

Every reduction applies the mask of its graph, so that padding stays inert whatever stands in
the padded entries.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mlffjax.graph import AtomGraph, EdgeGraph


def masked(values: Float[Array, "n ..."], mask: Bool[Array, "n"]) -> Float[Array, "n ..."]:
    """``values`` with zeros where ``mask`` ``[n]`` is false, in value and gradient."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (values.ndim - 1)), values, 0)


def sum_to_receivers(
    values: Float[Array, "edges ..."], graph: EdgeGraph | AtomGraph
) -> Float[Array, "atoms ..."]:
    """Sum the messages ``[edges, ...]`` at the centre of each edge ``[atoms, ...]``."""
    return jax.ops.segment_sum(
        masked(values, graph.edge_mask),
        graph.receivers,
        graph.num_atoms,
        indices_are_sorted=True,
    )


def sum_to_senders(
    values: Float[Array, "edges ..."], graph: EdgeGraph | AtomGraph
) -> Float[Array, "atoms ..."]:
    """Sum what each edge ``[edges, ...]`` sends back to its neighbour ``[atoms, ...]``."""
    return jax.ops.segment_sum(masked(values, graph.edge_mask), graph.senders, graph.num_atoms)


def softmax_over_neighbors(
    logits: Float[Array, "edges ..."],
    graph: EdgeGraph | AtomGraph,
    envelope: Float[Array, "edges"] | None = None,
) -> Float[Array, "edges ..."]:
    """Softmax of ``logits`` ``[edges, ...]`` over the neighbours of each centre.

    Args:
      logits: unnormalised log weights.
      graph: the edges.
      envelope: smooth cutoff ``[edges]``; the result is then ``envelope * exp(logits)`` over
        the sum of ``envelope * exp(logits)`` plus a constant of order one, so that an atom whose
        neighbours all leave loses its messages continuously. Without it, the plain softmax.
    """
    shape = graph.edge_mask.shape + (1,) * (logits.ndim - 1)
    mask = graph.edge_mask.reshape(shape)
    lowest = jnp.finfo(logits.dtype).min
    top = jax.ops.segment_max(
        jnp.where(mask, logits, lowest), graph.receivers, graph.num_atoms, indices_are_sorted=True
    )
    # The maximum only guards against overflow: it cancels, so it needs no derivative.
    top = jax.lax.stop_gradient(jnp.maximum(top, 0 if envelope is not None else lowest))
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, logits - top[graph.receivers], 0)), 0)
    floor = jnp.finfo(logits.dtype).tiny
    if envelope is not None:
        weights = weights * envelope.reshape(shape)
        floor = jnp.exp(-top)
    total = jax.ops.segment_sum(weights, graph.receivers, graph.num_atoms, indices_are_sorted=True)
    return weights / (total + floor)[graph.receivers]


def sum_over_graph(
    values: Float[Array, "atoms ..."], graph: EdgeGraph | AtomGraph
) -> Float[Array, "graphs ..."]:
    """Sum ``[atoms, ...]`` over the atoms of each structure ``[graphs, ...]``."""
    values = masked(values, graph.node_mask)
    if graph.num_graphs == 1:
        # About their mean, so that the sum of many atoms in float32 loses few of its digits.
        count = jnp.maximum(jnp.sum(graph.node_mask), 1).astype(values.dtype)
        mean = jax.lax.stop_gradient(jnp.sum(values, axis=0) / count)
        return (jnp.sum(masked(values - mean, graph.node_mask), axis=0) + count * mean)[None]
    return jax.ops.segment_sum(
        values,
        graph.graph_index,
        graph.num_graphs,
        indices_are_sorted=True,
    )


def mean_over_graph(
    values: Float[Array, "atoms ..."], graph: EdgeGraph | AtomGraph
) -> Float[Array, "graphs ..."]:
    """Mean of ``[atoms, ...]`` over the real atoms of each structure ``[graphs, ...]``."""
    total = sum_over_graph(values, graph)
    count = sum_over_graph(jnp.ones(values.shape[:1], values.dtype), graph)
    return total / jnp.maximum(count, 1).reshape(count.shape + (1,) * (total.ndim - 1))
