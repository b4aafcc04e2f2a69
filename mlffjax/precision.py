"""Products of matrices with all digits of their numbers."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

from mlffjax.nn import backend

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``function`` with its matrix products in full precision, whoever compiles it.

    By default XLA lets a GPU round the factors of a float32 product to 10 bits (TF32): enough for a
    network's features perhaps, not for positions in units of the cell. What you set in JAX's own
    ``jax_default_matmul_precision`` (``JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32``) goes first.
    """

    @functools.wraps(function)
    def precise(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        # A CPU computes with all digits anyway.
        if backend.on_cpu() or backend.matmul_precision() is not None:
            return function(*args, **kwargs)
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return precise
