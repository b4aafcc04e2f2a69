"""Forces of the nudged elastic band, and the energy along a converged one.

===================== ===========================================
paper                 here
===================== ===========================================
``R_i``, ``V_i``      ``path[i]``, ``energies[i]``
``tau_i``             :func:`tangents`
``F_i^NEB``           :func:`band_forces`
===================== ===========================================
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def tangents(
    path: Float[Array, "nodes atoms 3"], energies: Float[Array, "nodes"]
) -> Float[Array, "images atoms 3"]:
    """Unit tangents at the images: to the neighbour of higher energy, mixed at extrema.

    Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000), eqs. (8) to (11).

    Args:
      path: both ends and the images between them ``[nodes, atoms, 3]`` in Angstrom, without
        jumps across a periodic cell.
      energies: ``[nodes]`` in eV.

    Returns:
      ``[nodes - 2, atoms, 3]``.
    """
    ahead, behind = path[2:] - path[1:-1], path[1:-1] - path[:-2]
    here, after, before = energies[1:-1], energies[2:], energies[:-2]
    up, down = jnp.abs(after - here), jnp.abs(before - here)
    larger, smaller = jnp.maximum(up, down), jnp.minimum(up, down)
    towards = after > before
    weight_ahead = jnp.where(towards, larger, smaller)
    weight_behind = jnp.where(towards, smaller, larger)
    rising, falling = (after > here) & (here > before), (after < here) & (here < before)
    weight_ahead = jnp.where(rising, 1.0, jnp.where(falling, 0.0, weight_ahead))
    weight_behind = jnp.where(rising, 0.0, jnp.where(falling, 1.0, weight_behind))
    # Both energy differences vanish on a flat path; there the chord is the tangent.
    flat = weight_ahead + weight_behind == 0
    weight_ahead = jnp.where(flat, 1.0, weight_ahead)[:, None, None]
    weight_behind = jnp.where(flat, 1.0, weight_behind)[:, None, None]
    direction = weight_ahead * ahead + weight_behind * behind
    length = jnp.sqrt(jnp.sum(direction**2, axis=(1, 2), keepdims=True))
    return direction / jnp.where(length > 0, length, 1)


def band_forces(
    path: Float[Array, "nodes atoms 3"],
    energies: Float[Array, "nodes"],
    forces: Float[Array, "images atoms 3"],
    spring: float | Float[Array, ""],
    climbing: Bool[Array, ""],
) -> Float[Array, "images atoms 3"]:
    """Forces that move the images: the true one across the path, the springs along it.

    Henkelman and Jónsson (2000), eqs. (3) and (12). The highest image, once ``climbing``, has no
    spring, and the true force along the path is turned round: Henkelman, Uberuaga and Jónsson,
    J. Chem. Phys. 113, 9901 (2000), eq. (5).

    Args:
      path: ``[nodes, atoms, 3]`` in Angstrom.
      energies: ``[nodes]`` in eV.
      forces: minus the gradient at the images ``[nodes - 2, atoms, 3]`` in eV/Angstrom.
      spring: constant in eV/Angstrom^2.
      climbing: whether the highest image climbs.
    """
    tangent = tangents(path, energies)
    lengths = jnp.sqrt(jnp.sum((path[1:] - path[:-1]) ** 2, axis=(1, 2)))
    along = jnp.sum(forces * tangent, axis=(1, 2))
    pull = spring * (lengths[1:] - lengths[:-1])
    highest = jnp.arange(forces.shape[0]) == jnp.argmax(energies[1:-1])
    added = jnp.where(climbing & highest, -2 * along, pull - along)
    return forces + added[:, None, None] * tangent


def slopes(
    path: Float[np.ndarray, "nodes atoms 3"],
    energies: Float[np.ndarray, "nodes"],
    forces: Float[np.ndarray, "nodes atoms 3"],
) -> Float[np.ndarray, "nodes"]:
    """Derivative of the energy by the length of the path at every node, in eV/Angstrom."""
    inner = np.asarray(tangents(jnp.asarray(path), jnp.asarray(energies)))
    first, last = path[1] - path[0], path[-1] - path[-2]
    ends = [v[None] / max(float(np.linalg.norm(v)), 1e-12) for v in (first, last)]
    return -np.sum(np.concatenate([ends[0], inner, ends[1]]) * forces, axis=(1, 2))


def hermite_profile(
    lengths: Float[np.ndarray, "nodes"],
    energies: Float[np.ndarray, "nodes"],
    derivatives: Float[np.ndarray, "nodes"],
    points: int = 200,
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """The cubic through energies and slopes of a path: its lengths and energies ``[points]``.

    Henkelman and Jónsson (2000), appendix.
    """
    fine = np.linspace(lengths[0], lengths[-1], points)
    k = np.clip(np.searchsorted(lengths, fine, side="right") - 1, 0, len(lengths) - 2)
    width = np.maximum(np.diff(lengths)[k], 1e-12)
    t = (fine - lengths[k]) / width
    curve = (
        (1 + 2 * t) * (1 - t) ** 2 * energies[k]
        + t**2 * (3 - 2 * t) * energies[k + 1]
        + width * t * (1 - t) * ((1 - t) * derivatives[k] - t * derivatives[k + 1])
    )
    return fine, curve
