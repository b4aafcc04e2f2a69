"""Parts of a row (heads, degrees): summed, repeated, multiplied each with a matrix of its own.

Each operation has two forms of the same result. On a CPU XLA sums over parts of the last axis up to
ten times slower than it multiplies matrices, so a constant matrix of ones does it; and numbers
repeated over parts, slow too and a kernel of their own, are a sum of products with constant rows,
which joins the kernels beside it. On an accelerator a product of matrices is a kernel of its own,
while sums and repetitions join, and a small system waits for kernels
(``benchmarks/gpu_kernels.py``).

Sums and repetitions of products are two primitives, because JAX would derive a product of matrices
to another, and a product of many arrays to kernels that store and share what is quicker computed
again. Both are linear in every argument, and each is what the other is transposed to.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from mlffjax.nn import backend


def sum_groups(
    *factors: Float[Array, "n members"], counts: Sequence[int]
) -> Float[Array, "n groups"]:
    """Sums of ``counts[0]``, ``counts[1]``, ... neighbouring numbers of each row.

    Args:
      factors: arrays whose product is summed, of one dtype.
      counts: members of each group.
    """
    return _sum_groups.bind(*factors, counts=tuple(counts))


def repeat_groups(
    values: Float[Array, "n groups"],
    *factors: Float[Array, "n members"],
    counts: Sequence[int],
) -> Float[Array, "n members"]:
    """Each number of a row ``counts[0]``, ``counts[1]``, ... times.

    Args:
      values: a number for each group.
      factors: by which the result is multiplied, of the same dtype.
      counts: members of each group.
    """
    return _repeat_groups.bind(values, *factors, counts=tuple(counts))


def _ones(counts: Sequence[int], dtype: np.dtype) -> Float[Array, "groups members"]:
    return jnp.asarray(np.repeat(np.eye(len(counts)), counts, axis=1), dtype)


def _summed(*factors: Array, counts: tuple[int, ...]) -> Array:
    product = math.prod(factors[1:], start=factors[0])
    ones = _ones(counts, product.dtype)
    if backend.on_cpu():
        return product @ ones.T
    if len(set(counts)) == 1:
        return product.reshape(*product.shape[:-1], len(counts), counts[0]).sum(-1)
    return (product[..., None, :] * ones).sum(-1)


def _repeated(values: Array, *factors: Array, counts: tuple[int, ...]) -> Array:
    ones = _ones(counts, values.dtype)
    if backend.on_cpu():
        parts = [values[..., k : k + 1] * ones[k] for k in range(len(counts))]
        wide = reduce(jnp.add, parts)
    elif len(set(counts)) == 1:
        shape = (*values.shape, counts[0])
        wide = jnp.broadcast_to(values[..., None], shape).reshape(*values.shape[:-1], sum(counts))
    else:
        wide = (values[..., None] * ones).sum(-2)
    return math.prod(factors, start=wide)


def _transpose_of_sum(cotangent: Any, *factors: Any, counts: tuple[int, ...]) -> list[Array | None]:
    k, others = _unknown(factors)
    result = _repeat_groups.bind(cotangent, *others, counts=counts)
    return [result if i == k else None for i in range(len(factors))]


def _transpose_of_repetition(
    cotangent: Any, values: Any, *factors: Any, counts: tuple[int, ...]
) -> list[Array | None]:
    if ad.is_undefined_primal(values):
        result = _sum_groups.bind(cotangent, *factors, counts=counts)
        return [result, *[None] * len(factors)]
    k, others = _unknown(factors)
    result = _repeat_groups.bind(values, cotangent, *others, counts=counts)
    return [None, *(result if i == k else None for i in range(len(factors)))]


def _unknown(factors: Sequence[Any]) -> tuple[int, list[Array]]:
    """The place of the factor in which something is transposed, and the others."""
    k = [ad.is_undefined_primal(x) for x in factors].index(True)
    return k, [x for i, x in enumerate(factors) if i != k]


def _primitive(name: str, form: Callable[..., Array], length: Callable, transpose: Any) -> Any:
    """A primitive that is linear in each of its arguments ``[..., any]``, rows of one result.

    Args:
      name: of the primitive.
      form: what it computes.
      length: of a row of the result, from the counts.
      transpose: its rule.
    """
    primitive: Any = Primitive(name)

    def jvp(primals: Sequence[Array], tangents: Sequence[Any], **params: Any) -> Any:
        changes = [
            primitive.bind(*primals[:k], tangent, *primals[k + 1 :], **params)
            for k, tangent in enumerate(tangents)
            if not isinstance(tangent, ad.Zero)
        ]
        return primitive.bind(*primals, **params), reduce(jnp.add, changes)

    def batch(arguments: Sequence[Array], axes: Sequence[Any], **params: Any) -> tuple[Array, int]:
        size = next(x.shape[k] for x, k in zip(arguments, axes, strict=True) if k is not None)
        batched = [
            jnp.broadcast_to(x, (size, *x.shape)) if k is None else jnp.moveaxis(x, k, 0)
            for x, k in zip(arguments, axes, strict=True)
        ]
        return primitive.bind(*batched, **params), 0

    def abstract(*arguments: Any, counts: tuple[int, ...]) -> ShapedArray:
        first = arguments[0]
        return ShapedArray((*first.shape[:-1], length(counts)), first.dtype)

    primitive.def_impl(form)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(form, multiple_results=False))
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    return primitive


_sum_groups = _primitive("sum_groups", _summed, len, _transpose_of_sum)
_repeat_groups = _primitive("repeat_groups", _repeated, sum, _transpose_of_repetition)


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
