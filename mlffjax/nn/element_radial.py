"""Functions of the distance and of the elements at both ends of an edge."""

from typing import NamedTuple

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.nn.so3_linear import uniform_fan_in
from mlffjax.types import EdgeFeatures, Species

#: Scale and bias of a layer norm, or kernel and bias of a dense layer.
Affine = tuple[Array, Array]

EPSILON = 1e-5  # of torch's layer norm


class RadialFunction(NamedTuple):
    """Two layers of [dense, layer norm, SiLU] and a dense one (EquiformerV2, sec. 4.5).

    Its input is a basis of the distance beside an embedding of the element of the sender
    and of the receiver. The first layer is linear, so the elements' share of it is a table.

    Attributes:
      basis: the first layer's matrix for the basis ``[K, width]``.
      norms: scale and bias of the two layer norms.
      second: kernel and bias of the second layer.
      last: kernel and bias of the last ``[width, features]``.
    """

    basis: Float[Array, "K width"]
    norms: tuple[Affine, Affine]
    second: Affine
    last: Affine

    def first(self, features: int) -> "RadialFunction":
        """The function whose result is the first ``features`` numbers of this one's."""
        kernel, bias = self.last
        return self._replace(last=(kernel[:, :features], bias[:features]))

    def __call__(
        self,
        basis: Float[Array, "edges K"],
        sender: Float[Array, "edges width"],
        receiver: Float[Array, "edges width"],
    ) -> EdgeFeatures:
        """``[edges, features]`` of the basis ``[edges, K]`` and the tables' rows of both ends."""
        hidden = basis @ self.basis + sender + receiver
        hidden = jax.nn.silu(layer_norm(hidden, *self.norms[0]))
        hidden = hidden @ self.second[0] + self.second[1][None]
        hidden = jax.nn.silu(layer_norm(hidden, *self.norms[1]))
        return hidden @ self.last[0] + self.last[1][None]


class RadialParameters(nn.Module):
    """Makes a :class:`RadialFunction`, and the rows of its tables of elements for all atoms.

    Attributes:
      num_elements: rows of the embeddings.
      width: of the embeddings and hidden layers.
      features: of the result.
    """

    num_elements: int
    width: int
    features: int

    @nn.compact
    def __call__(
        self, species: Species, basis: Float[Array, "edges K"]
    ) -> tuple[RadialFunction, Float[Array, "atoms width"], Float[Array, "atoms width"]]:
        """The function, and ``[atoms, width]`` of atoms as senders and as receivers.

        Args:
          species: index of the element of each atom ``[atoms]``.
          basis: of the distance; only its size and dtype matter.
        """
        dtype, size = basis.dtype, basis.shape[1]
        shape = (self.num_elements, self.width)
        # The published range of the embeddings: distances come first.
        sender = self.param("sender", _symmetric_uniform, shape, dtype)
        receiver = self.param("receiver", _symmetric_uniform, shape, dtype)
        inputs = size + 2 * self.width
        kernel = self.param("kernel", uniform_fan_in(), (inputs, self.width), dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,), dtype)
        function = RadialFunction(
            basis=kernel[:size],
            norms=(
                AffineParameters("scale", name="norm_0")((self.width,), dtype),
                AffineParameters("scale", name="norm_1")((self.width,), dtype),
            ),
            second=AffineParameters("kernel", name="layer_1")((self.width, self.width), dtype),
            last=AffineParameters("kernel", name="layer_2")((self.width, self.features), dtype),
        )
        from_sender = sender @ kernel[size : size + self.width]
        from_receiver = receiver @ kernel[size + self.width :] + bias[None]
        return function, from_sender[species], from_receiver[species]


class AffineParameters(nn.Module):
    """Scale or kernel, and bias, of a layer that is applied elsewhere.

    Attributes:
      factor: ``"scale"`` of a layer norm, ones at first, or ``"kernel"`` with torch's initial
        weights.
    """

    factor: str

    @nn.compact
    def __call__(self, shape: tuple[int, ...], dtype: jax.numpy.dtype) -> Affine:
        """The factor ``shape``, and the bias ``shape[-1:]``, zero at first."""
        init = nn.initializers.ones if self.factor == "scale" else uniform_fan_in()
        factor = self.param(self.factor, init, shape, dtype)
        return factor, self.param("bias", nn.initializers.zeros, shape[-1:], dtype)


def layer_norm(
    inputs: Float[Array, "... features"],
    scale: Float[Array, "features"],
    bias: Float[Array, "features"],
) -> Float[Array, "... features"]:
    """Layer norm over the last axis (Ba et al. 2016)."""
    centred = inputs - inputs.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias


def _symmetric_uniform(key: Array, shape: tuple[int, ...], dtype: jax.numpy.dtype) -> Array:
    return jax.random.uniform(key, shape, dtype, -0.001, 0.001)
