"""Trajectories read back lazily: block after block, never the whole file in memory.

Extended XYZ, ASE ``.traj`` and H5MD. A frame that was being written when a run was killed is
left out: a file is as long as its whole frames.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.io.extxyz import key_val_str_to_dict
from ase.io.trajectory import Trajectory as AseTrajectory
from jaxtyping import Float

from mlffjax.data.frames import Frame
from mlffjax.md.h5md_layout import FrameTimes, check_species, check_units
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.types import HostNumbers, HostPbc

#: Bytes of positions read at once, and frames: histograms of each frame must fit into memory too.
BLOCK_BYTES = 8_000_000
BLOCK_FRAMES = 2048


@dataclass(frozen=True, eq=False)
class FrameBlock:
    """Some frames of a trajectory, on the host in double precision.

    Attributes:
      positions: ``[frames, atoms, 3]`` in Angstrom.
      cell: lattice vectors as rows ``[frames, 3, 3]`` in Angstrom; zeros for a molecule.
      velocities: ``[frames, atoms, 3]`` in Angstrom/fs, or ``None``.
      forces: ``[frames, atoms, 3]`` in eV/Angstrom, or ``None``.
      energy: in eV ``[frames]``, or ``None``.
      stress: ``[frames, 3, 3]`` in eV/Angstrom^3, tension positive, or ``None``.
      time_fs: ``[frames]`` in fs, or ``None``.
    """

    positions: Float[np.ndarray, "frames atoms 3"]
    cell: Float[np.ndarray, "frames 3 3"]
    velocities: Float[np.ndarray, "frames atoms 3"] | None = None
    forces: Float[np.ndarray, "frames atoms 3"] | None = None
    energy: Float[np.ndarray, "frames"] | None = None
    stress: Float[np.ndarray, "frames 3 3"] | None = None
    time_fs: Float[np.ndarray, "frames"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def join(cls, parts: "Sequence[FrameBlock]") -> "FrameBlock":
        """All frames in one block; what one part lacks, the block lacks."""
        joined = {}
        for name in cls.__dataclass_fields__:
            values = [getattr(part, name) for part in parts]
            lacking = any(value is None for value in values)
            joined[name] = None if lacking else np.concatenate(values)
        return cls(**joined)

    def rows(self, which: slice) -> "FrameBlock":
        """Some of the frames."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        there = {name: column[which] for name, column in columns.items() if column is not None}
        return FrameBlock(**there)


class Trajectory(Sequence[Frame], ABC):
    """Frames of the same atoms on disk, read when asked for.

    Attributes:
      path: the file.
      numbers: atomic numbers ``[atoms]``.
      pbc: periodic directions ``[3]``.
      masses: in amu ``[atoms]``: those in the file, as of isotopes, else those of the elements.
    """

    path: Path
    numbers: HostNumbers
    pbc: HostPbc
    masses: Float[np.ndarray, "atoms"]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, stop: int, step: int = 1) -> FrameBlock:
        """The frames ``start, start + step, ...`` before ``stop``."""

    def close(self) -> None:
        """Release the file."""

    def blocks(
        self, start: int = 0, stop: int | None = None, step: int = 1, size: int | None = None
    ) -> Iterator[FrameBlock]:
        """Frames in blocks of ``size``, in order; 2048 if not given, of 8 MB at most."""
        stop = len(self) if stop is None else min(stop, len(self))
        size = size or max(1, min(BLOCK_FRAMES, BLOCK_BYTES // (24 * len(self.numbers))))
        for first in range(start, stop, size * step):
            yield self.read(first, min(first + size * step, stop), step)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        block = self.read(k, k + 1)
        return Frame(
            numbers=self.numbers,
            positions=block.positions[0],
            cell=block.cell[0],
            pbc=self.pbc,
            energy=None if block.energy is None else float(block.energy[0]),
            forces=None if block.forces is None else block.forces[0],
            stress=None if block.stress is None else block.stress[0],
            name=f"{self.path.name}#{k}",
        )

    def __enter__(self) -> "Trajectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_trajectory(path: Path | str) -> Trajectory:
    """A trajectory by its suffix: ``.extxyz``, ``.xyz``, ``.traj``, ``.h5``, ``.h5md``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another suffix, no whole frame, or a file that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"got no file {path}; expected a trajectory; check the path")
    if path.suffix not in _READERS:
        raise ValueError(
            f"{path.name}: got a file of unknown format; expected one of {', '.join(_READERS)}; "
            "convert it, for example with ase convert"
        )
    trajectory = _READERS[path.suffix](path)
    if not len(trajectory):
        trajectory.close()
        raise ValueError(
            f"{path.name}: got no whole frame; expected at least one; check how it was made"
        )
    return trajectory


class ExtxyzTrajectory(Trajectory):
    """Extended XYZ: species, positions, and velocities (Angstrom/fs) or momenta (of ASE).

    Energy, stress and time are read from ``energy``, ``stress`` and ``time_fs``, masses in amu
    from the column ``masses`` of the first frame. The file is gone through once for the places
    of its frames.

    Raises:
      ValueError: a line that starts no frame, columns that are not numbers, no elements.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._offsets = _extxyz_offsets(self.path)
        if len(self._offsets):
            header, columns = self._frame(0)
            self._symbols = columns["species"]
            self.numbers = _numbers(self.path, self._symbols[:, 0].tolist())
            self.pbc = _pbc(header)
            self.masses = atomic_masses[self.numbers]
            if "masses" in columns:
                self.masses = columns["masses"].astype(np.float64).ravel()

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, start: int, stop: int, step: int = 1) -> FrameBlock:
        """See :meth:`Trajectory.read`."""
        return FrameBlock.join([self._block(k) for k in range(start, stop, step)])

    def _block(self, k: int) -> FrameBlock:
        header, columns = self._frame(k)
        if not np.array_equal(columns["species"], self._symbols):
            raise _other_atoms(self.path, k)
        if (_pbc(header) != self.pbc).any():
            raise _other_pbc(self.path, k)

        def table(name: str) -> np.ndarray | None:
            return columns[name].astype(np.float64)[None] if name in columns else None

        def value(name: str) -> np.ndarray | None:
            return np.array([float(header[name])]) if name in header else None

        velocities, momenta = table("velocities"), table("momenta")
        if velocities is None and momenta is not None:
            velocities = momenta / self.masses[:, None] / TIME_UNIT_FS
        positions = table("pos")
        assert positions is not None
        stress = header.get("stress")
        # ASE reads a 3 x 3 matrix with the first index running fastest.
        lattice = np.asarray(header.get("Lattice", np.zeros((3, 3)))).reshape(3, 3).T
        return FrameBlock(
            positions=positions,
            cell=lattice[None],
            velocities=velocities,
            forces=table("forces"),
            energy=value("energy"),
            stress=None if stress is None else np.asarray(stress, float).reshape(1, 3, 3),
            time_fs=value("time_fs"),
        )

    def _frame(self, k: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        with self.path.open("rb") as file:
            file.seek(self._offsets[k])
            count = int(file.readline())
            header: dict[str, Any] = key_val_str_to_dict(file.readline().decode("utf-8"))
            rows = [file.readline().split() for _ in range(count)]
        layout = str(header.get("Properties", "species:S:1:pos:R:3")).split(":")
        widths = [int(w) for w in layout[2::3]]
        try:
            body = np.array(rows).astype(str).reshape(count, sum(widths))
            ends = np.cumsum(widths)
            columns = {
                name: body[:, end - width : end]
                for name, width, end in zip(layout[::3], widths, ends, strict=True)
            }
            columns["pos"].astype(np.float64)
            columns["species"]
        except (ValueError, KeyError):
            raise ValueError(
                f"{self.path.name}#{k}: got a table that is not {':'.join(layout)}, or has no "
                f"species or pos; expected so many entries for each of {count} atoms; mend or "
                "remove the frame"
            ) from None
        return header, columns


class AseTrajectoryFile(Trajectory):
    """The ``.traj`` format of ASE; velocities from momenta, time from ``info["time_fs"]``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file: Any = AseTrajectory(os.fspath(path))
            if len(self._file):
                first = self._file[0]
                self.numbers, self.pbc = np.asarray(first.numbers), np.asarray(first.pbc, bool)
                self.masses = np.asarray(first.get_masses(), np.float64)
        except Exception as error:  # ASE raises errors of its own for files that are not its own
            raise _unreadable(self.path, error) from None

    def __len__(self) -> int:
        return len(self._file)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def read(self, start: int, stop: int, step: int = 1) -> FrameBlock:
        """See :meth:`Trajectory.read`."""
        return FrameBlock.join([self._block(k) for k in range(start, stop, step)])

    def _block(self, k: int) -> FrameBlock:
        atoms = self._file[k]
        if not np.array_equal(atoms.numbers, self.numbers):
            raise _other_atoms(self.path, k)
        if (np.asarray(atoms.pbc) != self.pbc).any():
            raise _other_pbc(self.path, k)
        found = {} if atoms.calc is None else atoms.calc.results
        optional = lambda x: None if x is None else np.asarray(x, np.float64)[None]  # noqa: E731
        velocities = atoms.get_velocities() / TIME_UNIT_FS if atoms.has("momenta") else None
        stress = atoms.get_stress(voigt=False) if "stress" in found else None
        return FrameBlock(
            positions=np.asarray(atoms.positions)[None],
            cell=np.asarray(atoms.cell.array)[None],
            velocities=optional(velocities),
            forces=optional(found.get("forces")),
            energy=optional(found.get("energy")),
            stress=optional(stress),
            time_fs=optional(atoms.info.get("time_fs")),
        )


class H5MDTrajectory(Trajectory):
    """The H5MD layout (de Buyl et al., Comput. Phys. Commun. 185, 1546, 2014), Angstrom and fs.

    A file that is still being written can be read. Units it does not name are taken as these.

    Raises:
      ValueError: another layout, other units, or species that are no atomic numbers.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file = open_hdf5(self.path)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        if "particles/all/position/value" not in self._file:
            self._file.close()
            raise ValueError(
                f"{self.path.name}: got an HDF5 file without particles/all/position; expected the "
                "H5MD layout; a data set is read by the commands that take data sets"
            )
        group: Any = self._file["particles/all"]
        self.numbers = np.asarray(group["species"])
        boundary = [
            b.decode() if isinstance(b, bytes) else b for b in group["box"].attrs["boundary"]
        ]
        self.pbc = np.array([b == "periodic" for b in boundary])
        self._edges: Any = group["box/edges"]
        self._time = FrameTimes(group["position"])
        # The names of H5MD, and those of a frame.
        named: dict[str, Any] = {
            "positions": self._file.get("particles/all/position/value"),
            "velocities": self._file.get("particles/all/velocity/value"),
            "forces": self._file.get("particles/all/force/value"),
            "energy": self._file.get("observables/potential_energy/value"),
            "stress": self._file.get("observables/stress/value"),
        }
        self._series = {name: data for name, data in named.items() if data is not None}
        units = {name: data.attrs.get("unit") for name, data in self._series.items()}
        try:
            check_species(self.numbers)
            check_units({**units, "times": self._time.unit})
        except ValueError as error:
            self._file.close()
            raise ValueError(f"{self.path.name}: {error}") from None
        mass = group.get("mass")  # of all frames, or, as a group, of each
        self.masses = atomic_masses[self.numbers]
        if isinstance(mass, h5py.Dataset):
            self.masses = np.asarray(mass, np.float64)
        # A kill between two series leaves the first longer: only frames in all of them count.
        series = [*self._series.values(), self._time]
        if isinstance(self._edges, h5py.Group):
            series.append(self._edges["value"])
        self._length = min(len(data) for data in series)

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def read(self, start: int, stop: int, step: int = 1) -> FrameBlock:
        """See :meth:`Trajectory.read`."""
        rows = slice(start, min(stop, self._length), step)
        take = {name: np.asarray(data[rows], np.float64) for name, data in self._series.items()}
        if isinstance(self._edges, h5py.Group):
            edges: Any = self._edges["value"]
            cell = np.asarray(edges[rows], np.float64)
        else:
            cell = np.asarray(self._edges, np.float64)
            cell = np.broadcast_to(cell, (len(take["positions"]), *cell.shape))
        if cell.shape[1:] == (3,):  # H5MD allows the edges of a right-angled box alone
            cell = cell[:, :, None] * np.eye(3)
        return FrameBlock(cell=cell, time_fs=self._time[rows], **take)


_READERS = {
    ".extxyz": ExtxyzTrajectory,
    ".xyz": ExtxyzTrajectory,
    ".traj": AseTrajectoryFile,
    ".h5": H5MDTrajectory,
    ".hdf5": H5MDTrajectory,
    ".h5md": H5MDTrajectory,
}


#: Suffixes of the formats that can be read.
SUFFIXES = tuple(_READERS)


def is_h5md(path: Path) -> bool | None:
    """Whether an HDF5 file has the layout of H5MD; ``None`` for another kind of file."""
    if not h5py.is_hdf5(path):
        return None
    with open_hdf5(path) as file:
        return "particles" in file


def _extxyz_offsets(path: Path) -> np.ndarray:
    """Where each whole frame begins, in bytes."""
    offsets = []
    with path.open("rb") as file:
        while True:
            begin = file.tell()
            line = file.readline()
            if not line:
                break
            if not line.strip():
                continue
            try:
                count = int(line)
            except ValueError:
                raise ValueError(
                    f"{path.name}: got {line[:60]!r} after {len(offsets)} frames; expected the "
                    "number of atoms of the next frame; mend the frame before it"
                ) from None
            last = b""
            for _ in range(count + 1):
                last = file.readline()
            # Only the end of the line says that its last number is whole.
            if not last.endswith(b"\n"):
                break
            offsets.append(begin)
    return np.array(offsets, np.int64)


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading, also while it is written or after its writer was killed.

    Raises:
      OSError: it cannot be opened.
    """
    try:
        return h5py.File(path, "r", libver="latest", swmr=True)
    except OSError:
        # A file in an older format, without the mode of one writer and many readers.
        return h5py.File(path, "r")


def _numbers(path: Path, symbols: Sequence[str]) -> HostNumbers:
    unknown = sorted({s for s in symbols if s not in atomic_numbers or not atomic_numbers[s]})
    if unknown:
        raise ValueError(
            f"{path.name}: got the species {', '.join(unknown)}; expected symbols of elements; "
            "rename them (deuterium is H with a column masses)"
        )
    return np.array([atomic_numbers[s] for s in symbols])


def _pbc(header: Mapping[str, Any]) -> HostPbc:
    given = header.get("pbc", "Lattice" in header)
    return np.broadcast_to(np.asarray(given, bool).ravel(), 3).copy()


def _other_pbc(path: Path, k: int) -> ValueError:
    return ValueError(
        f"{path.name}#{k}: got other periodic directions than those of frame 0; expected the same; "
        "split the file"
    )


def _other_atoms(path: Path, k: int) -> ValueError:
    return ValueError(
        f"{path.name}#{k}: got other atoms than those of frame 0; expected the same in the same "
        "order; split the file by composition"
    )


def _unreadable(path: Path, error: Exception) -> ValueError:
    text = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"{path.name}: got a file that cannot be read ({text}); expected a whole trajectory; check "
        "that its suffix names its format"
    )
