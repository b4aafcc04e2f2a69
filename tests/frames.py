"""Small frames with known labels for the tests of the data package."""

from dataclasses import replace

import numpy as np

from mlffjax.data.frames import Frame

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def water_frames(count: int = 4, seed: int = 0) -> list[Frame]:
    """Waters of harmonic springs: forces and energies agree exactly."""
    rng = np.random.default_rng(seed)
    return [spring_frame(WATER + 0.05 * rng.standard_normal((3, 3)), k) for k in range(count)]


def spring_frame(positions: np.ndarray, index: int) -> Frame:
    """A water with springs of 20 eV/A^2 between all atoms, 10 eV below zero."""
    energy, forces = -10.0, np.zeros((3, 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        vector = positions[j] - positions[i]
        length = np.linalg.norm(vector)
        rest = np.linalg.norm(WATER[j] - WATER[i])
        energy += 10.0 * (length - rest) ** 2
        pull = 20.0 * (length - rest) * vector / length
        forces[i] += pull
        forces[j] -= pull
    return Frame(
        numbers=np.array([8, 1, 1], np.int32),
        positions=positions,
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
        energy=float(energy),
        forces=forces,
        name=f"water#{index}",
        group="hot",
    )


def isolated(number: int, energy: float, group: str = "IsolatedAtom") -> Frame:
    """One atom alone."""
    return Frame(
        numbers=np.array([number], np.int32),
        positions=np.zeros((1, 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
        energy=energy,
        name=f"atom{number}",
        group=group,
    )


def crystal_frames(count: int = 12, seed: int = 0) -> list[Frame]:
    """Neon-like pairs in strained boxes, energy quadratic in the strain of a reference cell.

    With ``e = sym(cell0^-1 cell) - 1`` the energy is ``5 tr(e^T e)``, so that the stress is its
    derivative; there are no forces.
    """
    rng = np.random.default_rng(seed)
    reference = np.array([[4.0, 0, 0], [0.3, 4.2, 0], [0, 0.2, 4.4]])
    fractional = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
    frames = []
    for index in range(count):
        strain = 0.02 * rng.standard_normal((3, 3)) + 0.03 * np.eye(3)
        strain = 0.5 * (strain + strain.T)
        cell = reference @ (np.eye(3) + strain)
        # dE = 10 e : de with de = (1 + e) d(eta), and the cell changing by (1 + eta).
        virial = 10.0 * strain @ (np.eye(3) + strain)
        virial = 0.5 * (virial + virial.T)
        frames.append(
            Frame(
                numbers=np.array([10, 10], np.int32),
                positions=fractional @ cell,
                cell=cell,
                pbc=np.ones(3, bool),
                energy=5.0 * float(np.sum(strain**2)),
                forces=np.zeros((2, 3)),
                stress=virial / np.linalg.det(cell),
                name=f"crystal#{index}",
            )
        )
    return frames


def without(frame: Frame, *labels: str) -> Frame:
    """A frame with labels removed."""
    return replace(frame, **dict.fromkeys(labels))
