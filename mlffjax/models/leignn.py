"""LEIGNN: a lightweight equivariant graph network with a global node."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.cutoffs import polynomial_cutoff
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.mlp import MLP, dense
from mlffjax.nn.norms import smooth_norm
from mlffjax.nn.radial import gaussian_basis
from mlffjax.nn.scatter import mean_over_graph
from mlffjax.nn.vector_messages import FilterKernel, scalar_vector_messages
from mlffjax.types import AtomFeatures, EdgeFeatures, EdgeVectors

#: ``[n, 3, features]``: one vector a channel.
VectorFeatures = Float[Array, "n 3 features"]


def scaled_silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """SiLU over 0.6, which keeps the variance of a normal input (Gasteiger et al. 2021)."""
    return jax.nn.silu(x) / 0.6


class LEIGNN(Architecture):
    """LEIGNN of Yang et al., "Lightweight equivariant model for efficient MLIPs" (2023).

    Scalars and vectors of every atom and of one global node are refined by ``T`` layers of
    distributing the global node (eqs. 5, 6), local messages (eqs. 1, 2), a local update
    (eqs. 3, 4) and aggregating the global node (eqs. 7, 8). All edge arrays come from one
    dense layer on the radial basis; networks act on atoms alone.

    ============ =============================================== =====================
    paper        here                                            shape
    ============ =============================================== =====================
    ``x_i``      ``scalars``                                     ``[atoms, F]``
    ``v_i``      ``vectors``                                     ``[atoms, 3, F]``
    ``s``, ``u`` ``GlobalNode.scalars``, ``GlobalNode.vectors``  ``[graphs, (3,) F]``
    ``lambda``   ``filters``, ``omega`` of the radial basis      ``[edges, 3F]``
    ``E``        ``energy`` (eq. 9)                              ``[atoms]``
    ``F_i``      ``forces``, ``W v_i``, if ``force_head``        ``[atoms, 3]``
    ============ =============================================== =====================

    Deviations of the default settings from the paper:

    * ``smooth_cutoff``: the filters times the envelope. As published only the radial basis is
      enveloped, and the bias of the filter layer makes energies jump at the cutoff.
    * ``norm_rounding=0.1``: the norms in eq. 3 are smooth where vectors vanish, as they do in
      a perfect crystal; the published implementation has 1e-4, nearly a cone.
    * ``force_head=False``: forces are the energy gradient; the paper predicts them directly.
    * all neighbours inside the cutoff; the paper keeps the nearest 20.

    Parameters of the published implementation that cannot act are left out: in the first
    layer those that multiply the vectors, which are still zero, and in the last layer those
    of the global node, which nothing reads any more.

    The global node is a mean over all atoms of a structure, so distant molecules see each
    other (section 4 of the paper): with it the energy of a structure grows with the number of
    periodic copies, but is not the sum over separate molecules, and ``extensive`` is false.

    The ablations of table 2 are ``update="painn", global_node=False`` (Vanilla) and
    ``global_node=False`` (Vanilla + NMU).

    Attributes:
      num_features: ``F``; even.
      num_layers: ``T``.
      num_radial: number of Gaussians.
      global_node: whether the global scalar and vector exist.
      force_head: whether forces come from the vectors instead of the energy gradient.
      update: ``"leignn"`` (eqs. 3, 4: the paper's new message updating, NMU) or ``"painn"``
        (Schuett et al. 2021).
      smooth_cutoff: whether the filters are enveloped.
      norm_rounding: radius of the rounding of norms at zero, in units of the vectors.

    Defaults: ``F = 512``, 3 layers, 128 Gaussians, 6 Angstrom, as published.

    Raises:
      ValueError: an odd number of features, no layer or an unknown update.
    """

    cutoff: float = 6.0
    num_features: int = 512
    num_layers: int = 3
    num_radial: int = 128
    global_node: bool = True
    force_head: bool = False
    update: str = "leignn"
    smooth_cutoff: bool = True
    norm_rounding: float = 0.1

    @property
    def direct_forces(self) -> bool:
        return self.force_head

    @property
    def extensive(self) -> bool:
        return not self.global_node

    @property
    def smooth(self) -> bool:
        return self.smooth_cutoff

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies, and with ``force_head`` forces, of the atoms of ``graph``."""
        width, dtype = self.num_features, graph.vectors.dtype
        edges = EdgeInputs.of(graph, self)
        embedding = self.param(
            "embedding", _uniform_unit_variance, (self.num_elements, width), dtype
        )
        scalars = embedding[graph.species]
        # None stands for vectors that are zero, which saves the terms they would enter.
        vectors: VectorFeatures | None = None
        node = self._initial_global_node(graph) if self.global_node else None
        for t in range(self.num_layers):
            if node is not None:
                distribute = Distribute(name=f"distribute_{t}")
                scalars, vectors = distribute(scalars, vectors, node, graph)
            message = LocalMessage(name=f"message_{t}")
            scalars, vectors = message(scalars, vectors, edges, graph)
            scalars, vectors = LocalUpdate(self.update, self.norm_rounding, name=f"update_{t}")(
                scalars, vectors
            )
            # Nothing reads the global node after the last layer.
            if node is not None and t + 1 < self.num_layers:
                node = Aggregate(name=f"aggregate_{t}")(scalars, vectors, node, graph)
        energy = MLP((width // 2, 1), scaled_silu, name="readout")(scalars)[:, 0]
        forces = None
        if self.force_head and vectors is not None:
            forces = dense(vectors, 1, "force_readout", use_bias=False)[..., 0]
        return AtomwiseOutput(energy=energy, forces=forces)

    def _initial_global_node(self, graph: EdgeGraph) -> "GlobalNode":
        width, dtype = self.num_features, graph.vectors.dtype
        start = self.param("global_embedding", nn.initializers.normal(1.0), (width,), dtype)
        return GlobalNode(jnp.broadcast_to(start, (graph.num_graphs, width)), None)

    def _check(self) -> None:
        if self.num_features % 2:
            raise ValueError(f"got {self.num_features} features; expected an even number")
        if self.update not in ("leignn", "painn"):
            raise ValueError(f"got the update {self.update!r}; expected 'leignn' or 'painn'")
        if self.num_radial < 2:
            raise ValueError(f"got num_radial {self.num_radial}; expected at least 2 Gaussians")
        if not self.norm_rounding > 0:
            raise ValueError(f"got norm_rounding {self.norm_rounding}; expected a positive number")


def _uniform_unit_variance(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return jax.random.uniform(key, shape, dtype, -math.sqrt(3), math.sqrt(3))


@struct.dataclass
class EdgeInputs:
    """What all layers need of an edge.

    Attributes:
      basis: Gaussians times the envelope, and a constant for the bias ``[edges, K + 1]``; with
        ``smooth_cutoff`` all times the envelope.
      directions: unit vectors from the neighbour to the centre ``[edges, 3]``.
    """

    basis: EdgeFeatures
    directions: EdgeVectors

    @classmethod
    def of(cls, graph: EdgeGraph, model: LEIGNN) -> "EdgeInputs":
        distances, directions = length_and_direction(graph.vectors)
        envelope = polynomial_cutoff(distances, model.cutoff)[:, None]
        radial = gaussian_basis(distances, model.num_radial, model.cutoff) * envelope
        basis = jnp.concatenate([radial, jnp.ones_like(envelope)], axis=1)
        return cls(basis * envelope if model.smooth_cutoff else basis, -directions)


@struct.dataclass
class GlobalNode:
    """The global scalars ``[graphs, F]`` and vectors ``[graphs, 3, F]``, ``None`` for zero."""

    scalars: Float[Array, "graphs features"]
    vectors: VectorFeatures | None


class Distribute(nn.Module):
    """Adds the global node to every atom (eqs. 5, 6)."""

    @nn.compact
    def __call__(
        self,
        scalars: AtomFeatures,
        vectors: VectorFeatures | None,
        node: GlobalNode,
        graph: EdgeGraph,
    ) -> tuple[AtomFeatures, VectorFeatures | None]:
        width = scalars.shape[1]
        both = jnp.concatenate([scalars, node.scalars[graph.graph_index]], axis=1)
        scalars = scalars + MLP((width, width), scaled_silu, True, name="scalars")(both)
        if vectors is not None and node.vectors is not None:
            mixed = vectors + node.vectors[graph.graph_index]
            vectors = vectors + dense(mixed, width, "vectors", use_bias=False)
        return scalars, vectors


class Aggregate(nn.Module):
    """Adds the mean atom to the global node (eqs. 7, 8)."""

    @nn.compact
    def __call__(
        self, scalars: AtomFeatures, vectors: VectorFeatures, node: GlobalNode, graph: EdgeGraph
    ) -> GlobalNode:
        width = scalars.shape[1]
        both = jnp.concatenate([mean_over_graph(scalars, graph), node.scalars], axis=1)
        new_scalars = node.scalars + MLP((width, width), scaled_silu, True, name="scalars")(both)
        mixed = mean_over_graph(vectors, graph)
        old = jnp.zeros_like(mixed) if node.vectors is None else node.vectors
        new_vectors = old + dense(mixed + old, width, "vectors", use_bias=False)
        return GlobalNode(new_scalars, new_vectors)


class LocalMessage(nn.Module):
    """Messages from the neighbours (eqs. 1, 2).

    Both dense layers give the magnitude of the force, the scalar message and, unless the
    vectors are still zero, the gate of the neighbour's vectors.
    """

    @nn.compact
    def __call__(
        self,
        scalars: AtomFeatures,
        vectors: VectorFeatures | None,
        edges: EdgeInputs,
        graph: EdgeGraph,
    ) -> tuple[AtomFeatures, VectorFeatures]:
        width = scalars.shape[1]
        parts = 2 if vectors is None else 3
        sources = MLP((width // 2, parts * width), scaled_silu, name="sources")(scalars)
        sources = sources * (1 / math.sqrt(3))
        kernel = FilterKernel(parts * width, name="filters")(edges.basis)
        dx, dv = scalar_vector_messages(
            sources, edges.basis, kernel, vectors, edges.directions, graph
        )
        scalars = (scalars + dx) * (1 / math.sqrt(2))
        dv = dv * (1 / math.sqrt(width))
        return scalars, dv if vectors is None else vectors + dv


class LocalUpdate(nn.Module):
    """Mixes the scalars and vectors of each atom (eqs. 3, 4), or PaiNN's update."""

    update: str
    norm_rounding: float

    @nn.compact
    def __call__(
        self, scalars: AtomFeatures, vectors: VectorFeatures
    ) -> tuple[AtomFeatures, VectorFeatures]:
        width = scalars.shape[1]
        projected = dense(vectors, 2 * width, "vectors", use_bias=False)
        p, q = jnp.split(projected, 2, axis=-1)
        norms = smooth_norm(q, 1, self.norm_rounding)
        mixed = MLP((width, 3 * width), scaled_silu, name="scalars")(
            jnp.concatenate([scalars, norms], axis=1)
        )
        gate, shift, scale = jnp.split(mixed, 3, axis=1)
        if self.update == "leignn":
            change = shift * (1 / math.sqrt(2)) + scalars * jnp.tanh(scale)
        else:
            overlap = jnp.sum(p * q, axis=1) * (1 / math.sqrt(width))
            change = (shift + scale * overlap) * (1 / math.sqrt(2))
        return scalars + change, vectors + gate[:, None, :] * p
