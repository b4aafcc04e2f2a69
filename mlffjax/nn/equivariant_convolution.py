"""The convolution that MACE and NequIP share: linear map, radial network, couplings, sum."""

from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.nn.equivariant_linear import IrrepLinear, RadialNetwork, radial_weights
from mlffjax.nn.tensor_product import Features, Irrep, convolution, coupling_paths


def radial_convolution(
    features: Features,
    sources: tuple[Irrep, ...],
    targets: tuple[Irrep, ...],
    max_degree: int,
    radial_widths: tuple[int, ...],
    basis: Float[Array, "edges K"],
    harmonics: Float[Array, "edges orders"],
    graph: EdgeGraph,
) -> Features:
    """Sums over neighbours of their features coupled with harmonics, inside a compact method.

    The parameters are those of the modules ``up``, a linear map of the features, and ``radial``,
    the network that gives each path and channel its weight (MACE eq. 8, NequIP eqs. 5 and 6).

    Args:
      features: ``[atoms, 2l + 1, channels]`` for each of ``sources``.
      sources: irreps of the features.
      targets: irreps of the result.
      max_degree: highest degree of the harmonics.
      radial_widths: hidden layers of the radial network.
      basis: radial basis times envelope.
      harmonics: of the edge directions, degrees 0 to ``max_degree``.
      graph: the edges.

    Returns:
      For each target ``[atoms, 2l + 1, paths to it * channels]``, not normalised.
    """
    channels = features[0].shape[-1]
    paths = coupling_paths(sources, max_degree, targets)
    up = IrrepLinear(sources, channels, name="up")(features)
    network = RadialNetwork((*radial_widths, len(paths) * channels), name="radial")
    return convolution(
        up, sources, harmonics, targets, paths, basis, radial_weights, network(basis), graph
    )
