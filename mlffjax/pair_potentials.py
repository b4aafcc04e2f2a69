"""Pair potentials with known answers, to check simulations and searches with.

They are :class:`~mlffjax.potential.Potential` objects like any trained one, and go wherever one
goes. They are no architectures to train and are not in the registry. Energies and forces are
smooth at the cutoff, and the potential is exact up to :data:`TAPER_ONSET` of it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.potential import Potential

#: Fraction of the cutoff up to which a pair potential is exact.
TAPER_ONSET = 0.9


class PairPotential(Architecture):
    """Half the energy of each pair on each of its two atoms.

    Attributes:
      depth: of the well in eV; a parameter.
    """

    depth: float = 1.0

    @property
    def isolated_atom_is_zero(self) -> bool:
        """Whether an atom without neighbours has exactly the energy of the baseline."""
        return True

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies of the atoms of ``graph``."""
        depth = self.param("depth", nn.initializers.constant(self.depth), (), graph.vectors.dtype)
        r = jnp.linalg.norm(graph.vectors, axis=-1)
        energy = depth * self.pair_energy(r) * taper(r / self.cutoff)
        return AtomwiseOutput(sum_to_receivers(energy / 2, graph))

    def pair_energy(self, r: Float[Array, "edges"]) -> Float[Array, "edges"]:
        """Energy ``[edges]`` of a pair at the distance ``r`` in Angstrom, in units of the depth."""
        raise NotImplementedError


class LennardJones(PairPotential):
    """``4 eps ((sigma/r)^12 - (sigma/r)^6)``; ``depth`` is eps, ``diameter`` sigma in Angstrom."""

    diameter: float = 1.0

    def pair_energy(self, r: Float[Array, "edges"]) -> Float[Array, "edges"]:
        """Energy ``[edges]`` in units of eps."""
        s6 = (self.diameter / r) ** 6
        return 4 * (s6**2 - s6)


class Morse(PairPotential):
    """``D ((1 - exp(-a (r - r0)))^2 - 1)``; ``depth`` is D.

    Attributes:
      steepness: ``a`` in 1/Angstrom.
      length: ``r0`` in Angstrom.
    """

    steepness: float = 1.5
    length: float = 2.0

    def pair_energy(self, r: Float[Array, "edges"]) -> Float[Array, "edges"]:
        """Energy ``[edges]`` in units of D."""
        x = jnp.exp(-self.steepness * (r - self.length))
        return x * (x - 2)


def lennard_jones(
    number: int = 18,
    *,
    depth: float = 0.0103235,
    diameter: float = 3.405,
    cutoff: float = 12.0,
    dtype: Any = jnp.float32,
) -> Potential:
    """The Lennard-Jones potential of one element.

    Args:
      number: its atomic number.
      depth: eps in eV; the default is argon's, 119.8 K (Rahman, Phys. Rev. 136, A405, 1964).
      diameter: sigma in Angstrom; the default is argon's, of the same paper.
      cutoff: in Angstrom; exact below nine tenths of it. For a free cluster without
        truncation, take it larger than the cluster.
      dtype: of the parameters.

    >>> lennard_jones(depth=1.0, diameter=1.0, cutoff=20.0).elements
    (18,)
    """
    module = LennardJones(depth=depth, diameter=diameter, cutoff=cutoff)
    return Potential.init(module, [number], jax.random.key(0), dtype=dtype)


def morse(
    number: int = 29,
    *,
    depth: float = 0.3429,
    steepness: float = 1.3588,
    length: float = 2.866,
    cutoff: float = 9.0,
    dtype: Any = jnp.float32,
) -> Potential:
    """The Morse potential of one element.

    Args:
      number: its atomic number.
      depth: D in eV; the defaults are copper's (Girifalco and Weizer, Phys. Rev. 114, 687, 1959).
      steepness: a in 1/Angstrom.
      length: r0 in Angstrom.
      cutoff: in Angstrom; exact below nine tenths of it.
      dtype: of the parameters.
    """
    module = Morse(depth=depth, steepness=steepness, length=length, cutoff=cutoff)
    return Potential.init(module, [number], jax.random.key(0), dtype=dtype)


def taper(x: Float[Array, "edges"]) -> Float[Array, "edges"]:
    """One up to :data:`TAPER_ONSET`, zero from one on, twice continuously differentiable."""
    t = jnp.clip((x - TAPER_ONSET) / (1 - TAPER_ONSET), 0, 1)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)
