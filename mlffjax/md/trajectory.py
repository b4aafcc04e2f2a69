"""Trajectories and logs on disk: appended block by block, flushed, never overwritten unasked."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, overload

import ase.data
import h5py
import numpy as np

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.records import Block, Thermo, Writer

THERMO_FILE = "thermo.csv"
TRAJECTORY_FILE = {"extxyz": "trajectory.extxyz", "h5md": "trajectory.h5"}

_THERMO_COLUMNS = (
    "step",
    "time_fs",
    "potential_eV",
    "kinetic_eV",
    "total_eV",
    "conserved_eV",
    "temperature_K",
)


def open_writers(
    folder: Path, frame: Frame, settings: MDSettings, overwrite: bool
) -> list["ThermoWriter | ExtxyzWriter | H5MDWriter"]:
    """The log and the trajectory of a run, in ``folder``.

    Raises:
      FileExistsError: one of the files is there and ``overwrite`` is false; none is touched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, trajectory = folder / THERMO_FILE, folder / TRAJECTORY_FILE[settings.trajectory_format]
    if not overwrite:
        for path in (log, trajectory):
            _refuse_existing(path)
    writer = ExtxyzWriter if settings.trajectory_format == "extxyz" else H5MDWriter
    return [ThermoWriter(log, overwrite), writer(trajectory, frame, overwrite)]


class ThermoWriter(Writer):
    """Energies and temperatures as CSV.

    Energies are without the element baseline, in eV; ``conserved_eV`` is ``nan`` for Langevin.
    """

    def __init__(self, path: Path | str, overwrite: bool = False) -> None:
        self._file = _open_new(Path(path), overwrite)
        self._csv = csv.writer(self._file)
        self._csv.writerow(_THERMO_COLUMNS)

    def write(self, block: Block) -> None:
        """Append the rows of a block."""
        t = block.thermo
        columns = (t.time_fs, t.potential, t.kinetic, t.total, t.conserved, t.temperature)
        for k, step in enumerate(t.step):
            self._csv.writerow([int(step), *(f"{column[k]:.10g}" for column in columns)])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ExtxyzWriter(Writer):
    """Frames as extended XYZ: total energy, forces and velocities (Angstrom/fs)."""

    def __init__(self, path: Path | str, frame: Frame, overwrite: bool = False) -> None:
        self._file = _open_new(Path(path), overwrite)
        self._symbols = [ase.data.chemical_symbols[z] for z in frame.numbers]
        lattice = " ".join(f"{x:.10g}" for x in np.ravel(frame.cell))
        pbc = " ".join("T" if p else "F" for p in frame.pbc)
        self._cell = (f'Lattice="{lattice}" ' if np.any(frame.cell) else "") + f'pbc="{pbc}"'

    def write(self, block: Block) -> None:
        """Append the frames of a block."""
        for k, step in enumerate(block.step):
            rows = np.hstack([block.positions[k], block.velocities[k], block.forces[k]])
            self._file.write(
                f"{len(self._symbols)}\n{self._cell} "
                "Properties=species:S:1:pos:R:3:velocities:R:3:forces:R:3 "
                f"energy={block.energy[k]:.10f} step={int(step)} time_fs={block.time_fs[k]:.10g}\n"
            )
            self._file.writelines(
                f"{symbol} {' '.join(f'{x:.9g}' for x in row)}\n"
                for symbol, row in zip(self._symbols, rows.tolist(), strict=True)
            )
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class H5MDWriter(Writer):
    """Frames as HDF5 in the H5MD layout (de Buyl et al., Comput. Phys. Commun. 185, 1546, 2014).

    Positions (Angstrom), velocities (Angstrom/fs) and forces (eV/Angstrom) in float32, total
    energies (eV) in float64.
    """

    def __init__(self, path: Path | str, frame: Frame, overwrite: bool = False) -> None:
        path = Path(path)
        if not overwrite:
            _refuse_existing(path)
        self._file = h5py.File(path, "w" if overwrite else "x")
        meta = self._file.create_group("h5md")
        meta.attrs["version"] = np.array([1, 1])
        meta.create_group("author").attrs["name"] = "unknown"
        meta.create_group("creator").attrs.update({"name": "mlffjax", "version": "1"})
        group = self._file.create_group("particles/all")
        group["species"] = np.asarray(frame.numbers, np.int32)
        box = group.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = ["periodic" if p else "none" for p in frame.pbc]
        box["edges"] = np.asarray(frame.cell, np.float64)
        shape = (len(frame.numbers), 3)
        self._series = {
            "positions": self._element(group, "position", shape, "f4", "Angstrom"),
            "velocities": self._element(group, "velocity", shape, "f4", "Angstrom fs-1"),
            "forces": self._element(group, "force", shape, "f4", "eV Angstrom-1"),
            "energy": self._element(
                self._file.create_group("observables"), "potential_energy", (), "f8", "eV"
            ),
        }

    def write(self, block: Block) -> None:
        """Append the frames of a block."""
        for name, element in self._series.items():
            for key, values in (
                ("value", getattr(block, name)),
                ("step", block.step),
                ("time", block.time_fs),
            ):
                data = element[key]
                assert isinstance(data, h5py.Dataset)
                data.resize(data.shape[0] + len(values), axis=0)
                if len(values):
                    data[-len(values) :] = values
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @staticmethod
    def _element(
        parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, unit: str
    ) -> h5py.Group:
        group = parent.create_group(name)
        value = group.create_dataset(
            "value", (0, *shape), dtype, maxshape=(None, *shape), chunks=(64, *shape)
        )
        value.attrs["unit"] = unit
        group.create_dataset("step", (0,), "i8", maxshape=(None,), chunks=(1024,))
        time = group.create_dataset("time", (0,), "f8", maxshape=(None,), chunks=(1024,))
        time.attrs["unit"] = "fs"
        return group


class H5MDTrajectory(Sequence[Frame]):
    """The frames of an :class:`H5MDWriter` file, read when asked for."""

    def __init__(self, path: Path | str) -> None:
        self._file = h5py.File(path, "r")
        self._path = Path(path)
        group: Any = self._file["particles/all"]
        self._numbers = np.asarray(group["species"])
        self._cell = np.asarray(group["box/edges"])
        boundary = [
            b.decode() if isinstance(b, bytes) else b for b in group["box"].attrs["boundary"]
        ]
        self._pbc = np.array([b == "periodic" for b in boundary])
        self._positions = group["position/value"]
        self._velocities = group["velocity/value"]
        self._forces = group["force/value"]
        self._time = group["position/time"]
        energies: Any = self._file["observables/potential_energy/value"]
        self._energies = energies

    def __len__(self) -> int:
        return len(self._energies)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        return Frame(
            numbers=self._numbers,
            positions=np.asarray(self._positions[k], np.float64),
            cell=self._cell,
            pbc=self._pbc,
            energy=float(self._energies[k]),
            forces=np.asarray(self._forces[k], np.float64),
            name=f"{self._path.name}#{k}",
        )

    def velocities(self, index: int) -> np.ndarray:
        """Velocities of a frame ``[atoms, 3]`` in Angstrom/fs."""
        return np.asarray(self._velocities[index], np.float64)

    def times(self) -> np.ndarray:
        """Times of all frames ``[frames]`` in fs."""
        return np.asarray(self._time)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "H5MDTrajectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_extxyz(path: Path | str) -> Iterator[Frame]:
    """The frames of an :class:`ExtxyzWriter` file, one at a time.

    Frames in another form of extended XYZ are read by the readers of data sets.

    Raises:
      ValueError: the file breaks off inside a frame, or has other columns.
    """
    path = Path(path)
    columns = "Properties=species:S:1:pos:R:3:velocities:R:3:forces:R:3"
    with path.open() as file:
        for k, first in enumerate(iter(file.readline, "")):
            count, header = int(first), file.readline()
            rows = [file.readline().split() for _ in range(count)]
            if columns not in header or any(len(row) != 10 for row in rows):
                raise ValueError(
                    f"got another or an incomplete frame {k} in {path}; expected {count} atoms "
                    f"with {columns}; cut the file there, or use the readers of data sets"
                )
            values = np.array([[float(x) for x in row[1:]] for row in rows])
            lattice = header.split('Lattice="')
            cell = np.zeros(9) if len(lattice) < 2 else np.array(lattice[1].split('"')[0].split())
            pbc = header.split('pbc="')[1].split('"')[0].split()
            yield Frame(
                numbers=np.array([ase.data.atomic_numbers[row[0]] for row in rows]),
                positions=values[:, :3],
                cell=cell.astype(float).reshape(3, 3),
                pbc=np.array([p == "T" for p in pbc]),
                energy=float(header.split("energy=")[1].split()[0]),
                forces=values[:, 6:],
                name=f"{path.name}#{k}",
            )


def read_thermo(path: Path | str) -> Thermo:
    """The rows of a :class:`ThermoWriter` file."""
    table = np.genfromtxt(path, delimiter=",", skip_header=1, ndmin=2)
    by_name = dict(zip(_THERMO_COLUMNS, table.T, strict=True))
    units = ("_eV", "_K")
    named = {name.removesuffix(units[0]).removesuffix(units[1]): v for name, v in by_name.items()}
    named["step"] = named["step"].astype(int)
    return Thermo(**{field.name: named[field.name] for field in fields(Thermo)})


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise FileExistsError(
            f"got the existing file {path}; expected a new one; choose another folder, or pass "
            "overwrite=True"
        )


def _open_new(path: Path, overwrite: bool) -> IO[str]:
    if not overwrite:
        _refuse_existing(path)
    return path.open("w" if overwrite else "x", newline="")
