"""Small labelled data sets with an exact energy: clusters and crystals of Morse atoms."""

from collections.abc import Sequence

import jax
import numpy as np

from mlffjax.data.frames import Frame
from mlffjax.models import SchNet
from mlffjax.neighbors import neighbor_list
from mlffjax.potential import Potential

#: Energy E0 of each element in eV, large enough that float32 would lose digits of it.
BASELINE = {6: -1000.25, 8: -2000.5}
CUTOFF = 4.0


def morse(numbers, positions, cell, pbc) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and virial of a Morse pair energy of depth 0.5 eV, smooth at the cutoff."""
    j, i, shifts = neighbor_list(positions, cell, pbc, CUTOFF)
    vectors = positions[j] - positions[i] + shifts @ cell
    r = np.linalg.norm(vectors, axis=1)
    x = np.exp(-1.5 * (r - 2.0))
    well, slope = 0.5 * (x**2 - 2 * x), -1.5 * (x**2 - x)
    taper, taper_slope = (1 - (r / CUTOFF) ** 2) ** 2, -4 * r / CUTOFF**2 * (1 - (r / CUTOFF) ** 2)
    pair = 0.5 * (slope * taper + well * taper_slope)[:, None] * vectors / r[:, None]
    forces = np.zeros_like(positions)
    np.add.at(forces, i, pair)
    np.add.at(forces, j, -pair)
    energy = 0.5 * (well * taper).sum() + sum(BASELINE[int(z)] for z in numbers)
    return float(energy), forces, pair.T @ vectors


def cluster(num_atoms: int, seed: int, *, periodic: bool = False) -> Frame:
    """A rattled piece of a cubic lattice; periodic in a cube of 6 Angstrom where asked for."""
    rng = np.random.default_rng(seed)
    sites = 2.0 * np.stack(np.meshgrid(*3 * [np.arange(3)], indexing="ij"), -1).reshape(-1, 3)
    positions = sites[:num_atoms] + rng.normal(scale=0.15, size=(num_atoms, 3))
    numbers = rng.choice([6, 8], num_atoms)
    numbers[:2] = 6, 8
    cell = 6.0 * np.eye(3) if periodic else np.zeros((3, 3))
    pbc = np.full(3, periodic)
    energy, forces, virial = morse(numbers, positions, cell, pbc)
    stress = virial / 6.0**3 if periodic else None
    return Frame(numbers, positions, cell, pbc, energy, forces, stress, f"cluster#{seed}")


def clusters(count: int, sizes: Sequence[int] = (6,), *, periodic: bool = False) -> list[Frame]:
    """``count`` clusters whose sizes go round."""
    return [cluster(sizes[k % len(sizes)], k, periodic=periodic) for k in range(count)]


def untrained(dtype: str = "float32") -> Potential:
    """A small potential for the clusters."""
    module = SchNet(num_features=8, num_layers=1, num_basis=8, cutoff=CUTOFF)
    return Potential.init(
        module, list(BASELINE), jax.random.key(0), baseline=list(BASELINE.values()), dtype=dtype
    )
