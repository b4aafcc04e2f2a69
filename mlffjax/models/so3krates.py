"""SO3krates: a Euclidean transformer with separated invariant and equivariant features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import EXPANSION, Architecture, AtomwiseOutput
from mlffjax.nn import pair_matrix, radial_spline
from mlffjax.nn.blocks import block_size
from mlffjax.nn.cutoffs import cosine_cutoff
from mlffjax.nn.edge_loop import EdgeTerms, edge_loop
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.groups import multiply_groups, repeat_groups, sum_groups
from mlffjax.nn.mlp import DenseParameters
from mlffjax.nn.radial import exponential_gaussian_basis
from mlffjax.nn.scatter import masked, sum_to_receivers, sum_to_senders
from mlffjax.nn.spherical_harmonics import spherical_harmonics
from mlffjax.types import AtomFeatures, EdgeFeatures, EdgeScalars, Params

#: Pairs of one block. Half as many take 10 to 20 % longer in training on five frames of 27 atoms
#: and in dynamics of 120, and 5 % less in dynamics of 192 (``benchmarks/README.md``).
EDGES_PER_BLOCK = 2048
EDGES_PER_BLOCK_ON_ACCELERATOR = 65536
#: Names of the two filter networks of a block.
FILTERS = ("feature_filter", "ev_filter")


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
    ``w_ij``     ``Filter`` (eq. 20)                      ``[edges, F]``
    ``alpha``    ``EuclideanAttention`` (eq. 21)          ``[edges, heads]``
    ============ ======================================== =============================

    Follows the published implementation where the paper is silent: each head has its own
    query, key and value matrix, the EV attention has one head a degree, and the coefficient is
    divided by the square root of the width of a head, and embeddings start with the variance
    ``1 / F`` (flax's default). Energy and forces are smooth at the
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

    may_be_zero: ClassVar[tuple[str, ...]] = ("num_layers", "degrees")

    num_features: int = 132
    num_layers: int = 3
    num_heads: int = 4
    degrees: tuple[int, ...] = (1, 2, 3)
    num_radial: int = 32
    ev_initialization: str = "neighborhood"

    @property
    def pairwise(self) -> bool:
        return True

    def compressed(self, params: Params, tolerance: float) -> Params:
        """Filters as mixtures of few splines, see :class:`CompressedFilters`."""
        networks = params["params"]

        def functions(distances: Float[Array, "n"]) -> Float[Array, "n filters"]:
            basis = exponential_gaussian_basis(distances, self.num_radial, self.cutoff)
            blocks = [networks[f"block_{t}"] for t in range(self.num_layers)]
            return jnp.concatenate(
                [_radial(block[name], basis) for block in blocks for name in FILTERS], axis=1
            )

        spline, mixing = radial_spline.compress(functions, self.cutoff, tolerance)
        mixtures = np.split(mixing, self.num_layers, axis=1)
        return {
            "basis": spline,
            **{
                f"block_{t}": compressed_filters(networks[f"block_{t}"], mixture)
                for t, mixture in enumerate(mixtures)
            },
        }

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies of the atoms of ``graph``."""
        layout = DegreeLayout(self.degrees)
        edges = EdgeInputs.of(graph, self, layout)
        dtype = graph.vectors.dtype
        embed = nn.Embed(self.num_elements, self.num_features, param_dtype=dtype, name="embedding")
        features = embed(graph.species)
        ev = self._initial_ev(graph, edges, layout)
        for t in range(self.num_layers):
            block = EuclideanTransformerBlock(layout, self.num_heads, name=f"block_{t}")
            features, ev = block(features, ev, edges, graph)
        hidden = nn.Dense(self.num_features, param_dtype=dtype, name="readout_hidden")(features)
        energy = nn.Dense(1, param_dtype=dtype, name="readout")(nn.silu(hidden))
        return AtomwiseOutput(energy=energy[:, 0])

    def _initial_ev(
        self, graph: EdgeGraph, edges: "EdgeInputs", layout: "DegreeLayout"
    ) -> Float[Array, "atoms orders"]:
        """Eq. 11, or zero."""
        if self.ev_initialization == "zero":
            return jnp.zeros((graph.num_atoms, layout.num_orders), graph.vectors.dtype)
        messages = edges.envelope[:, None] * edges.harmonics
        sums = sum_to_receivers(messages, graph) + layout.reverse(sum_to_senders(messages, graph))
        return sums / self.avg_num_neighbors

    def _check(self) -> None:
        if self.ev_initialization not in ("neighborhood", "zero"):
            raise ValueError(
                f"got ev_initialization {self.ev_initialization!r}; expected 'neighborhood' or "
                "'zero'"
            )
        if not self.degrees or list(self.degrees) != sorted(set(self.degrees)):
            raise ValueError(f"got degrees {self.degrees}; expected ascending distinct integers")
        if self.num_features < 4:
            # The networks of the invariants in a filter have a quarter of the width.
            raise ValueError(f"got {self.num_features} features; expected at least 4")
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
    def orders(self) -> tuple[int, ...]:
        """``2l + 1`` of each degree."""
        return tuple(2 * degree + 1 for degree in self.degrees)

    @property
    def num_orders(self) -> int:
        """Length of the vector."""
        return sum(self.orders)

    def contract(self, ev: Float[Array, "n orders"]) -> Float[Array, "n degrees"]:
        """Invariants of each degree (eq. 14): ``sum_m x_lm^2 / sqrt(2l + 1)``.

        The factor is the Clebsch-Gordan coefficient of ``(l, l) -> 0``.
        """
        factors = jnp.asarray(np.asarray(self.orders) ** -0.5, ev.dtype)
        return sum_groups(ev, ev, counts=self.orders) * factors

    def scale(
        self, ev: Float[Array, "n orders"], per_degree: Float[Array, "n degrees"]
    ) -> Float[Array, "n orders"]:
        """Multiply the orders of each degree by one number."""
        return repeat_groups(per_degree, ev, counts=self.orders)

    def reverse(self, harmonics: Float[Array, "n orders"]) -> Float[Array, "n orders"]:
        """Spherical harmonics of the opposite directions: ``(-1)^l Y``."""
        signs = [(-1.0) ** degree for degree in self.degrees for _ in range(2 * degree + 1)]
        return harmonics * jnp.asarray(signs, harmonics.dtype)

    def harmonics(self, directions: Float[Array, "n 3"]) -> Float[Array, "n orders"]:
        """Orthonormal real spherical harmonics of the degrees, orders from ``-l`` to ``l``."""
        every = spherical_harmonics(directions, self.degrees[-1])
        wanted = np.concatenate([np.arange(d * d, (d + 1) ** 2) for d in self.degrees])
        return every[:, wanted]


class EdgeInputs(NamedTuple):
    """What all blocks need of an edge.

    Attributes:
      radial: radial basis (eq. 19), or the splines of a compressed potential ``[edges, K]``.
      envelope: cutoff function (eq. 17) ``[edges]``.
      harmonics: spherical harmonics of the edge direction ``[edges, orders]``.
    """

    radial: Float[Array, "edges basis"]
    envelope: EdgeScalars
    harmonics: Float[Array, "edges orders"]

    @classmethod
    def of(cls, graph: EdgeGraph, model: SO3krates, layout: DegreeLayout) -> "EdgeInputs":
        distances, directions = length_and_direction(graph.vectors)
        if model.has_variable(EXPANSION, "basis"):
            spline = model.get_variable(EXPANSION, "basis")
            radial = radial_spline.evaluate(spline, distances, model.cutoff)
        else:
            radial = exponential_gaussian_basis(distances, model.num_radial, model.cutoff)
        return cls(
            radial=radial,
            envelope=masked(cosine_cutoff(distances, model.cutoff), graph.edge_mask),
            harmonics=layout.harmonics(directions),
        )


class NodeInputs(NamedTuple):
    """What a message needs of an atom.

    Attributes:
      query, key, value: of the attention of the features ``[atoms, F]``; no values where
        :mod:`~mlffjax.nn.pair_matrix` takes them.
      ev_query, ev_key: of the attention of the EV ``[atoms, F]``.
      ev: Euclidean variables ``[atoms, orders]``.
    """

    query: AtomFeatures
    key: AtomFeatures
    value: AtomFeatures | None
    ev_query: AtomFeatures
    ev_key: AtomFeatures
    ev: Float[Array, "atoms orders"]


class Filter(NamedTuple):
    """Filter of an edge from its distance and the relative EV of its ends (eq. 20).

    The two networks, of the radial basis and of the invariants, are one of two layers: the first
    kernel is block diagonal, the second adds the two.

    Attributes:
      kernel, bias: first layer ``[K + degrees, hidden]``, ``[hidden]``.
      kernel_out, bias_out: second layer ``[hidden, F]``, ``[F]``.
    """

    kernel: Float[Array, "inputs hidden"]
    bias: Float[Array, "hidden"]
    kernel_out: Float[Array, "hidden features"]
    bias_out: Float[Array, "features"]


class Filters(NamedTuple):
    """Both filters of an edge, for the features and for the EV."""

    features: Filter
    ev: Filter

    def __call__(
        self, radial: Float[Array, "rows basis"], invariants: Float[Array, "rows degrees"]
    ) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Both ``[rows, F]``, their first layers in one product."""
        one, two = self
        kernel = jnp.concatenate([one.kernel, two.kernel], axis=1)
        bias = jnp.concatenate([one.bias, two.bias])
        hidden = nn.silu(jnp.concatenate([radial, invariants], axis=1) @ kernel + bias)
        first, second = jnp.split(hidden, 2, axis=1)
        return first @ one.kernel_out + one.bias_out, second @ two.kernel_out + two.bias_out


class CompressedFilters(NamedTuple):
    """Both filters of an edge where the networks of the radial basis are mixtures of splines.

    Attributes:
      kernel, bias: first layers of the networks of the invariants ``[degrees, 2 H]``, ``[2 H]``.
      kernel_features, kernel_ev: of each filter the mixture of the splines and the second layer
        ``[splines + H, F]``.
      bias_out: of both second layers ``[2, F]``.
    """

    kernel: Float[Array, "degrees both_hidden"]
    bias: Float[Array, "both_hidden"]
    kernel_features: Float[Array, "inputs features"]
    kernel_ev: Float[Array, "inputs features"]
    bias_out: Float[Array, "2 features"]

    def __call__(
        self, radial: Float[Array, "rows splines"], invariants: Float[Array, "rows degrees"]
    ) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Both ``[rows, F]``, each by one product of splines and hidden layer together."""
        hidden = nn.silu(invariants @ self.kernel + self.bias)
        first, second = jnp.split(hidden, 2, axis=1)
        return (
            jnp.concatenate([radial, first], axis=1) @ self.kernel_features + self.bias_out[0],
            jnp.concatenate([radial, second], axis=1) @ self.kernel_ev + self.bias_out[1],
        )


def compressed_filters(
    block: Mapping[str, Any], mixture: Float[np.ndarray, "splines both"]
) -> dict[str, np.ndarray]:
    """The arrays of :class:`CompressedFilters` from the parameters of a block."""
    networks = [block[name] for name in FILTERS]

    def pick(layer: str, name: str) -> list[np.ndarray]:
        return [np.asarray(network[layer][name], np.float64) for network in networks]

    mixtures, seconds = np.split(mixture, 2, axis=1), pick("invariant", "kernel")
    return {
        "kernel": np.concatenate(pick("invariant_hidden", "kernel"), axis=1),
        "bias": np.concatenate(pick("invariant_hidden", "bias")),
        "kernel_features": np.concatenate([mixtures[0], seconds[0]]),
        "kernel_ev": np.concatenate([mixtures[1], seconds[1]]),
        "bias_out": np.add(pick("radial", "bias"), pick("invariant", "bias")),
    }


def _radial(network: Mapping[str, Any], basis: Float[Array, "n K"]) -> Float[Array, "n F"]:
    """What a filter has from the distance alone, without the last bias."""
    first, last = network["radial_hidden"], network["radial"]
    as_basis = lambda x: jnp.asarray(x, basis.dtype)  # noqa: E731
    hidden = nn.silu(basis @ as_basis(first["kernel"]) + as_basis(first["bias"]))
    return hidden @ as_basis(last["kernel"])


class FilterNetwork(nn.Module):
    """Parameters of a :class:`Filter`.

    Attributes:
      num_features: ``F``.
    """

    num_features: int

    @nn.compact
    def __call__(self, num_radial: int, num_degrees: int, dtype: Any) -> Filter:
        width = self.num_features
        radial, radial_bias = DenseParameters(width, name="radial_hidden")(num_radial, dtype)
        hidden = DenseParameters(width // 4, name="invariant_hidden")
        invariant, invariant_bias = hidden(num_degrees, dtype)
        last, last_bias = DenseParameters(width, name="radial")(width, dtype)
        other, other_bias = DenseParameters(width, name="invariant")(width // 4, dtype)
        return Filter(
            kernel=jax.scipy.linalg.block_diag(radial, invariant),
            bias=jnp.concatenate([radial_bias, invariant_bias]),
            kernel_out=jnp.concatenate([last, other]),
            bias_out=last_bias + other_bias,
        )


class HeadKernels(nn.Module):
    """A matrix for each head ``[heads, F / heads, F / heads]``."""

    num_heads: int

    @nn.compact
    def __call__(self, num_features: int, dtype: Any) -> Float[Array, "heads width width"]:
        width = num_features // self.num_heads
        # Each head's matrix alone sets the fan, the heads are a batch.
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        return self.param("kernel", init, (self.num_heads, width, width), dtype)


@dataclass(frozen=True)
class EuclideanAttention:
    """Messages of a block of edges (second terms of eqs. 15 and 16), for an edge loop.

    Attributes:
      layout: of the EV.
      num_features: ``F``.
      num_heads: of the invariant features; the EV have one head a degree.
    """

    layout: DegreeLayout
    num_features: int
    num_heads: int

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        """Sums at both ends: messages to features and EV ``[rows, F + orders]``.

        Without values only those to the EV ``[rows, orders]``, and for each edge the weights of the
        values in the sums at its sender and its receiver, two arrays ``[rows, heads]``.

        Args:
          terms: at both ends :class:`NodeInputs`; of the pairs :class:`EdgeInputs`; shared the
            filters.
        """
        sender, receiver = terms.ends
        relative = self.layout.contract(sender.ev - receiver.ev)
        filters = terms.shared(terms.edges.radial, relative)
        envelope, harmonics = terms.edges.envelope[:, None], terms.edges.harmonics
        at_sender, ev_at_sender = self._weights(sender, receiver, filters, envelope)
        at_receiver, ev_at_receiver = self._weights(receiver, sender, filters, envelope)
        ev = (
            self.layout.scale(self.layout.reverse(harmonics), ev_at_sender),
            self.layout.scale(harmonics, ev_at_receiver),
        )
        if sender.value is None:
            return EdgeTerms(ends=ev, edges=(at_sender, at_receiver))
        messages = (
            repeat_groups(at_sender, receiver.value, counts=self._heads),
            repeat_groups(at_receiver, sender.value, counts=self._heads),
        )
        return EdgeTerms(
            ends=tuple(jnp.concatenate(x, axis=1) for x in zip(messages, ev, strict=True))
        )

    @property
    def _heads(self) -> list[int]:
        """Channels of each head."""
        return [self.num_features // self.num_heads] * self.num_heads

    def _weights(
        self,
        center: "NodeInputs",
        neighbor: "NodeInputs",
        filters: tuple[EdgeFeatures, EdgeFeatures],
        envelope: Float[Array, "rows 1"],
    ) -> tuple[Float[Array, "rows heads"], Float[Array, "rows degrees"]]:
        """Eq. 21 times the cutoff, of the features and of the EV."""
        heads, degrees = self._heads, len(self.layout.degrees)
        ev_heads = [self.num_features // degrees] * degrees
        alpha = sum_groups(center.query, neighbor.key, filters[0], counts=heads)
        ev_alpha = sum_groups(center.ev_query, neighbor.ev_key, filters[1], counts=ev_heads)
        return alpha * (envelope * heads[0] ** -0.5), ev_alpha * (envelope * ev_heads[0] ** -0.5)


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
        width = features.shape[1]
        update, ev_update = self._attention(features, ev, edges, graph)
        attended, attended_ev = features + update, ev + ev_update
        # Eqs. 22-27.
        invariants = self.layout.contract(attended_ev)
        exchange = nn.Dense(
            width + invariants.shape[1], param_dtype=features.dtype, name="interaction"
        )(jnp.concatenate([attended, invariants], axis=1))
        gated_ev = self.layout.scale(attended_ev, exchange[:, width:])
        return attended + exchange[:, :width], attended_ev + gated_ev

    def _attention(
        self,
        features: AtomFeatures,
        ev: Float[Array, "atoms orders"],
        edges: EdgeInputs,
        graph: EdgeGraph,
    ) -> tuple[AtomFeatures, Float[Array, "atoms orders"]]:
        """Second terms of eqs. 15 and 16, by blocks of edges."""
        width, count = features.shape[1], len(self.layout.degrees)
        if self.has_variable(EXPANSION, "kernel"):
            arrays = [self.get_variable(EXPANSION, name) for name in CompressedFilters._fields]
            filters = CompressedFilters(*arrays)
        else:
            sizes = (edges.radial.shape[1], count, features.dtype)
            filters = Filters(*(FilterNetwork(width, name=name)(*sizes) for name in FILTERS))
        query, key, value = self._headwise(
            features, self.num_heads, ("feature_query", "feature_key", "feature_value")
        )
        ev_query, ev_key = self._headwise(features, count, ("ev_query", "ev_key"))
        matrix = pair_matrix.is_quicker(graph)
        nodes = NodeInputs(query, key, None if matrix else value, ev_query, ev_key, ev)
        made = edge_loop(
            EuclideanAttention(self.layout, width, self.num_heads),
            graph,
            EdgeTerms(ends=nodes, edges=edges, shared=filters),
            block_size(cpu=EDGES_PER_BLOCK, accelerator=EDGES_PER_BLOCK_ON_ACCELERATOR),
        )
        if matrix:
            return pair_matrix.weighted_sums(made.edges, value, graph), made.ends
        return made.ends[:, :width], made.ends[:, width:]

    def _headwise(
        self, features: AtomFeatures, heads: int, names: Sequence[str]
    ) -> list[AtomFeatures]:
        """Features times the matrices of each head, for the layers of these names."""
        size = features.shape[1], features.dtype
        return multiply_groups(features, [HeadKernels(heads, name=name)(*size) for name in names])
