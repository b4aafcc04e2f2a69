"""Frames from ASE: extended XYZ, every format of ``ase.io``, and ``ase.db`` databases."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io

from mlffjax.config.data import READ_DEFAULTS, ReadSettings
from mlffjax.data import keys
from mlffjax.data.checks import RawFrame, UnitFactors, make_frame
from mlffjax.data.extxyz import iterate_extxyz
from mlffjax.data.frames import Frame

#: Suffixes of databases of ``ase.db``, whose labels may be in their columns; ``.aselmdb`` needs the
#: package ase-db-backends.
DATABASES = (".db", ".json", ".aselmdb")


def read_ase(path: Path, settings: ReadSettings) -> list[Frame]:
    """Read what ASE reads, labels from calculator results, info and arrays.

    Raises:
      ValueError: the file cannot be read, or a frame is wrong (the message names it).
    """
    return frames_from_atoms(iterate_ase(path), settings, source=path.name)


def iterate_ase(path: Path) -> Iterator[ase.Atoms]:
    """The structures of a file as ASE has them.

    Raises:
      ValueError: the file cannot be read.
    """
    if path.suffix in (".xyz", ".extxyz"):
        return iterate_extxyz(path)
    if path.suffix in DATABASES:
        return _iterate_database(path)
    return _iterate_any(path)


def frames_from_atoms(
    images: Iterator[ase.Atoms] | list[ase.Atoms],
    settings: ReadSettings = READ_DEFAULTS,
    source: str = "atoms",
) -> list[Frame]:
    """Frames from ASE's atoms with their labels.

    Args:
      images: structures; labels in calculator results, ``info`` or ``arrays``.
      settings: names and units.
      source: begins the name of each frame.

    Raises:
      ValueError: labels under ambiguous names, a wrong frame (the message names it), or names
        for what ASE reads by itself.
    """
    _refuse_structure_keys(settings, source)
    images = list(images)
    # A file of isolated atoms beside the others has energies, and nothing else to name.
    alone = all(len(atoms) == 1 for atoms in images)
    records = [_record(atoms) for atoms in images]

    def name(what: str, order: tuple[str, ...]) -> str | None:
        explicit = getattr(settings.keys, what)
        if alone and what != "energy" and not any(explicit in record for record in records):
            explicit = None
        return keys.choose_key(what, explicit, order, records, source)

    energy = name("energy", keys.ENERGY_KEYS)
    forces = name("forces", keys.FORCES_KEYS)
    group = name("group", keys.GROUP_KEYS)
    stress = None if settings.keys.virial else name("stress", keys.STRESS_KEYS)
    virial = None if stress else name("virial", keys.VIRIAL_KEYS)
    factors = UnitFactors.of(settings.units)
    frames = []
    for index, (atoms, record) in enumerate(zip(images, records, strict=True)):
        raw = RawFrame(
            name=f"{source}#{index}",
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            energy=_get(record, energy),
            forces=_get(record, forces),
            stress=_get(record, stress),
            virial=_get(record, virial),
            group=str(record.get(group or "", "")),
        )
        frames.append(make_frame(raw, factors))
    return frames


def _refuse_structure_keys(settings: ReadSettings, source: str) -> None:
    for what in ("positions", "numbers", "cell", "pbc"):
        if getattr(settings.keys, what) is not None:
            raise ValueError(
                f"{source}: got keys.{what} for a file that ASE reads, which finds {what} by "
                "itself; expected names of labels, and the others for npz files alone; remove it"
            )


def _record(atoms: ase.Atoms) -> Mapping[str, Any]:
    results = {} if atoms.calc is None else atoms.calc.results
    structure = ("numbers", "positions")
    arrays = {k: v for k, v in atoms.arrays.items() if k not in structure}
    return {k: v for k, v in {**arrays, **atoms.info, **results}.items() if v is not None}


def _get(record: Mapping[str, Any], name: str | None) -> Any:
    return None if name is None else record.get(name)


def _iterate_database(path: Path) -> Iterator[ase.Atoms]:
    try:
        for row in ase.db.connect(path).select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            atoms.info.update(row.data)
            yield atoms
    except Exception as error:  # the back ends of ase.db raise their own errors
        raise _unreadable(path, error) from None


def _iterate_any(path: Path) -> Iterator[ase.Atoms]:
    try:
        # Formats with one structure and trajectories alike answer to the index ":".
        yield from ase.io.iread(path, index=":")
    except Exception as error:  # each format of ase.io raises its own errors
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ValueError:
    text = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"{path.name}: got a file that ASE cannot read ({text}); expected a format of ase.io; "
        "check that it is complete and that its suffix names its format"
    )
