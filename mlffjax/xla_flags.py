"""Flags of XLA, which it reads once, when JAX is loaded."""

import os
import sys

#: Since jax 0.9.1 XLA writes element-wise kernels for CPUs by tiles of 16 numbers that go through
#: the stack: a product of two arrays ``[223, 132]`` takes 14 us (jax 0.10.1; 12 us in 0.11.2) and
#: without tiles 1.7 us. The same change made some programs compile without end (openxla/xla issue
#: 41173).
WITHOUT_TILES = "--xla_backend_extra_options=xla_cpu_disable_tiled_emitter"


def use_plain_loops() -> bool:
    """Let XLA write element-wise kernels for CPUs as plain loops, in this process.

    Training of SO3krates takes some 10 % less time (``benchmarks/README.md``); GPUs are not
    concerned. The ``mlffjax`` command does this for itself; call it at the start of a program of
    your own, before anything imports JAX.

    Returns:
      Whether the flag was set: not where ``XLA_FLAGS`` has extra options of its own.

    Raises:
      RuntimeError: JAX is loaded already.
    """
    if "jax" in sys.modules:
        raise RuntimeError(
            "got a process that has loaded JAX; expected one that has not, as XLA reads its flags "
            "once; call use_plain_loops() before anything imports JAX"
        )
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_extra_options" in flags:
        return False
    os.environ["XLA_FLAGS"] = f"{flags} {WITHOUT_TILES}".strip()
    return True
