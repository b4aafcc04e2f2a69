"""Initial velocities: Maxwell-Boltzmann, without drift and rotation; degrees of freedom."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mlffjax.md.boxes import inverse
from mlffjax.types import AtomScalars, HostPbc, Positions
from mlffjax.units import AMU_ANGSTROM2_PER_FS2, BOLTZMANN

#: Time unit of eV, Angstrom and amu in fs: sqrt(amu Angstrom^2 / eV), about 10.18 fs.
TIME_UNIT_FS = AMU_ANGSTROM2_PER_FS2**0.5


def maxwell_boltzmann(
    key: Array, masses: AtomScalars, temperature: float
) -> Float[Array, "atoms 3"]:
    """Momenta ``[atoms, 3]`` in sqrt(amu eV) drawn at a temperature.

    Args:
      key: random key.
      masses: in amu ``[atoms]``; their dtype is that of the result.
      temperature: in kelvin.
    """
    width = jnp.sqrt(masses * jnp.asarray(BOLTZMANN * temperature, masses.dtype))
    return width[:, None] * jax.random.normal(key, (*masses.shape, 3), masses.dtype)


def remove_drift(momenta: Float[Array, "atoms 3"], masses: AtomScalars) -> Array:
    """Momenta ``[atoms, 3]`` less the motion of the centre of mass."""
    return momenta - masses[:, None] * momenta.sum(0) / masses.sum()


def remove_rotation(
    momenta: Float[Array, "atoms 3"], masses: AtomScalars, positions: Positions
) -> Array:
    """Momenta ``[atoms, 3]`` less the rigid rotation that carries the angular momentum.

    Args:
      momenta: in any unit, without drift.
      masses: in amu ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom.
    """
    centre = (masses[:, None] * positions).sum(0) / masses.sum()
    arms = positions - centre
    inertia = _inertia(arms, masses)
    angular = jnp.cross(arms, momenta).sum(0)
    # About its axis a linear molecule has no inertia, and no angular momentum: a little inertia
    # more keeps the inverse finite. By cross products it can be part of every step on a GPU too.
    little = jnp.finfo(inertia.dtype).eps ** 0.75 * jnp.trace(inertia)
    omega = inverse(inertia + little * jnp.eye(3, dtype=inertia.dtype)) @ angular
    return momenta - masses[:, None] * jnp.cross(omega[None], arms)


def scaled_to(
    momenta: Float[Array, "atoms 3"], masses: AtomScalars, kelvin: float, dof: int
) -> Array:
    """Momenta ``[atoms, 3]`` scaled so that they have exactly a temperature; zero ones stay so.

    Args:
      momenta: in sqrt(amu eV).
      masses: in amu ``[atoms]``.
      kelvin: the temperature.
      dof: degrees of freedom it is counted with.
    """
    now = temperature(kinetic_energy(momenta, masses), dof)
    moving = now > 0
    return jnp.sqrt(jnp.where(moving, kelvin / jnp.where(moving, now, 1), 0)) * momenta


def degrees_of_freedom(
    count: int,
    pbc: HostPbc,
    *,
    without_drift: bool,
    without_rotation: bool,
) -> int:
    """Momenta that can vary: ``3 N`` less those that stay zero.

    A dynamics that conserves total momentum keeps a removed drift removed (3), and, in a frame
    without periodic directions, a removed rotation (3, or 2 for two atoms). A molecule of more
    atoms counts as bent, also if it starts straight: it bends in the next steps, and then all
    three components of an angular momentum of zero bind its momenta.

    Args:
      count: number of atoms.
      pbc: periodic directions ``[3]``.
      without_drift: the centre of mass is at rest for good.
      without_rotation: the angular momentum is zero for good, unless periodic.
    """
    dof = 3 * count
    if count == 1 or not without_drift:
        return dof
    dof -= 3
    if without_rotation and not np.asarray(pbc, bool).any():
        dof -= 3 if count > 2 else 2
    return max(dof, 1)


def kinetic_energy(momenta: Float[Array, "atoms 3"], masses: AtomScalars) -> Float[Array, ""]:
    """Kinetic energy in eV from momenta ``[atoms, 3]`` in sqrt(amu eV) and masses in amu."""
    return 0.5 * jnp.sum(momenta**2 / masses.reshape(-1, 1))


def temperature(kinetic: Float[Array, "..."], dof: int) -> Float[Array, "..."]:
    """Temperature in kelvin of a kinetic energy in eV with ``dof`` degrees of freedom."""
    return 2 * kinetic / (dof * BOLTZMANN)


def _inertia(arms, masses):
    square = (masses * (arms**2).sum(-1)).sum()
    outer = (masses[:, None, None] * arms[:, :, None] * arms[:, None, :]).sum(0)
    return square * np.eye(3, dtype=arms.dtype) - outer
