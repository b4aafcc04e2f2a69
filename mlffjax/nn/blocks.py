"""Work on blocks of atoms, so that intermediate arrays stay in a processor's cache.

Equivariant products make many numbers of each atom. Written out for all of them at once, they
cost more time in memory traffic than in arithmetic. A block is computed, stored, and computed
again in the reverse pass (``jax.checkpoint``), so nothing large is ever kept. For sums over edges:
:mod:`mlffjax.nn.edge_loop`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlffjax.nn import backend


def block_size(cpu: int, accelerator: int) -> int:
    """The block size for the backend of this process.

    A processor's cache holds a few megabytes; an accelerator needs much work in one kernel.
    """
    return cpu if backend.on_cpu() else accelerator


def _in_blocks(arrays: Any, size: int) -> tuple[Any, int]:
    """Arrays ``[n, ...]`` as ``[blocks, rows, ...]`` with zeros as padding, and ``n``."""
    count = jax.tree.leaves(arrays)[0].shape[0]
    blocks = max(1, -(-count // size))
    rows = -(-count // blocks)

    def split(x: Array) -> Array:
        x = jnp.pad(x, [(0, blocks * rows - count)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(blocks, rows, *x.shape[1:])

    return jax.tree.map(split, arrays), count


def map_blocks(function: Callable[..., Any], arrays: Any, size: int) -> Any:
    """``function(arrays)`` with at most ``size`` rows at a time.

    Args:
      function: from a pytree of ``[rows, ...]`` to one of ``[rows, ...]``, row by row.
      arrays: pytree of ``[n, ...]``.
      size: rows of a block.

    Returns:
      What ``function`` gives for all rows, ``[n, ...]``.
    """
    blocks, count = _in_blocks(arrays, size)
    if jax.tree.leaves(blocks)[0].shape[0] == 1:
        return function(arrays)
    _, result = jax.lax.scan(lambda _, block: (None, jax.checkpoint(function)(block)), None, blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], result)
