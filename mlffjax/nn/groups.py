"""Parts of a row (heads, degrees): summed, repeated, multiplied each with a matrix of its own.

Each operation has two forms of the same result. On a CPU XLA sums over parts of the last axis up to
ten times slower than it multiplies matrices, so a constant matrix of ones does it, in a derivative
too. On an accelerator such a
product is a kernel of its own, while sums and repetitions join the kernels beside them, and a
small system waits for kernels (``benchmarks/gpu_kernels.py``).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlffjax.nn import backend


def _ones(counts: Sequence[int], dtype: np.dtype) -> Float[Array, "groups members"]:
    return jnp.asarray(np.repeat(np.eye(len(counts)), counts, axis=1), dtype)


def sum_groups(
    values: Float[Array, "n members"], counts: Sequence[int]
) -> Float[Array, "n groups"]:
    """Sums of ``counts[0]``, ``counts[1]``, ... neighbouring numbers of each row."""
    ones = _ones(counts, values.dtype)
    if backend.on_cpu():
        return values @ ones.T
    if len(set(counts)) == 1:
        return values.reshape(-1, len(counts), counts[0]).sum(-1)
    return (values[:, None, :] * ones[None]).sum(-1)


def repeat_groups(
    values: Float[Array, "n groups"], counts: Sequence[int]
) -> Float[Array, "n members"]:
    """Each number of a row ``counts[0]``, ``counts[1]``, ... times: what sums are derived to."""
    ones = _ones(counts, values.dtype)
    if backend.on_cpu():
        return values @ ones
    if len(set(counts)) == 1:
        shape = (*values.shape, counts[0])
        return jnp.broadcast_to(values[:, :, None], shape).reshape(-1, sum(counts))
    return (values[:, :, None] * ones[None]).sum(1)


def spread(values: Float[Array, "..."], channels: int) -> Float[Array, "... channels"]:
    """Repeat along a new axis of channels."""
    if backend.on_cpu():
        ones = jnp.ones((1, channels), values.dtype)
        return (values.reshape(-1, 1) @ ones).reshape(*values.shape, channels)
    return jnp.broadcast_to(values[..., None], (*values.shape, channels))


def multiply_groups(
    values: Float[Array, "n features"], kernels: Sequence[Float[Array, "groups width width"]]
) -> list[Float[Array, "n features"]]:
    """Products of the equal parts of a row with a matrix for each part.

    Args:
      values: ``[n, groups * width]``.
      kernels: sets of such matrices ``[groups, width, width]``, alike in shape.

    Returns:
      For each set ``[n, groups * width]``.
    """
    groups, width, _ = kernels[0].shape
    parts = values.reshape(-1, groups, width)
    if backend.on_cpu():
        return [
            jnp.einsum("ngi,gij->ngj", parts, kernel).reshape(values.shape) for kernel in kernels
        ]
    products = jnp.einsum("ngi,kgij->nkgj", parts, jnp.stack(list(kernels)))
    return [products[:, k].reshape(values.shape) for k in range(len(kernels))]
