"""Silicon of Stillinger and Weber as a :class:`~mlffjax.potential.Potential`, in any cell.

For everything that takes a potential: exact, smooth at the cutoff to all orders, and cheap
enough to try relaxations, paths and phonons on. It is no architecture to train.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.scatter import masked, sum_to_receivers
from mlffjax.potential import Potential

#: Length sigma in Angstrom and depth epsilon in eV of silicon, and the cutoff ``a`` in sigma:
#: Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), section II; epsilon as in
#: :mod:`mlffjax.md.stillinger_weber`.
SIGMA, EPSILON, REACH = 2.0951, 2.16826, 1.8


class StillingerWeber(Architecture):
    """The energy of Stillinger and Weber, eqs. (2.3), (2.5) and (2.6).

    The three-body sum over pairs of neighbours j, k of a centre is a sum over single ones: with
    ``f = exp(gamma / (r / sigma - a))`` and unit vectors ``u``,

        sum_jk f_j f_k (u_j.u_k + 1/3)^2 = |sum_j f_j u_j u_j^T|^2 + 2/3 |sum_j f_j u_j|^2
                                            + 1/9 (sum_j f_j)^2,

    from which the terms with j = k, ``(4/3 f_j)^2``, are taken off. So it costs as much as a
    pair potential.

    Attributes:
      depth: epsilon in eV, a parameter; sigma is ``cutoff / 1.8``.
      strength, repulsion: A and B of the pair term.
      angular, decay: lambda and gamma of the three-body term.
    """

    cutoff: float = REACH * SIGMA
    depth: float = EPSILON
    strength: float = 7.049556277
    repulsion: float = 0.6022245584
    angular: float = 21.0
    decay: float = 1.2

    @property
    def isolated_atom_is_zero(self) -> bool:
        """Whether an atom without neighbours has exactly the energy of the baseline."""
        return True

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies of the atoms of ``graph``."""
        depth = self.param("depth", nn.initializers.constant(self.depth), (), graph.vectors.dtype)
        r = jnp.linalg.norm(graph.vectors, axis=-1)
        # All derivatives vanish at the cutoff, where 1 / 0 must not arise.
        inside = graph.edge_mask & (r < 0.9999 * self.cutoff)
        x = jnp.where(inside, r * (REACH / self.cutoff), 1.0)
        pairs = self.strength * (self.repulsion / x**4 - 1) * jnp.exp(1 / (x - REACH))
        weights = masked(jnp.exp(self.decay / (x - REACH)), inside)
        two_body = sum_to_receivers(masked(pairs, inside), graph)
        three_body = _angular(weights, graph.vectors / r[:, None], graph)
        return AtomwiseOutput(depth * 0.5 * (two_body + self.angular * three_body))


def _angular(
    weights: Float[Array, "edges"], units: Float[Array, "edges 3"], graph: EdgeGraph
) -> Float[Array, "atoms"]:
    """The sum over ordered pairs of two different neighbours of each centre ``[atoms]``."""
    first = weights[:, None] * units
    count = sum_to_receivers(weights, graph)
    vector = sum_to_receivers(first, graph)
    tensor = sum_to_receivers(first[:, :, None] * units[:, None, :], graph)
    alone = sum_to_receivers(weights**2, graph)
    together = jnp.sum(tensor**2, axis=(1, 2)) + 2 / 3 * jnp.sum(vector**2, axis=1) + count**2 / 9
    return together - 16 / 9 * alone


def stillinger_weber(*, dtype: Any = jnp.float32) -> Potential:
    """Silicon: atomic number 14, energies in eV, lengths in Angstrom.

    Args:
      dtype: in which it computes; float64 needs JAX's x64 mode.
    """
    return Potential.init(StillingerWeber(), [14], jax.random.key(0), dtype=dtype)
