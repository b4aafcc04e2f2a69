"""EquiformerV2: an equivariant transformer with SO(2) convolutions in the frame of an edge."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.blocks import block_size, map_blocks
from mlffjax.nn.cutoffs import polynomial_cutoff
from mlffjax.nn.edge_loop import EdgeTerms
from mlffjax.nn.element_radial import (
    AffineParameters,
    RadialParameters,
)
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.nearest import nearest_neighbors
from mlffjax.nn.radial import gaussian_basis
from mlffjax.nn.scatter import masked, softmax_over_neighbors
from mlffjax.nn.so2 import SO2Parameters
from mlffjax.nn.so2_attention import (
    AttentionSettings,
    Logits,
    Messages,
    Surroundings,
    loop_over_edges,
    order_sizes,
)
from mlffjax.nn.so3_linear import SO3Linear, uniform_fan_in
from mlffjax.nn.so3_norm import SphericalNorm
from mlffjax.nn.spherical_activations import (
    gate,
    on_sphere,
)
from mlffjax.nn.wigner import EdgeRotation, edge_rotation
from mlffjax.types import EdgeFeatures, EdgeScalars

#: Atoms of one block of the feed-forward network, each of which has some 10^6 numbers by default.
ATOMS_PER_BLOCK = 16
ATOMS_PER_BLOCK_ON_ACCELERATOR = 1024

#: Values on a grid on the sphere.
PointValues = Float[Array, "points n C"]
#: Features of an atom or edge, ``[n, (L+1)^2, C]``; see :mod:`mlffjax.nn.wigner`.
Spherical = Float[Array, "n _ _"]
_ATTENTION_ACTIVATIONS = ("separable_s2", "s2", "gate")
_FEED_FORWARD_ACTIVATIONS = ("separable_grid", "grid", "separable_s2", "s2", "gate")


class EquiformerV2(Architecture):
    """EquiformerV2 of Liao, Wood, Das and Smidt, ICLR 2024 (arXiv 2306.12059), sec. 4, fig. 1.

    Spherical features of degrees 0 to ``L`` start from the element and the surroundings, and are
    refined by blocks of graph attention and feed-forward network, each behind a normalisation
    and a skip connection. Messages are computed in the frame of their edge, where an SO(3)
    convolution is linear in each order, and orders above ``M`` are left out. The rotations
    are computed once and shared by all layers.

    ==================== ================================================= ================
    paper                here                                              shape
    ==================== ================================================= ================
    ``x_i``              ``features``                                      ``[atoms, (L+1)^2, C]``
    ``D_ij``             ``Edges.rotation``                                blocks a degree
    ``f_ij^(0)``         ``hidden`` in :class:`~so2_attention.Logits`      ``[edges, heads, A]``
    ``f_ij^(L)``         ``orders`` in :class:`~so2_attention.Messages`    by order
    ``a_ij``             ``weights`` there                                 ``[edges, heads]``
    ``G``, ``G^-1``      :mod:`mlffjax.nn.s2_grid`                         ``[points, n, C]``
    ``SLN``              :class:`mlffjax.nn.so3_norm.SphericalNorm`        as ``x_i``
    ==================== ================================================= ================

    Deviations of the default settings from the paper:

    * ``force_head="gradient"``: forces are the energy gradient, also through the rotations; the
      paper predicts them by one more attention block (``"direct"``).
    * ``smooth_cutoff``: the attention weights and the edge-degree embedding times an envelope.
      As published, energies jump as neighbours come and go.
    * ``max_neighbors=None``: all inside the cutoff; the paper's 20 nearest of 12 Angstrom.
    * ``num_basis=64`` Gaussians instead of 600: over 5 Angstrom 600 are 0.017 Angstrom wide, and
      the gradient of an untrained network is then all noise.
    * ``grid_rule="gauss"``: Gauss-Legendre instead of equiangular polar angles, exact to the
      same degree with half of them; what this saves goes into more azimuths (18 x 18 points in
      the paper).
    * ``avg_num_atoms=1``: the energy is a sum over atoms; the paper divides it by the mean number
      of atoms of OC20.

    Rotations leave the energy unchanged up to the quadrature of activations on grids, which is
    exact for polynomials alone: more points, less error. The azimuths of ``attention_grid``
    bound how far the free angle about an edge acts (its polar axis is the edge, so few polar
    points do), ``feed_forward_grid`` how far the orientation of the structure does. Reflections
    change the energy: SO(2) layers mix the two signs of an order.

    Dropout and stochastic depth act where a ``"dropout"`` key is given to ``apply``, and
    nowhere else.

    Attributes:
      num_layers: number of blocks ``N``.
      num_channels: ``C``, channels of every degree.
      max_degree: ``L``, highest degree.
      max_order: ``M``, highest order in the frame of an edge.
      num_heads: attention heads ``h``.
      attention_channels: channels of the hidden messages ``f_ij^(L)``.
      alpha_channels: width of ``f_ij^(0)`` a head.
      value_channels: channels of the values a head.
      feed_forward_channels: hidden channels of the feed-forward networks.
      edge_channels: width of the radial functions and of the element embeddings of edges.
      num_basis: number of Gaussians of the distance, each two spacings wide.
      norm: ``"separable"``, or ``"degree_wise"``, ``"rms"`` (ablation, table 1a).
      attention_activation: ``"separable_s2"``, or ``"s2"``, ``"gate"`` (ablation).
      feed_forward_activation: ``"separable_grid"``: a network on the points of the grid and a
        dense layer for scalars; or ``"grid"``, ``"separable_s2"``, ``"s2"``, ``"gate"``.
      renormalize_attention: layer norm of ``f_ij^(0)`` (sec. 4.2).
      grid_rule: ``"gauss"`` or ``"equiangular"``.
      attention_grid: polar and azimuthal number of points of the activation on edges.
      feed_forward_grid: the same on atoms.
      force_head: ``"gradient"`` or ``"direct"``.
      smooth_cutoff: whether messages are enveloped.
      max_neighbors: nearest neighbours that count (20 in the published models); ``None``: all.
      avg_num_atoms: divides the energy.
      alpha_drop: dropout rate of the attention weights, in training.
      path_drop: rate at which a structure skips a branch (stochastic depth), in training.

    Defaults: widths of the published 31M model.

    Raises:
      ValueError: an unknown setting, or a grid too coarse for the degrees.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("num_layers", "max_degree", "max_order")

    num_layers: int = 8
    num_channels: int = 128
    max_degree: int = 4
    max_order: int = 2
    num_heads: int = 8
    attention_channels: int = 64
    alpha_channels: int = 64
    value_channels: int = 16
    feed_forward_channels: int = 128
    edge_channels: int = 128
    num_basis: int = 64
    norm: str = "separable"
    attention_activation: str = "separable_s2"
    feed_forward_activation: str = "separable_grid"
    renormalize_attention: bool = True
    grid_rule: str = "gauss"
    attention_grid: tuple[int, int] = (7, 24)
    feed_forward_grid: tuple[int, int] = (12, 24)
    force_head: str = "gradient"
    smooth_cutoff: bool = True
    max_neighbors: int | None = None
    avg_num_atoms: float = 1.0
    alpha_drop: float = 0.0
    path_drop: float = 0.0

    @property
    def direct_forces(self) -> bool:
        return self.force_head == "direct"

    @property
    def smooth(self) -> bool:
        return self.smooth_cutoff and self.max_neighbors is None

    @property
    def mirror_symmetric(self) -> bool:
        return False

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies, and with ``force_head="direct"`` forces, of the atoms of ``graph``."""
        edges = Edges.of(graph, self)
        features = self._embedding(edges)
        attention = AttentionSettings(
            num_elements=self.num_elements,
            edge_channels=self.edge_channels,
            hidden=self.attention_channels,
            heads=self.num_heads,
            alpha=self.alpha_channels,
            value=self.value_channels,
            activation=self.attention_activation,
            renormalize=self.renormalize_attention,
            grid=(self.grid_rule, *self.attention_grid),
        )
        feed_forward = FeedForwardSettings(
            hidden=self.feed_forward_channels,
            activation=self.feed_forward_activation,
            grid=(self.grid_rule, *self.feed_forward_grid),
        )
        for t in range(self.num_layers):
            drops = (self.alpha_drop, self.path_drop)
            block = Block(attention, feed_forward, self.norm, *drops, name=f"block_{t}")
            features = block(features, edges)
        features = SphericalNorm(self.norm, name="norm")(features)
        energy = FeedForward(feed_forward, 1, scalars_only=True, name="energy")(features)[:, 0, 0]
        forces = None
        if self.direct_forces:
            messages = GraphAttention(attention, top_degree=1, name="forces")(features, edges)
            forces = _dense(messages[:, 1:4], 1, "force_readout", use_bias=False)[:, :, 0]
        return AtomwiseOutput(energy=energy / self.avg_num_atoms, forces=forces)

    def _check(self) -> None:
        for name, known in (
            ("force_head", ("gradient", "direct")),
            ("norm", ("separable", "degree_wise", "rms")),
            ("grid_rule", ("gauss", "equiangular")),
            ("attention_activation", _ATTENTION_ACTIVATIONS),
            ("feed_forward_activation", _FEED_FORWARD_ACTIVATIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"got {name} {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        for name in ("alpha_drop", "path_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"got {name} {getattr(self, name)}; expected from 0 to below 1; 0 for none"
                )
        if self.max_order > self.max_degree:
            raise ValueError(
                f"got max_order {self.max_order}; expected between 0 and max_degree = "
                f"{self.max_degree}"
            )
        if self.direct_forces and self.max_degree == 0:
            raise ValueError("got force_head 'direct' with max_degree 0; expected at least 1")
        if self.num_basis < 2:
            raise ValueError(f"got num_basis {self.num_basis}; expected at least 2 Gaussians")
        if not self.avg_num_atoms > 0:
            raise ValueError(f"got avg_num_atoms {self.avg_num_atoms}; expected a positive number")

    def _embedding(self, edges: "Edges") -> Spherical:
        """Element at ``l = 0`` plus the edge-degree embedding (right branch of fig. 1c)."""
        graph, degrees = edges.graph, self.max_degree + 1
        table = self.param(
            "embedding",
            nn.initializers.normal(1.0),
            (self.num_elements, self.num_channels),
            graph.vectors.dtype,
        )
        radial, sender, receiver = RadialParameters(
            self.num_elements, self.edge_channels, degrees * self.num_channels, name="edge_degree"
        )(graph.species, edges.basis)
        envelope = jnp.ones_like(edges.basis[:, 0]) if edges.envelope is None else edges.envelope
        around = loop_over_edges(
            Surroundings(self.max_order),
            graph,
            EdgeTerms(
                senders=sender,
                receivers=receiver,
                edges=(edges.basis, edges.zonal, masked(envelope, graph.edge_mask)),
                shared=radial,
            ),
        ).receivers
        around = around / self.avg_num_neighbors
        scalars = around[:, :1] + table[graph.species][:, None]
        return jnp.concatenate([scalars, around[:, 1:]], axis=1)


@struct.dataclass
class Edges:
    """What all layers need of the edges.

    Attributes:
      graph: the graph.
      basis: Gaussians of the distance ``[edges, K]``.
      rotation: into the frame of each edge.
      envelope: smooth cutoff ``[edges]``, or ``None``.
    """

    graph: EdgeGraph
    basis: EdgeFeatures
    rotation: EdgeRotation
    envelope: EdgeScalars | None

    @property
    def zonal(self) -> EdgeRotation:
        """The rows of order 0 of the rotation."""
        return tuple(block[:, :1] for block in self.rotation)

    @classmethod
    def of(cls, graph: EdgeGraph, model: EquiformerV2) -> "Edges":
        """From the edge vectors."""
        distances, directions = length_and_direction(graph.vectors)
        envelope = polynomial_cutoff(distances, model.cutoff) if model.smooth_cutoff else None
        if model.max_neighbors is not None:
            near = nearest_neighbors(distances, graph, model.max_neighbors)
            graph = replace(graph, edge_mask=near)
        # Read as (z, x, y), e3nn's order of axes: degree 1 is then (x, y, z), and the grids of
        # imported weights lie as they did in training.
        directions = jnp.roll(directions, 1, axis=1)
        return cls(
            graph=graph,
            basis=gaussian_basis(distances, model.num_basis, model.cutoff, width=2.0),
            rotation=edge_rotation(directions, model.max_degree, model.max_order),
            envelope=envelope,
        )


@dataclass(frozen=True)
class FeedForwardSettings:
    """Width and choices of the feed-forward networks; see :class:`EquiformerV2`."""

    hidden: int
    activation: str
    grid: tuple[str, int, int]


class GraphAttention(nn.Module):
    """Equivariant graph attention in the frame of the edge (fig. 1b), before the projection.

    Two loops over the edges: the softmax needs the logits of all neighbours before a message
    can be summed. They depend on order 0 alone, so the first loop is the shorter one.

    ``top_degree`` is the highest degree of the result (all by default), ``drop`` the dropout
    rate of the attention weights.
    """

    settings: AttentionSettings
    top_degree: int | None = None
    drop: float = 0.0

    @nn.compact
    def __call__(self, features: Spherical, edges: Edges) -> Spherical:
        """Messages ``[atoms, (top_degree+1)^2, heads * value]``, summed over the neighbours."""
        s, graph = self.settings, edges.graph
        max_degree, dtype = len(edges.rotation) - 1, features.dtype
        max_order, channels = (edges.rotation[-1].shape[1] - 1) // 2, 2 * features.shape[2]
        num_alpha = s.heads * s.alpha
        extra = {"separable_s2": 1, "s2": 0, "gate": max_degree}[s.activation] * s.hidden
        sizes = order_sizes(max_degree, max_order, channels)
        radial, sender, receiver = RadialParameters(
            s.num_elements, s.edge_channels, sum(sizes), name="radial"
        )(graph.species, edges.basis)
        shape = (max_degree + 1, channels, max_order, dtype)
        mix_0 = SO2Parameters(s.hidden, num_alpha + extra, name="mix_0")(*shape)
        shape = (max_degree + 1, s.hidden, max_order, dtype)
        mix_1 = SO2Parameters(s.heads * s.value, name="mix_1")(*shape)
        to_logits, to_values = mix_0.parts(num_alpha)
        norm = None
        if s.renormalize:
            norm = AffineParameters("scale", name="alpha_norm")((s.alpha,), dtype)
        vectors = self.param("alpha", uniform_fan_in(), (s.alpha, s.heads), dtype)
        ends = EdgeTerms(senders=(features, sender), receivers=(features, receiver))
        logits = loop_over_edges(
            Logits(s),
            graph,
            ends._replace(
                edges=(edges.basis, edges.zonal),
                shared=(radial.first(sizes[0]), to_logits, norm, vectors),
            ),
        ).edges
        top = max_degree if self.top_degree is None else self.top_degree
        return loop_over_edges(
            Messages(s, extra, top),
            graph,
            ends._replace(
                edges=(edges.basis, edges.rotation, self._weights(logits, edges)),
                shared=(radial, to_values, mix_1),
            ),
        ).receivers

    def _weights(
        self, logits: Float[Array, "edges heads"], edges: Edges
    ) -> Float[Array, "edges heads"]:
        """``softmax_j`` of the logits, enveloped by default."""
        weights = softmax_over_neighbors(logits, edges.graph, edges.envelope)
        if self.drop > 0 and self.has_rng("dropout"):
            weights = nn.Dropout(self.drop, deterministic=False)(weights)
        return weights


class FeedForward(nn.Module):
    """Feed-forward network on each atom (fig. 1d).

    Attributes:
      settings: width and choices.
      features: channels of the result.
      scalars_only: whether only ``l = 0`` is wanted. In a separable activation it does not
        depend on the higher degrees, which are then left out.
    """

    settings: FeedForwardSettings
    features: int
    scalars_only: bool = False

    @nn.compact
    def __call__(self, features: Spherical) -> Spherical:
        s = self.settings
        if s.activation == "gate":
            degrees = round(sqrt(features.shape[1])) - 1
            gates = _dense(features[:, 0], degrees * s.hidden, "gates")
            hidden = SO3Linear(s.hidden, name="input")(features)
            hidden = gate(hidden, gates.reshape(len(gates), degrees, s.hidden))
        else:
            scalars = None
            if s.activation in ("separable_grid", "separable_s2"):
                scalars = jax.nn.silu(_dense(features[:, :1], s.hidden, "scalars"))
                if self.scalars_only:
                    return _dense(scalars, self.features, "output")
            on_grid = s.activation in ("separable_grid", "grid")
            function = self._point_network(features.dtype) if on_grid else jax.nn.silu
            hidden = SO3Linear(s.hidden, name="input")(features)
            hidden = map_blocks(
                lambda block: on_sphere(function, block[0], s.grid, block[1]),
                (hidden, scalars),
                block_size(cpu=ATOMS_PER_BLOCK, accelerator=ATOMS_PER_BLOCK_ON_ACCELERATOR),
            )
        if self.scalars_only:
            return _dense(hidden[:, :1], self.features, "output")
        return SO3Linear(self.features, name="output")(hidden)

    def _point_network(self, dtype: Any) -> Callable[[PointValues], PointValues]:
        """``F`` of the paper: two layers with SiLU and a linear one, at each point of the grid."""
        shape = (self.settings.hidden, self.settings.hidden)
        kernels = [_Kernel(name=f"grid_{k}")(shape, dtype) for k in range(3)]

        def network(values: PointValues) -> PointValues:
            for kernel in kernels[:2]:
                values = jax.nn.silu(values @ kernel)
            return values @ kernels[2]

        return network


class _Kernel(nn.Module):
    """Matrix of a dense layer that is applied elsewhere."""

    @nn.compact
    def __call__(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.param("kernel", uniform_fan_in(), shape, dtype)


class Block(nn.Module):
    """Attention and feed-forward network, each behind a norm and with a skip (fig. 1a)."""

    attention: AttentionSettings
    feed_forward: FeedForwardSettings
    norm: str
    alpha_drop: float
    path_drop: float

    @nn.compact
    def __call__(self, features: Spherical, edges: Edges) -> Spherical:
        channels = features.shape[2]
        branch = SphericalNorm(self.norm, name="norm_0")(features)
        branch = GraphAttention(self.attention, drop=self.alpha_drop, name="attention")(
            branch, edges
        )
        branch = SO3Linear(channels, name="projection")(branch)
        features = features + self._sometimes(branch, edges.graph)
        branch = SphericalNorm(self.norm, name="norm_1")(features)
        branch = FeedForward(self.feed_forward, channels, name="feed_forward")(branch)
        return features + self._sometimes(branch, edges.graph)

    def _sometimes(self, branch: Spherical, graph: EdgeGraph) -> Spherical:
        """Stochastic depth: the branch of whole structures is left out at random."""
        if self.path_drop == 0 or not self.has_rng("dropout"):
            return branch
        keep = 1 - self.path_drop
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (graph.num_graphs,))
        return branch * (kept.astype(branch.dtype) / keep)[graph.graph_index][:, None, None]


def _dense(inputs: Array, width: int, name: str, *, use_bias: bool = True) -> Array:
    """A dense layer with torch's initial weights, in the dtype of its inputs."""
    return nn.Dense(
        width,
        use_bias=use_bias,
        param_dtype=inputs.dtype,
        kernel_init=uniform_fan_in(),
        name=name,
    )(inputs)
