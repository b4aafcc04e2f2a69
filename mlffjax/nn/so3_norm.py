"""Normalisation of spherical features ``[n, (L+1)^2, C]`` (EquiformerV2, sec. 4.4 and fig. 3).

``balanced`` below is the mean over degrees of the mean square of a degree: every degree counts
the same, whatever its number of orders.
"""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

EPSILON = 1e-5  # of torch's and of the published layers


class SphericalNorm(nn.Module):
    """Layer normalisation that commutes with rotations, affine in the channels.

    Attributes:
      kind: ``"separable"``: layer norm of ``l = 0``, and all ``l > 0`` together by the root of
        their balanced mean square (the paper's choice, ``layer_norm_sh``);
        ``"degree_wise"``: each degree by its own root mean square, ``l = 0`` centred
        (Equiformer, ``layer_norm``); ``"rms"``: all degrees together, ``l = 0`` centred
        (``rms_norm_sh``).

    Raises:
      ValueError: unknown kind.
    """

    kind: str = "separable"

    @nn.compact
    def __call__(self, inputs: Float[Array, "n LL C"]) -> Float[Array, "n LL C"]:
        """Normalised features."""
        degrees = round(sqrt(inputs.shape[1]))
        shape = (degrees, inputs.shape[2])
        weight = self.param("scale", nn.initializers.ones, shape, inputs.dtype)
        bias = self.param("bias", nn.initializers.zeros, shape[1:], inputs.dtype)
        scalars = inputs[:, :1] - inputs[:, :1].mean(axis=2, keepdims=True)
        centred = jnp.concatenate([scalars, inputs[:, 1:]], axis=1)
        squares = _mean_square(centred)
        if self.kind == "separable":
            rest = squares[:, 1:].mean(axis=1, keepdims=True)
            squares = jnp.concatenate(
                [squares[:, :1], jnp.broadcast_to(rest, squares[:, 1:].shape)], axis=1
            )
        elif self.kind == "rms":
            squares = jnp.broadcast_to(squares.mean(axis=1, keepdims=True), squares.shape)
        elif self.kind != "degree_wise":
            raise ValueError(
                f"got the norm {self.kind!r}; expected 'separable', 'degree_wise' or 'rms'"
            )
        factors = jax.lax.rsqrt(squares + EPSILON)[:, :, None] * weight[None]
        parts = [centred[:, n**2 : (n + 1) ** 2] * factors[:, n : n + 1] for n in range(degrees)]
        parts[0] = parts[0] + bias[None, None]
        return jnp.concatenate(parts, axis=1)


def _mean_square(features: Float[Array, "n LL C"]) -> Float[Array, "n degrees"]:
    """Mean square of each degree over its orders and channels."""
    degrees = round(sqrt(features.shape[1]))
    squares = jnp.square(features).mean(axis=2)
    rows = np.repeat(np.arange(degrees), 2 * np.arange(degrees) + 1)
    weights = (rows[:, None] == np.arange(degrees)) / (2 * rows[:, None] + 1)
    return jnp.matmul(
        squares, jnp.asarray(weights, features.dtype), precision=jax.lax.Precision.HIGHEST
    )
