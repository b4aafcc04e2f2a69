"""Dense layers in the dtype of their inputs."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


def dense(
    inputs: Float[Array, "... features"], width: int, name: str, *, use_bias: bool = True
) -> Float[Array, "... width"]:
    """A dense layer ``[..., features] -> [..., width]``, inside a compact method.

    Weights start as Glorot's uniform distribution (Glorot and Bengio 2010), biases at zero;
    both are made in the dtype of ``inputs``, so that nothing is promoted.
    """
    return nn.Dense(
        width,
        use_bias=use_bias,
        param_dtype=inputs.dtype,
        kernel_init=nn.initializers.glorot_uniform(),
        name=name,
    )(inputs)


class DenseParameters(nn.Module):
    """Kernel and bias of a dense layer that is applied elsewhere.

    Attributes:
      width: of the layer's output.
    """

    width: int

    @nn.compact
    def __call__(self, fan_in: int, dtype: Any) -> tuple[Array, Array]:
        """Kernel ``[fan_in, width]`` and bias ``[width]``."""
        shape = (fan_in, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, dtype)
        return kernel, self.param("bias", nn.initializers.zeros, (self.width,), dtype)


class MLP(nn.Module):
    """Dense layers with an activation between them: ``[..., features] -> [..., widths[-1]]``.

    Attributes:
      widths: width of each layer.
      activation: between the layers.
      activate_last: whether the activation follows the last layer too.
    """

    widths: tuple[int, ...]
    activation: Activation = jax.nn.silu
    activate_last: bool = False

    @nn.compact
    def __call__(self, inputs: Float[Array, "... features"]) -> Float[Array, "... width"]:
        for k, width in enumerate(self.widths):
            inputs = dense(inputs, width, f"layer_{k}")
            if self.activate_last or k + 1 < len(self.widths):
                inputs = self.activation(inputs)
        return inputs
