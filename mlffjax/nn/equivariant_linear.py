"""Linear maps of equivariant features, with parameters of unit variance.

Every kernel is drawn from the normal distribution of variance one and divided by the square root
of its fan-in when used (the parametrisation of e3nn, which MACE and NequIP are trained with): a
step of Adam then has the same size relative to any parameter.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.nn.blocks import block_size, map_blocks
from mlffjax.nn.tensor_product import Features, Irrep
from mlffjax.types import Species

#: ``E[f(x)^2]^(-1/2)`` for a standard normal ``x``, by numerical integration.
SILU_SCALE = 1.6765324703310907
TANH_SCALE = 1.5925374197228315

#: Numbers in the kernels of the atoms of one block: 32 atoms of 128 channels.
NUMBERS_PER_BLOCK = 2**19
NUMBERS_PER_BLOCK_ON_ACCELERATOR = 2**25


def normalized_silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """SiLU with unit second moment for standard normal input."""
    return SILU_SCALE * jax.nn.silu(x)


def normalized_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent with unit second moment for standard normal input; it is odd."""
    return TANH_SCALE * jnp.tanh(x)


class NormalDense(nn.Module):
    """``x W / sqrt(fan_in)`` without bias: ``[..., features] -> [..., width]``.

    Attributes:
      width: of the output.
    """

    width: int

    @nn.compact
    def __call__(self, inputs: Float[Array, "... features"]) -> Float[Array, "... width"]:
        fan_in = inputs.shape[-1]
        kernel = self.param(
            "kernel", nn.initializers.normal(1.0), (fan_in, self.width), inputs.dtype
        )
        return inputs @ (kernel / math.sqrt(fan_in))


class RadialNetwork(nn.Module):
    """Parameters of dense layers without bias, for :func:`radial_weights`.

    Attributes:
      widths: of all layers.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, basis: Float[Array, "edges K"]) -> tuple[Float[Array, "_ _"], ...]:
        """The kernel of each layer, divided by the square root of its fan-in.

        Args:
          basis: only its width and dtype matter.
        """
        sizes = (basis.shape[-1], *self.widths)
        return tuple(
            self.param(f"kernel_{k}", nn.initializers.normal(1.0), shape, basis.dtype)
            / math.sqrt(shape[0])
            for k, shape in enumerate(itertools.pairwise(sizes))
        )


def radial_weights(
    kernels: Sequence[Float[Array, "_ _"]], basis: Float[Array, "rows K"]
) -> Float[Array, "rows width"]:
    """Dense layers without bias, SiLU between them; zero where the radial basis is zero."""
    for kernel in kernels[:-1]:
        basis = normalized_silu(basis @ kernel)
    return basis @ kernels[-1]


class IrrepLinear(nn.Module):
    """Mixes the channels of each irrep: ``[atoms, 2l + 1, in] -> [atoms, 2l + 1, width]``.

    Attributes:
      irreps: of the features, each at most once.
      width: channels of the result.
    """

    irreps: tuple[Irrep, ...]
    width: int

    @nn.compact
    def __call__(self, features: Features) -> Features:
        return tuple(
            NormalDense(self.width, name=irrep.label)(x)
            for irrep, x in zip(self.irreps, features, strict=True)
        )


class ElementLinear(nn.Module):
    """Mixes channels with a kernel of its own for each element of the centre.

    Attributes:
      irreps: of the features, each at most once.
      width: channels of the result.
      num_elements: number of elements.
    """

    irreps: tuple[Irrep, ...]
    width: int
    num_elements: int

    @nn.compact
    def __call__(self, features: Features, species: Species) -> Features:
        def mix(irrep: Irrep, x: Float[Array, "atoms m channels"]) -> Array:
            fan_in = x.shape[-1]
            kernel = self.param(
                irrep.label,
                nn.initializers.normal(1.0),
                (self.num_elements, fan_in, self.width),
                x.dtype,
            )
            return _by_element(x, kernel / math.sqrt(fan_in), species)

        return tuple(mix(irrep, x) for irrep, x in zip(self.irreps, features, strict=True))


def _by_element(
    x: Float[Array, "atoms m channels"],
    kernel: Float[Array, "elements channels width"],
    species: Species,
) -> Float[Array, "atoms m width"]:
    """``x_i W[z_i]``. For few elements all products are cheaper than a kernel for each atom.

    With a kernel for each atom the work goes by blocks of atoms: never are there the kernels of
    all atoms.
    """
    elements, channels, width = kernel.shape
    if elements > 4:
        numbers = block_size(cpu=NUMBERS_PER_BLOCK, accelerator=NUMBERS_PER_BLOCK_ON_ACCELERATOR)
        return map_blocks(
            lambda block: jnp.einsum("nmu,nuv->nmv", block[0], kernel[block[1]]),
            (x, species),
            max(1, numbers // (channels * width)),
        )
    chosen = [jnp.where((species == z)[:, None, None], x, 0) for z in range(kernel.shape[0])]
    return sum(
        (part @ kernel[z] for z, part in enumerate(chosen)),
        jnp.zeros((*x.shape[:2], width), x.dtype),
    )
