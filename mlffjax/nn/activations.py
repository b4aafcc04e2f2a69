"""Activation functions that flax does not bring."""

import math

import jax
from jaxtyping import Array, Float


def shifted_softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``ln(1/2 exp(x) + 1/2)``, zero at zero: Schuett et al. 2018, J. Chem. Phys. 148, 241722."""
    return jax.nn.softplus(x) - math.log(2)
