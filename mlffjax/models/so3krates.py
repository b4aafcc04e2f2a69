"""SO3krates: a Euclidean transformer with separated invariant and equivariant features."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.cutoffs import cosine_cutoff
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.radial import exponential_gaussian_basis
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.nn.spherical_harmonics import spherical_harmonics
from mlffjax.types import AtomFeatures, EdgeFeatures, EdgeScalars


class SO3krates(Architecture):
    """SO3krates of Frank, Unke, Müller and Chmiela, Nat. Commun. 15, 6539 (2024).

    Invariant features ``f_i`` and Euclidean variables (EV) ``x_i``, one coefficient for each
    order of each degree, are refined by ``T`` blocks of Euclidean self-attention (eqs. 15-21)
    and an atom-wise exchange between the two (eqs. 22-27). An edge costs
    ``O(F + (l_max + 1)^2)``: no product of features and spherical harmonics is ever formed.

    ============ ======================================== =============================
    paper        here                                     shape
    ============ ======================================== =============================
    ``f_i``      ``features``                             ``[atoms, F]``
    ``x_i``      ``ev``                                   ``[atoms, sum_l (2l+1)]``
    ``g_k``      ``EdgeInputs.radial`` (eq. 19)           ``[edges, K]``
    ``phi``      ``EdgeInputs.envelope`` (eq. 17)         ``[edges]``
    ``Y_m^l``    ``EdgeInputs.harmonics``                 ``[edges, sum_l (2l+1)]``
    ``x_{l->0}`` ``DegreeLayout.contract`` (eq. 14)       ``[..., degrees]``
    ``w_ij``     ``FilterNetwork`` (eq. 20)               ``[edges, F]``
    ``alpha``    ``attention_coefficients`` (eq. 21)      ``[edges, heads]``
    ============ ======================================== =============================

    Follows the published implementation where the paper is silent: each head has its own
    query, key and value matrix, the EV attention has one head a degree, and the coefficient is
    divided by the square root of the width of a head. Energy and forces are smooth at the
    cutoff as published.

    Attributes:
      num_features: ``F``; a multiple of ``num_heads`` and of the number of degrees.
      num_layers: ``T``.
      num_heads: ``h``, attention heads of the invariant features.
      degrees: degrees ``l`` of the EV, ascending.
      num_radial: ``K``, size of the radial basis.
      ev_initialization: ``"neighborhood"`` (eq. 11) or ``"zero"``.

    Defaults: section IV.H of the paper (``F = 132``, ``T = 3``, 4 heads, degrees 1 to 3, 5
    Angstrom); the published implementation's 32 radial functions.

    Raises:
      ValueError: the features do not divide into the heads, or a setting is unknown.
    """

    num_features: int = 132
    num_layers: int = 3
    num_heads: int = 4
    degrees: tuple[int, ...] = (1, 2, 3)
    num_radial: int = 32
    ev_initialization: str = "neighborhood"

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies of the atoms of ``graph``."""
        self._check()
        layout = DegreeLayout(self.degrees)
        edges = EdgeInputs.of(graph, self, layout)
        embed = nn.Embed(
            self.num_elements, self.num_features, dtype=graph.vectors.dtype, name="embedding"
        )
        features = embed(graph.species)
        ev = self._initial_ev(graph, edges, layout)
        for t in range(self.num_layers):
            block = EuclideanTransformerBlock(layout, self.num_heads, name=f"block_{t}")
            features, ev = block(features, ev, edges, graph)
        hidden = nn.silu(nn.Dense(self.num_features, name="readout_hidden")(features))
        return AtomwiseOutput(energy=nn.Dense(1, name="readout")(hidden)[:, 0])

    def _initial_ev(
        self, graph: EdgeGraph, edges: "EdgeInputs", layout: "DegreeLayout"
    ) -> Float[Array, "atoms orders"]:
        """Eq. 11, or zero."""
        if self.ev_initialization == "zero":
            return jnp.zeros((graph.num_atoms, layout.num_orders), graph.vectors.dtype)
        messages = edges.envelope[:, None] * edges.harmonics
        return sum_to_receivers(messages, graph) / self.avg_num_neighbors

    def _check(self) -> None:
        if self.ev_initialization not in ("neighborhood", "zero"):
            raise ValueError(
                f"got ev_initialization {self.ev_initialization!r}; expected 'neighborhood' or "
                "'zero'"
            )
        if not self.degrees or list(self.degrees) != sorted(set(self.degrees)):
            raise ValueError(f"got degrees {self.degrees}; expected ascending distinct integers")
        for what, count in (("heads", self.num_heads), ("degrees", len(self.degrees))):
            if self.num_features % count:
                raise ValueError(
                    f"got {self.num_features} features for {count} {what}; expected a multiple; "
                    f"change num_features or the {what}"
                )


@struct.dataclass
class DegreeLayout:
    """Where the orders of each degree lie in a vector of Euclidean variables."""

    degrees: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def num_orders(self) -> int:
        """Length of the vector: sum of ``2l + 1``."""
        return sum(2 * degree + 1 for degree in self.degrees)

    def contract(self, ev: Float[Array, "n orders"]) -> Float[Array, "n degrees"]:
        """Invariants of each degree (eq. 14): ``sum_m x_lm^2 / sqrt(2l + 1)``.

        The factor is the Clebsch-Gordan coefficient of ``(l, l) -> 0``. A matrix product with
        a constant does all degrees at once.
        """
        blocks = np.zeros((self.num_orders, len(self.degrees)))
        start = 0
        for column, degree in enumerate(self.degrees):
            blocks[start : start + 2 * degree + 1, column] = (2 * degree + 1) ** -0.5
            start += 2 * degree + 1
        return (ev * ev) @ jnp.asarray(blocks, ev.dtype)

    def expand(self, per_degree: Float[Array, "n degrees"]) -> Float[Array, "n orders"]:
        """Repeat one number a degree over its orders."""
        repeats = [2 * degree + 1 for degree in self.degrees]
        return per_degree[:, np.repeat(np.arange(len(self.degrees)), repeats)]

    def harmonics(self, directions: Float[Array, "n 3"]) -> Float[Array, "n orders"]:
        """Orthonormal real spherical harmonics of the degrees, orders from ``-l`` to ``l``."""
        every = spherical_harmonics(directions, self.degrees[-1])
        wanted = np.concatenate([np.arange(d * d, (d + 1) ** 2) for d in self.degrees])
        return every[:, wanted]


@struct.dataclass
class EdgeInputs:
    """What all blocks need of an edge.

    Attributes:
      radial: radial basis (eq. 19) ``[edges, K]``.
      envelope: cutoff function (eq. 17) ``[edges]``.
      harmonics: spherical harmonics of the edge direction ``[edges, orders]``.
    """

    radial: Float[Array, "edges basis"]
    envelope: EdgeScalars
    harmonics: Float[Array, "edges orders"]

    @classmethod
    def of(cls, graph: EdgeGraph, model: SO3krates, layout: DegreeLayout) -> "EdgeInputs":
        distances, directions = length_and_direction(graph.vectors)
        return cls(
            radial=exponential_gaussian_basis(distances, model.num_radial, model.cutoff),
            envelope=cosine_cutoff(distances, model.cutoff),
            harmonics=layout.harmonics(directions),
        )


class FilterNetwork(nn.Module):
    """Filter of an edge from its distance and the relative EV of its ends (eq. 20)."""

    num_features: int

    @nn.compact
    def __call__(
        self, radial: Float[Array, "edges basis"], invariants: Float[Array, "edges degrees"]
    ) -> EdgeFeatures:
        width = self.num_features
        distance = nn.silu(nn.Dense(width, name="radial_hidden")(radial))
        geometry = nn.silu(nn.Dense(width // 4, name="invariant_hidden")(invariants))
        return nn.Dense(width, name="radial")(distance) + nn.Dense(width, name="invariant")(
            geometry
        )


class HeadwiseDense(nn.Module):
    """A matrix for each head: ``[n, F] -> [n, F]``, block diagonal over the heads."""

    num_heads: int

    @nn.compact
    def __call__(self, features: Float[Array, "n features"]) -> Float[Array, "n features"]:
        count, width = features.shape
        head = width // self.num_heads
        # Each head's matrix alone sets the fan, the heads are a batch.
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        kernel = self.param("kernel", init, (self.num_heads, head, head))
        split = features.reshape(count, self.num_heads, head)
        return jnp.einsum("nhf,hfg->nhg", split, kernel).reshape(count, width)


def attention_coefficients(
    query: AtomFeatures,
    key: AtomFeatures,
    filters: EdgeFeatures,
    num_heads: int,
    graph: EdgeGraph,
) -> Float[Array, "edges heads"]:
    """``q_i . (w_ij * k_j) / sqrt(F / h)`` for each head (eq. 21)."""
    product = query[graph.receivers] * key[graph.senders] * filters
    head = product.shape[1] // num_heads
    return product.reshape(-1, num_heads, head).sum(-1) * head**-0.5


class EuclideanTransformerBlock(nn.Module):
    """Euclidean self-attention followed by the interaction block (eqs. 15-27)."""

    layout: DegreeLayout
    num_heads: int

    @nn.compact
    def __call__(
        self,
        features: AtomFeatures,
        ev: Float[Array, "atoms orders"],
        edges: EdgeInputs,
        graph: EdgeGraph,
    ) -> tuple[AtomFeatures, Float[Array, "atoms orders"]]:
        relative = self.layout.contract(ev[graph.senders] - ev[graph.receivers])
        attended = features + self._feature_update(features, relative, edges, graph)
        attended_ev = ev + self._ev_update(features, relative, edges, graph)
        # Eqs. 22-27.
        width = features.shape[1]
        invariants = self.layout.contract(attended_ev)
        exchange = nn.Dense(width + invariants.shape[1], name="interaction")(
            jnp.concatenate([attended, invariants], axis=1)
        )
        gates = self.layout.expand(exchange[:, width:])
        return attended + exchange[:, :width], attended_ev + gates * attended_ev

    def _feature_update(
        self,
        features: AtomFeatures,
        relative: Float[Array, "edges degrees"],
        edges: EdgeInputs,
        graph: EdgeGraph,
    ) -> AtomFeatures:
        """Second term of eq. 15."""
        width = features.shape[1]
        filters = FilterNetwork(width, name="feature_filter")(edges.radial, relative)
        query = HeadwiseDense(self.num_heads, name="feature_query")(features)
        key = HeadwiseDense(self.num_heads, name="feature_key")(features)
        value = HeadwiseDense(self.num_heads, name="feature_value")(features)
        alpha = attention_coefficients(query, key, filters, self.num_heads, graph)
        weights = jnp.repeat(alpha * edges.envelope[:, None], width // self.num_heads, axis=1)
        return sum_to_receivers(weights * value[graph.senders], graph)

    def _ev_update(
        self,
        features: AtomFeatures,
        relative: Float[Array, "edges degrees"],
        edges: EdgeInputs,
        graph: EdgeGraph,
    ) -> Float[Array, "atoms orders"]:
        """Second term of eq. 16: one head a degree."""
        count = len(self.layout.degrees)
        filters = FilterNetwork(features.shape[1], name="ev_filter")(edges.radial, relative)
        query = HeadwiseDense(count, name="ev_query")(features)
        key = HeadwiseDense(count, name="ev_key")(features)
        alpha = attention_coefficients(query, key, filters, count, graph)
        weights = self.layout.expand(alpha * edges.envelope[:, None])
        return sum_to_receivers(weights * edges.harmonics, graph)
