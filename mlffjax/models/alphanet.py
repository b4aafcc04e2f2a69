"""AlphaNet: scalars in local frames, with a rotary phase and a temporal connection."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.blocks import block_size
from mlffjax.nn.cutoffs import cosine_cutoff
from mlffjax.nn.edge_loop import EdgeTerms
from mlffjax.nn.edge_module import edge_module_loop
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.mlp import MLP, dense
from mlffjax.nn.norms import smooth_norm
from mlffjax.nn.radial import bessel_basis
from mlffjax.nn.scatter import masked, sum_to_receivers
from mlffjax.types import AtomFeatures, EdgeFeatures, EdgeScalars, EdgeVectors

#: ``[n, 3, features]``: one vector a channel.
VectorFeatures = Float[Array, "n 3 features"]
#: Real and imaginary part of complex numbers.
Complex = tuple[Float[Array, "..."], Float[Array, "..."]]


class AlphaNet(Architecture):
    """AlphaNet of Yin et al., "AlphaNet: scaling up local-frame-based interatomic potential".

    Every edge has a frame of its neighbour's direction and the centroid of the neighbourhood.
    Vector features are read as scalars in it (``Scalarize``), which weight the messages. A
    complex number a message, of which only the phase is kept, rotates the features of the
    next layer (rotary embedding); a complex state of every atom, contracted with its features
    in every layer (temporal connection), joins the readout. Section 4 of the paper; the details
    it leaves out follow the published parameters.

    ================= =================================================== ====================
    paper             here                                                shape
    ================= =================================================== ====================
    ``h_i``           ``features``                                        ``[atoms, F]``
    ``x_i``           ``vectors``                                         ``[atoms, 3, F]``
    ``e_ij^1,2,3``    ``EdgeInputs.frames`` (``F_ij``, sec. 4.1)          ``3 x [edges, 3]``
    ``S_{i-j}``       ``structure``                                       ``[atoms, 3, F]``
    ``A_ij``          ``FrameScalars``                                    ``[edges, F]``
    ``theta``         phase of ``RotaryMessage``                          ``[atoms, F/2]``
    ``M``, ``h^l``    ``TemporalConnection``, ``state``                   ``[atoms, state]``
    ================= =================================================== ====================

    With ``published=True`` energies and forces are those of the published implementation,
    which are not continuous. The default settings depart from it:

    * The messages and the phases carry the cutoff function. As published, layers with a bias
      follow the last one that vanishes at the cutoff.
    * The centroid is that of the neighbours weighted by the cutoff function and the centre
      with weight one. As published it is the plain mean, which jumps with every neighbour.
    * The phase of a message's complex number ``k`` is its sine ``Im k / |k|``. No continuous
      function of ``k`` gives an angle between ``-pi`` and ``pi``: it jumps by ``2 pi`` at the
      branch cut, and any single number that is continuous on the circle must, as the sine
      does, give two phases the same value. For small phases sine and angle agree.
    * Vectors enter the scalars by their length. As published it is the sum of the absolute
      values of their coordinates, and the energy changes with the orientation of a structure.
    * ``|k|``, ``|psi|``, the norms of vectors and the absolute value in the frames (``E2 . S``
      vanishes in every planar molecule) are rounded at zero over ``ROUNDING``. The variance in
      the norm of the summed messages has the floor ``ROUNDING^2`` for the published 1e-5, so
      that the last neighbour of an atom does not leave within a few hundredths of an Angstrom.

    The default is invariant under reflections as well as rotations: the second vector of the
    frame, an axial one, enters by its absolute value alone. The published formulas are
    invariant under neither.

    Attributes:
      num_features: ``F``; a multiple of 4.
      num_layers: number of layers.
      num_radial: ``R``, number of Bessel functions.
      num_heads: heads of the complex contraction; a divisor of ``contraction_size``.
      state_size: complex numbers in the state of an atom.
      phase_size: complex numbers ``k`` a message.
      contraction_size: complex numbers a message is contracted from.
      kernel_size: complex numbers it is contracted to.
      published: whether to use the published formulas.

    Defaults: 4 layers of 176 features, 8 Bessel functions and 24 heads within 5 Angstrom, as
    of the model AlphaNet-v1-OAM (Matbench Discovery). The sizes of its complex numbers are not
    stated there; those here meet its 4,653,577 parameters within 0.02 %, with 95 rows of each
    embedding, 108 of the readout, and the parameters that the published model never uses.

    Raises:
      ValueError: features or heads that do not divide.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("num_layers",)

    num_features: int = 176
    num_layers: int = 4
    num_radial: int = 8
    num_heads: int = 24
    state_size: int = 20
    phase_size: int = 20
    contraction_size: int = 120
    kernel_size: int = 16
    published: bool = False

    @property
    def smooth(self) -> bool:
        return not self.published

    @property
    def mirror_symmetric(self) -> bool:
        return not self.published

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies of the atoms of ``graph``."""
        width, dtype = self.num_features, graph.vectors.dtype
        frequencies = self.param("frequencies", _multiples_of_pi, (self.num_radial,), dtype)
        edges = EdgeInputs.of(graph, frequencies, self.cutoff, self.published)
        own = _normalized(self._embedding("embedding", dtype)[graph.species])
        other = _normalized(self._embedding("neighbor_embedding", dtype)[graph.species])
        filters = MLP((width, width), name="filters")(edges.radial) * edges.envelope[:, None]
        features = own + sum_to_receivers(filters * other[graph.senders], graph)
        weights = FrameWeights(self.published, name="frame_weights")(
            features, filters, edges, graph
        )
        vectors = jnp.zeros((graph.num_atoms, 3, width), dtype)
        state = jnp.split(dense(own, 2 * self.state_size, "state", use_bias=False), 2, axis=1)
        state = (state[0], state[1])
        phase: Array | None = None
        settings = MessageSettings(
            self.num_heads,
            self.phase_size,
            self.contraction_size,
            self.kernel_size,
            self.published,
        )
        for t in range(self.num_layers):
            message = RotaryMessage(settings, name=f"message_{t}")
            features, vectors, phase = message(features, vectors, phase, weights, edges, graph)
            state = TemporalConnection(self.published, name=f"temporal_{t}")(features, state)
            features, vectors = FrameTransition(self.published, name=f"transition_{t}")(
                features, vectors
            )
        energy = dense(features, 1, "readout")
        energy = energy + dense(jnp.concatenate(state, axis=1), 1, "state_readout") * (
            1 / self.state_size
        )
        scale = self.param("element_scale", nn.initializers.ones, (self.num_elements,), dtype)
        shift = self.param("element_shift", nn.initializers.zeros, (self.num_elements,), dtype)
        return AtomwiseOutput(energy=scale[graph.species] * energy[:, 0] + shift[graph.species])

    def _embedding(self, name: str, dtype: jnp.dtype) -> Float[Array, "elements features"]:
        shape = (self.num_elements, self.num_features)
        return self.param(name, nn.initializers.normal(1.0), shape, dtype)

    def _check(self) -> None:
        for what, number, divisor in (
            ("features", self.num_features, 4),
            ("contraction_size", self.contraction_size, self.num_heads),
            ("contraction_size", self.contraction_size, 2),
        ):
            if number % divisor:
                raise ValueError(f"got {number} for {what}; expected a multiple of {divisor}")
        if self.num_features < self.num_heads:
            raise ValueError(
                f"got {self.num_features} features for {self.num_heads} heads; expected at least "
                "one a head; lower num_heads"
            )


#: Edges of one block of the frame scalars, which have F^2 / 4 intermediate numbers an edge.
EDGES_PER_BLOCK = 64
EDGES_PER_BLOCK_ON_ACCELERATOR = 4096
#: Edges of one block of the messages: 192 atoms of water take a tenth longer than with all edges
#: kept, and a third of the memory; batches of few molecules are computed only once.
MESSAGES_PER_BLOCK = 4096
MESSAGES_PER_BLOCK_ON_ACCELERATOR = 16384

#: Radius within which norms and absolute values are rounded by default, in units of features.
ROUNDING = 0.1


def _multiples_of_pi(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    del key
    return jnp.asarray(np.pi * np.arange(1, shape[0] + 1), dtype)


def _normalized(x: Float[Array, "n features"], floor: float = 1e-5) -> Float[Array, "n features"]:
    """Layer norm without parameters (Ba et al. 2016)."""
    centered = x - x.mean(axis=1, keepdims=True)
    return centered / jnp.sqrt((centered * centered).mean(axis=1, keepdims=True) + floor)


def _layer_norm(
    module: nn.Module, name: str, x: Float[Array, "n features"], floor: float = 1e-5
) -> Float[Array, "n features"]:
    scale = module.param(f"{name}_scale", nn.initializers.ones, x.shape[1:], x.dtype)
    bias = module.param(f"{name}_bias", nn.initializers.zeros, x.shape[1:], x.dtype)
    return _normalized(x, floor) * scale + bias


@struct.dataclass
class EdgeInputs:
    """What all layers need of an edge.

    Attributes:
      radial: Bessel functions ``[edges, R]``.
      envelope: cutoff function ``[edges]``.
      directions: unit vectors from the centre to the neighbour ``[edges, 3]``.
      frames: the three vectors of the frame, ``[edges, 3]`` each. As in the published
        implementation the last two are not normalised, which keeps them smooth where the
        neighbour and the centroid are in line.
    """

    radial: EdgeFeatures
    envelope: EdgeScalars
    directions: EdgeVectors
    frames: tuple[EdgeVectors, EdgeVectors, EdgeVectors]

    @classmethod
    def of(
        cls,
        graph: EdgeGraph,
        frequencies: Float[Array, "R"],
        cutoff: float,
        published: bool,
    ) -> "EdgeInputs":
        distances, directions = length_and_direction(graph.vectors)
        envelope = cosine_cutoff(distances, cutoff)
        weight = jnp.ones_like(envelope) if published else envelope
        total = sum_to_receivers(weight, graph)
        count = jnp.maximum(total, 1) if published else total + 1
        # m_i - r_i, the centroid as the centre sees it.
        centroid = sum_to_receivers(weight[:, None] * graph.vectors, graph) / count[:, None]
        # (r_i - m_i) x (r_j - m_i) with r_j - m_i = r_ij - (m_i - r_i).
        second = jnp.cross(graph.vectors, centroid[graph.receivers])
        return cls(
            radial=bessel_basis(distances, frequencies, cutoff) * math.sqrt(2 / cutoff),
            envelope=envelope,
            directions=directions,
            frames=(directions, second, jnp.cross(directions, second)),
        )


class FrameWeights(nn.Module):
    """Invariant weights of an edge from its frame: ``[edges, 3F + R]``.

    ``S_i`` sums what the neighbours of ``i`` are and where; read in the frame of the edge, for
    both of its ends, it says where the edge stands in the two neighbourhoods.
    """

    published: bool

    @nn.compact
    def __call__(
        self, features: AtomFeatures, filters: EdgeFeatures, edges: EdgeInputs, graph: EdgeGraph
    ) -> Float[Array, "edges weights"]:
        width = features.shape[1]
        values = nn.silu(_normalized(dense(features, width, "values")))
        messages = filters * values[graph.senders]
        structure = sum_to_receivers(messages[:, None, :] * edges.directions[:, :, None], graph)
        ends = edge_module_loop(
            FrameScalars(self.published, name="frame_scalars"),
            graph,
            EdgeTerms(
                senders=structure, receivers=structure, edges=(edges.envelope, *edges.frames)
            ),
            block_size(cpu=EDGES_PER_BLOCK, accelerator=EDGES_PER_BLOCK_ON_ACCELERATOR),
        ).edges
        return jnp.concatenate([*ends, filters, edges.radial], axis=1)


class FrameScalars(nn.Module):
    """Scalarize (sec. 4.1): three numbers of each channel in the frame, mixed to one.

    Of both ends of a block of edges, for an edge loop.
    """

    published: bool

    @nn.compact
    def __call__(self, rows: EdgeTerms) -> EdgeTerms:
        """Scalars ``[rows, F]`` of the centre and of the neighbour, times the envelope."""
        envelope, *frames = rows.edges
        mixing = MLP((rows.senders.shape[2] // 4, 1), name="mix")
        return EdgeTerms(
            edges=tuple(
                self._scalars(mixing, vectors, frames) * envelope[:, None]
                for vectors in (rows.receivers, rows.senders)
            )
        )

    def _scalars(
        self, mixing: MLP, vectors: VectorFeatures, frames: Sequence[Array]
    ) -> Float[Array, "rows features"]:
        width = vectors.shape[2]
        first, second, third = (jnp.sum(axis[:, :, None] * vectors, axis=1) for axis in frames)
        if self.published:
            second = jnp.abs(second)
        else:
            second = jnp.sqrt(second * second + ROUNDING**2) - ROUNDING
        mixed = mixing(jnp.stack([first, second, third], axis=-1))
        return (mixed[..., 0] + first) * (1 / math.sqrt(width))


class RotaryMessage(nn.Module):
    """Messages of scalars, vectors and a phase that rotates the next layer's features.

    Attributes:
      message: sizes of what an edge says, :class:`EdgeMessage`.
    """

    message: "MessageSettings"

    @nn.compact
    def __call__(
        self,
        features: AtomFeatures,
        vectors: VectorFeatures,
        phase: Float[Array, "atoms half"] | None,
        weights: Float[Array, "edges weights"],
        edges: EdgeInputs,
        graph: EdgeGraph,
    ) -> tuple[AtomFeatures, VectorFeatures, Float[Array, "atoms half"]]:
        width, settings = features.shape[1], self.message
        sources = features if phase is None else _rotated(features, phase)
        sources = MLP((width, 3 * width), name="sources")(_layer_norm(self, "norm", sources))
        envelope = jnp.ones_like(edges.envelope) if settings.published else edges.envelope
        summed, vector = edge_module_loop(
            EdgeMessage(settings, name="edge"),
            graph,
            EdgeTerms(
                senders=(sources, vectors),
                edges=(weights, edges.radial, edges.directions, masked(envelope, graph.edge_mask)),
            ),
            block_size(cpu=MESSAGES_PER_BLOCK, accelerator=MESSAGES_PER_BLOCK_ON_ACCELERATOR),
        ).receivers
        floor = 1e-5 if settings.published else ROUNDING**2
        summed = _layer_norm(self, "message_norm", summed, floor)
        next_phase = dense(summed[:, : settings.phase_size], width // 2, "phase")
        vectors = vectors + vector * (1 / math.sqrt(width))
        return features + summed[:, settings.phase_size :], vectors, next_phase


@dataclass(frozen=True)
class MessageSettings:
    """Sizes of the messages; see :class:`AlphaNet`."""

    num_heads: int
    phase_size: int
    contraction_size: int
    kernel_size: int
    published: bool


class EdgeMessage(nn.Module):
    """Phases, scalars and vectors of the messages of a block of edges, for an edge loop."""

    settings: MessageSettings

    @nn.compact
    def __call__(self, rows: EdgeTerms) -> EdgeTerms:
        """Messages ``[rows, phases + F]`` and ``[rows, 3, F]`` for the receivers."""
        (sources, vectors), (weights, radial, directions, envelope) = rows.senders, rows.edges
        width = sources.shape[1]
        filters = dense(radial, width, "radial") * envelope[:, None]
        filters = filters * MLP((width, width), name="frame")(weights)
        scalar, gate, force = jnp.split(sources * filters, 3, axis=1)
        phases = self._phases(scalar, filters) * envelope[:, None]
        vector = (
            vectors * (gate * (1 / math.sqrt(3)))[:, None, :]
            + directions[:, :, None] * force[:, None, :]
        )
        return EdgeTerms(receivers=(jnp.concatenate([phases, scalar], axis=1), vector))

    def _phases(
        self, scalar: EdgeFeatures, filters: Float[Array, "edges filters"]
    ) -> Float[Array, "edges phases"]:
        """A phase of each of ``phase_size`` complex numbers ``k`` a message.

        With ``c`` the contracted message, ``k = P (Q (1 + g (x) d) + q)^T c + p`` and dense
        layers ``Q``, ``P``. The matrix in it has rank two, so ``k`` is made of two complex
        numbers: the sum of ``c`` and its sum weighted by ``g``.
        """
        dtype, size = scalar.dtype, self.settings.phase_size
        real, imag = self._contracted(scalar)
        gates = MLP((self.settings.contraction_size // 2, self.settings.kernel_size), name="gates")(
            filters
        )
        gates = nn.silu(gates)
        direction = self.param("direction", nn.initializers.normal(1.0), (size,), dtype)
        both = jnp.stack([jnp.ones_like(direction), direction])
        constant, slope = nn.Dense(size, param_dtype=dtype, use_bias=False, name="channels")(both)
        bias = self.param("channels_bias", nn.initializers.zeros, (size,), dtype)
        constant = constant + bias
        last = nn.Dense(size, param_dtype=dtype, name="numbers")
        parts = [
            last(
                part.sum(axis=1, keepdims=True) * constant
                + (part * gates).sum(axis=1, keepdims=True) * slope
            )
            for part in (real, imag)
        ]
        if self.settings.published:
            return jnp.arctan2(parts[1], parts[0])
        return parts[1] / jnp.sqrt(parts[0] ** 2 + parts[1] ** 2 + ROUNDING**2)

    def _contracted(self, scalar: EdgeFeatures) -> Complex:
        """Complex message of the heads, contracted with a complex kernel: ``kernel_size``."""
        heads, size = self.settings.num_heads, self.settings.contraction_size
        shape = (heads + 1, size // heads, self.settings.kernel_size)
        init = nn.initializers.normal(1.0)
        real = self.param("kernel_real", init, shape, scalar.dtype)
        imag = self.param("kernel_imag", init, shape, scalar.dtype)
        factor = 1 / math.sqrt(scalar.shape[1] // heads)
        # The first row of the kernel meets a one: a constant.
        ones_real, ones_imag = (kernel[0].sum(axis=0) for kernel in (real, imag))
        real, imag = (kernel[1:].reshape(size, -1) for kernel in (real, imag))
        x, y = jnp.split(dense(scalar, 2 * size, "complex"), 2, axis=1)
        return (
            (x @ real - y @ imag + ones_real) * factor,
            (x @ imag + y @ real + ones_imag) * factor,
        )


def _rotated(features: AtomFeatures, phase: Float[Array, "atoms half"]) -> AtomFeatures:
    """``(x + i y) exp(i phase)`` of the two halves ``x``, ``y`` of the features."""
    x, y = jnp.split(features, 2, axis=1)
    cos, sin = jnp.cos(phase), jnp.sin(phase)
    return jnp.concatenate([x * cos - y * sin, x * sin + y * cos], axis=1)


class TemporalConnection(nn.Module):
    """``psi_k = sum_al K_akl x_a psi_l`` and then unit modulus (sec. 4, temporal connection)."""

    published: bool

    @nn.compact
    def __call__(self, features: AtomFeatures, state: Complex) -> Complex:
        size = state[0].shape[1]
        shape = (features.shape[1], size, size)
        init = nn.initializers.normal(1 / math.sqrt(features.shape[1]))
        real = self.param("kernel_real", init, shape, features.dtype)
        imag = self.param("kernel_imag", init, shape, features.dtype)
        # Features first: [atoms, size, size] is small, and no array has three long axes.
        matrix_real = jnp.einsum("na,akl->nkl", features, real)
        matrix_imag = jnp.einsum("na,akl->nkl", features, imag)
        x = jnp.einsum("nkl,nl->nk", matrix_real, state[0]) - jnp.einsum(
            "nkl,nl->nk", matrix_imag, state[1]
        )
        y = jnp.einsum("nkl,nl->nk", matrix_real, state[1]) + jnp.einsum(
            "nkl,nl->nk", matrix_imag, state[0]
        )
        modulus = jnp.sqrt(x * x + y * y + (0 if self.published else ROUNDING**2))
        return x / modulus, y / modulus


class FrameTransition(nn.Module):
    """Mixes the scalars and vectors of each atom."""

    published: bool

    @nn.compact
    def __call__(
        self, features: AtomFeatures, vectors: VectorFeatures
    ) -> tuple[AtomFeatures, VectorFeatures]:
        width = features.shape[1]
        projected = dense(vectors, 2 * width, "vectors", use_bias=False)
        first, second = jnp.split(projected, 2, axis=-1)
        if self.published:
            norms = jnp.sum(jnp.abs(first), axis=1)
        else:
            norms = smooth_norm(first, 1, ROUNDING)
        mixed = MLP((width, 3 * width), name="scalars")(jnp.concatenate([features, norms], axis=1))
        one, two, gate = jnp.split(mixed, 3, axis=1)
        overlap = jnp.sum(first * second, axis=1) * (1 / math.sqrt(width))
        features = features + (one + two + overlap) * (1 / math.sqrt(2))
        return features, vectors + gate[:, None, :] * second
