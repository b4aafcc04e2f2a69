"""Nose-Hoover chains of JAX-MD whose number of degrees of freedom is data.

In JAX-MD that number is static. Here it is one of a few, each compiled as a branch, so that
replicas of different molecules go into one program. A branch is arithmetic on a few numbers and
a factor on the momenta: nothing beside an evaluation of a potential.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax_md import dataclasses
from jaxtyping import Array, Float

#: The static number in the state of a chain whose number is data.
UNSET = 0


class Chain(NamedTuple):
    """The functions of ``jax_md.simulate.nose_hoover_chain``."""

    initialize: Callable[..., Any]
    half_step: Callable[..., tuple[Array, Any]]
    update_mass: Callable[..., Any]


def with_number_as_data(chain: Any, numbers: tuple[int, ...], dof: Float[Array, ""]) -> Chain:
    """The chain for ``dof`` degrees of freedom, one of ``numbers``.

    Args:
      chain: of ``jax_md.simulate.nose_hoover_chain``.
      numbers: all that occur, in ascending order.
      dof: degrees of freedom.
    """
    which = jnp.searchsorted(jnp.asarray(numbers, dof.dtype), dof)

    def chosen(call: Callable[..., Any], *arguments: Any) -> Any:
        return jax.lax.switch(which, [partial(call, n) for n in numbers], *arguments)

    def counted(number: int, state: Any) -> Any:
        return dataclasses.replace(state, degrees_of_freedom=number)

    def initialize(_: Any, kinetic: Array, kT: Array) -> Any:
        return chosen(lambda n, *a: counted(UNSET, chain.initialize(n, *a)), kinetic, kT)

    def half_step(momentum: Array, state: Any, kT: Array) -> tuple[Array, Any]:
        def one(number: int, momentum: Array, state: Any, kT: Array) -> tuple[Array, Any]:
            momentum, after = chain.half_step(momentum, counted(number, state), kT)
            return momentum, counted(UNSET, after)

        return chosen(one, momentum, state, kT)

    def update_mass(state: Any, kT: Array) -> Any:
        return chosen(
            lambda n, s, t: counted(UNSET, chain.update_mass(counted(n, s), t)), state, kT
        )

    return Chain(initialize, half_step, update_mass)
