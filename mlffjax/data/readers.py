"""One function for every file of frames."""

import os
from collections.abc import Sequence
from pathlib import Path

import ase

from mlffjax.config.data import READ_DEFAULTS, LabelKeys, ReadSettings, UnitSettings
from mlffjax.data.ase_frames import frames_from_atoms, iterate_ase, read_ase
from mlffjax.data.builtin import is_builtin, load_builtin
from mlffjax.data.checks import check_labels
from mlffjax.data.frames import Frame
from mlffjax.data.hdf5 import Hdf5Frames
from mlffjax.data.npz import read_npz

HDF5_SUFFIXES = (".h5", ".hdf5")


def read_frames(path: str | os.PathLike, settings: ReadSettings = READ_DEFAULTS) -> Sequence[Frame]:
    """Read labelled structures; the suffix tells the format.

    ``.npz`` (:mod:`mlffjax.data.npz`), ``.h5`` and ``.hdf5`` (:mod:`mlffjax.data.hdf5`, read
    lazily), anything else by ASE (:mod:`mlffjax.data.ase_frames`): extended XYZ, ``.db``,
    trajectories, OUTCAR, ... ``builtin:NAME`` is a set that comes with the package.

    Args:
      path: the file.
      settings: names of labels, units, and which labels must be there.

    Returns:
      At least one frame, in eV and Angstrom, float64. All are checked; the numbers in an
      HDF5 file when a frame is read.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is empty or cut off, a frame is wrong, or a label is missing (the
        message names the frame); or names or units are given that the format has no use for.
    """
    if is_builtin(path):
        _refuse_settings(str(path), "a built-in set", settings)
        frames: Sequence[Frame] = load_builtin(str(path).removeprefix("builtin:"))
    else:
        frames = _read_file(Path(path), settings)
    if not len(frames):
        raise _no_frames(Path(path))
    if isinstance(frames, Hdf5Frames):
        frames.check_labels(settings.require)
    else:
        for frame in frames:
            check_labels(frame, settings.require)
    return frames


def read_structures(path: str | os.PathLike) -> Sequence[Frame | ase.Atoms]:
    """Read structures with what a frame has no place for: constraints, and masses.

    Args:
      path: as of :func:`read_frames`.

    Returns:
      A frame for each structure; where a file of ASE gives constraints (selective dynamics of a
      POSCAR, ``move_mask``) or masses, ASE's atoms.

    Raises:
      FileNotFoundError, ValueError: as :func:`read_frames`.
    """
    file = Path(path)
    if is_builtin(path) or file.suffix in (".npz", *HDF5_SUFFIXES):
        return read_frames(path)
    _check_file(file)
    images = list(iterate_ase(file))
    frames = frames_from_atoms(images, source=file.name)
    if not frames:
        raise _no_frames(file)
    return [
        atoms if atoms.constraints or atoms.has("masses") else frame
        for atoms, frame in zip(images, frames, strict=True)
    ]


def _no_frames(path: Path) -> ValueError:
    return ValueError(
        f"{path.name}: got no frames; expected at least one; check how the file was made"
    )


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"got the folder {path}; expected a file of frames; name one in it")
    if not path.is_file():
        looked = "" if path.is_absolute() else f" in {Path.cwd()}, where the command runs"
        raise FileNotFoundError(
            f"got no file {path}{looked}; expected a file of frames; check the path"
        )
    if not path.stat().st_size:
        raise ValueError(
            f"{path.name}: got an empty file; expected frames; check how the file was made"
        )


def _read_file(path: Path, settings: ReadSettings) -> Sequence[Frame]:
    _check_file(path)
    if path.suffix == ".npz":
        return read_npz(path, settings)
    if path.suffix in HDF5_SUFFIXES:
        _refuse_settings(path.name, "an HDF5 file", settings)
        return Hdf5Frames(path)
    return read_ase(path, settings)


def _refuse_settings(name: str, what: str, settings: ReadSettings) -> None:
    for section, own, given in (
        ("units", "in eV and Angstrom", settings.units != UnitSettings()),
        ("keys", "read by its own names", settings.keys != LabelKeys()),
    ):
        if given:
            raise ValueError(
                f"{name}: got {section} for {what}, which is always {own}; expected none; "
                f"remove the {section} section"
            )
