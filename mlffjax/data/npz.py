"""Frames from npz files: MD17, MD22 and sGDML, rMD17, NequIP, or names given by the user."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlffjax.config.data import ReadSettings
from mlffjax.data import keys
from mlffjax.data.checks import RawFrame, UnitFactors, make_frame
from mlffjax.data.frames import Frame
from mlffjax.units import ENERGY, LENGTH

#: Files whose authors publish kcal/mol and Angstrom: Chmiela et al., Sci. Adv. 3, e1603015
#: (2017) with their MD17/sGDML names, Christensen and von Lilienfeld, Mach. Learn.: Sci.
#: Technol. 1, 045018 (2020) with those of rMD17.
KCAL_NAMES = ({"R", "z", "E", "F"}, {"coords", "nuclear_charges", "energies", "forces"})


def read_npz(path: Path, settings: ReadSettings) -> list[Frame]:
    """Read an npz file with positions ``[frames, atoms, 3]`` and one or more compositions.

    Atomic numbers are ``[atoms]`` or ``[frames, atoms]``; energies ``[frames]`` or
    ``[frames, 1]``; forces ``[frames, atoms, 3]``; a cell ``[3, 3]``, ``[3]`` (lengths of an
    orthorhombic box) or one for each frame, and pbc ``[3]`` or ``[frames, 3]``. Periodic in
    all directions where there is a cell and no pbc.

    Raises:
      ValueError: the file is cut off, lacks positions or numbers, or a frame is wrong.
    """
    arrays = _Arrays(path)
    chosen = {
        what: keys.choose_key(what, getattr(settings.keys, what), order, [arrays.names], path.name)
        for what, order in (
            ("positions", keys.POSITION_KEYS),
            ("numbers", keys.NUMBER_KEYS),
            ("cell", keys.CELL_KEYS),
            ("pbc", keys.PBC_KEYS),
            ("energy", keys.ENERGY_KEYS),
            ("forces", keys.FORCES_KEYS),
            ("stress", keys.STRESS_KEYS),
            ("virial", keys.VIRIAL_KEYS),
            ("group", keys.GROUP_KEYS),
        )
    }
    for what in ("positions", "numbers"):
        if chosen[what] is None:
            raise ValueError(
                f"{path.name}: got the arrays {', '.join(arrays.names)}; expected {what} among "
                f"them; set keys.{what}"
            )
    data = {what: arrays[name] for what, name in chosen.items() if name is not None}
    if settings.keys.virial or "stress" not in data:
        data.pop("stress", None)
    else:
        data.pop("virial", None)
    return _frames(path, data, _factors(arrays, settings))


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of an npz file, with errors that name it."""

    def __init__(self, path: Path):
        self.path = path
        try:
            # NumPy leaves a file open that it cannot read; this one is closed.
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                self.names = dict.fromkeys(file.files)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, AttributeError) as error:
            raise self._broken(error) from None

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            with open(self.path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                return file[name]
        except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
            raise self._broken(error, f" in the array {name!r}") from None

    def __iter__(self):
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def _broken(self, error: Exception, where: str = "") -> ValueError:
        text = " ".join(str(error).split()) or type(error).__name__
        return ValueError(
            f"{self.path.name}: got an npz file that cannot be read{where} ({text}); expected a "
            "complete zip archive of numeric arrays; copy the file again"
        )


def _factors(arrays: _Arrays, settings: ReadSettings) -> UnitFactors:
    kcal = any(names <= set(arrays.names) for names in KCAL_NAMES)
    own = {name: str(arrays[name]) for name in ("e_unit", "r_unit") if name in arrays.names}
    energy = own.get("e_unit", "kcal/mol" if kcal else "eV")
    length = own.get("r_unit", "Angstrom")
    for what, unit, table in (("energy", energy, ENERGY), ("length", length, LENGTH)):
        if getattr(settings.units, what) is None and unit not in table:
            raise ValueError(
                f"{arrays.path.name}: got the {what} unit {unit!r} in the file; expected one of "
                f"{', '.join(table)}; set units.{what}"
            )
    return UnitFactors.of(settings.units, energy, length)


def _frames(path: Path, data: dict[str, np.ndarray], factors: UnitFactors) -> list[Frame]:
    positions = data["positions"]
    if positions.ndim == 2:
        positions = positions[None]
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise ValueError(
            f"{path.name}: got positions of the shape {positions.shape}; expected (frames, atoms, "
            "3); set keys.positions"
        )
    count = len(positions)
    whole = {"numbers": 1, "cell": 2, "pbc": 1}  # dimensions of one frame's value
    for what, values in data.items():
        shared = what in whole and values.ndim <= whole[what] and not _per_frame(what, values)
        if what != "positions" and not shared and (values.ndim == 0 or len(values) != count):
            raise ValueError(
                f"{path.name}: got {what} of the shape {values.shape} for {count} frames; expected "
                f"{count} entries along the first axis; set keys.{what}"
            )

    def pick(what: str, index: int) -> np.ndarray | None:
        values = data.get(what)
        if values is None:
            return None
        if what in whole and values.ndim <= whole[what] and not _per_frame(what, values):
            return values
        return values[index]

    frames = []
    for index in range(count):
        cell = _box(pick("cell", index))
        pbc = pick("pbc", index)
        if pbc is None and cell is not None:
            pbc = np.full(3, bool(cell.any()))
        raw = RawFrame(
            name=f"{path.name}#{index}",
            numbers=pick("numbers", index),
            positions=positions[index],
            cell=cell,
            pbc=pbc,
            energy=pick("energy", index),
            forces=pick("forces", index),
            stress=pick("stress", index),
            virial=pick("virial", index),
            group=str(pick("group", index)) if "group" in data else "",
        )
        frames.append(make_frame(raw, factors))
    return frames


def _per_frame(what: str, values: np.ndarray) -> bool:
    """Whether a cell of two dimensions is a list of boxes ``[frames, 9]``."""
    return what == "cell" and values.ndim == 2 and values.shape[1] != 3


def _box(cell: np.ndarray | None) -> np.ndarray | None:
    if cell is None:
        return None
    if cell.size == 3:
        return np.diag(np.ravel(cell))
    return cell.reshape(3, 3) if cell.size == 9 else cell
