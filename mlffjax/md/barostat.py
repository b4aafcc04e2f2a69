"""Dynamics at constant pressure: how cell, positions and momenta change together.

Two barostats. *Nose-Hoover*: the isotropic equations of Martyna, Tobias and Klein, J. Chem. Phys.
101, 4177 (1994), in the direct translation of Tuckerman et al., J. Phys. A 39, 5629 (2006), with
the chains and the state of JAX-MD; its own loop evaluates the potential twice a step, this one
once. *Stochastic cell rescaling*: Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020); with a
strain of six components as in Del Tatto et al., Appl. Sci. 12, 1139 (2022).

Internal pressure ``P_ab = (sum p_a p_b / m - virial_ab) / V``. All matrices act on row vectors.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mlffjax.types import AtomScalars


def volume(cell: Float[Array, "3 3"]) -> Float[Array, ""]:
    """Volume in Angstrom^3 of lattice vectors ``[3, 3]``."""
    return jnp.abs(jnp.sum(cell[0] * jnp.cross(cell[1], cell[2])))


def internal_pressure(
    momenta: Float[Array, "atoms 3"],
    masses: AtomScalars | Float[Array, "atoms 1"],
    virial: Float[Array, "3 3"],
    cell: Float[Array, "3 3"],
) -> Float[Array, "3 3"]:
    """Kinetic part less virial, ``[3, 3]`` in eV/Angstrom^3; pushing outwards is positive.

    Args:
      momenta: ``[atoms, 3]`` in sqrt(amu eV).
      masses: in amu.
      virial: derivative of the energy by the strain in eV.
      cell: lattice vectors as rows in Angstrom.
    """
    kinetic = momenta.T @ (momenta / masses.reshape(-1, 1))
    return (kinetic - virial) / volume(cell)


def strain(
    key: Array,
    excess: Float[Array, "3 3"],
    kT: Float[Array, ""],
    cell_volume: Float[Array, ""],
    rate: Float[Array, ""],
    motion: Literal["isotropic", "orthorhombic", "flexible"],
) -> Float[Array, "3 3"]:
    """The symmetric strain of one step of stochastic cell rescaling.

    ``E = rate (P - P_0) + sqrt(2 kT rate / V) W`` with ``rate = beta dt / (3 tau)``. ``W`` has
    variance one on the diagonal and one half beside it: the normal distribution of symmetric
    matrices that no rotation changes. Its trace obeys eq. 5 of Bernetti and Bussi. The term in
    ``kT`` that a constant diffusion would need is cancelled by that of ``1/V`` in the diffusion.

    Args:
      key: random key.
      excess: internal less external pressure ``[3, 3]`` in eV/Angstrom^3.
      kT: thermal energy in eV.
      cell_volume: in Angstrom^3.
      rate: strain for each unit of pressure.
      motion: which strains there are.
    """
    amplitude = jnp.sqrt(2 * kT * rate / cell_volume)
    one = jnp.eye(3, dtype=excess.dtype)
    if motion == "isotropic":
        noise = jax.random.normal(key, (), excess.dtype) / jnp.sqrt(3.0).astype(excess.dtype)
        return one * (rate * jnp.trace(excess) / 3 + amplitude * noise)
    if motion == "orthorhombic":
        noise = jax.random.normal(key, (3,), excess.dtype)
        return jnp.diag(rate * jnp.diag(excess) + amplitude * noise)
    noise = jax.random.normal(key, (3, 3), excess.dtype)
    return rate * (excess + excess.T) / 2 + amplitude * (noise + noise.T) / 2


def exponential(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Matrix exponential of a small ``[3, 3]``, exact in float64 for entries up to 0.01."""
    result = one = jnp.eye(3, dtype=matrix.dtype)
    for order in range(6, 0, -1):
        result = one + matrix @ result / order
    return result


def box_force(
    kinetic: Float[Array, ""],
    virial: Float[Array, "3 3"],
    cell_volume: Float[Array, ""],
    pressure: Float[Array, ""],
    dof: int,
) -> Float[Array, ""]:
    """Force in eV on ``ln(V) / 3``: ``(1 + 3/f) 2 K - tr(virial) - 3 P V``.

    Args:
      kinetic: kinetic energy in eV.
      virial: derivative of the energy by the strain in eV.
      cell_volume: in Angstrom^3.
      pressure: target in eV/Angstrom^3.
      dof: degrees of freedom ``f`` of the atoms.
    """
    return (1 + 3 / dof) * 2 * kinetic - jnp.trace(virial) - 3 * pressure * cell_volume


def momenta_kicked(
    momenta: Float[Array, "atoms 3"],
    forces: Float[Array, "atoms 3"],
    velocity: Float[Array, ""],
    dt: Float[Array, ""],
    dof: int,
) -> Float[Array, "atoms 3"]:
    """Momenta after ``dt`` of ``dp/dt = F - (1 + 3/f) v p`` with constant ``F`` and ``v``."""
    x = (1 + 3 / dof) * velocity * dt
    return momenta * jnp.exp(-x) + dt * forces * jnp.exp(-x / 2) * _sinhc(x / 2)


def positions_drifted(
    positions: Float[Array, "atoms 3"],
    velocities: Float[Array, "atoms 3"],
    velocity: Float[Array, ""],
    dt: Float[Array, ""],
) -> Float[Array, "atoms 3"]:
    """Positions after ``dt`` of ``dr/dt = p/m + v r`` with constant ``p`` and ``v``."""
    x = velocity * dt
    return positions * jnp.exp(x) + dt * velocities * jnp.exp(x / 2) * _sinhc(x / 2)


def _sinhc(x: Any) -> Any:
    """``sinh(x) / x`` by its series; the strain of a time step is far below one."""
    square = x * x
    return 1 + square / 6 * (1 + square / 20 * (1 + square / 42))
