"""Which kind of device programs are written for."""

import jax


def on_cpu() -> bool:
    """Whether that is a CPU, where cache is scarce; on accelerators it is kernels that cost.

    Where one form of an operation does not suit both, :mod:`mlffjax.nn` has two of the same result.
    """
    return jax.default_backend() == "cpu"
