"""The ``data`` section of a training file: where the frames are and how to read them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, field_validator, model_validator

from mlffjax.config.base import Settings
from mlffjax.units import ENERGY, LENGTH, PRESSURE, conversion

Label = Literal["energy", "forces", "stress"]


def _check_share(share: Any) -> Any:
    whole = isinstance(share, int) and not isinstance(share, bool) and share >= 0
    if whole or share == "rest" or (isinstance(share, float) and 0 <= share <= 1):
        return share
    raise ValueError("a whole number of frames, a fraction from 0.0 to 1.0, or 'rest'")


#: A whole number counts frames, a number with a decimal point is a fraction of them.
Share = Annotated[int | float | Literal["rest"], BeforeValidator(_check_share)]


class LabelKeys(Settings):
    """Names under which a file keeps what a frame needs; ``None`` searches the default order.

    The default orders are in :mod:`mlffjax.data.keys`. A key named here must be there.

    Attributes:
      energy, forces, stress: names of the labels, in the info or arrays of an ASE frame, in
        its calculator's results, or in an npz file.
      virial: name of a virial ``-V stress`` (an energy), used in place of a stress.
      group: name of the frame's own label (``config_type``).
      positions, numbers, cell, pbc: names in an npz file.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    group: str | None = None
    positions: str | None = None
    numbers: str | None = None
    cell: str | None = None
    pbc: str | None = None

    @model_validator(mode="after")
    def _one_stress(self) -> Self:
        if self.stress is not None and self.virial is not None:
            raise ValueError("a stress or a virial key, not both; remove one")
        return self


class UnitSettings(Settings):
    """Units of a file; ``None`` takes the custom of its format.

    That is eV and Angstrom, except for npz files with the names of rMD17 and of MD17, MD22
    and sGDML, whose authors publish kcal/mol (unless the file names its own ``e_unit`` and
    ``r_unit``).

    Attributes:
      energy: ``eV``, ``meV``, ``Hartree``, ``Ha``, ``Ry``, ``kcal/mol`` or ``kJ/mol``.
      length: ``Angstrom``, ``Å``, ``Bohr``, ``nm`` or ``pm``; of positions and cell.
      forces: ``energy/length``, as ``kcal/mol/Angstrom``; from the two above by default.
      stress: ``eV/Angstrom^3`` (the default), ``eV/Å^3``, ``GPa``, ``kbar``, ``bar`` or
        ``Hartree/Bohr^3``. A virial is in the unit of the energy.
      stress_sign: ``tension`` where a stretched crystal has a positive stress (ASE),
        ``compression`` where a compressed one has (VASP's OUTCAR). By default tension for a
        stress and compression for a virial (the custom of QUIP's and MACE's files).
    """

    energy: str | None = None
    length: str | None = None
    forces: str | None = None
    stress: str | None = None
    stress_sign: Literal["tension", "compression"] | None = None

    @field_validator("energy")
    @classmethod
    def _known_energy(cls, unit: str | None) -> str | None:
        return _known(unit, ENERGY)

    @field_validator("length")
    @classmethod
    def _known_length(cls, unit: str | None) -> str | None:
        return _known(unit, LENGTH)

    @field_validator("stress")
    @classmethod
    def _known_stress(cls, unit: str | None) -> str | None:
        return _known(unit, PRESSURE)

    @field_validator("forces")
    @classmethod
    def _known_forces(cls, unit: str | None) -> str | None:
        if unit is not None:
            energy, _, length = unit.rpartition("/")
            if energy not in ENERGY or length not in LENGTH:
                raise ValueError(
                    f"energy/length, as eV/Angstrom, with one of {', '.join(ENERGY)} and one of "
                    f"{', '.join(LENGTH)}"
                )
        return unit


class ReadSettings(Settings):
    """How to read frames from a file.

    Attributes:
      keys: names of the labels.
      units: units of the file.
      require: labels that every frame must have; isolated atoms need no forces or stress.
    """

    keys: LabelKeys = LabelKeys()
    units: UnitSettings = UnitSettings()
    require: tuple[Label, ...] = ()


class SplitSettings(Settings):
    """Which frames of the training files train, validate and test.

    Attributes:
      file: an index file (npz or JSON with train, valid and test); nothing else is then used.
      train, valid, test: a number of frames, a fraction with a decimal point, or ``rest``.
        By default a tenth validates (nothing where a validation file is given), nothing
        tests, and the rest trains.
      seed: of the random choice.
    """

    file: str | None = None
    train: Share = "rest"
    valid: Share | None = None
    test: Share = 0
    seed: int = 0

    @model_validator(mode="after")
    def _one_rest(self) -> Self:
        if [self.train, self.valid, self.test].count("rest") > 1:
            raise ValueError("'rest' for one of train, valid and test; give numbers to the others")
        return self


class BaselineSettings(Settings):
    """Energy E0 of each element, subtracted before training.

    Attributes:
      source: ``given`` (in ``energies``), ``isolated`` (isolated-atom frames),
        ``least_squares`` (a fit of the training energies), ``none`` (zero), or ``auto``: given
        where energies are given, else those of ``model.start`` shifted to fit the training
        energies best, else isolated where those frames cover all elements, else least squares.
        Frames of isolated atoms are not trained on: the energy of a lone atom is not E0 but E0
        plus the mean interaction energy per atom of the training frames (the shift in ``mlffjax
        info``) plus what the network adds. For energies of atomization and broken bonds train on
        frames with atoms pulled apart.
      energies: eV by chemical symbol.
    """

    source: Literal["auto", "given", "isolated", "least_squares", "none"] = "auto"
    energies: dict[str, float] | None = None

    @model_validator(mode="after")
    def _energies_used(self) -> Self:
        if self.source == "given" and not self.energies:
            raise ValueError("energies by chemical symbol for source: given; add them")
        if self.source not in ("given", "auto") and self.energies:
            raise ValueError(f"no energies for source: {self.source}; remove them")
        return self


class DataSettings(ReadSettings):
    """The ``data`` section.

    Attributes:
      train: file or files; ``builtin:ethanol`` is the built-in set. A relative path, here and
        elsewhere, begins in the folder where the command runs, not in that of its settings file.
      valid, test: file or files, whose isolated atoms are left out; without them the frames
        come from ``train`` by ``split``.
      split: how the training files are divided.
      baseline: element energies.
      require: labels that every frame must have.
    """

    train: str | tuple[str, ...]
    valid: str | tuple[str, ...] = ()
    test: str | tuple[str, ...] = ()
    split: SplitSettings = SplitSettings()
    baseline: BaselineSettings = BaselineSettings()
    require: tuple[Label, ...] = ("energy", "forces")

    @model_validator(mode="after")
    def _no_second_source(self) -> Self:
        if not self.train:
            raise ValueError("at least one training file")
        for name in ("valid", "test"):
            if getattr(self, name) and getattr(self.split, name):
                raise ValueError(
                    f"the {name} frames from a file or from split.{name}, not both; remove one"
                )
        return self


#: The defaults of the functions that take these settings.
READ_DEFAULTS = ReadSettings()
SPLIT_DEFAULTS = SplitSettings()
BASELINE_DEFAULTS = BaselineSettings()


def force_conversion(unit: str) -> float:
    """Factor from a force unit, ``energy/length``, to eV/Angstrom.

    Raises:
      ValueError: an unknown unit.

    >>> round(force_conversion("Hartree/Bohr"), 4)
    51.4221
    """
    energy, slash, length = unit.rpartition("/")
    if not slash:
        raise ValueError(f"unknown unit {unit!r}; expected energy/length, as eV/Angstrom")
    return conversion(energy, ENERGY) / conversion(length, LENGTH)


def _known(unit: str | None, table: dict[str, float]) -> str | None:
    if unit is not None and unit not in table:
        raise ValueError(f"one of {', '.join(table)}")
    return unit
