"""Linear maps of features in the frame of an edge that commute with rotations about the edge.

An SO(3) convolution with the harmonics of an edge mixes, in the frame of that edge, only
coefficients of the same order ``|m|`` (eSCN, Passaro and Zitnick 2023, sec. 3): the tensor
product over all degrees becomes one small matrix an order.
"""

from math import sqrt
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.nn.so3_linear import uniform_fan_in
from mlffjax.nn.wigner import OrderFeatures


class SO2Linear(NamedTuple):
    """``y_m = W_m x_m`` with a complex ``W_m`` for each order, over degrees and channels.

    With ``x_(+m), x_(-m)`` as real and imaginary part: ``y_(+m) = U x_(+m) - V x_(-m)`` and
    ``y_(-m) = U x_(-m) + V x_(+m)``. Order 0 has a real matrix and a bias. ``V`` makes the layer
    blind to nothing but rotations: it does not commute with reflections.

    Attributes:
      zero: matrix of order 0 ``[degrees * channels, K + degrees * features]``; the first ``K``
        columns give invariants.
      bias: of order 0.
      others: ``U`` and ``V`` of the orders above, ``[inputs, 2 * degrees * features]`` each.
    """

    zero: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"]
    others: tuple[Float[Array, "_ _"], ...]

    def parts(self, num_scalars: int) -> tuple["SO2Linear", "SO2Linear"]:
        """The first ``num_scalars`` invariants, and all else, as layers of their own."""
        first = SO2Linear(self.zero[:, :num_scalars], self.bias[:num_scalars], ())
        rest = self._replace(zero=self.zero[:, num_scalars:], bias=self.bias[num_scalars:])
        return first, rest

    def invariants(self, zero: Float[Array, "edges degrees C"]) -> Float[Array, "edges outputs"]:
        """All that comes of order 0, of features ``[edges, degrees, C]`` of that order."""
        edges, degrees, channels = zero.shape
        return zero.reshape(edges, degrees * channels) @ self.zero + self.bias[None]

    def __call__(
        self, orders: OrderFeatures, num_scalars: int = 0
    ) -> tuple[OrderFeatures, Float[Array, "edges K"]]:
        """Features by order ``[..., features]`` and invariants ``[edges, num_scalars]``."""
        edges, degrees = orders[0].shape[:2]
        scalars, zero = jnp.split(self.invariants(orders[0]), [num_scalars], axis=1)
        result = [zero.reshape(edges, degrees, zero.shape[1] // degrees)]
        for m, (pair, kernel) in enumerate(zip(orders[1:], self.others, strict=True), start=1):
            inputs = pair.shape[2] * pair.shape[3]
            result.append(_order(kernel, pair.reshape(edges, 2, inputs), degrees - m))
        return tuple(result), scalars


def _order(
    kernel: Float[Array, "inputs outputs"], pair: Float[Array, "edges 2 inputs"], degrees: int
) -> Float[Array, "edges 2 degrees features"]:
    edges, width = pair.shape[0], kernel.shape[1]
    # Four parts: U of the real and V of the real, U of the imaginary and V of the imaginary.
    parts = jnp.split((pair @ kernel).reshape(edges, 2 * width), 4, axis=1)
    real, real_v, imaginary_u, imaginary = parts
    rotated = jnp.concatenate([real - imaginary, imaginary_u + real_v], axis=1)
    return rotated.reshape(edges, 2, degrees, width // (2 * degrees))


class SO2Parameters(nn.Module):
    """Makes the matrices of an :class:`SO2Linear` layer, which is applied elsewhere.

    Attributes:
      features: channels of the result.
      num_scalars: further invariants predicted from order 0.
    """

    features: int
    num_scalars: int = 0

    @nn.compact
    def __call__(self, degrees: int, channels: int, max_order: int, dtype: Any) -> SO2Linear:
        """For features of so many degrees and channels, with orders up to ``max_order``."""
        width = self.num_scalars + degrees * self.features
        zero = self.param("kernel_0", uniform_fan_in(), (degrees * channels, width), dtype)
        bias = self.param("bias", nn.initializers.zeros, (width,), dtype)
        # The published implementation halves the variance, as U and V add up.
        init = uniform_fan_in(sqrt(0.5))
        others = []
        for m in range(1, max_order + 1):
            shape = ((degrees - m) * channels, 2 * (degrees - m) * self.features)
            others.append(self.param(f"kernel_{m}", init, shape, dtype))
        return SO2Linear(zero, bias, tuple(others))
