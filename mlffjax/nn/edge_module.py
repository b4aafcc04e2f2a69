"""Flax modules as functions of a loop over edges."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from mlffjax.graph import EdgeGraph
from mlffjax.nn.edge_loop import EdgeTerms, edge_loop


@dataclass(frozen=True)
class _Rows:
    """A module without parameters as a function of the rows of a block."""

    module: nn.Module

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        return self.module.apply(terms.shared, terms._replace(shared=()))  # pyright: ignore[reportReturnType]


def edge_module_loop(
    module: nn.Module, graph: EdgeGraph, inputs: EdgeTerms, size: int
) -> EdgeTerms:
    """:func:`mlffjax.nn.edge_loop.edge_loop` of a module that is part of another.

    Args:
      module: from the rows of a block to the rows of the result; what is said of the function of
        an edge loop holds for it. It has parameters and nothing else.
      graph: the edges.
      inputs: arrays of floating-point numbers, without ``ends`` and ``shared``.
      size: largest number of edges of a block.

    Returns:
      What the edge loop returns.
    """
    one = jax.tree.map(lambda x: jnp.zeros((1, *x.shape[1:]), x.dtype), inputs)
    module(one)  # makes its parameters; of no other use, so it leaves no trace in a program
    unbound, variables = module.unbind()
    return edge_loop(_Rows(unbound), graph, inputs._replace(shared=variables), size)
