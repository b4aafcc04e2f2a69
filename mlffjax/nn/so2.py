"""Linear maps of features in the frame of an edge that commute with rotations about the edge.

An SO(3) convolution with the harmonics of an edge mixes, in the frame of that edge, only
coefficients of the same order ``|m|`` (eSCN, Passaro and Zitnick 2023, sec. 3): the tensor
product over all degrees becomes one small matrix an order.
"""

from math import sqrt

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.nn.so3_linear import uniform_fan_in
from mlffjax.nn.wigner import OrderFeatures


class SO2Linear(nn.Module):
    """``y_m = W_m x_m`` with a complex ``W_m`` for each order, over degrees and channels.

    With ``x_(+m), x_(-m)`` as real and imaginary part: ``y_(+m) = U x_(+m) - V x_(-m)`` and
    ``y_(-m) = U x_(-m) + V x_(+m)``. Order 0 has a real matrix and a bias. ``V`` makes the layer
    blind to nothing but rotations: it does not commute with reflections.

    Attributes:
      features: channels of the result.
      num_scalars: further invariants predicted from order 0.
    """

    features: int
    num_scalars: int = 0

    @nn.compact
    def __call__(self, orders: OrderFeatures) -> tuple[OrderFeatures, Float[Array, "edges K"]]:
        """Features by order ``[..., features]`` and invariants ``[edges, num_scalars]``."""
        edges, degrees = orders[0].shape[:2]
        zero = orders[0].reshape(edges, -1)
        width = self.num_scalars + degrees * self.features
        kernel = self.param("kernel_0", uniform_fan_in(), (zero.shape[1], width), orders[0].dtype)
        bias = self.param("bias", nn.initializers.zeros, (width,), orders[0].dtype)
        mixed = zero @ kernel + bias[None]
        scalars = mixed[:, : self.num_scalars]
        result = [mixed[:, self.num_scalars :].reshape(edges, degrees, self.features)]
        for m, pair in enumerate(orders[1:], start=1):
            result.append(self._order(m, pair.reshape(edges, 2, -1), degrees - m))
        return tuple(result), scalars

    def _order(
        self, m: int, pair: Float[Array, "edges 2 inputs"], degrees: int
    ) -> Float[Array, "edges 2 degrees features"]:
        width = degrees * self.features
        # The published implementation halves the variance, as U and V add up.
        init = uniform_fan_in(sqrt(0.5))
        kernel = self.param(f"kernel_{m}", init, (pair.shape[2], 2 * width), pair.dtype)
        mixed = pair @ kernel
        u, v = mixed[:, :, :width], mixed[:, :, width:]
        rotated = jnp.stack([u[:, 0] - v[:, 1], u[:, 1] + v[:, 0]], axis=1)
        return rotated.reshape(pair.shape[0], 2, degrees, self.features)
