"""Which kind of device programs are written for."""

from typing import Any, cast

import jax


def on_cpu() -> bool:
    """Whether that is a CPU, where cache is scarce; on accelerators it is kernels that cost.

    Where one form of an operation does not suit both, :mod:`mlffjax.nn` has two of the same result.
    """
    return jax.default_backend() == "cpu"


def matmul_precision() -> str | None:
    """What JAX's ``jax_default_matmul_precision`` is set to here."""
    return cast(Any, jax.config).jax_default_matmul_precision
