"""MACE: higher-order equivariant message passing.

I. Batatia, D. P. Kovacs, G. N. C. Simm, C. Ortner, G. Csanyi, NeurIPS 35 (2022),
arXiv:2206.07697.
"""

import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.cutoffs import polynomial_cutoff
from mlffjax.nn.distance_transform import agnesi_transform, sum_of_covalent_radii
from mlffjax.nn.equivariant_convolution import radial_convolution
from mlffjax.nn.equivariant_linear import (
    ElementLinear,
    IrrepLinear,
    NormalDense,
    normalized_silu,
)
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.pair_repulsion import screened_repulsion
from mlffjax.nn.radial import bessel_basis
from mlffjax.nn.scatter import masked, sum_to_receivers
from mlffjax.nn.spherical_harmonics import spherical_harmonics
from mlffjax.nn.symmetric_contraction import SymmetricContraction
from mlffjax.nn.tensor_product import Features, Irrep, natural_irreps
from mlffjax.types import EdgeScalars


class MACE(Architecture):
    """Message passing with polynomials of the neighbour density as messages.

    =====================  ==================================================================
    paper                  here
    =====================  ==================================================================
    ``k``                  channels, ``num_channels``
    ``h_{i, k l m}``       ``features``, degrees 0 to ``hidden_degree`` (``L``)
    ``R_{k l1 l2 l3}``     ``RadialNetwork`` of the radial basis (eq. 8)
    ``Y_{l m}``            ``harmonics``, degrees 0 to ``max_degree`` (``l_max``), norm
                           ``sqrt(2l + 1)``
    ``A_{i, k l m}``       ``atomic`` (eq. 8; the first layer's eq. 9 with ``skip``)
    ``B``, ``W``, ``m``    :class:`~mlffjax.nn.symmetric_contraction.SymmetricContraction`
                           (eqs. 10, 11), ``nu`` = ``correlation``
    ``U_{k t}`` (eq. 12)   ``product_linear`` and ``skip``
    ``R_t`` (eq. 13)       ``readout_t``: linear, in the last layer with one hidden layer
    =====================  ==================================================================

    The defaults are the paper's for ``L`` = 1 but for 128 instead of 256 channels. Couplings
    that differ only in the order of their factors share one weight (``SymmetricContraction``): the
    same functions as mace-torch's with 811,664 instead of 848,528 parameters for four elements,
    899,088 instead of 945,168 for five (``experiments/mace/README.md``).
    With ``residual_first``, ``scale`` and ``shift`` of the potential, ``distance_transform`` and
    ``pair_repulsion`` it is the model of the later foundation models (MACE-MP, MACE-OFF).
    Neighbour sums are divided by ``avg_num_neighbors``.

    Attributes:
      num_channels: channels ``k`` of every feature.
      max_degree: highest degree of the harmonics and of the ``A`` features.
      hidden_degree: highest degree of the features that layers pass on.
      correlation: factors of a message; ``correlation + 1`` is the body order.
      num_layers: layers ``t``.
      num_bessel: Bessel functions of the radial basis.
      envelope_power: exponent ``p`` of the polynomial envelope.
      radial_widths: hidden layers of the radial networks.
      readout_width: hidden layer of the last readout.
      residual_first: whether the first layer keeps the element embedding beside its message,
        as later layers do, instead of eq. 9; an atom alone then has an energy of its own.
      distance_transform: ``agnesi`` makes the radial basis a function of the distance relative
        to the covalent radii.
      pair_repulsion: adds a screened repulsion of nuclei (ZBL), in units of the scale.
      density_normalization: divides neighbour sums by ``1 + sum_j tanh((w . b(r_ij))^2)`` with the
        radial basis ``b`` and trained ``w`` in each layer, as in MACE-MPA-0, instead of by
        ``avg_num_neighbors``.

    >>> MACE(num_channels=32, hidden_degree=0).correlation
    3
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("max_degree", "hidden_degree")

    num_channels: int = 128
    max_degree: int = 3
    hidden_degree: int = 1
    correlation: int = 3
    num_layers: int = 2
    num_bessel: int = 8
    envelope_power: int = 5
    radial_widths: tuple[int, ...] = (64, 64, 64)
    readout_width: int = 16
    residual_first: bool = False
    distance_transform: str | None = None
    pair_repulsion: bool = False
    density_normalization: bool = False

    def _check(self) -> None:
        if not 1 <= self.correlation <= 4:
            raise ValueError(
                f"got correlation {self.correlation}; expected 1 to 4; choose 3 as in the paper"
            )
        if self.hidden_degree > self.max_degree:
            raise ValueError(
                f"got hidden_degree {self.hidden_degree} above max_degree {self.max_degree}; "
                "expected at most that; raise max_degree"
            )
        if self.distance_transform not in (None, "agnesi"):
            raise ValueError(
                f"got distance_transform {self.distance_transform!r}; expected 'agnesi' or null"
            )

    @property
    def isolated_atom_is_zero(self) -> bool:
        """Messages alone make the energy, unless the first layer keeps the embedding."""
        return not self.residual_first

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energy of each atom ``[atoms]`` in units of the potential's scale."""
        dtype = graph.vectors.dtype
        distances, directions = length_and_direction(graph.vectors)
        harmonics = math.sqrt(4 * math.pi) * spherical_harmonics(directions, self.max_degree)
        basis = self._radial_basis(distances, graph)
        embedding = self.param(
            "embedding", nn.initializers.normal(1.0), (self.num_elements, self.num_channels), dtype
        )
        features: Features = (embedding[graph.species][:, None, :],)
        energy = jnp.zeros(graph.species.shape, dtype)
        if self.pair_repulsion:
            energy = energy + screened_repulsion(distances, graph, power=self.envelope_power)
        for t in range(self.num_layers):
            last = t + 1 == self.num_layers
            layer = Layer(
                sources=natural_irreps(0 if t == 0 else self.hidden_degree),
                outputs=natural_irreps(0 if last else self.hidden_degree),
                max_degree=self.max_degree,
                correlation=self.correlation,
                radial_widths=self.radial_widths,
                num_elements=self.num_elements,
                avg_num_neighbors=self.avg_num_neighbors,
                residual=t > 0 or self.residual_first,
                density_normalization=self.density_normalization,
                name=f"layer_{t}",
            )
            features = layer(features, basis, harmonics, graph)
            scalars = features[0][:, 0]
            if last:
                hidden = NormalDense(self.readout_width, name=f"readout_{t}_hidden")(scalars)
                scalars = normalized_silu(hidden)
            energy = energy + NormalDense(1, name=f"readout_{t}")(scalars)[:, 0]
        return AtomwiseOutput(energy=energy)

    def _radial_basis(
        self, distances: EdgeScalars, graph: EdgeGraph
    ) -> Float[Array, "edges num_bessel"]:
        """Bessel functions of the (transformed) distance times the envelope of the distance."""
        frequencies = jnp.asarray(np.pi * np.arange(1, self.num_bessel + 1), distances.dtype)
        envelope = polynomial_cutoff(distances, self.cutoff, self.envelope_power)
        if self.distance_transform == "agnesi":
            lengths = sum_of_covalent_radii(
                graph.numbers, graph.senders, graph.receivers, distances.dtype
            )
            distances = agnesi_transform(distances, lengths)
        return bessel_basis(distances, frequencies, self.cutoff) * envelope[:, None]


class Layer(nn.Module):
    """One layer: features of the neighbours to features of the atoms (eqs. 8 to 12).

    Attributes:
      sources: irreps of the incoming features.
      outputs: irreps of the outgoing features.
      max_degree: highest degree of harmonics and ``A`` features.
      correlation: factors of a message.
      radial_widths: hidden layers of the radial network.
      num_elements: number of elements.
      avg_num_neighbors: divides the sum over neighbours.
      residual: whether the incoming features are added to the message (eq. 12); otherwise
        the ``A`` features are mixed by the element of the centre (eq. 9).
      density_normalization: whether a learned density divides the sum instead.
    """

    sources: tuple[Irrep, ...]
    outputs: tuple[Irrep, ...]
    max_degree: int
    correlation: int
    radial_widths: tuple[int, ...]
    num_elements: int
    avg_num_neighbors: float
    residual: bool
    density_normalization: bool

    @nn.compact
    def __call__(
        self,
        features: Features,
        basis: Float[Array, "edges K"],
        harmonics: Float[Array, "edges orders"],
        graph: EdgeGraph,
    ) -> Features:
        """``[atoms, 2l + 1, channels]`` for each of ``outputs``.

        Args:
          features: ``[atoms, 2l + 1, channels]`` for each of ``sources``.
          basis: radial basis times envelope.
          harmonics: spherical harmonics of the edges, degrees 0 to ``max_degree``.
          graph: the edges.
        """
        channels = features[0].shape[-1]
        targets = natural_irreps(self.max_degree)
        sums = radial_convolution(
            features,
            self.sources,
            targets,
            self.max_degree,
            self.radial_widths,
            basis,
            harmonics,
            graph,
        )
        neighbors = self._number_of_neighbors(basis, graph)
        atomic = IrrepLinear(targets, channels, name="linear")(tuple(x / neighbors for x in sums))
        if not self.residual:
            mix = ElementLinear(targets, channels, self.num_elements, name="skip")
            atomic = mix(atomic, graph.species)
        message = SymmetricContraction(
            max_degree=self.max_degree,
            degrees=tuple(irrep.degree for irrep in self.outputs),
            correlation=self.correlation,
            num_elements=self.num_elements,
            name="product",
        )(jnp.concatenate(atomic, axis=1), graph.species)
        message = IrrepLinear(self.outputs, channels, name="product_linear")(message)
        if not self.residual:
            return message
        shared = min(len(self.sources), len(self.outputs))
        skip = ElementLinear(self.outputs[:shared], channels, self.num_elements, name="skip")
        kept = skip(features[:shared], graph.species)
        added = tuple(x + y for x, y in zip(message[:shared], kept, strict=True))
        return added + message[shared:]

    def _number_of_neighbors(
        self, basis: Float[Array, "edges K"], graph: EdgeGraph
    ) -> float | Float[Array, "atoms 1 1"]:
        """What the sum over neighbours is divided by."""
        if not self.density_normalization:
            return self.avg_num_neighbors
        density = NormalDense(1, name="density")(masked(basis, graph.edge_mask))[:, 0]
        return 1 + sum_to_receivers(jnp.tanh(density**2), graph)[:, None, None]
