"""Messages of scalars and vectors, as PaiNN sends them, by blocks of edges."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.nn.blocks import block_size
from mlffjax.nn.edge_loop import EdgeTerms, edge_loop
from mlffjax.nn.groups import spread
from mlffjax.nn.scatter import masked
from mlffjax.types import AtomFeatures, EdgeVectors

#: Edges of one block: within 3 % of the fastest of 192 to 2048 for 128 features on x86-64 cores.
EDGES_PER_BLOCK = 1024
EDGES_PER_BLOCK_ON_ACCELERATOR = 65536


class FilterKernel(nn.Module):
    """Weights of a dense layer with bias on a radial basis whose last column carries the bias.

    With the basis ``[rbf * c, c]`` and an envelope ``c``, ``basis @ kernel`` is
    ``(rbf @ weights + bias) * c`` without a second pass over the edges.

    Attributes:
      width: of the layer.
    """

    width: int

    @nn.compact
    def __call__(self, basis: Float[Array, "edges K"]) -> Float[Array, "K width"]:
        rows, dtype = basis.shape[1] - 1, basis.dtype
        init = nn.initializers.glorot_uniform()
        weights = self.param("kernel", init, (rows, self.width), dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,), dtype)
        return jnp.concatenate([weights, bias[None]])


def scalar_vector_messages(
    sources: Float[Array, "atoms parts"],
    basis: Float[Array, "edges K"],
    kernel: Float[Array, "K parts"],
    vectors: Float[Array, "atoms 3 features"] | None,
    directions: EdgeVectors,
    graph: EdgeGraph,
) -> tuple[AtomFeatures, Float[Array, "atoms 3 features"]]:
    """Sums over neighbours of scalar and vector messages.

    With ``(b, c, a) = sources_j * (basis_ij @ kernel)``, three times ``F`` numbers,

        dx_i = sum_j c    and    dv_i = sum_j (a * v_j + b * u_ij),

    Schuett et al. 2021 (PaiNN), eqs. 7 and 8. The work goes by blocks of edges, filters
    included: no array of all edges with channels exists, in the reverse pass neither.

    Args:
      sources: of the neighbours ``[atoms, 3F]``; ``[atoms, 2F]``, without ``a``, where
        ``vectors`` is ``None``.
      basis: radial basis with the envelope ``[edges, K]``; padded edges are masked here.
      kernel: of the filters ``[K, 3F]``, or ``2F`` as above.
      vectors: ``v_j`` ``[atoms, 3, F]``; ``None`` for zero, which saves a third of the work.
      directions: unit vectors ``u_ij`` ``[edges, 3]``.
      graph: the edges.

    Returns:
      ``dx`` ``[atoms, F]`` and ``dv`` ``[atoms, 3, F]``.
    """
    dx, dv = edge_loop(
        _messages,
        graph,
        EdgeTerms(
            senders=(sources,) if vectors is None else (sources, vectors),
            edges=(masked(basis, graph.edge_mask), directions),
            shared=kernel,
        ),
        block_size(cpu=EDGES_PER_BLOCK, accelerator=EDGES_PER_BLOCK_ON_ACCELERATOR),
    ).receivers
    return dx, dv


def _messages(terms: EdgeTerms) -> EdgeTerms:
    """Scalar and vector messages of a block of edges."""
    (sources, *vectors), (basis, directions) = terms.senders, terms.edges
    force, scalar, *gate = jnp.split(sources * (basis @ terms.shared), 2 + len(vectors), axis=1)
    vector = force[:, None, :] * spread(directions, force.shape[1])
    if vectors:
        vector = vector + gate[0][:, None, :] * vectors[0]
    return EdgeTerms(receivers=(scalar, vector))
