"""Messages of scalars and vectors, as PaiNN sends them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.graph import EdgeGraph
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.types import AtomFeatures, EdgeVectors


def scalar_vector_messages(
    sources: Float[Array, "atoms parts_features"],
    filters: Float[Array, "edges parts_features"],
    vectors: Float[Array, "atoms 3 features"] | None,
    directions: EdgeVectors,
    graph: EdgeGraph,
) -> tuple[AtomFeatures, Float[Array, "atoms 3 features"]]:
    """Sums over neighbours of scalar and vector messages.

    With ``(b, c, a) = sources_j * filters_ij``, three times ``F`` numbers,

        dx_i = sum_j c    and    dv_i = sum_j (a * v_j + b * u_ij),

    Schuett et al. 2021 (PaiNN), eqs. 7 and 8. Only ``filters`` and the two messages exist as
    arrays over edges.

    Args:
      sources: of the neighbours ``[atoms, 3F]``; ``[atoms, 2F]``, without ``a``, where
        ``vectors`` is ``None``.
      filters: the same width ``[edges, 3F]``, zero at the cutoff.
      vectors: ``v_j`` ``[atoms, 3, F]``; ``None`` for zero, which saves a third of the work.
      directions: unit vectors ``u_ij`` ``[edges, 3]``.
      graph: the edges.

    Returns:
      ``dx`` ``[atoms, F]`` and ``dv`` ``[atoms, 3, F]``.
    """
    product = sources[graph.senders] * filters
    force, scalar, *gate = jnp.split(product, 2 if vectors is None else 3, axis=1)
    vector = force[:, None, :] * directions[:, :, None]
    if vectors is not None:
        vector = vector + gate[0][:, None, :] * vectors[graph.senders]
    return sum_to_receivers(scalar, graph), sum_to_receivers(vector, graph)
