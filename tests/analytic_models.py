"""Architectures with a known solution, for the tests of molecular dynamics."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.scatter import sum_to_receivers


class PairModel(Architecture):
    """Half the energy of each pair on each of its atoms; one parameter, a factor of one."""

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        factor = self.param("factor", nn.initializers.ones, (), graph.vectors.dtype)
        r = jnp.linalg.norm(graph.vectors, axis=-1)
        return AtomwiseOutput(factor * sum_to_receivers(self.pair_energy(r) / 2, graph))

    def pair_energy(self, r: Float[Array, "edges"]) -> Float[Array, "edges"]:
        """Energy of a pair at the distance ``r``."""
        raise NotImplementedError


class HarmonicPairs(PairModel):
    """``k/2 (r - r0)^2``; not smooth at the cutoff: for atoms that stay within it."""

    stiffness: float = 20.0
    length: float = 1.0

    def pair_energy(self, r):
        return 0.5 * self.stiffness * (r - self.length) ** 2


class LennardJones(PairModel):
    """Lennard-Jones of argon, made to end smoothly at the cutoff."""

    depth: float = 0.0104  # eV
    diameter: float = 3.4

    def pair_energy(self, r):
        s6 = (self.diameter / r) ** 6
        x = jnp.clip(r / self.cutoff, 0, 1)
        return 4 * self.depth * (s6**2 - s6) * (1 - x**2) ** 3


class Repulsive(PairModel):
    """Pushes pairs apart, and gives NaN once they are further apart than ``limit``."""

    limit: float = 2.0

    def pair_energy(self, r):
        return jnp.where(r > self.limit, jnp.nan, -0.5 * r)
