"""Stochastic velocity rescaling, and the state of the dynamics that use it.

Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007). JAX-MD's ``temp_csvr`` is not
used: it draws the two random numbers of a step from one key, counts the degrees of freedom
without regard to what is kept at rest, and does not follow the conserved quantity.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax_md import dataclasses
from jaxtyping import Array, Float, Int


@dataclasses.dataclass
class RescalingState:
    """State of a dynamics with stochastic velocity rescaling.

    Attributes:
      position: ``[atoms, 3]`` in Angstrom.
      momentum: ``[atoms, 3]`` in sqrt(amu eV).
      force: an :class:`mlffjax.md.simulate.Evaluation`.
      mass: ``[atoms, 1]`` in amu.
      rng: random key.
      work: energy in eV that the thermostat has put in since the start.
    """

    position: Array
    momentum: Array
    force: Any
    mass: Array
    rng: Array
    work: Array

    @property
    def velocity(self) -> Array:
        """``[atoms, 3]`` in sqrt(eV/amu)."""
        return self.momentum / self.mass


def rescaling_factor(
    key: Array,
    kinetic: Float[Array, ""],
    kT: Float[Array, ""],
    dof: int | Int[Array, ""],
    decay: Float[Array, ""],
) -> Float[Array, ""]:
    """The factor on all momenta, eq. A7 with the sign of eq. A8.

    ``alpha^2 = c + (1 - c) K/(f k) (R_1^2 + sum_{i=2}^f R_i^2) + 2 R_1 sqrt(c (1 - c) K/(f k))``
    with ``c`` the decay, ``K = f kT / 2``, ``k`` the kinetic energy and ``R_i`` normal numbers.

    Args:
      key: random key.
      kinetic: kinetic energy in eV; at zero there is nothing to rescale, and the factor is one.
      kT: thermal energy in eV.
      dof: degrees of freedom ``f``.
      decay: ``exp(-dt / tau)``, with ``tau`` the relaxation time.
    """
    for_first, for_rest = jax.random.split(key)
    first = jax.random.normal(for_first, (), kinetic.dtype)
    # A sum of squares of normal numbers is chi-squared; an empty sum is zero.
    shape = jnp.asarray((dof - 1) / 2, kinetic.dtype)
    rest = 2 * jax.random.gamma(for_rest, jnp.maximum(shape, 0.5), (), kinetic.dtype)
    rest = jnp.where(shape > 0, rest, 0)
    moving = kinetic > 0
    part = (1 - decay) * kT / (2 * jnp.where(moving, kinetic, 1))
    square = decay + part * (first**2 + rest) + 2 * first * jnp.sqrt(decay * part)
    factor = jnp.sqrt(jnp.maximum(square, 0))
    sign = jnp.where(first + jnp.sqrt(decay / part) < 0, -1, 1)
    return jnp.where(moving, sign * factor, 1).astype(kinetic.dtype)
