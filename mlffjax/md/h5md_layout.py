"""What the H5MD layout leaves open: names of units, times of all frames or one interval."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float, Int

#: Names of our units in H5MD files, first the one that is written here.
UNITS = {
    "positions": ("Angstrom", "angstrom", "Å", "A"),
    "velocities": ("Angstrom fs-1", "angstrom fs-1", "Å fs-1", "A fs-1"),
    "forces": ("eV Angstrom-1", "eV angstrom-1", "eV Å-1", "eV A-1"),
    "energy": ("eV",),
    "stress": ("eV Angstrom-3", "eV angstrom-3", "eV Å-3", "eV A-3"),
    "times": ("fs",),
}


class FrameTimes:
    """Times of the frames of an element of H5MD in fs: an array, or one interval for all.

    Args:
      element: group with ``value`` and ``time``.
    """

    def __init__(self, element: Any) -> None:
        self._data, self._frames = element["time"], len(element["value"])
        self.unit = self._data.attrs.get("unit")

    def __len__(self) -> int:
        return len(self._data) if self._data.shape else self._frames

    def __getitem__(self, rows: slice) -> Float[np.ndarray, "frames"]:
        if self._data.shape:
            return np.asarray(self._data[rows], np.float64)
        first = float(self._data.attrs.get("offset", 0.0))
        return first + float(self._data[()]) * np.arange(self._frames)[rows]


def check_units(units: Mapping[str, Any]) -> None:
    """Refuse units that are not ours; what a file does not name is taken as ours.

    Args:
      units: attributes ``unit`` by the names of :data:`UNITS`; ``None`` where there is none.

    Raises:
      ValueError: another unit.
    """
    for name, unit in units.items():
        text = unit.decode() if isinstance(unit, bytes) else str(unit or "")
        if text and text not in UNITS[name]:
            raise ValueError(f"got {name} in {text}; expected {UNITS[name][0]}; convert the file")


def check_species(numbers: Int[np.ndarray, "*shape"]) -> None:
    """Refuse species that are not the atomic numbers of all frames.

    Raises:
      ValueError: another shape, or a number that no element has.
    """
    if numbers.ndim != 1 or not np.isin(numbers, range(1, len(atomic_masses))).all():
        raise ValueError(
            f"got the species {numbers.ravel()[:5].tolist()} and so on; expected atomic numbers "
            "[atoms], the same in all frames; write these as particles/all/species"
        )
