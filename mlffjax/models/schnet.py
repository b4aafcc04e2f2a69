"""SchNet: continuous-filter convolutions over interatomic distances.

K. T. Schuett, H. E. Sauceda, P.-J. Kindermans, A. Tkatchenko, K.-R. Mueller, J. Chem. Phys.
148, 241722 (2018), and Schuett et al., NeurIPS 30 (2017).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import EXPANSION, Architecture, AtomwiseOutput
from mlffjax.nn import radial_spline
from mlffjax.nn.activations import shifted_softplus
from mlffjax.nn.blocks import block_size
from mlffjax.nn.cutoffs import cosine_cutoff
from mlffjax.nn.edge_loop import EdgeTerms, edge_loop
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.mlp import DenseParameters
from mlffjax.nn.radial import gaussian_basis
from mlffjax.nn.scatter import masked
from mlffjax.types import AtomFeatures, EdgeFeatures, EdgeScalars, Params

#: Pairs of one block.
EDGES_PER_BLOCK = 2048
EDGES_PER_BLOCK_ON_ACCELERATOR = 65536


class SchNet(Architecture):
    """Invariant message passing with filters generated from distances.

    ===================  =================================================================
    paper                here
    ===================  =================================================================
    ``x_i^l``            ``features`` ``[atoms, F]``, with ``F`` = ``num_features``
    ``T``                ``num_layers`` interaction blocks
    ``e_k(r)``           ``basis`` ``[edges, K]``, Gaussians; ``K`` = ``num_basis``
    ``W^l(r_j - r_i)``   ``Filter`` ``[edges, F]``, two dense layers, each with ``ssp``
    ``x^l * W^l``        ``_filtered``, summed by :func:`~mlffjax.nn.edge_loop.edge_loop`
    ``ssp``              ``shifted_softplus``
    ===================  =================================================================

    Deviations of the defaults from the paper: the filters are multiplied by a cosine cutoff
    at 5 Angstrom, which makes energy and forces continuous (the paper has Gaussians up to
    30 Angstrom and no cutoff function); the Gaussians are 50 in number, as wide as their
    spacing, from zero to the cutoff. The paper has 64 features for single molecules (MD17),
    and 128 here is its larger setting. Embeddings start with the variance ``1 / F`` (flax's
    default), not one.

    Attributes:
      num_features: channels ``F`` of an atom and of a filter.
      num_layers: interaction blocks.
      num_basis: Gaussians ``K`` of the radial basis.

    >>> SchNet(num_features=64).num_layers
    6
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("num_layers",)

    num_features: int = 128
    num_layers: int = 6
    num_basis: int = 50

    def _check(self) -> None:
        if self.num_basis < 2:
            raise ValueError(f"got num_basis {self.num_basis}; expected at least 2 Gaussians")

    @property
    def pairwise(self) -> bool:
        return True

    def compressed(self, params: Params, tolerance: float) -> Params:
        """Filters as mixtures of few splines, see :class:`CompressedFilter`."""
        names = [f"interaction_{layer}" for layer in range(self.num_layers)]

        def functions(distances: Float[Array, "n"]) -> Float[Array, "n filters"]:
            basis = gaussian_basis(distances, self.num_basis, self.cutoff)
            filters = [_filter(params["params"][name], basis.dtype) for name in names]
            return jnp.concatenate([one(basis) for one in filters], axis=1)

        spline, mixing = radial_spline.compress(functions, self.cutoff, tolerance)
        mixtures = np.split(mixing, self.num_layers, axis=1)
        kernels = {name: {"kernel": m} for name, m in zip(names, mixtures, strict=True)}
        return {"basis": spline, **kernels}

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energy of each atom ``[atoms]`` in units of the potential's scale."""
        dtype = graph.vectors.dtype
        distances, _ = length_and_direction(graph.vectors)
        if self.has_variable(EXPANSION, "basis"):
            spline = self.get_variable(EXPANSION, "basis")
            basis = radial_spline.evaluate(spline, distances, self.cutoff)
        else:
            basis = gaussian_basis(distances, self.num_basis, self.cutoff)
        envelope = cosine_cutoff(distances, self.cutoff)
        features = nn.Embed(
            self.num_elements, self.num_features, param_dtype=dtype, name="embedding"
        )(graph.species)
        for layer in range(self.num_layers):
            block = Interaction(self.num_features, name=f"interaction_{layer}")
            features = features + block(features, basis, envelope, graph)
        hidden = shifted_softplus(
            nn.Dense(max(self.num_features // 2, 1), param_dtype=dtype, name="readout_hidden")(
                features
            )
        )
        energy = nn.Dense(1, param_dtype=dtype, name="readout_energy")(hidden)
        return AtomwiseOutput(energy=energy[:, 0])


class Filter(NamedTuple):
    """Filters ``W^l`` from the radial basis, each layer a kernel and a bias."""

    first: tuple[Float[Array, "K F"], Float[Array, "F"]]
    second: tuple[Float[Array, "F F"], Float[Array, "F"]]

    def __call__(self, basis: Float[Array, "edges K"]) -> EdgeFeatures:
        """``[edges, F]``."""
        hidden = shifted_softplus(basis @ self.first[0] + self.first[1])
        return shifted_softplus(hidden @ self.second[0] + self.second[1])


class CompressedFilter(NamedTuple):
    """Filters as mixtures of the splines of a compressed potential ``[splines, F]``."""

    kernel: Float[Array, "splines F"]

    def __call__(self, basis: Float[Array, "edges splines"]) -> EdgeFeatures:
        """``[edges, F]``."""
        return basis @ self.kernel


def _filter(block: Mapping[str, Any], dtype: Any) -> Filter:
    """From the parameters of a block."""

    def layer(name: str) -> tuple[Array, Array]:
        return jnp.asarray(block[name]["kernel"], dtype), jnp.asarray(block[name]["bias"], dtype)

    return Filter(layer("filter_0"), layer("filter_1"))


class Interaction(nn.Module):
    """Interaction block: atom-wise layer, continuous-filter convolution, two atom-wise layers.

    Attributes:
      num_features: channels ``F``.
    """

    num_features: int

    @nn.compact
    def __call__(
        self,
        features: AtomFeatures,
        basis: Float[Array, "edges K"],
        envelope: EdgeScalars,
        graph: EdgeGraph,
    ) -> AtomFeatures:
        """The residual ``v_i`` ``[atoms, F]``.

        Args:
          features: ``x_i`` ``[atoms, F]``.
          basis: radial basis ``[edges, K]``.
          envelope: cutoff function ``[edges]``.
          graph: the edges.
        """

        def dense(name: str, use_bias: bool = True) -> nn.Dense:
            return nn.Dense(
                self.num_features, use_bias=use_bias, param_dtype=features.dtype, name=name
            )

        width, dtype = self.num_features, features.dtype
        if self.has_variable(EXPANSION, "kernel"):
            filters = CompressedFilter(self.get_variable(EXPANSION, "kernel"))
        else:
            first = DenseParameters(width, name="filter_0")(basis.shape[1], dtype)
            filters = Filter(first, DenseParameters(width, name="filter_1")(width, dtype))
        inputs = dense("in", use_bias=False)(features)
        convolved = edge_loop(
            _filtered,
            graph,
            EdgeTerms(
                ends=inputs,
                edges=(basis, masked(envelope, graph.edge_mask)),
                shared=filters,
            ),
            block_size(cpu=EDGES_PER_BLOCK, accelerator=EDGES_PER_BLOCK_ON_ACCELERATOR),
        ).ends
        return dense("out_1")(shifted_softplus(dense("out_0")(convolved)))


def _filtered(terms: EdgeTerms) -> EdgeTerms:
    """Features of the neighbours times the filters of a block of pairs, in both directions."""
    basis, envelope = terms.edges
    filters = terms.shared(basis) * envelope[:, None]
    sender, receiver = terms.ends
    return EdgeTerms(ends=(receiver * filters, sender * filters))
