"""Linear layers of spherical features ``[n, (L+1)^2, C]``: one matrix for each degree."""

from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


def uniform_fan_in(scale: float = 1.0) -> nn.initializers.Initializer:
    """Uniform on ``[-scale, scale] / sqrt(fan in)``; kernels are ``[..., in, out]``.

    The default of linear layers in torch, which the published EquiformerV2 keeps.
    """

    def init(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        bound = scale / sqrt(shape[-2])
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class SO3Linear(nn.Module):
    """``y_l = W_l x_l`` for every degree ``l``, with a bias at ``l = 0``.

    Attributes:
      features: channels of the result.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: Float[Array, "n LL C"]) -> Float[Array, "n LL features"]:
        """Mix the channels of each degree."""
        degrees = round(sqrt(inputs.shape[1]))
        shape = (degrees, inputs.shape[2], self.features)
        kernel = self.param("kernel", uniform_fan_in(), shape, inputs.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), inputs.dtype)
        parts = [inputs[:, n**2 : (n + 1) ** 2] @ kernel[n] for n in range(degrees)]
        parts[0] = parts[0] + bias[None, None]
        return jnp.concatenate(parts, axis=1)
