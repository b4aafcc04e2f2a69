"""What the arithmetic of a program takes at least: its matrix products, and the machine's peak."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from mlffjax.nn.edge_loop import evaluate


def matrix_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of the matrix products of ``function(*arguments)``.

    Counted in the traced program, every turn of a loop included, which XLA's cost analysis counts
    once.
    """
    return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            summed = math.prod(left[k] for k in contracted)
            total += 2.0 * summed * math.prod(equation.outvars[0].aval.shape)
            continue
        if equation.primitive.name == "edge_loop":
            avals = [x.aval for x in equation.invars]
            inner = jax.make_jaxpr(partial(evaluate, **equation.params))(*avals)
            # As many turns as the edges need is not a number that the loop shows.
            edges, size = avals[1].shape[0], equation.params["loop"].size
            total += max(1, -(-edges // size)) * _flops(inner.jaxpr)
            continue
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(equation.params):
            total += repeats * _flops(inner)
    return total


def machine() -> dict[str, str]:
    """Measured peaks: a float32 matrix product of 2048, and a copy of 256 MB."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2048, 2048)), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    large = jnp.ones(2**26, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    gflops = 2 * 2048**3 / _fastest(product, x) / 1e9
    return {
        "peak_gflops": f"{gflops:.0f}",
        "copy_gb_per_s": f"{2 * large.nbytes / _fastest(copy, large) / 1e9:.0f}",
    }


def _fastest(function: Callable[[Any], Any], x: Any, repeats: int = 5) -> float:
    jax.block_until_ready(function(x))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        times.append(time.perf_counter() - start)
    return min(times)
