"""Silicon labelled by the Stillinger-Weber potential: exact, quick data to test and learn with.

Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), as in :func:`jax_md.energy.stillinger_weber`
with its parameters (sigma 2.0951 Angstrom, epsilon 2.16826 eV, cutoff 1.8 sigma).
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import energy as jax_md_energy
from jaxtyping import Array, Float

from mlffjax.data.frames import Frame
from mlffjax.types import HostCell, HostVectors

LATTICE_CONSTANT = 5.431  # Angstrom; cubic cell of diamond silicon at the energy minimum
CUTOFF = 3.77118  # Angstrom, jax_md's default

#: The cubic cell of diamond in units of its edge.
DIAMOND = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.0, 0.5, 0.5],
        [0.5, 0.0, 0.5],
        [0.5, 0.5, 0.0],
        [0.25, 0.25, 0.25],
        [0.25, 0.75, 0.75],
        [0.75, 0.25, 0.75],
        [0.75, 0.75, 0.25],
    ]
)


class Labels(NamedTuple):
    """Energy in eV, forces ``[atoms, 3]`` in eV/Angstrom, stress ``[3, 3]`` in eV/Angstrom^3."""

    energy: float
    forces: HostVectors
    stress: Float[np.ndarray, "3 3"]


def stillinger_weber_labels(positions: HostVectors, cell: HostCell) -> Labels:
    """Energy, forces and stress (tension positive) of periodic silicon, in float64.

    Args:
      positions: ``[atoms, 3]`` in Angstrom.
      cell: rows are lattice vectors, in Angstrom; any triclinic cell.

    Raises:
      ValueError: the cell is thinner than twice the cutoff, where a nearest image is not enough.
    """
    cell = np.asarray(cell, np.float64)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if heights.min() <= 2 * CUTOFF:
        raise ValueError(
            f"got a cell {heights.min():.2f} Angstrom thick; expected more than twice the cutoff, "
            f"{2 * CUTOFF:.2f}; repeat the cell"
        )
    with jax.enable_x64(True):
        energy, (gradient, virial) = _energy_and_gradients()(
            jnp.asarray(positions, jnp.float64), jnp.zeros((3, 3)), jnp.asarray(cell)
        )
        volume = abs(np.linalg.det(cell))
        return Labels(float(energy), -np.asarray(gradient), np.asarray(virial) / volume)


def silicon_frames(
    num_frames: int,
    seed: int,
    repeats: tuple[int, int, int] = (2, 2, 2),
    max_rattle: float = 0.12,
    max_strain: float = 0.04,
) -> list[Frame]:
    """Diamond silicon, strained to triclinic cells and rattled, with exact labels.

    Each frame draws its own strain (each component uniform up to ``max_strain``) and its own
    standard deviation of Gaussian displacements (uniform up to ``max_rattle``): from almost
    perfect crystals to about a melt's forces.

    Args:
      num_frames: number of frames.
      seed: of all random numbers; the first frames of a longer set are the same.
      repeats: cubic cells of 8 atoms along each direction.
      max_rattle: in Angstrom.
      max_strain: largest component of the symmetric strain.

    Raises:
      ValueError: ``repeats`` gives a cell thinner than twice the cutoff.
    """
    steps = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), -1).reshape(-1, 1, 3)
    sites = (steps + DIAMOND).reshape(-1, 3) * LATTICE_CONSTANT
    crystal = np.diag(np.asarray(repeats, np.float64) * LATTICE_CONSTANT)
    frames = []
    for index in range(num_frames):
        rng = np.random.default_rng([seed, index])
        strain = rng.uniform(-max_strain, max_strain, (3, 3))
        deformation = np.eye(3) + 0.5 * (strain + strain.T)
        rattle = rng.uniform(0.0, max_rattle)
        cell = crystal @ deformation
        positions = sites @ deformation + rattle * rng.standard_normal(sites.shape)
        labels = stillinger_weber_labels(positions, cell)
        frames.append(
            Frame(
                numbers=np.full(len(sites), 14, np.int32),
                positions=positions,
                cell=cell,
                pbc=np.ones(3, bool),
                energy=labels.energy,
                forces=labels.forces,
                stress=labels.stress,
                name=f"silicon-{seed}#{index}",
                group="rattled",
            )
        )
    return frames


@cache
def _energy_and_gradients():
    """The compiled energy with its gradients by positions and by symmetric strain."""

    def energy(
        positions: Float[Array, "atoms 3"],
        strain: Float[Array, "3 3"],
        cell: Float[Array, "3 3"],
    ) -> Float[Array, ""]:
        strained = cell @ (jnp.eye(3, dtype=cell.dtype) + 0.5 * (strain + strain.T))

        # jax_md's own displacement gives gradients by real coordinates for fractional ones, a
        # rule that does not compose with the inverse of the cell here.
        def displacement(a: Float[Array, "3"], b: Float[Array, "3"]) -> Float[Array, "3"]:
            difference = a - b
            return (difference - jnp.round(difference)) @ strained

        return jax_md_energy.stillinger_weber(displacement)(positions @ jnp.linalg.inv(cell))

    return jax.jit(jax.value_and_grad(energy, argnums=(0, 1)))
