"""Writers of trajectories and logs: appended block by block, never overwritten unasked."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import ase.data
import h5py
import numpy as np

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.ase_trajectory import AseTrajectoryWriter
from mlffjax.md.records import Block, FileWriter, Thermo
from mlffjax.md.trajectory_readers import open_hdf5

THERMO_FILE = "thermo.csv"
TRAJECTORY_FILE = {
    "extxyz": "trajectory.extxyz",
    "traj": "trajectory.traj",
    "h5md": "trajectory.h5",
}

_THERMO_COLUMNS = {
    "step": "step",
    "time_fs": "time_fs",
    "potential": "potential_eV",
    "kinetic": "kinetic_eV",
    "total": "total_eV",
    "conserved": "conserved_eV",
    "temperature": "temperature_K",
    "volume": "volume_A3",
    "pressure": "pressure_GPa",
}
#: Versions of the HDF5 format: the first with SWMR, under which a file is valid at any moment.
_HDF5_FORMAT = ("v110", "v110")


def clear_folder(folder: Path, overwrite: bool) -> None:
    """Take away what an earlier run, of replicas or not, has left where a new one begins.

    It would stand beside the files of the new run and be analysed with them or in their place.

    Args:
      folder: of the new run.
      overwrite: whether files of an earlier run may be replaced.

    Raises:
      FileExistsError: there are such files, and they may not be replaced; none is touched.
      OSError: a file cannot be removed.
    """
    replicas = sorted(p for p in folder.glob("replica_*") if p.is_dir())
    names = [THERMO_FILE, *TRAJECTORY_FILE.values()]
    left = [p for inner in (folder, *replicas) for name in names if (p := inner / name).exists()]
    if not overwrite:
        for path in left:
            _refuse_existing(path)
    for path in left:
        path.unlink()
    for inner in replicas:
        with contextlib.suppress(OSError):  # something else is in it
            inner.rmdir()


def open_writers(
    folder: Path,
    frame: Frame,
    settings: MDSettings,
    overwrite: bool,
    resume_at: Mapping[str, int] | None = None,
) -> list[FileWriter]:
    """The log and the trajectory of a run, in ``folder``.

    Args:
      folder: of the run.
      frame: where it starts.
      settings: of the run.
      overwrite: whether existing files may be replaced.
      resume_at: marks by the name of the file, to go on with existing files.

    Raises:
      FileExistsError: one of the files is there, and is neither to be replaced nor to be
        continued; none is touched.
      ValueError: a file to be continued is shorter than its mark.
      OSError: a file cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, trajectory = folder / THERMO_FILE, folder / TRAJECTORY_FILE[settings.trajectory_format]
    if not overwrite and resume_at is None:
        for path in (log, trajectory):
            _refuse_existing(path)
    marks = {
        path: None if resume_at is None else resume_at[path.name] for path in (log, trajectory)
    }
    opened: list[FileWriter] = [ThermoWriter(log, overwrite, resume_at=marks[log])]
    if settings.trajectory_format == "extxyz":
        opened.append(ExtxyzWriter(trajectory, frame, overwrite, resume_at=marks[trajectory]))
    elif settings.trajectory_format == "traj":
        opened.append(
            AseTrajectoryWriter(trajectory, frame, overwrite, resume_at=marks[trajectory])
        )
    else:
        moving = settings.ensemble.startswith("npt")
        opened.append(H5MDWriter(trajectory, frame, overwrite, moving, resume_at=marks[trajectory]))
    return opened


class ThermoWriter(FileWriter):
    """Energies, temperatures, volumes and pressures as CSV; marks are bytes.

    Energies are without the element baseline, in eV; what is not recorded is ``nan``.
    """

    def __init__(
        self, path: Path | str, overwrite: bool = False, *, resume_at: int | None = None
    ) -> None:
        self.path = Path(path)
        self._text = _Text(self.path, overwrite, resume_at)
        if resume_at is None:
            self._text.append(",".join(_THERMO_COLUMNS.values()) + "\n")

    def write(self, block: Block) -> None:
        """Append the rows of a block."""
        t = block.thermo
        values = [getattr(t, name) for name in list(_THERMO_COLUMNS)[1:]]
        absent = np.full(len(t.step), np.nan)
        table = np.stack([absent if column is None else column for column in values], axis=-1)
        self._text.append(
            "".join(
                f"{int(step)},{','.join(f'{x:.10g}' for x in row)}\n"
                for step, row in zip(t.step, table.tolist(), strict=True)
            )
        )

    def mark(self) -> int:
        """Bytes on the disk."""
        return self._text.mark()

    def close(self) -> None:
        """Close the file."""
        self._text.close()


class ExtxyzWriter(FileWriter):
    """Frames as extended XYZ: total energy, forces and velocities (A/fs); marks are bytes."""

    def __init__(
        self,
        path: Path | str,
        frame: Frame,
        overwrite: bool = False,
        *,
        resume_at: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._text = _Text(self.path, overwrite, resume_at)
        self._symbols = [ase.data.chemical_symbols[z] for z in frame.numbers]
        self._pbc = " ".join("T" if p else "F" for p in frame.pbc)

    def write(self, block: Block) -> None:
        """Append the frames of a block."""
        self._text.append("".join(self._frame(block, k) for k in range(len(block.step))))

    def mark(self) -> int:
        """Bytes on the disk."""
        return self._text.mark()

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def _frame(self, block: Block, k: int) -> str:
        rows = np.hstack([block.positions[k], block.velocities[k], block.forces[k]])
        lattice = " ".join(f"{x:.10g}" for x in np.ravel(block.cell[k]))
        cell = f'Lattice="{lattice}" ' if np.any(block.cell[k]) else ""
        atoms = "".join(
            f"{symbol} {' '.join(f'{x:.9g}' for x in row)}\n"
            for symbol, row in zip(self._symbols, rows.tolist(), strict=True)
        )
        return (
            f'{len(self._symbols)}\n{cell}pbc="{self._pbc}" '
            "Properties=species:S:1:pos:R:3:velocities:R:3:forces:R:3 "
            f"energy={block.energy[k]:.10f} step={int(block.step[k])} "
            f"time_fs={block.time_fs[k]:.10g}\n{atoms}"
        )


class H5MDWriter(FileWriter):
    """Frames as HDF5 in the H5MD layout (de Buyl et al., Comput. Phys. Commun. 185, 1546, 2014).

    Positions (Angstrom), velocities (Angstrom/fs) and forces (eV/Angstrom) in float32, total
    energies (eV) in float64; the lattice vectors of each frame where the cell moves. Written in
    HDF5's mode of a single writer and many readers, in which the file is valid after every
    flush, whatever happens to the writer. Marks are frames.
    """

    def __init__(
        self,
        path: Path | str,
        frame: Frame,
        overwrite: bool = False,
        moving_cell: bool = False,
        *,
        resume_at: int | None = None,
    ) -> None:
        self.path = Path(path)
        if resume_at is None:
            if not overwrite:
                _refuse_existing(self.path)
            self._file = h5py.File(self.path, "w" if overwrite else "x", libver=_HDF5_FORMAT)
            self._create(frame, moving_cell)
        else:
            self._file = _reopened(self.path)
        groups = {
            "positions": "particles/all/position",
            "velocities": "particles/all/velocity",
            "forces": "particles/all/force",
            "energy": "observables/potential_energy",
        }
        if moving_cell:
            groups["cell"] = "particles/all/box/edges"
        self._series: dict[str, Any] = {name: self._file[path] for name, path in groups.items()}
        if resume_at is not None:
            self._cut(resume_at)
        self._file.swmr_mode = True

    def write(self, block: Block) -> None:
        """Append the frames of a block."""
        try:
            for name, element in self._series.items():
                for key, values in (
                    ("value", getattr(block, name)),
                    ("step", block.step),
                    ("time", block.time_fs),
                ):
                    data = element[key]
                    data.resize(data.shape[0] + len(values), axis=0)
                    if len(values):
                        data[-len(values) :] = values
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error

    def mark(self) -> int:
        """Frames on the disk."""
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())
        return len(self._series["energy"]["value"])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _create(self, frame: Frame, moving_cell: bool) -> None:
        meta = self._file.create_group("h5md")
        meta.attrs["version"] = np.array([1, 1])
        meta.create_group("author").attrs["name"] = "unknown"
        meta.create_group("creator").attrs.update({"name": "mlffjax", "version": "1"})
        group = self._file.create_group("particles/all")
        group["species"] = np.asarray(frame.numbers, np.int32)
        box = group.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = ["periodic" if p else "none" for p in frame.pbc]
        if moving_cell:
            self._element(box, "edges", (3, 3), "f8", "Angstrom")
        else:
            box["edges"] = np.asarray(frame.cell, np.float64)
        shape = (len(frame.numbers), 3)
        self._element(group, "position", shape, "f4", "Angstrom")
        self._element(group, "velocity", shape, "f4", "Angstrom fs-1")
        self._element(group, "force", shape, "f4", "eV Angstrom-1")
        observables = self._file.create_group("observables")
        self._element(observables, "potential_energy", (), "f8", "eV")

    def _cut(self, frames: int) -> None:
        for element in self._series.values():
            for key in ("value", "step", "time"):
                if len(element[key]) < frames:
                    raise ValueError(_too_short(self.path, len(element[key]), frames, "frames"))
                element[key].resize(frames, axis=0)

    @staticmethod
    def _element(
        parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, unit: str
    ) -> None:
        group = parent.create_group(name)
        value = group.create_dataset(
            "value", (0, *shape), dtype, maxshape=(None, *shape), chunks=(64, *shape)
        )
        value.attrs["unit"] = unit
        group.create_dataset("step", (0,), "i8", maxshape=(None,), chunks=(1024,))
        time = group.create_dataset("time", (0,), "f8", maxshape=(None,), chunks=(1024,))
        time.attrs["unit"] = "fs"


def read_thermo(path: Path | str) -> Thermo:
    """The rows of a :class:`ThermoWriter` file; columns that are all ``nan`` are not recorded."""
    table = np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))
    columns: dict[str, Any] = {}
    for field in fields(Thermo):
        values = table[_THERMO_COLUMNS[field.name]]
        optional = field.name in ("volume", "pressure")
        columns[field.name] = None if optional and np.isnan(values).all() else values
    columns["step"] = columns["step"].astype(int)
    return Thermo(**columns)


class _Text:
    """Text appended in whole blocks; a block that did not fit on the disk is taken back."""

    def __init__(self, path: Path, overwrite: bool, resume_at: int | None) -> None:
        self._path = path
        if resume_at is None:
            if not overwrite:
                _refuse_existing(path)
            self._file = path.open("wb" if overwrite else "xb", buffering=0)
            return
        self._file = path.open("r+b", buffering=0)
        size = self._file.seek(0, os.SEEK_END)
        if size < resume_at:
            self._file.close()
            raise ValueError(_too_short(path, size, resume_at, "bytes"))
        self._file.truncate(resume_at)
        self._file.seek(resume_at)

    def append(self, text: str) -> None:
        start, rest = self._file.tell(), memoryview(text.encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
                self._file.seek(start)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def mark(self) -> int:
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def _reopened(path: Path) -> h5py.File:
    """An HDF5 file opened for writing; one whose writer was killed is copied first.

    HDF5 marks an open file and refuses to write to one that was never closed.
    """
    try:
        return h5py.File(path, "r+", libver=_HDF5_FORMAT)
    except OSError:
        if not path.exists():
            raise
    partial = path.with_name(f".{path.name}.partial")
    with open_hdf5(path) as old, h5py.File(partial, "w", libver=_HDF5_FORMAT) as new:
        for name in old:
            old.copy(name, new)
    os.replace(partial, path)
    return h5py.File(path, "r+", libver=_HDF5_FORMAT)


def _too_short(path: Path, size: int, mark: int, unit: str) -> str:
    return (
        f"got {path} with {size} {unit}; expected at least the {mark} that the restart knows; "
        "put the file back, or start anew with overwrite"
    )


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise FileExistsError(
            f"got the existing file {path}; expected a new one; choose another folder, or pass "
            "overwrite=True"
        )
