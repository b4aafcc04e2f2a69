"""HDF5 files of frames, for sets larger than memory.

Layout, version 1 (eV, Angstrom; stress tension positive):

    attributes      format = "mlffjax-frames", version = 1
    offsets         int64 [frames + 1]; atoms of frame k are offsets[k] to offsets[k + 1]
    numbers         int32 [atoms of all frames]
    positions       float64 [atoms of all frames, 3]
    cell, pbc       float64 [frames, 3, 3], bool [frames, 3]
    energy          float64 [frames]
    forces          float64 [atoms of all frames, 3]
    stress          float64 [frames, 3, 3]
    has_energy, has_forces, has_stress      bool [frames]; where false the label is absent and
                    its entries are zero
    name, group     strings [frames]
"""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import h5py
import numpy as np
from jaxtyping import Int

from mlffjax.config.data import Label
from mlffjax.data.checks import RawFrame, UnitFactors, check_labels, make_frame
from mlffjax.data.frames import Frame

FORMAT = "mlffjax-frames"
VERSION = 1
FRAMES_AT_ONCE = 256  # a few hundred kB for molecules: one write, one chunk of the file

_PER_ATOM = {"numbers": ((), np.int32), "positions": ((3,), np.float64), "forces": ((3,), float)}
_PER_FRAME = {
    "cell": ((3, 3), np.float64),
    "pbc": ((3,), np.bool_),
    "energy": ((), np.float64),
    "stress": ((3, 3), np.float64),
    "has_energy": ((), np.bool_),
    "has_forces": ((), np.bool_),
    "has_stress": ((), np.bool_),
}
_TEXT = ("name", "group")


def write_hdf5(frames: Iterable[Frame], path: str | os.PathLike) -> int:
    """Write frames one block at a time; any iterable, of any length.

    Returns:
      The number of frames written.

    Raises:
      FileExistsError: the file exists; nothing is overwritten.
      ValueError: there are no frames.
    """
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"got the existing file {target}; expected a new name; remove it")
    partial = target.with_name(target.name + ".partial")
    count = 0
    source = iter(frames)
    with h5py.File(partial, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        for name, (shape, dtype) in {**_PER_ATOM, **_PER_FRAME}.items():
            chunk = 4096 if name in _PER_ATOM else FRAMES_AT_ONCE
            file.create_dataset(
                name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk, *shape)
            )
        for name in _TEXT:
            file.create_dataset(name, (0,), h5py.string_dtype(), maxshape=(None,), chunks=(256,))
        file.create_dataset("offsets", data=np.zeros(1, np.int64), maxshape=(None,), chunks=(4096,))
        while block := list(islice(source, FRAMES_AT_ONCE)):
            _append_block(file, block)
            count += len(block)
    if not count:
        partial.unlink()
        raise ValueError(f"got no frames to write to {target.name}; expected at least one")
    os.replace(partial, target)
    return count


def _append_block(file: h5py.File, block: list[Frame]) -> None:
    sizes = np.array([len(f.numbers) for f in block])
    forces = [np.zeros_like(f.positions) if f.forces is None else f.forces for f in block]
    stress = [np.zeros((3, 3)) if f.stress is None else f.stress for f in block]
    last = _dataset(file, "offsets")[-1]
    values = {
        "numbers": np.concatenate([f.numbers for f in block]),
        "positions": np.concatenate([f.positions for f in block]),
        "forces": np.concatenate(forces),
        "cell": np.stack([f.cell for f in block]),
        "pbc": np.stack([f.pbc for f in block]),
        "energy": np.array([f.energy or 0.0 for f in block]),
        "stress": np.stack(stress),
        "has_energy": np.array([f.energy is not None for f in block]),
        "has_forces": np.array([f.forces is not None for f in block]),
        "has_stress": np.array([f.stress is not None for f in block]),
        "name": np.array([f.name for f in block], object),
        "group": np.array([f.group for f in block], object),
        "offsets": last + np.cumsum(sizes),
    }
    for name, new in values.items():
        dataset = _dataset(file, name)
        old = dataset.shape[0]
        dataset.resize(old + len(new), axis=0)
        dataset[old:] = new


class Hdf5Frames(Sequence[Frame]):
    """Frames of an HDF5 file, each read when it is asked for.

    The file is opened again in a process that receives this object.
    """

    def __init__(self, path: str | os.PathLike):
        """Open a file written by :func:`write_hdf5`.

        Raises:
          ValueError: not such a file, cut off, or of a later version.
        """
        self._path = Path(path)
        self._file: h5py.File | None = None
        self._data: dict[str, h5py.Dataset] = {}
        try:
            file = h5py.File(self._path, "r")
        except OSError as error:
            text = " ".join(str(error).split())
            raise ValueError(
                f"{self._path.name}: got a file that HDF5 cannot open ({text}); expected a "
                "complete HDF5 file; copy it again"
            ) from None
        kind, version = file.attrs.get("format"), file.attrs.get("version")
        if kind != FORMAT or version != VERSION:
            raise ValueError(
                f"{self._path.name}: got the format {kind!r}, version {version}; expected "
                f"{FORMAT!r}, version {VERSION}; write it with mlffjax.data.write_hdf5"
            )
        self._file = file
        data = self._open()
        self._offsets = data["offsets"][:]
        self._has = {label: data[f"has_{label}"][:] for label in ("energy", "forces", "stress")}
        self._factors = UnitFactors(1.0, 1.0, 1.0, 1.0, 1.0)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        data = self._open()
        start, stop = self._offsets[index : index + 2]

        def label(name: str, where):
            return data[name][where] if self._has[name][index] else None

        return make_frame(
            RawFrame(
                name=_text(data["name"], index) or f"{self._path.name}#{index}",
                numbers=data["numbers"][start:stop],
                positions=data["positions"][start:stop],
                cell=data["cell"][index],
                pbc=data["pbc"][index],
                energy=label("energy", index),
                forces=label("forces", slice(start, stop)),
                stress=label("stress", index),
                group=_text(data["group"], index),
            ),
            self._factors,
        )

    @property
    def sizes(self) -> Int[np.ndarray, "frames"]:
        """Number of atoms of each frame ``[frames]``, without reading the frames."""
        return np.diff(self._offsets)

    def check_labels(self, require: tuple[Label, ...]) -> None:
        """Check that every frame has the labels, reading only those that lack one.

        Raises:
          ValueError: as :func:`mlffjax.data.checks.check_labels`.
        """
        for label in require:
            for index in np.flatnonzero(~self._has[label]):
                check_labels(self[int(index)], (label,))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_data": {}}

    def _open(self) -> dict[str, h5py.Dataset]:
        if self._file is None:
            self._file = h5py.File(self._path, "r")
        if not self._data:  # finding a dataset by name costs more than reading a frame of it
            names = ("offsets", *_PER_ATOM, *_PER_FRAME, *_TEXT)
            self._data = {name: _dataset(self._file, name) for name in names}
        return self._data

    def close(self) -> None:
        """Close the file; it is opened again when a frame is asked for."""
        if self._file is not None:
            self._file.close()
        self._file, self._data = None, {}


def _text(dataset: h5py.Dataset, index: int) -> str:
    return dataset[index].decode("utf-8")


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(
            f"{Path(file.filename).name}: got no dataset {name!r}; expected the layout of "
            "mlffjax.data.hdf5; write the file with mlffjax.data.write_hdf5"
        )
    return dataset
