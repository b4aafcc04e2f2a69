"""Harmonic vibrations: the Hessian by differentiation, frequencies and normal modes.

The Hessian is the Jacobian of the forces, each column one forward pass through the reverse pass
that makes them (forward over reverse); columns are taken in blocks so that memory is bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mlffjax.data.frames import Frame
from mlffjax.explore.structures import Structure, as_frame, fixed_atoms, masses_of
from mlffjax.graph import AtomGraph, GraphSize, bucket, pad
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential
from mlffjax.precision import full_precision
from mlffjax.types import HostCell, HostPbc, HostVectors
from mlffjax.units import AMU_ANGSTROM2_PER_FS2, PLANCK, SPEED_OF_LIGHT_CM_PER_FS

#: Columns of the Hessian made at once.
BLOCK = 16
#: An imaginary frequency in cm^-1 below this is no evidence of a saddle point: what rounding in
#: float32 and forces at a usual threshold leave of a soft mode.
SOFT = 10.0


@dataclass(frozen=True, eq=False)
class Vibrations:
    """Harmonic vibrations about a structure.

    Attributes:
      eigenvalues: squares of the angular frequencies ``[modes]``, ascending, in
        eV/(Angstrom^2 amu); negative for an imaginary frequency.
      modes: displacements ``[modes, atoms, 3]`` in amu^(-1/2): orthonormal after multiplication
        by the square roots of the masses; zero on fixed atoms.
      hessian: second derivatives of the energy by the free atoms ``[dof, dof]`` in
        eV/Angstrom^2, symmetrised.
      asymmetry: largest difference of the Hessian from its transpose before that, in
        eV/Angstrom^2.
      max_force: largest force on a free atom in eV/Angstrom; frequencies mean something where
        it is small.
    """

    eigenvalues: Float[np.ndarray, "modes"]
    modes: Float[np.ndarray, "modes atoms 3"]
    hessian: Float[np.ndarray, "dof dof"]
    asymmetry: float
    max_force: float

    @property
    def frequencies(self) -> Float[np.ndarray, "modes"]:
        """Wave numbers ``[modes]`` in cm^-1; an imaginary one ``i x`` is given as ``-x``."""
        return wave_numbers(self.eigenvalues)

    @property
    def zero_point_energy(self) -> float:
        """Half of h nu summed over the real frequencies, in eV."""
        real = np.maximum(self.frequencies, 0.0)
        return float(0.5 * PLANCK * SPEED_OF_LIGHT_CM_PER_FS * real.sum())

    def num_imaginary(self, soft: float = SOFT) -> int:
        """Number of imaginary frequencies above ``soft`` in cm^-1."""
        return int((self.frequencies < -soft).sum())

    def is_minimum(self, soft: float = SOFT) -> bool:
        """Whether no frequency is imaginary by more than ``soft`` in cm^-1."""
        return self.num_imaginary(soft) == 0


def vibrations(
    potential: Potential, structure: Structure, *, fixed: Sequence[int] = (), block: int = BLOCK
) -> Vibrations:
    """Harmonic vibrations of a molecule, or of a crystal at the Gamma point.

    Translations are projected out, and rotations where a structure can rotate freely (about all
    axes for a molecule, about the periodic direction of a wire); not where atoms are fixed.
    Cells may be smaller than the cutoff.

    Args:
      potential: computes in its own dtype; float64 for frequencies of a few cm^-1.
      structure: where forces vanish. Of ASE's atoms the masses count, those of isotopes too, and
        the atoms that a ``FixAtoms`` names are fixed.
      fixed: indices of atoms that do not move.
      block: columns of the Hessian made at once; less needs less memory.

    Raises:
      ValueError: an element the potential does not know, a wrong index of an atom, no free atom,
        another constraint, a mass that is not positive, or a Hessian that is not finite.
    """
    frame = as_frame(structure)
    free = free_atoms(len(frame.numbers), fixed_atoms(structure, fixed))
    raw, forces = hessian(potential, frame, free, block=block)
    if not np.isfinite(raw).all():
        raise ValueError(
            f"got second derivatives that are not finite for {frame.name or 'the structure'}; "
            "expected numbers; check the structure, or whether the training diverged"
        )
    matrix = 0.5 * (raw + raw.T)
    masses = masses_of(structure)[free]
    rigid = (
        np.zeros((0, 3 * len(free)))
        if len(free) < len(frame.numbers)
        else rigid_motions(frame.positions, masses, frame.cell, frame.pbc)
    )
    eigenvalues, vectors = normal_modes(matrix, masses, rigid)
    modes = np.zeros((len(eigenvalues), len(frame.numbers), 3))
    modes[:, free] = vectors
    return Vibrations(
        eigenvalues=eigenvalues,
        modes=modes,
        hessian=matrix,
        asymmetry=float(np.abs(raw - raw.T).max()),
        max_force=float(np.linalg.norm(forces[free], axis=1).max()),
    )


def hessian(
    potential: Potential, frame: Frame, free: Int[np.ndarray, "free"], *, block: int = BLOCK
) -> tuple[Float[np.ndarray, "dof dof"], HostVectors]:
    """Second derivatives of the energy by the positions of the free atoms, and the forces.

    For an architecture with direct forces it is minus the Jacobian of these, which need not be
    symmetric.

    Args:
      potential: the force field.
      frame: the structure.
      free: indices of the atoms that move, ascending.
      block: columns made at once.

    Returns:
      The matrix ``[3 free, 3 free]`` in eV/Angstrom^2, not symmetrised, and the forces on all
      atoms ``[atoms, 3]`` in eV/Angstrom; both in float64.

    Raises:
      ValueError: an element the potential does not know.
    """
    potential.check_elements(frame.numbers)
    directions = np.zeros((3 * len(free), len(frame.numbers), 3))
    directions[np.arange(3 * len(free)), np.repeat(free, 3), np.tile(np.arange(3), len(free))] = 1
    columns, forces = force_derivatives(potential, frame, directions, block=block)
    matrix = columns[:, free].reshape(3 * len(free), 3 * len(free)).T
    return matrix, forces


def force_derivatives(
    potential: Potential,
    frame: Frame,
    directions: Float[np.ndarray, "columns atoms 3"],
    *,
    block: int = BLOCK,
) -> tuple[Float[np.ndarray, "columns atoms 3"], HostVectors]:
    """Minus the change of all forces along directions, ``-dF/dx . d``, and the forces.

    Args:
      potential: the force field.
      frame: the structure.
      directions: displacements of all atoms ``[columns, atoms, 3]``.
      block: columns made at once.

    Returns:
      ``[columns, atoms, 3]`` in eV/Angstrom^2 for directions of unit length, and the forces
      ``[atoms, 3]`` in eV/Angstrom.
    """
    # Within the cutoff exactly: a pair beyond it contributes no derivative of any order.
    centred = frame.positions - frame.positions.mean(0)
    graph = atom_graph(
        frame.numbers, centred, frame.cell, frame.pbc, potential.cutoff, potential.dtype
    )
    size = graph.size
    graph = pad(graph, GraphSize(size.atoms, bucket(size.edges, 32), 1))
    pushed = jnp.asarray(directions, potential.dtype)
    columns, forces = _push(potential.interaction, graph, pushed, min(block, len(directions)))
    return np.asarray(columns, np.float64), np.asarray(forces, np.float64)


@partial(jax.jit, static_argnames="block")
@full_precision
def _push(
    potential: Potential,
    graph: AtomGraph,
    directions: Float[Array, "columns atoms 3"],
    block: int,
) -> tuple[Float[Array, "columns atoms 3"], Float[Array, "atoms 3"]]:
    def forces(positions: Float[Array, "atoms 3"]) -> Float[Array, "atoms 3"]:
        result = potential.energy_forces(replace(graph, positions=positions)).forces
        assert result is not None
        return result

    here, push = jax.linearize(forces, jnp.asarray(graph.positions))
    return -jax.lax.map(push, directions, batch_size=block), here


def rigid_motions(
    positions: HostVectors,
    masses: Float[np.ndarray, "atoms"],
    cell: HostCell,
    pbc: HostPbc,
) -> Float[np.ndarray, "motions dof"]:
    """Motions that cost no energy, orthonormal in mass-weighted coordinates.

    Three translations; besides, the rotations that periodicity leaves: all of a molecule (two
    for a linear one, none for an atom), the one about the axis of a wire, none otherwise.

    Args:
      positions: ``[atoms, 3]`` in Angstrom.
      masses: ``[atoms]`` in amu.
      cell: lattice vectors as rows.
      pbc: periodic directions.

    Returns:
      ``[motions, 3 atoms]``.
    """
    if not pbc.any():
        axes = np.eye(3)
    elif pbc.sum() == 1:
        axes = cell[pbc] / np.linalg.norm(cell[pbc])
    else:
        axes = np.zeros((0, 3))
    arms = positions - masses @ positions / masses.sum()
    shifts = [np.tile(row, (len(positions), 1)) for row in np.eye(3)]
    turns = [np.cross(axis, arms) for axis in axes]
    weighted = np.array([*shifts, *turns]) * np.sqrt(masses)[:, None]
    weighted = weighted.reshape(len(weighted), -1)
    # A linear molecule does not turn about its own axis; singular values tell.
    _, values, rows = np.linalg.svd(weighted, full_matrices=False)
    return rows[values > 1e-4 * values[0]]


def normal_modes(
    matrix: Float[np.ndarray, "dof dof"],
    masses: Float[np.ndarray, "atoms"],
    rigid: Float[np.ndarray, "motions dof"],
) -> tuple[Float[np.ndarray, "modes"], Float[np.ndarray, "modes atoms 3"]]:
    """Eigenvalues and displacements of a symmetric Hessian in the space without ``rigid``.

    Args:
      matrix: Hessian ``[3 atoms, 3 atoms]`` in eV/Angstrom^2.
      masses: ``[atoms]`` in amu.
      rigid: orthonormal mass-weighted motions to leave out.

    Returns:
      Eigenvalues ``[modes]`` in eV/(Angstrom^2 amu), ascending, and displacements
      ``[modes, atoms, 3]`` in amu^(-1/2).
    """
    roots = np.repeat(np.sqrt(masses), 3)
    weighted = matrix / roots[:, None] / roots
    complement = np.linalg.svd(rigid)[2][len(rigid) :] if len(rigid) else np.eye(len(matrix))
    values, vectors = np.linalg.eigh(complement @ weighted @ complement.T)
    return values, (vectors.T @ complement / roots).reshape(len(values), len(masses), 3)


def wave_numbers(eigenvalues: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Wave numbers in cm^-1 from eigenvalues in eV/(Angstrom^2 amu); imaginary ones negative."""
    angular = np.sqrt(np.abs(eigenvalues) / AMU_ANGSTROM2_PER_FS2)  # rad/fs
    return np.sign(eigenvalues) * angular / (2 * np.pi * SPEED_OF_LIGHT_CM_PER_FS)


def wave_number_text(frequency: float) -> str:
    """A wave number in cm^-1 for a table, an imaginary one with an ``i``.

    >>> wave_number_text(-312.44), wave_number_text(1650.0)
    ('312.4i', '1650.0')
    """
    return f"{-frequency:.1f}i" if frequency < 0 else f"{frequency:.1f}"


def free_atoms(count: int, fixed: Sequence[int]) -> Int[np.ndarray, "free"]:
    """Indices of the atoms that are not fixed, ascending.

    Raises:
      ValueError: an index out of range, or no atom is left.
    """
    wrong = [k for k in fixed if not 0 <= k < count]
    if wrong:
        raise ValueError(
            f"got the fixed atoms {wrong}; expected indices from 0 to {count - 1}; mend them"
        )
    free = np.setdiff1d(np.arange(count), np.asarray(fixed, int))
    if not len(free):
        raise ValueError(f"got all {count} atoms fixed; expected one that moves; fix fewer")
    return free
