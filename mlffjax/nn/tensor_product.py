"""Equivariant convolution: neighbours' features times spherical harmonics, summed at the centre.

Features of one kind are an array ``[atoms, 2l + 1, channels]`` with its :class:`Irrep`; features of
an atom are a tuple of such arrays beside a tuple of irreps. Channels are the last axis, because
every operation here is the same for all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.nn.blocks import block_size
from mlffjax.nn.clebsch_gordan import clebsch_gordan
from mlffjax.nn.edge_loop import EdgeTerms, edge_loop
from mlffjax.nn.groups import spread
from mlffjax.nn.scatter import masked

#: Edges of one block: the fastest of 64 to 1024 for 128 channels on two x86-64 cores.
EDGES_PER_BLOCK = 256
EDGES_PER_BLOCK_ON_ACCELERATOR = 65536

Features: TypeAlias = tuple[Float[Array, "atoms _ _"], ...]


class Irrep(NamedTuple):
    """An irreducible representation of O(3).

    Attributes:
      degree: ``l``; ``2l + 1`` components ``m = -l, ..., l``.
      parity: 1 or -1, the sign under inversion.
    """

    degree: int
    parity: int

    @property
    def label(self) -> str:
        """Such as ``0e`` and ``1o``: the degree, then even or odd."""
        return f"{self.degree}{'e' if self.parity == 1 else 'o'}"


def natural_irreps(max_degree: int) -> tuple[Irrep, ...]:
    """Degrees 0 to ``max_degree`` with the parity ``(-1)^l`` of spherical harmonics."""
    return tuple(Irrep(degree, (-1) ** degree) for degree in range(max_degree + 1))


class Path(NamedTuple):
    """One way to couple a neighbour's feature and a harmonic.

    Attributes:
      source: index of the neighbour's irrep.
      degree: of the spherical harmonic.
      target: index of the resulting irrep.
    """

    source: int
    degree: int
    target: int


def coupling_paths(
    sources: Sequence[Irrep], max_degree: int, targets: Sequence[Irrep]
) -> tuple[Path, ...]:
    """All paths from ``sources`` times harmonics of degree 0..``max_degree`` to ``targets``.

    Ordered by target, then source, then degree of the harmonic.
    """
    return tuple(
        Path(i, degree, k)
        for k, target in enumerate(targets)
        for i, source in enumerate(sources)
        for degree in range(max_degree + 1)
        if abs(source.degree - degree) <= target.degree <= source.degree + degree
        and target.parity == source.parity * (-1) ** degree
    )


def convolution(
    features: Features,
    sources: Sequence[Irrep],
    harmonics: Float[Array, "edges orders"],
    targets: Sequence[Irrep],
    paths: Sequence[Path],
    basis: Float[Array, "edges K"],
    radial: Callable[[Any, Float[Array, "rows K"]], Float[Array, "rows weights"]],
    kernels: Any,
    graph: EdgeGraph,
) -> Features:
    """Couple features of neighbours with harmonics, weight by distance, sum at the centre.

    For each path ``(l1, l2) -> l3`` and channel ``c``:
    ``sum_j R_c(r_ij) sum_{m1 m2} C[m1, m2, m3] h_{j, m1, c} Y_{m2}(r_ij)`` (NequIP eq. 5, MACE
    eq. 8). The work goes by blocks of edges, radial weights included: no array of all edges with
    channels and components exists, in the reverse pass neither.

    Args:
      features: of the neighbours, ``[atoms, 2l + 1, channels]`` for each of ``sources``.
      sources: irreps of the features.
      harmonics: of the edge directions, degrees 0 to a maximum.
      targets: irreps of the result.
      paths: the couplings, ordered by target (:func:`coupling_paths`).
      basis: radial basis times envelope; padded edges are masked here.
      radial: radial network, without bias, from ``kernels`` and ``basis`` to ``len(paths) *
        channels`` weights.
      kernels: parameters of the radial network, a tuple of arrays.
      graph: the edges.

    Returns:
      For each target ``[atoms, 2l + 1, paths to it * channels]``.
    """
    sums = edge_loop(
        _Messages(tuple(sources), tuple(targets), tuple(paths), radial),
        graph,
        EdgeTerms(
            senders=tuple(features),
            edges=(harmonics, masked(basis, graph.edge_mask)),
            shared=kernels,
        ),
        block_size(cpu=EDGES_PER_BLOCK, accelerator=EDGES_PER_BLOCK_ON_ACCELERATOR),
    ).receivers
    return tuple(
        jnp.concatenate([x for x, path in zip(sums, paths, strict=True) if path.target == k], -1)
        for k in range(len(targets))
    )


@dataclass(frozen=True)
class _Messages:
    """Messages of a block of edges, one array a path; see :func:`convolution`."""

    sources: tuple[Irrep, ...]
    targets: tuple[Irrep, ...]
    paths: tuple[Path, ...]
    radial: Callable[[Any, Array], Array]

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        neighbors, (harmonics, basis) = terms.senders, terms.edges
        channels = neighbors[0].shape[-1]
        weights = self.radial(terms.shared, basis).reshape(-1, len(self.paths), channels)
        return EdgeTerms(
            receivers=tuple(
                _message(
                    neighbors[path.source],
                    harmonics,
                    weights[:, k],
                    path,
                    self.sources,
                    self.targets,
                )
                for k, path in enumerate(self.paths)
            )
        )


def _message(
    neighbor: Float[Array, "edges m1 channels"],
    harmonics: Float[Array, "edges orders"],
    weights: Float[Array, "edges channels"],
    path: Path,
    sources: Sequence[Irrep],
    targets: Sequence[Irrep],
) -> Float[Array, "edges m3 channels"]:
    degree = path.degree
    coupling = clebsch_gordan(sources[path.source].degree, degree, targets[path.target].degree)
    rotation = jnp.einsum(
        "eb,abc->eac",
        harmonics[:, degree**2 : (degree + 1) ** 2],
        jnp.asarray(coupling, harmonics.dtype),
    )
    wide = spread(rotation, weights.shape[-1])
    result = jnp.zeros((), weights.dtype)
    for m in range(len(coupling)):
        result = result + wide[:, m] * (neighbor[:, m, None] * weights[:, None])
    return result
