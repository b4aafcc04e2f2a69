"""The free angle about an edge, turned on purpose."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.nn.wigner import EdgeRotation


def twist(rotation: EdgeRotation, angles: Float[Array, "edges"]) -> EdgeRotation:
    """``rotation`` followed by rotations about the edges by ``angles`` in radians."""
    blocks = []
    for block in rotation:
        top = (block.shape[1] - 1) // 2
        plus, minus = [block[:, 0]], []
        for m in range(1, top + 1):
            c, s = jnp.cos(m * angles)[:, None], jnp.sin(m * angles)[:, None]
            plus.append(c * block[:, m] - s * block[:, top + m])
            minus.append(s * block[:, m] + c * block[:, top + m])
        blocks.append(jnp.stack(plus + minus, axis=1))
    return tuple(blocks)
