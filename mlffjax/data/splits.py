"""Which frames train, which validate and which test: chosen, saved, loaded again."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int

from mlffjax.config.data import SPLIT_DEFAULTS, SplitSettings
from mlffjax.config.files import write_text
from mlffjax.data.frames import Frame

#: Names that index files of the field use for the three parts.
PARTS = {
    "train": ("train", "train_idx", "train_indices", "idx_train"),
    "valid": ("valid", "val", "validation", "val_idx", "valid_idx", "valid_indices", "idx_val"),
    "test": ("test", "test_idx", "test_indices", "idx_test"),
}


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into the frames of the training files, each in ascending order.

    Attributes:
      train, valid, test: frame indices; no frame is in two of them.
      num_frames: number of frames the indices refer to.
      source: how the split was made, for the record.
    """

    train: Int[np.ndarray, "train"]
    valid: Int[np.ndarray, "valid"]
    test: Int[np.ndarray, "test"]
    num_frames: int
    source: str = ""

    def __post_init__(self):
        """Check the indices.

        Raises:
          ValueError: an index is out of range or used twice, or nothing trains.
        """
        for part in PARTS:
            values = np.sort(np.asarray(getattr(self, part), np.int64).ravel())
            object.__setattr__(self, part, values)
        used = np.concatenate([self.train, self.valid, self.test])
        if used.size and (used.min() < 0 or used.max() >= self.num_frames):
            wrong = used[(used < 0) | (used >= self.num_frames)][0]
            raise ValueError(
                f"got the frame index {wrong} in a split of {self.num_frames} frames; expected 0 "
                f"to {self.num_frames - 1}; check that the split belongs to these files"
            )
        indices, counts = np.unique(used, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"got the frame {indices[counts > 1][0]} twice in a split; expected train, valid "
                "and test to share no frame; remove it from one of them"
            )
        if not self.train.size:
            raise ValueError(
                f"got no training frames out of {self.num_frames}; expected at least one; lower "
                "split.valid or split.test"
            )

    def save(self, path: str | os.PathLike) -> None:
        """Write the split as ``.json`` or ``.npz``.

        Raises:
          FileExistsError: the file exists; nothing is overwritten.
          ValueError: another suffix.
        """
        target = Path(path)
        if target.exists():
            raise FileExistsError(f"got the existing file {target}; expected a new name; remove it")
        if target.suffix == ".json":
            values = {part: getattr(self, part).tolist() for part in PARTS}
            record = {"num_frames": self.num_frames, "source": self.source, **values}
            write_text(target, json.dumps(record) + "\n")
        elif target.suffix == ".npz":
            np.savez(
                target,
                train=self.train,
                valid=self.valid,
                test=self.test,
                num_frames=np.int64(self.num_frames),
                source=np.array(self.source),
            )
        else:
            raise ValueError(f"got the split file {target.name}; expected .json or .npz")

    @classmethod
    def load(cls, path: str | os.PathLike, num_frames: int | None = None) -> "Split":
        """Read a split, or an index file made elsewhere.

        Such a file has ``train`` and optionally ``valid`` and ``test`` (or the usual variants:
        ``train_idx``, ``val_idx``, ...), counted from 0.

        Args:
          path: ``.json`` or ``.npz``.
          num_frames: number of frames at hand.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it cannot be read, or belongs to another number of frames.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"got no split file {source}; expected one; check the path")
        record = _read_record(source)
        own = None if "num_frames" not in record else int(record["num_frames"])
        if own is not None and num_frames is not None and own != num_frames:
            raise ValueError(
                f"{source.name}: got a split of {own} frames for files with {num_frames} frames; "
                "expected the same files; check the paths, or remove the split"
            )
        parts = {part: _part(record, names) for part, names in PARTS.items()}
        if parts["train"] is None:
            raise ValueError(
                f"{source.name}: got {', '.join(record)}; expected the indices under 'train'"
            )
        count = own if own is not None else num_frames
        none = np.zeros(0, np.int64)
        parts = {part: none if values is None else values for part, values in parts.items()}
        if count is None:
            count = int(max(values.max(initial=-1) for values in parts.values())) + 1
        label = str(record.get("source", f"index file {source.name}"))
        return cls(**parts, num_frames=count, source=label)


class Subset(Sequence[Frame]):
    """Some frames of a data set, in the order of the indices, without copying them."""

    def __init__(self, frames: Sequence[Frame], indices: Int[np.ndarray, "subset"]):
        self._frames = frames
        self.indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> "Subset": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Subset(self._frames, self.indices[index])
        return self._frames[int(self.indices[index])]


def make_split(
    num_frames: int,
    settings: SplitSettings = SPLIT_DEFAULTS,
    exclude: Sequence[int] = (),
) -> Split:
    """A split by index file, or at random by number or fraction.

    Args:
      num_frames: number of frames in the files.
      settings: shares and seed. Fractions are of the frames that are not excluded.
      exclude: frames that are in no part, as isolated atoms; an index file may name them.

    Raises:
      FileNotFoundError, ValueError: as :meth:`Split.load`; or more frames are asked for than
        there are.
    """
    if settings.file is not None:
        split = Split.load(settings.file, num_frames)
        return replace(split, **{p: np.setdiff1d(getattr(split, p), exclude) for p in PARTS})
    free = np.setdiff1d(np.arange(num_frames), np.asarray(exclude, np.int64))
    shares = {
        "train": settings.train,
        "valid": 0.1 if settings.valid is None else settings.valid,
        "test": settings.test,
    }
    counts = {
        part: _count(share, len(free))
        for part, share in shares.items()
        if not isinstance(share, str)
    }
    for part, count in counts.items():
        if not count and getattr(settings, part):
            raise ValueError(
                f"got split.{part} {shares[part]} of {len(free)} frames, which is none; expected "
                "one at least; give a whole number of frames, or 0"
            )
    taken = sum(counts.values())
    if taken > len(free):
        asked = ", ".join(f"{part} {n}" for part, n in counts.items())
        raise ValueError(
            f"got a split with {asked} of {len(free)} frames; expected at most {len(free)} in all; "
            "lower the numbers"
        )
    order = np.random.default_rng(settings.seed).permutation(free)
    parts, start = {}, 0
    for part in ("test", "valid", "train"):
        n = counts.get(part, len(free) - taken)
        parts[part] = order[start : start + n]
        start += n
    return Split(**parts, num_frames=num_frames, source=f"random, seed {settings.seed}")


def _count(share: int | float, available: int) -> int:
    # The tolerance keeps 0.1 of 30 frames at 3.
    return share if isinstance(share, int) else int(share * available + 1e-9)


def _read_record(source: Path) -> dict:
    try:
        if source.suffix == ".json":
            record = json.loads(source.read_text(encoding="utf-8"))
        else:
            with open(source, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                record = {name: file[name] for name in file.files}
        if not isinstance(record, dict):
            raise ValueError("no names in it")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{source.name}: got a split file that cannot be read ({text}); expected .json or .npz "
            "with train, valid and test"
        ) from None
    return record


def _part(record: dict, names: tuple[str, ...]) -> np.ndarray | None:
    name = next((n for n in names if n in record), None)
    if name is None:
        return None
    values = np.asarray(record[name])
    if values.size and not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"got indices of the type {values.dtype} under {name!r}; expected whole numbers"
        )
    return values.astype(np.int64)
