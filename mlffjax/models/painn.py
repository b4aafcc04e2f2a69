"""PaiNN: the polarizable atom interaction network.

K. T. Schuett, O. T. Unke, M. Gastegger, "Equivariant message passing for the prediction of
tensorial properties and molecular spectra", ICML 2021 (arXiv 2102.03150).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.cutoffs import cosine_cutoff
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.mlp import MLP, dense
from mlffjax.nn.norms import smooth_norm
from mlffjax.nn.radial import bessel_basis
from mlffjax.nn.vector_messages import FilterKernel, scalar_vector_messages
from mlffjax.types import AtomFeatures, EdgeVectors

#: ``[n, 3, features]``: one vector a channel.
VectorFeatures = Float[Array, "n 3 features"]


class PaiNN(Architecture):
    """Message passing of scalars and vectors with filters generated from distances.

    ==================== ======================================================= ===============
    paper                here                                                    shape
    ==================== ======================================================= ===============
    ``s_i``              ``scalars``                                             ``[atoms, F]``
    ``v_i``              ``vectors``                                             ``[atoms, 3, F]``
    ``phi``              ``sources``, atom-wise network                          ``[atoms, 3F]``
    ``W``                ``filters`` of ``sin(n pi r / r_cut) / r``, with cutoff ``[edges, 3F]``
    ``U v``, ``V v``     halves of ``vectors`` in ``Update``                     ``[atoms, 3, F]``
    ``a_ss, a_sv, a_vv`` thirds of ``mixed`` in ``Update``                       ``[atoms, F]``
    ==================== ======================================================= ===============

    Deviations of the default settings from the paper: ``norm_rounding=0.1`` makes ``||V v||``
    smooth where vectors vanish, as they do in a perfect crystal (1e-4 is close to the paper).
    Embeddings start with the variance ``1 / F`` (flax's default), not one.
    In the first layer the parameters that multiply the vectors, which are still zero, are left
    out. Otherwise as published, and smooth at the cutoff as published.

    Attributes:
      num_features: ``F``; even.
      num_layers: message and update blocks.
      num_radial: number of radial functions.
      force_head: whether forces come from two gated equivariant blocks on the vectors instead
        of the energy gradient: ``PaiNN_Direct`` of the LEIGNN paper.
      norm_rounding: radius of the rounding of norms at zero, in units of the vectors.

    Defaults: 128 features, 3 layers, 20 radial functions and 5 Angstrom, as published.

    Raises:
      ValueError: an odd number of features, or no layer.

    >>> PaiNN(num_features=64).num_layers
    3
    """

    num_features: int = 128
    num_layers: int = 3
    num_radial: int = 20
    force_head: bool = False
    norm_rounding: float = 0.1

    def _check(self) -> None:
        if self.num_features % 2:
            raise ValueError(f"got {self.num_features} features; expected an even number")
        if not self.norm_rounding > 0:
            raise ValueError(f"got norm_rounding {self.norm_rounding}; expected a positive number")

    @property
    def direct_forces(self) -> bool:
        return self.force_head

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energies, and with ``force_head`` forces, of the atoms of ``graph``."""
        width, dtype = self.num_features, graph.vectors.dtype
        distances, directions = length_and_direction(graph.vectors)
        envelope = cosine_cutoff(distances, self.cutoff)
        frequencies = jnp.asarray(np.pi * np.arange(1, self.num_radial + 1), dtype)
        # The paper has no prefactor.
        radial = bessel_basis(distances, frequencies, self.cutoff) * math.sqrt(self.cutoff / 2)
        constant = jnp.ones((len(radial), 1), dtype)
        basis = jnp.concatenate([radial, constant], axis=1) * envelope[:, None]
        embedding = nn.Embed(self.num_elements, width, param_dtype=dtype, name="embedding")
        scalars: AtomFeatures = embedding(graph.species)
        vectors: VectorFeatures | None = None  # zero
        for t in range(self.num_layers):
            message = Message(name=f"message_{t}")
            scalars, vectors = message(scalars, vectors, basis, directions, graph)
            scalars, vectors = Update(self.norm_rounding, name=f"update_{t}")(scalars, vectors)
        energy = MLP((width // 2, 1), name="readout")(scalars)[:, 0]
        forces = None
        if self.force_head and vectors is not None:
            for k, size in enumerate((width // 2, 1)):
                block = GatedBlock(size, self.norm_rounding, name=f"force_readout_{k}")
                scalars, vectors = block(scalars, vectors)
            forces = vectors[..., 0]
        return AtomwiseOutput(energy=energy, forces=forces)


class Message(nn.Module):
    """Message block (eqs. 7 and 8)."""

    @nn.compact
    def __call__(
        self,
        scalars: AtomFeatures,
        vectors: VectorFeatures | None,
        basis: Float[Array, "edges K"],
        directions: EdgeVectors,
        graph: EdgeGraph,
    ) -> tuple[AtomFeatures, VectorFeatures]:
        width = scalars.shape[1]
        total = (2 if vectors is None else 3) * width
        sources = MLP((width, total), name="sources")(scalars)
        kernel = FilterKernel(total, name="filters")(basis)
        ds, dv = scalar_vector_messages(sources, basis, kernel, vectors, directions, graph)
        return scalars + ds, dv if vectors is None else vectors + dv


class Update(nn.Module):
    """Update block: ``ds = a_ss + a_sv <U v, V v>`` and ``dv = a_vv U v`` (eqs. 9 and 10)."""

    norm_rounding: float

    @nn.compact
    def __call__(
        self, scalars: AtomFeatures, vectors: VectorFeatures
    ) -> tuple[AtomFeatures, VectorFeatures]:
        width = scalars.shape[1]
        u, v = jnp.split(dense(vectors, 2 * width, "vectors", use_bias=False), 2, axis=-1)
        norms = smooth_norm(v, 1, self.norm_rounding)
        mixed = MLP((width, 3 * width), name="scalars")(jnp.concatenate([scalars, norms], axis=1))
        a_ss, a_sv, a_vv = jnp.split(mixed, 3, axis=1)
        ds = a_ss + a_sv * jnp.sum(u * v, axis=1)
        return scalars + ds, vectors + a_vv[:, None, :] * u


class GatedBlock(nn.Module):
    """Gated equivariant block (sec. 4.2 and fig. 3 of the paper): ``F`` to ``size`` channels."""

    size: int
    norm_rounding: float

    @nn.compact
    def __call__(
        self, scalars: AtomFeatures, vectors: VectorFeatures
    ) -> tuple[Float[Array, "atoms size"], Float[Array, "atoms 3 size"]]:
        width, size = scalars.shape[1], self.size
        norms = smooth_norm(dense(vectors, width, "norms", use_bias=False), 1, self.norm_rounding)
        mixed = MLP((width, 2 * size), name="scalars")(jnp.concatenate([scalars, norms], axis=1))
        values = dense(vectors, size, "vectors", use_bias=False)
        return jax.nn.silu(mixed[:, :size]), mixed[:, None, size:] * values
