"""What commands that use a potential do first: load it, read structures for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlffjax.cli.process import use_x64

if TYPE_CHECKING:
    import ase

    from mlffjax.data import Frame
    from mlffjax.potential import Potential


def load_potential(folder: str) -> "Potential":
    """The potential in a folder; one in double precision switches JAX to it.

    Raises:
      CheckpointError: there is no potential, or it cannot be read.
    """
    import jax

    from mlffjax.checkpoint import CheckpointError, load

    try:
        return load(folder)
    except CheckpointError:
        if jax.config.read("jax_enable_x64"):
            raise
        # One in double precision is refused until JAX computes in it.
        use_x64("float64")
        return load(folder)


def read_labelled(file: str, assignments: Sequence[str]) -> "Sequence[Frame]":
    """Frames of a file, read as ``key=value`` assignments say.

    Raises:
      ConfigError: an assignment is wrong.
      ValueError, OSError: as :func:`mlffjax.data.read_frames`.
    """
    from mlffjax.config.data import ReadSettings
    from mlffjax.config.files import override
    from mlffjax.data import read_frames

    settings = ReadSettings.parse(override({}, assignments), source="command line")
    return read_frames(file if file.startswith("builtin:") else Path(file), settings)


def read_structure(file: str, index: int) -> "Frame | ase.Atoms":
    """One structure of a file; of ASE where it has constraints or masses of its own.

    Raises:
      ValueError: the file has no such frame, or cannot be read.
    """
    from mlffjax.data import read_structures

    frames = read_structures(file)
    if not -len(frames) <= index < len(frames):
        raise ValueError(
            f"got --frame {index} of {file}, which has {len(frames)} frames; expected "
            f"0 to {len(frames) - 1}, or a negative number to count from the end"
        )
    return frames[index]
