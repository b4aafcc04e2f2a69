"""Fingerprints of molecules: equal for equal structures, quick to compare."""

import ase.data
import numpy as np
from jaxtyping import Float

from mlffjax.types import HostNumbers, HostVectors


def overlap_fingerprint(numbers: HostNumbers, positions: HostVectors) -> Float[np.ndarray, "atoms"]:
    """Eigenvalues of the overlap matrix of s-type Gaussians at the atoms, descending.

    Sadeghi et al., J. Chem. Phys. 139, 184118 (2013): the width of each Gaussian is the covalent
    radius. They do not change under translation, rotation, reflection, and permutation of like
    atoms.

    Args:
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom.
    """
    radii = ase.data.covalent_radii[numbers]
    squares = radii[:, None] ** 2 + radii[None] ** 2
    distances2 = ((positions[:, None] - positions[None]) ** 2).sum(-1)
    overlap = (2 * np.outer(radii, radii) / squares) ** 1.5 * np.exp(-distances2 / (2 * squares))
    return np.linalg.eigvalsh(overlap)[::-1]


def fingerprint_bound(numbers: HostNumbers, rmsd: float) -> float:
    """The largest distance of the fingerprints of two structures this close.

    Eigenvalues move by no more than the matrix does (Hoffman and Wielandt), a matrix element by
    no more than ``exp(-1/2) / s`` times the change of its distance, with ``s^2`` the sum of the
    squared radii; and the squared changes of all distances sum up to ``2 atoms^2 rmsd^2`` at
    most. So no two structures within ``rmsd`` are ever told apart by their fingerprints.

    Args:
      numbers: atomic numbers ``[atoms]``.
      rmsd: in Angstrom, after alignment.
    """
    smallest = float(ase.data.covalent_radii[numbers].min())
    return len(numbers) * rmsd * float(np.exp(-0.5)) / smallest
