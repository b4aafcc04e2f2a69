"""From the data section of a training file to its frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlffjax.config.data import DataSettings
from mlffjax.data.checks import is_isolated_atom
from mlffjax.data.frames import Frame
from mlffjax.data.hdf5 import Hdf5Frames
from mlffjax.data.readers import read_frames
from mlffjax.data.splits import Split, Subset, make_split


@dataclass(frozen=True, eq=False)
class DataSets:
    """Frames of a training run.

    Attributes:
      train, valid, test: the parts; ``valid`` and ``test`` may be empty.
      isolated: isolated-atom frames of the training files, which serve the baseline. Isolated
        atoms of any file are in no part: their energies are the baseline.
      split: how the training files were divided; save it with the run.
    """

    train: Sequence[Frame]
    valid: Sequence[Frame]
    test: Sequence[Frame]
    isolated: Sequence[Frame]
    split: Split


def load_sets(settings: DataSettings, split: Split | None = None) -> DataSets:
    """Read the files and divide them.

    Args:
      settings: the data section.
      split: one saved before, to take up a run again; made by ``settings.split`` otherwise.

    Raises:
      FileNotFoundError, ValueError: as :func:`mlffjax.data.read_frames` and
        :func:`mlffjax.data.make_split`; or a saved split is of other files.
    """
    frames = _read_all(settings.train, settings)
    alone = isolated_atoms(frames)
    if split is None:
        shares = settings.split
        if shares.valid is None and settings.valid:
            shares = shares.model_copy(update={"valid": 0})
        split = make_split(len(frames), shares, exclude=alone)
    elif split.num_frames != len(frames):
        raise ValueError(
            f"got a saved split of {split.num_frames} frames, training files with {len(frames)}; "
            "expected the files the split was made of; restore them, or start a new run"
        )

    def part(paths: str | tuple[str, ...], indices: np.ndarray) -> Sequence[Frame]:
        return structures_of(_read_all(paths, settings)) if paths else Subset(frames, indices)

    return DataSets(
        train=Subset(frames, split.train),
        valid=part(settings.valid, split.valid),
        test=part(settings.test, split.test),
        isolated=[frames[k] for k in alone],
        split=split,
    )


def isolated_atoms(frames: Sequence[Frame]) -> list[int]:
    """Which frames are one atom alone; of a file larger than memory only those are read."""
    lazy = isinstance(frames, Hdf5Frames)
    single = np.flatnonzero(frames.sizes == 1).tolist() if lazy else range(len(frames))
    return [k for k in single if is_isolated_atom(frames[k])]


def structures_of(frames: Sequence[Frame]) -> Sequence[Frame]:
    """The frames that are not one atom alone, where there are such."""
    kept = np.setdiff1d(np.arange(len(frames)), isolated_atoms(frames))
    return Subset(frames, kept) if 0 < len(kept) < len(frames) else frames


def _read_all(paths: str | tuple[str, ...], settings: DataSettings) -> Sequence[Frame]:
    if isinstance(paths, str):
        return read_frames(paths, settings)
    if len(paths) == 1:
        return read_frames(paths[0], settings)
    return [frame for path in paths for frame in read_frames(path, settings)]
