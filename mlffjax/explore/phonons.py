"""Phonons of a crystal at any wave vector, from the force constants of a supercell.

A message-passing network couples atoms over several cutoffs, so that phase factors on edges of
one cell are not enough; a supercell is exact at every wave vector commensurate with it, and at
all others as far as force constants have died off within it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase.geometry import minkowski_reduce
from jaxtyping import Complex, Float, Int

from mlffjax.data.frames import Frame
from mlffjax.explore.structures import Structure, as_frame, masses_of, refuse_constraints
from mlffjax.explore.vibrations import BLOCK, force_derivatives, wave_numbers
from mlffjax.neighbors import complete_cell
from mlffjax.potential import Potential
from mlffjax.types import HostCell, HostPbc, HostVectors


@dataclass(frozen=True, eq=False)
class ForceConstants:
    """Second derivatives between the atoms of the home cell and those of a supercell.

    Attributes:
      values: ``[atoms, 3, cells, atoms, 3]`` in eV/Angstrom^2: by an atom of the home cell, then
        by an atom of another cell of the supercell.
      steps: lattice vectors to each cell ``[cells, 3]``; the first is the home cell.
      supercell: cells along each lattice vector.
      positions: of the home cell ``[atoms, 3]`` in Angstrom.
      masses: ``[atoms]`` in amu.
      cell: lattice vectors as rows, in Angstrom.
      pbc: periodic directions.
      max_force: largest force on an atom in eV/Angstrom.
    """

    values: Float[np.ndarray, "atoms 3 cells atoms 3"]
    steps: Int[np.ndarray, "cells 3"]
    supercell: tuple[int, int, int]
    positions: HostVectors
    masses: Float[np.ndarray, "atoms"]
    cell: HostCell
    pbc: HostPbc
    max_force: float


def force_constants(
    potential: Potential,
    structure: Structure,
    supercell: Sequence[int] = (1, 1, 1),
    *,
    block: int = BLOCK,
) -> ForceConstants:
    """Force constants from the Hessian of a supercell, only the rows of its home cell.

    Args:
      potential: the force field; float64 for acoustic modes near Gamma.
      structure: the primitive cell, where forces vanish; of ASE's atoms the masses count.
      supercell: cells along each lattice vector; one along directions that are not periodic.
      block: columns of the Hessian made at once.

    Raises:
      ValueError: a molecule, constraints, a wrong supercell, an unknown element, a mass that is
        not positive, values that are not finite.
    """
    refuse_constraints(structure, "phonons")
    frame, masses = as_frame(structure), masses_of(structure)
    counts = _checked(supercell, frame)
    steps = np.array(list(itertools.product(*map(range, counts))))
    many = replace(
        frame,
        numbers=np.tile(frame.numbers, len(steps)),
        positions=((steps @ frame.cell)[:, None] + frame.positions).reshape(-1, 3),
        cell=frame.cell * np.array(counts)[:, None],
    )
    potential.check_elements(frame.numbers)
    atoms = len(frame.numbers)
    directions = np.zeros((3 * atoms, len(many.numbers), 3))
    directions[np.arange(3 * atoms), np.repeat(np.arange(atoms), 3), np.tile(range(3), atoms)] = 1
    columns, forces = force_derivatives(potential, many, directions, block=block)
    if not np.isfinite(columns).all():
        raise ValueError(
            f"got second derivatives that are not finite for {frame.name or 'the crystal'}; "
            "expected numbers; check the structure, or whether the training diverged"
        )
    return ForceConstants(
        values=columns.reshape(atoms, 3, len(steps), atoms, 3),
        steps=steps,
        supercell=counts,
        positions=frame.positions,
        masses=masses,
        cell=frame.cell,
        pbc=frame.pbc,
        max_force=float(np.linalg.norm(forces, axis=1).max()),
    )


def dynamical_matrices(
    constants: ForceConstants, wave_vectors: Float[np.ndarray, "points 3"]
) -> Complex[np.ndarray, "points dof dof"]:
    """Dynamical matrices ``D(q) = sum_S Phi(0, S) exp(i q.R_S) / sqrt(m m')``.

    Where an atom of the supercell has several images equally near, its force constants are
    shared among them (the Wigner-Seitz cell of the supercell), so that bands are smooth between
    commensurate wave vectors and keep the symmetry of the crystal.

    Args:
      constants: of a supercell.
      wave_vectors: in units of the reciprocal lattice vectors ``[points, 3]``.

    Returns:
      ``[points, 3 atoms, 3 atoms]`` in eV/(Angstrom^2 amu), Hermitian.
    """
    phases = _phases(constants, np.asarray(wave_vectors, np.float64))
    atoms = len(constants.masses)
    matrix = np.einsum("iacjb,qicj->qiajb", constants.values, phases)
    roots = np.sqrt(constants.masses)
    matrix /= roots[:, None, None, None] * roots[:, None]
    matrix = matrix.reshape(len(phases), 3 * atoms, 3 * atoms)
    return 0.5 * (matrix + matrix.conj().transpose(0, 2, 1))


def phonon_frequencies(
    constants: ForceConstants, wave_vectors: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points modes"]:
    """Wave numbers ``[points, 3 atoms]`` in cm^-1, ascending; imaginary ones negative.

    Args:
      constants: of a supercell.
      wave_vectors: in units of the reciprocal lattice vectors ``[points, 3]``.
    """
    return wave_numbers(np.linalg.eigvalsh(dynamical_matrices(constants, wave_vectors)))


def _phases(
    constants: ForceConstants, wave_vectors: Float[np.ndarray, "points 3"]
) -> Complex[np.ndarray, "points atoms cells atoms"]:
    """Mean of ``exp(i q.R)`` over the nearest images of each pair of atoms, wherever they are."""
    counts, pbc = np.array(constants.supercell), np.asarray(constants.pbc, bool)
    # Of a reduced cell the nearest image lies next to the one that rounding gives.
    whole = complete_cell(constants.cell, pbc) * counts[:, None]
    periodic: Any = pbc  # ASE annotates a single value
    reduced, turned = minkowski_reduce(whole, periodic)
    there = (constants.steps @ constants.cell)[:, None] + constants.positions  # [cells, j, 3]
    arms = there - constants.positions[:, None, None]  # [i, cells, j, 3]
    first = np.where(pbc, -np.round(arms @ np.linalg.inv(reduced)), 0)
    around = np.array(list(itertools.product(*[(-1, 0, 1) if p else (0,) for p in pbc])))
    arms = (arms + first @ reduced)[..., None, :] + around @ reduced  # [i, cells, j, images, 3]
    distances = np.linalg.norm(arms, axis=-1)
    nearest = distances < distances.min(-1, keepdims=True) + 1e-4
    weights = nearest / nearest.sum(-1, keepdims=True)

    def turns(steps: np.ndarray) -> np.ndarray:
        return np.exp(2j * np.pi * np.einsum("qx,...x->q...", wave_vectors, steps))

    base = turns(constants.steps[:, None] + (first @ turned) * counts)  # [q, i, cells, j]
    return base * np.einsum("icjs,qs->qicj", weights, turns((around @ turned) * counts))


def _checked(supercell: Sequence[int], frame: Frame) -> tuple[int, int, int]:
    counts = tuple(int(n) for n in supercell)
    if not frame.pbc.any():
        raise ValueError(
            "got a molecule for phonons; expected a periodic structure; ask for vibrations"
        )
    free = [n for n, p in zip(counts, frame.pbc, strict=False) if not p]
    if len(counts) != 3 or min(counts) < 1 or any(n != 1 for n in free):
        raise ValueError(
            f"got the supercell {list(supercell)} for pbc {frame.pbc.tolist()}; expected three "
            "numbers of at least one, and one where the structure is not periodic; mend it"
        )
    return counts
