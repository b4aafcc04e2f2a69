"""NequIP: E(3)-equivariant convolutions with gated nonlinearities.

S. Batzner, A. Musaelian, L. Sun, M. Geiger, J. P. Mailoa, M. Kornbluth, N. Molinari,
T. E. Smidt, B. Kozinsky, Nature Communications 13, 2453 (2022).
"""

import math
from itertools import pairwise
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.models.base import Architecture, AtomwiseOutput
from mlffjax.nn.cutoffs import polynomial_cutoff
from mlffjax.nn.equivariant_convolution import radial_convolution
from mlffjax.nn.equivariant_linear import (
    ElementLinear,
    IrrepLinear,
    NormalDense,
    normalized_silu,
    normalized_tanh,
)
from mlffjax.nn.geometry import length_and_direction
from mlffjax.nn.radial import bessel_basis
from mlffjax.nn.spherical_harmonics import spherical_harmonics
from mlffjax.nn.tensor_product import Features, Irrep, coupling_paths

SCALAR = Irrep(0, 1)


class NequIP(Architecture):
    """Equivariant message passing on features of even and odd parity.

    ========================  ===============================================================
    paper                     here
    ========================  ===============================================================
    ``V_{a, c, m}^{(l, p)}``  ``features``: for each ``(l, p)`` ``[atoms, 2l + 1, channels]``
    ``S^{(l)}_m`` (eq. 5)     ``convolution``: ``R(r_ij) Y(r_ij)`` coupled to ``V_j``, summed
    ``R(r_ij)`` (eq. 6)       ``RadialNetwork`` of the basis ``B(r_ij)``: Bessel functions
                              times the envelope ``f_cut`` with ``p`` = ``envelope_power``
    self-interaction          ``up`` and ``linear``
    self-connection           ``self_scalars`` and ``self_rest``, a kernel for each element
    gate                      ``_gate``: SiLU of even, tanh of odd scalars; other features
                              times SiLU of one even scalar each
    ``sigma, mu`` (eq. 4)     ``element_scale`` and ``element_shift``, trained
    ========================  ===============================================================

    The defaults are the paper's for small molecules (64 channels of both parities, 8 Bessel
    functions, ``p`` = 6, two hidden layers of 64) with 4 of its 4 to 6 layers and ``l`` = 2. The
    cutoff of 5 Angstrom is this package's default for all architectures; the paper chooses one for
    each data set.
    Deviations: the Bessel frequencies are fixed; layers make only features that reach the energy
    (the last one even scalars, the one before it none of parity ``-(-1)^l``); sums over
    neighbours are divided by the square root of ``avg_num_neighbors``.

    Attributes:
      num_channels: channels of each ``(l, p)``.
      max_degree: highest degree of features and harmonics.
      num_layers: interaction blocks.
      both_parities: whether features have even and odd parity for every degree, or only the
        parity ``(-1)^l`` of harmonics, which is faster.
      num_bessel: Bessel functions of the radial basis.
      envelope_power: exponent ``p`` of the polynomial envelope.
      radial_widths: hidden layers of the radial networks.
      readout_width: width of the linear layer before the energy.

    >>> NequIP(num_layers=3, both_parities=False).max_degree
    2
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("max_degree",)

    num_channels: int = 64
    max_degree: int = 2
    num_layers: int = 4
    both_parities: bool = True
    num_bessel: int = 8
    envelope_power: int = 6
    radial_widths: tuple[int, ...] = (64, 64)
    readout_width: int = 32

    @nn.compact
    def __call__(self, graph: EdgeGraph) -> AtomwiseOutput:
        """Energy of each atom ``[atoms]`` in units of the potential's scale."""
        dtype = graph.vectors.dtype
        distances, directions = length_and_direction(graph.vectors)
        harmonics = math.sqrt(4 * math.pi) * spherical_harmonics(directions, self.max_degree)
        frequencies = jnp.asarray(np.pi * np.arange(1, self.num_bessel + 1), dtype)
        envelope = polynomial_cutoff(distances, self.cutoff, self.envelope_power)
        basis = bessel_basis(distances, frequencies, self.cutoff) * envelope[:, None]
        normal, ones, zeros = (
            nn.initializers.normal(1.0),
            nn.initializers.ones,
            nn.initializers.zeros,
        )
        elements = self.num_elements
        embedding = self.param("embedding", normal, (elements, self.num_channels), dtype)
        features: Features = (embedding[graph.species][:, None, :],)
        stages = layer_irreps(self._hidden_irreps(), self.max_degree, self.num_layers)
        for t, (sources, outputs) in enumerate(pairwise(stages)):
            block = InteractionBlock(
                sources=sources,
                outputs=outputs,
                max_degree=self.max_degree,
                radial_widths=self.radial_widths,
                num_elements=elements,
                avg_num_neighbors=self.avg_num_neighbors,
                name=f"layer_{t}",
            )
            features = block(features, basis, harmonics, graph)
        hidden = NormalDense(self.readout_width, name="readout_hidden")(features[0][:, 0])
        energy = NormalDense(1, name="readout")(hidden)[:, 0]
        scale = self.param("element_scale", ones, (elements,), dtype)
        shift = self.param("element_shift", zeros, (elements,), dtype)
        return AtomwiseOutput(energy=scale[graph.species] * energy + shift[graph.species])

    def _hidden_irreps(self) -> tuple[Irrep, ...]:
        parities = (1, -1) if self.both_parities else (1,)
        return tuple(
            Irrep(degree, parity * (-1) ** degree)
            for degree in range(self.max_degree + 1)
            for parity in parities
        )


def layer_irreps(
    hidden: tuple[Irrep, ...], max_degree: int, num_layers: int
) -> tuple[tuple[Irrep, ...], ...]:
    """Irreps before the first and after each layer: reachable from the start, of use to the end.

    Args:
      hidden: irreps that features may have.
      max_degree: highest degree of the harmonics.
      num_layers: number of layers; scalars come in, even scalars go out.
    """
    stages: list[tuple[Irrep, ...]] = [(SCALAR,)]
    for _ in range(num_layers):
        targets = {path.target for path in coupling_paths(stages[-1], max_degree, hidden)}
        stages.append(tuple(irrep for k, irrep in enumerate(hidden) if k in targets))
    stages[-1] = (SCALAR,)
    for t in reversed(range(1, num_layers)):
        sources = {path.source for path in coupling_paths(stages[t], max_degree, stages[t + 1])}
        stages[t] = tuple(irrep for k, irrep in enumerate(stages[t]) if k in sources)
    return tuple(stages)


class InteractionBlock(nn.Module):
    """Convolution, self-interaction, self-connection and gate.

    Attributes:
      sources: irreps of the incoming features.
      outputs: irreps of the outgoing features, even scalars first.
      max_degree: highest degree of the harmonics.
      radial_widths: hidden layers of the radial network.
      num_elements: number of elements.
      avg_num_neighbors: its square root divides the sum over neighbours.
    """

    sources: tuple[Irrep, ...]
    outputs: tuple[Irrep, ...]
    max_degree: int
    radial_widths: tuple[int, ...]
    num_elements: int
    avg_num_neighbors: float

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
        sums = radial_convolution(
            features,
            self.sources,
            self.outputs,
            self.max_degree,
            self.radial_widths,
            basis,
            harmonics,
            graph,
        )
        sums = tuple(x / math.sqrt(self.avg_num_neighbors) for x in sums)
        # The even scalars bring a gate for each feature that is not a scalar.
        gated = sum(irrep.degree > 0 for irrep in self.outputs)
        scalars = NormalDense((1 + gated) * channels, name="linear_scalars")(sums[0])
        rest = IrrepLinear(self.outputs[1:], channels, name="linear_rest")(sums[1:])
        mix = ElementLinear(
            (SCALAR,), (1 + gated) * channels, self.num_elements, name="self_scalars"
        )
        (own,) = mix(features[:1], graph.species)
        kept = tuple(irrep for irrep in self.outputs[1:] if irrep in self.sources)
        mix = ElementLinear(kept, channels, self.num_elements, name="self_rest")
        carried = mix(tuple(features[self.sources.index(i)] for i in kept), graph.species)
        added = dict(zip(kept, carried, strict=True))
        rest = tuple(
            x + added[irrep] if irrep in added else x
            for irrep, x in zip(self.outputs[1:], rest, strict=True)
        )
        return self._gate(scalars + own, rest)

    def _gate(self, scalars: Float[Array, "atoms 1 _"], rest: Features) -> Features:
        gated = sum(irrep.degree > 0 for irrep in self.outputs)
        even, *gates = jnp.split(normalized_silu(scalars), 1 + gated, axis=-1)
        result = [even]
        for irrep, x in zip(self.outputs[1:], rest, strict=True):
            result.append(normalized_tanh(x) if irrep.degree == 0 else gates.pop(0) * x)
        return tuple(result)
