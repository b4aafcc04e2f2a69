"""Coordinates that a scan moves along: dihedral angles, distances, shifts of a group of atoms.

Each is a smooth function of the positions, whose derivative JAX takes, and a rigid motion of a
group of atoms that changes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from ase.geometry import find_mic
from jaxtyping import Array, Float
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from mlffjax.data.frames import Frame
from mlffjax.explore.structures import Structure, as_frame
from mlffjax.md.bonds import BOND_FACTOR, find_bonds
from mlffjax.types import HostVectors, Positions


class Coordinate(Protocol):
    """What a scan needs of a coordinate."""

    @property
    def label(self) -> str:
        """Name with its unit, for axes and tables."""
        ...

    @property
    def period(self) -> float | None:
        """After which values repeat, or ``None``."""
        ...

    def value(self, positions: Positions) -> Float[Array, ""]:
        """The coordinate of a structure, differentiable."""
        ...

    def place(self, positions: HostVectors, target: float) -> HostVectors:
        """The structure with its group moved rigidly until the coordinate is ``target``."""
        ...


@dataclass(frozen=True)
class Dihedral:
    """Dihedral angle of four atoms in degrees, from -180 to 180; IUPAC's sign.

    Not through a periodic cell: the four atoms are taken where they are.

    Attributes:
      atoms: indices i, j, k, l.
      group: atoms that turn about the bond j-k, l among them.
    """

    atoms: tuple[int, int, int, int]
    group: tuple[int, ...]

    @property
    def label(self) -> str:
        """Name with its unit."""
        return f"dihedral {'-'.join(map(str, self.atoms))} (°)"

    @property
    def period(self) -> float | None:
        """A full turn."""
        return 360.0

    def value(self, positions: Positions) -> Float[Array, ""]:
        """The angle in degrees."""
        i, j, k, l = (positions[n] for n in self.atoms)  # noqa: E741
        first, axis, last = j - i, k - j, l - k
        normal, other = jnp.cross(first, axis), jnp.cross(axis, last)
        sine = jnp.dot(jnp.cross(normal, other), axis) / jnp.linalg.norm(axis)
        return jnp.rad2deg(jnp.arctan2(sine, jnp.dot(normal, other)))

    def place(self, positions: HostVectors, target: float) -> HostVectors:
        """The group turned about the bond."""
        turn = np.deg2rad(target - float(dihedral_angles(positions, self.atoms)))
        j, k = positions[self.atoms[1]], positions[self.atoms[2]]
        axis = (k - j) / np.linalg.norm(k - j)
        moved, group = positions.copy(), list(self.group)
        moved[group] = Rotation.from_rotvec(turn * axis).apply(positions[group] - k) + k
        return moved


@dataclass(frozen=True)
class Distance:
    """Distance of two atoms in Angstrom, not through a periodic cell.

    Attributes:
      atoms: indices i and j.
      group: atoms that move with j.
    """

    atoms: tuple[int, int]
    group: tuple[int, ...]

    @property
    def label(self) -> str:
        """Name with its unit."""
        return f"distance {self.atoms[0]}-{self.atoms[1]} (Å)"

    @property
    def period(self) -> float | None:
        """None."""
        return None

    def value(self, positions: Positions) -> Float[Array, ""]:
        """The distance in Angstrom."""
        return jnp.linalg.norm(positions[self.atoms[1]] - positions[self.atoms[0]])

    def place(self, positions: HostVectors, target: float) -> HostVectors:
        """The group shifted along the line of the two atoms."""
        arm = positions[self.atoms[1]] - positions[self.atoms[0]]
        length = np.linalg.norm(arm)
        moved = positions.copy()
        moved[list(self.group)] += (target / length - 1) * arm
        return moved


@dataclass(frozen=True)
class Shift:
    """How far the centre of a group lies from that of all other atoms, along a direction.

    Attributes:
      group: indices of the atoms that are shifted.
      direction: of any length.
      origin: value that counts as zero in Angstrom; :func:`shift` takes it from a structure.
    """

    group: tuple[int, ...]
    direction: tuple[float, float, float]
    origin: float = 0.0

    @property
    def label(self) -> str:
        """Name with its unit."""
        text = " ".join(f"{x:g}" for x in self.direction)
        return f"shift along [{text}] (Å)"

    @property
    def period(self) -> float | None:
        """None."""
        return None

    def value(self, positions: Positions) -> Float[Array, ""]:
        """The shift in Angstrom."""
        count = positions.shape[0]
        weights = np.full(count, -1.0 / (count - len(self.group)))
        weights[list(self.group)] = 1.0 / len(self.group)
        unit = np.asarray(self.direction) / np.linalg.norm(self.direction)
        projected = jnp.asarray(weights, positions.dtype) @ positions
        return projected @ jnp.asarray(unit, positions.dtype) - self.origin

    def place(self, positions: HostVectors, target: float) -> HostVectors:
        """The group shifted along the direction."""
        unit = np.asarray(self.direction) / np.linalg.norm(self.direction)
        others = np.setdiff1d(np.arange(len(positions)), self.group)
        between = positions[list(self.group)].mean(0) - positions[others].mean(0)
        moved = positions.copy()
        moved[list(self.group)] += (target + self.origin - between @ unit) * unit
        return moved


def dihedral(
    structure: Structure, atoms: Sequence[int], group: Sequence[int] | None = None
) -> Dihedral:
    """A dihedral angle of a structure.

    Args:
      structure: in which the four atoms lie next to one another.
      atoms: indices i, j, k, l.
      group: atoms that turn with l; without it, those bonded to k but not through j.

    Raises:
      ValueError: wrong indices, atoms, or parts of what turns, across a periodic border, or a bond
        j-k that is part of a ring.
    """
    frame = as_frame(structure)
    _check_indices(frame, atoms, 4)
    _check_images(frame, atoms)
    i, j, k, l = (int(n) for n in atoms)  # noqa: E741
    moving = _side(frame, j, k) if group is None else tuple(int(n) for n in group)
    if group is None:
        _check_whole(frame, moving)
    if i in moving or j in moving or l not in moving:
        raise ValueError(
            f"got the dihedral {[i, j, k, l]} with the moving atoms {sorted(moving)}; expected the "
            f"last atom among them and not the first two (a bond {j}-{k} in a ring cannot turn); "
            "choose other atoms or give the group"
        )
    return Dihedral((i, j, k, l), moving)


def distance(
    structure: Structure, atoms: Sequence[int], group: Sequence[int] | None = None
) -> Distance:
    """The distance of two atoms of a structure.

    Args:
      structure: in which the two atoms lie next to one another.
      atoms: indices i and j.
      group: atoms that move with j; without it, the part bonded to j, where that leaves out i,
        else j alone.

    Raises:
      ValueError: wrong indices, or atoms, or parts of what moves with j, across a periodic border.
    """
    frame = as_frame(structure)
    _check_indices(frame, atoms, 2)
    _check_images(frame, atoms)
    i, j = (int(n) for n in atoms)
    if group is not None:
        return Distance((i, j), tuple(int(n) for n in group))
    moving = _side(frame, i, j)
    if i in moving:
        return Distance((i, j), (j,))
    _check_whole(frame, moving)
    return Distance((i, j), moving)


def shift(structure: Structure, group: Sequence[int], direction: Sequence[float]) -> Shift:
    """The shift of a group of atoms against the rest; zero in the structure given.

    Args:
      structure: where the shift is zero.
      group: indices of the atoms that are shifted.
      direction: three components in Angstrom, of any length.

    Raises:
      ValueError: wrong indices, all atoms in the group, or no direction.
    """
    frame = as_frame(structure)
    _check_indices(frame, group, None)
    if len(direction) != 3 or not np.linalg.norm(direction) > 0:
        raise ValueError(f"got the direction {list(direction)}; expected a vector of some length")
    if len(group) == len(frame.numbers):
        raise ValueError("got all atoms in the shifted group; expected some to stay; name fewer")
    x, y, z = (float(v) for v in direction)
    plain = Shift(tuple(int(n) for n in group), (x, y, z))
    return Shift(plain.group, plain.direction, float(plain.value(jnp.asarray(frame.positions))))


def dihedral_angles(
    positions: Float[np.ndarray, "*frames atoms 3"], atoms: Sequence[int]
) -> Float[np.ndarray, "*frames"]:
    """Dihedral angles of many structures in degrees, from -180 to 180; IUPAC's sign.

    Args:
      positions: in Angstrom.
      atoms: indices of the four atoms.
    """
    i, j, k, l = (positions[..., n, :] for n in atoms)  # noqa: E741
    first, axis, last = j - i, k - j, l - k
    normal, other = np.cross(first, axis), np.cross(axis, last)
    sine = np.sum(np.cross(normal, other) * axis, -1) / np.linalg.norm(axis, axis=-1)
    return np.rad2deg(np.arctan2(sine, np.sum(normal * other, -1)))


def _side(frame: Frame, j: int, k: int) -> tuple[int, ...]:
    """Atoms bonded to k, directly or not, once the bond j-k is cut."""
    numbers, positions = frame.numbers, frame.positions
    reach = BOND_FACTOR * (covalent_radii[numbers][:, None] + covalent_radii[numbers])
    bonded = np.linalg.norm(positions[:, None] - positions, axis=-1) < reach
    bonded[j, k] = bonded[k, j] = False
    labels = connected_components(bonded, directed=False)[1]
    return tuple(int(n) for n in np.flatnonzero(labels == labels[k]))


def _check_whole(frame: Frame, group: tuple[int, ...]) -> None:
    """Refuse a group that was found by bonds and has others across a periodic border."""
    inside = np.isin(np.arange(len(frame.numbers)), group)
    bonds = find_bonds(frame)
    torn = bonds.shifts.any(axis=1) & (inside[bonds.pairs[:, 0]] != inside[bonds.pairs[:, 1]])
    if torn.any():
        a, b = bonds.pairs[torn][0].tolist()
        raise ValueError(
            f"got the atoms {a} and {b}, bonded across a periodic border, of which one would move "
            "and one not; expected a molecule that is whole; move it by lattice vectors first, or "
            "give the group"
        )


def _check_indices(frame: Frame, atoms: Sequence[int], count: int | None) -> None:
    wrong = any(not 0 <= int(n) < len(frame.numbers) for n in atoms)
    size = len(atoms) != count if count is not None else not len(atoms)
    if wrong or size or len({int(n) for n in atoms}) != len(atoms):
        what = "some" if count is None else str(count)
        raise ValueError(
            f"got the atoms {list(atoms)}; expected {what} different indices from 0 to "
            f"{len(frame.numbers) - 1}; mend them"
        )


def _check_images(frame: Frame, atoms: Sequence[int]) -> None:
    """Refuse atoms of which a nearer periodic image lies next to the one before."""
    places = frame.positions[[int(n) for n in atoms]]
    straight = np.diff(places, axis=0)
    periodic: Any = frame.pbc  # ASE annotates a single value
    nearest = find_mic(straight, frame.cell, periodic)[1]
    if (np.linalg.norm(straight, axis=1) > nearest + 1e-3).any():
        raise ValueError(
            f"got the atoms {list(atoms)}, of which one lies across a periodic border from the one "
            "before; expected them next to one another; move them by lattice vectors first"
        )
