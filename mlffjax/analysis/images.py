"""Vectors from some atoms to all images of all atoms within a radius, on the device."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mlffjax.neighbors import complete_cell
from mlffjax.types import HostPbc, Positions

Images = tuple[tuple[int, int, int], ...]

#: Vectors made at once; 12 bytes each in single precision.
MAX_VECTORS = 4_000_000


def boxes_of(cell: Float[np.ndarray, "frames 3 3"], pbc: HostPbc) -> np.ndarray:
    """Lattice vectors ``[frames, 3, 3]``, complete in directions that are not periodic."""
    return np.stack([complete_cell(c, pbc) for c in cell])


def images_needed(
    boxes: Float[np.ndarray, "frames 3 3"], pbc: HostPbc, radius: float, least: Images = ()
) -> Images:
    """Lattice translations beyond the nearest image that reach all pairs within ``radius``.

    After rounding, a fractional component is at most one half; a vector shorter than the radius
    has components of at most radius over height.

    Args:
      boxes: complete lattice vectors.
      pbc: periodic directions ``[3]``.
      radius: in Angstrom.
      least: translations that were needed before; never fewer are given, so that a cell that
        breathes about a threshold does not compile a program at each breath.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(boxes), axis=1).max(axis=0)
    reach = [
        math.floor(radius / h + 0.5 + 1e-6) if periodic else 0
        for h, periodic in zip(heights, np.asarray(pbc, bool), strict=True)
    ]
    if least:
        reach = [max(r, max(image[k] for image in least)) for k, r in enumerate(reach)]
    ranges = [range(-r, r + 1) for r in reach]
    return tuple(itertools.product(*ranges))  # type: ignore[return-value]


def vectors_from(
    centres: Int[Array, "centres"],
    positions: Positions,
    box: Float[Array, "3 3"],
    pbc: tuple[bool, bool, bool],
    images: Images,
) -> tuple[Float[Array, "centres atoms images 3"], Bool[Array, "centres atoms images"]]:
    """Vectors to all atoms and their images, and whether they lead to another place.

    Args:
      centres: indices of atoms.
      positions: ``[atoms, 3]`` in Angstrom, anywhere.
      box: complete lattice vectors as rows, in Angstrom.
      pbc: periodic directions.
      images: as :func:`images_needed` gives them.
    """
    fractional = positions @ jnp.linalg.inv(box)
    between = fractional[None] - fractional[centres][:, None]
    wrapped = between - jnp.where(jnp.asarray(pbc), jnp.round(between), 0)
    shifts = jnp.asarray(images, positions.dtype)
    vectors = (wrapped[:, :, None] + shifts) @ box
    itself = centres[:, None] == jnp.arange(positions.shape[0])
    home = jnp.asarray([image == (0, 0, 0) for image in images])
    return vectors, ~(itself[:, :, None] & home)


def centre_chunks(atoms: int, images: int) -> Int[np.ndarray, "chunks centres"]:
    """Indices of all atoms in chunks of equal size; ``-1`` fills up the last."""
    size = max(1, min(atoms, MAX_VECTORS // (atoms * images)))
    chunks = -(-atoms // size)
    indices = np.full(chunks * size, -1, np.int32)
    indices[:atoms] = np.arange(atoms)
    return indices.reshape(chunks, size)


def frames_at_once(atoms: int, images: int) -> int:
    """Frames of one compiled call that fit into the memory of :data:`MAX_VECTORS`."""
    return max(1, min(64, MAX_VECTORS // (atoms * atoms * images)))
