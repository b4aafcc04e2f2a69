"""Do energy differences between similar frames follow the forces and the stresses?

For two frames of the same atoms, to third order in their difference (trapezoidal rule),

    E_2 - E_1 = - (F_1 + F_2)/2 . dr + (V_1 sigma_1 + V_2 sigma_2)/2 : strain

with ``dr`` the change of positions at a fixed cell (of molecules, in large boxes too: after the
best rotation) and ``strain`` that of the cell. A factor between the two sides tells wrong units;
a better agreement with ``-sigma`` a wrong sign.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mlffjax.data.frames import Frame
from mlffjax.data.structure_checks import without_box
from mlffjax.types import HostVectors

COMPARED = 10_000  # pairs of frames that are looked at, about a second
FRAMES_A_GROUP = (10, 200)  # frames of one composition that are compared with one another
#: The most similar pairs are used. On the built-in ethanol, 20 of 10 000 pairs give a slope within
#: 10 % of one and a correlation of 0.98.
PAIRS = 20
MAX_STRAIN = 0.15  # beyond this the expansion says nothing
MAX_DISPLACEMENT = 0.5  # Angstrom, RMS
MIN_PAIRS = 5


@dataclass(frozen=True)
class Consistency:
    """Energy differences against the work of forces and stresses.

    Attributes:
      force_pairs: number of pairs of frames with the same cell.
      force_slope: energy difference over work of the forces, by least squares; 1 where
        energies and forces agree. ``None`` where there is no answer.
      force_correlation: of the two.
      stress_pairs: number of pairs with different cells.
      stress_sign: 1 where the stresses agree with the energies as read, -1 where they do with
        the opposite sign, ``None`` where it cannot be decided.
      stress_errors: RMS error of the energy differences with the stress as read and with the
        opposite sign, in eV.
    """

    force_pairs: int = 0
    force_slope: float | None = None
    force_correlation: float | None = None
    stress_pairs: int = 0
    stress_sign: int | None = None
    stress_errors: tuple[float, float] | None = None

    def lines(self, stresses: bool = True) -> list[str]:
        """Lines of the report, with or without the one on stresses."""
        if self.force_slope is None or self.force_correlation is None:
            first = (
                "energies against forces cannot be decided: too few similar frames of the same "
                "atoms and cell"
            )
        else:
            first = (
                f"energy differences are {self.force_slope:.3f} times the work of the forces "
                f"({self.force_pairs} pairs, correlation {self.force_correlation:.3f})"
            )
        if self.stress_errors is None:
            second = (
                "the sign of the stress cannot be decided: too few similar frames of the same "
                "atoms with stresses and different cells"
            )
        else:
            verdict = {
                1: "tension is positive, as it should be",
                -1: "the sign of the stress is reversed",
                None: "the sign of the stress cannot be decided",
            }[self.stress_sign]
            second = (
                f"{verdict}: energy differences are off by {self.stress_errors[0]:.3g} eV with the "
                f"stress as read and {self.stress_errors[1]:.3g} eV with the opposite sign "
                f"({self.stress_pairs} pairs)"
            )
        return [first, second] if stresses else [first]


@dataclass(frozen=True)
class _Pair:
    distance: float  # of the structures, Angstrom
    energy: float
    work_forces: float
    work_stress: float | None  # None for equal cells


def check_consistency(frames: Sequence[Frame]) -> Consistency:
    """Compare the most similar pairs of frames; quadratic only in a sample of the frames."""
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in map(without_box, frames):
        members = groups[frame.numbers.tobytes() + frame.pbc.tobytes()]
        if frame.energy is not None and frame.forces is not None:
            members.append(frame)
    several = sum(len(members) > 1 for members in groups.values())
    count = int(np.clip(np.sqrt(2 * COMPARED / max(several, 1)), *FRAMES_A_GROUP))
    pairs = [
        pair
        for members in groups.values()
        for a, b in combinations(members[:: max(1, -(-len(members) // count))], 2)
        if (pair := _compare(a, b)) is not None
    ]
    pairs.sort(key=lambda pair: pair.distance)
    same = [pair for pair in pairs if pair.work_stress is None][:PAIRS]
    other = [pair for pair in pairs if pair.work_stress is not None][:PAIRS]
    slope, correlation = _slope(same)
    sign, errors = _sign(other)
    return Consistency(len(same), slope, correlation, len(other), sign, errors)


def _compare(a: Frame, b: Frame) -> _Pair | None:
    if a.energy is None or b.energy is None or a.forces is None or b.forces is None:
        return None
    strain = np.zeros((3, 3))
    change, forces = b.positions - a.positions, b.forces
    if a.pbc.all():
        change, strain = _periodic_change(a, b)
        if np.abs(strain).max() > MAX_STRAIN:
            return None
    elif not a.pbc.any():
        rotation = _rotation(a.positions, b.positions)
        arms = b.positions - b.positions.mean(0)
        change = arms @ rotation - (a.positions - a.positions.mean(0))
        forces = b.forces @ rotation
    elif not np.allclose(a.cell, b.cell):
        return None
    displacement = float(np.sqrt(np.mean(np.sum(change**2, 1))))
    if displacement > MAX_DISPLACEMENT:
        return None
    work_stress = None
    if np.abs(strain).max() > 1e-4:
        if a.stress is None or b.stress is None:
            return None
        virials = [f.stress * abs(np.linalg.det(f.cell)) for f in (a, b) if f.stress is not None]
        work_stress = float(np.sum(0.5 * sum(virials) * strain))
    length = np.cbrt(abs(np.linalg.det(a.cell)) / len(a.numbers))
    return _Pair(
        distance=displacement + float(np.abs(strain).max() * length),
        energy=b.energy - a.energy,
        work_forces=-float(np.sum(0.5 * (a.forces + forces) * change)),
        work_stress=work_stress,
    )


def _rotation(a: HostVectors, b: HostVectors) -> np.ndarray:
    """The rotation that brings ``b @ rotation`` closest to ``a`` (Kabsch, 1976)."""
    u, _, v = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    u[:, 2] *= np.sign(np.linalg.det(u @ v))
    return u @ v


def _periodic_change(a: Frame, b: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Change of positions at the mean cell, by nearest images, and the strain of the cell."""
    mean = 0.5 * (a.cell + b.cell)
    strain = np.linalg.solve(mean, b.cell - a.cell)
    fractional = np.linalg.solve(b.cell.T, b.positions.T).T
    fractional = fractional - np.linalg.solve(a.cell.T, a.positions.T).T
    fractional -= np.round(fractional)
    fractional -= fractional.mean(0)
    return fractional @ mean, 0.5 * (strain + strain.T)


def _slope(pairs: list[_Pair]) -> tuple[float | None, float | None]:
    energy = np.array([pair.energy for pair in pairs])
    work = np.array([pair.work_forces for pair in pairs])
    if len(pairs) < MIN_PAIRS or not work.any() or not energy.any():
        return None, None
    product = float(energy @ work)
    correlation = product / float(np.linalg.norm(energy) * np.linalg.norm(work))
    # Below this the pairs are too far apart for the trapezoidal rule.
    if correlation < 0.8:
        return None, correlation
    return product / float(work @ work), correlation


def _sign(pairs: list[_Pair]) -> tuple[int | None, tuple[float, float] | None]:
    if len(pairs) < MIN_PAIRS:
        return None, None
    rest = np.array([pair.energy - pair.work_forces for pair in pairs])
    work = np.array([pair.work_stress for pair in pairs], np.float64)
    errors = tuple(float(np.sqrt(np.mean((rest - sign * work) ** 2))) for sign in (1, -1))
    sign = 1 if errors[0] < 0.7 * errors[1] else -1 if errors[1] < 0.7 * errors[0] else None
    return sign, (errors[0], errors[1])
