"""Lengths and directions of edge vectors, with finite derivatives everywhere."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.types import EdgeScalars, EdgeVectors


def safe_norm(vectors: Float[Array, "... 3"]) -> Float[Array, "..."]:
    """Length of the vectors on the last axis; zero, with zero derivative, at the origin."""
    squared = jnp.sum(vectors * vectors, axis=-1)
    zero = squared == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def length_and_direction(vectors: EdgeVectors) -> tuple[EdgeScalars, EdgeVectors]:
    """Lengths ``[edges]`` in Angstrom and unit vectors ``[edges, 3]`` of edges.

    Edges have no zero length: the neighbour list refuses two atoms at one place.
    """
    distances = safe_norm(vectors)
    return distances, vectors / jnp.where(distances == 0, 1, distances)[:, None]
