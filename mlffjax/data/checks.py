"""A frame from raw arrays: units converted, shapes and numbers checked."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mlffjax.config.data import Label, UnitSettings, force_conversion
from mlffjax.data.frames import Frame
from mlffjax.neighbors import complete_cell
from mlffjax.units import ENERGY, LENGTH, PRESSURE, conversion


@dataclass(frozen=True)
class UnitFactors:
    """Factors from a file's units to eV and Angstrom; those of stress carry the sign.

    Attributes:
      energy, length, forces: to eV, Angstrom, eV/Angstrom.
      stress: to eV/Angstrom^3, tension positive.
      virial: to ``V stress`` in eV, tension positive.
    """

    energy: float
    length: float
    forces: float
    stress: float
    virial: float

    @classmethod
    def of(cls, units: UnitSettings, energy: str = "eV", length: str = "Angstrom") -> "UnitFactors":
        """Factors of settings; ``energy`` and ``length`` are the format's own units."""
        to_ev = conversion(units.energy or energy, ENERGY)
        to_angstrom = conversion(units.length or length, LENGTH)
        return cls(
            energy=to_ev,
            length=to_angstrom,
            forces=to_ev / to_angstrom if units.forces is None else force_conversion(units.forces),
            stress=conversion(units.stress or "eV/Angstrom^3", PRESSURE)
            * (-1.0 if units.stress_sign == "compression" else 1.0),
            virial=to_ev * (1.0 if units.stress_sign == "tension" else -1.0),
        )


@dataclass(frozen=True, eq=False)
class RawFrame:
    """What a file holds of one frame, in its own units; ``None`` where it holds nothing."""

    name: str
    numbers: Any
    positions: Any
    cell: Any = None
    pbc: Any = None
    energy: Any = None
    forces: Any = None
    stress: Any = None
    virial: Any = None
    group: str = ""


def make_frame(raw: RawFrame, factors: UnitFactors) -> Frame:
    """A checked frame in eV and Angstrom, float64.

    Raises:
      ValueError: no atoms, a wrong shape, a number that is not finite, an unknown element, a
        periodic cell without volume, a stress or virial of a cell without volume; the message
        names the frame.
    """
    numbers = _numbers(raw)
    count = len(numbers)
    positions = _array(raw, "positions", (count, 3)) * factors.length
    cell = np.zeros((3, 3)) if raw.cell is None else _array(raw, "cell", (3, 3)) * factors.length
    pbc = np.zeros(3, bool) if raw.pbc is None else np.broadcast_to(raw.pbc, (3,)).astype(bool)
    try:
        complete_cell(cell, pbc)
    except ValueError as error:
        raise ValueError(f"{raw.name}: {error}") from None
    energy = None if raw.energy is None else float(_scalar(raw)) * factors.energy
    forces = None if raw.forces is None else _array(raw, "forces", (count, 3)) * factors.forces
    return Frame(
        numbers=numbers,
        positions=positions,
        cell=cell,
        pbc=pbc,
        energy=energy,
        forces=forces,
        stress=_stress(raw, cell, factors),
        name=raw.name,
        group=raw.group,
    )


def has_volume(cell: Float[np.ndarray, "3 3"]) -> bool:
    """Whether the rows of a cell in Angstrom span a volume, without which there is no stress."""
    return bool(abs(np.linalg.det(cell)) >= 1e-9)


def is_isolated_atom(frame: Frame) -> bool:
    """Whether a frame is one atom alone.

    It is where its group says so (``IsolatedAtom``, ``isolated_atom``), and where it has one
    atom and no periodic image within 10 Angstrom.
    """
    if len(frame.numbers) != 1:
        return False
    if frame.group.replace("_", "").replace(" ", "").lower().startswith("isolatedatom"):
        return True
    if not frame.pbc.any():
        return True
    steps = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T * frame.pbc
    lengths = np.linalg.norm(steps[steps.any(1)] @ frame.cell, axis=1)
    return bool(lengths.min() > 10.0)


def check_labels(frame: Frame, require: tuple[Label, ...]) -> None:
    """Check that a frame has the labels that are required.

    An isolated atom needs only its energy; a frame without periodic directions has no stress.

    Raises:
      ValueError: a label is missing.
    """
    for label in require:
        if getattr(frame, label) is not None:
            continue
        if label != "energy" and is_isolated_atom(frame):
            continue
        if label == "stress" and not frame.pbc.all():
            continue
        raise ValueError(
            f"{frame.name}: got no {label}; expected one on every frame; set keys.{label} to the "
            f"name the file uses, or remove {label} from require"
        )


def _numbers(raw: RawFrame) -> np.ndarray:
    numbers = np.asarray(raw.numbers)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(
            f"{raw.name}: got atomic numbers of the shape {numbers.shape}; expected (atoms,) with "
            "at least one atom; remove the frame"
        )
    if not np.issubdtype(numbers.dtype, np.number) or not np.isfinite(numbers).all():
        raise ValueError(
            f"{raw.name}: got the atomic numbers {numbers[:5].tolist()}; expected whole numbers "
            "from 1 to 118; write numbers in place of symbols, or set keys.numbers"
        )
    whole = numbers.astype(np.int64)
    if (whole != numbers).any() or whole.min() < 1 or whole.max() > 118:
        bad = numbers[(whole != numbers) | (whole < 1) | (whole > 118)][0]
        raise ValueError(
            f"{raw.name}: got the atomic number {bad}; expected whole numbers from 1 to 118; "
            "remove dummy and padding atoms"
        )
    return whole.astype(np.int32)


def _array(raw: RawFrame, what: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.asarray(getattr(raw, what), np.float64)
    except (TypeError, ValueError):
        wanted = f"numbers in an array of the shape {shape}" if shape else "a number"
        raise ValueError(
            f"{raw.name}: got no number in {what}; expected {wanted}; mend the file, or set "
            f"keys.{what}"
        ) from None
    if values.shape != shape:
        raise ValueError(
            f"{raw.name}: got {what} of the shape {values.shape}; expected {shape}; mend the file, "
            f"or set keys.{what}"
        )
    if not np.isfinite(values).all():
        index = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(
            f"{raw.name}: got {values[tuple(index)]} in {what} at {index}; expected finite "
            "numbers; remove the frame (a label that is missing must be absent, not NaN)"
        )
    return values


def _scalar(raw: RawFrame) -> float:
    shape = np.shape(raw.energy)
    if np.prod(shape) != 1:
        raise ValueError(
            f"{raw.name}: got an energy of the shape {shape}; expected one number; set keys.energy"
        )
    return _array(replace(raw, energy=np.reshape(raw.energy, ())), "energy", ()).item()


def _stress(raw: RawFrame, cell: np.ndarray, factors: UnitFactors) -> np.ndarray | None:
    what = "stress" if raw.stress is not None else "virial"
    values = getattr(raw, what)
    if values is None:
        return None
    if np.size(values) == 6:  # Voigt order of ASE: xx, yy, zz, yz, xz, xy
        xx, yy, zz, yz, xz, xy = np.ravel(values)
        values = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    elif np.size(values) == 9:
        values = np.reshape(values, (3, 3))
    tensor = _array(replace(raw, **{what: values}), what, (3, 3))
    largest = np.abs(tensor).max()
    if np.abs(tensor - tensor.T).max() > 1e-3 * largest:
        raise ValueError(
            f"{raw.name}: got a {what} that is not symmetric, {tensor.tolist()}; expected a "
            f"symmetric 3x3 tensor; mend the file, or set keys.{what}"
        )
    tensor = 0.5 * (tensor + tensor.T)
    if not has_volume(cell):
        if not largest:
            return None  # what programs write for molecules beside crystals
        raise ValueError(
            f"{raw.name}: got a {what} and a cell without volume; expected a cell; set it, or "
            f"remove the {what}"
        )
    if what == "stress":
        return tensor * factors.stress
    return tensor * factors.virial / abs(np.linalg.det(cell))
