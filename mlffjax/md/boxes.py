"""Inverse and heights of a cell on the device, by cross products.

``jax.numpy.linalg.inv`` calls a library for factorisations: on a GPU a dozen kernels that wait for
the host, for three vectors.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def inverse(box: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """The inverse of lattice vectors as rows, or of any matrix ``[3, 3]``, in 1/Angstrom.

    Args:
      box: complete lattice vectors as rows in Angstrom.
    """
    normals = _normals(box)
    return normals.T / jnp.sum(box[0] * normals[0])


def heights(box: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """Distances ``[3]`` in Angstrom between opposite faces.

    Args:
      box: complete lattice vectors as rows in Angstrom.
    """
    normals = _normals(box)
    return jnp.abs(jnp.sum(box[0] * normals[0])) / jnp.sqrt(jnp.sum(normals**2, axis=1))


def _normals(box: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Normals of the faces, as long as their areas, the one beside each lattice vector."""
    a, b, c = box
    return jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)])
