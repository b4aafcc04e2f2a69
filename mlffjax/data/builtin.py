"""Data sets that come with the package."""

import os
from functools import cache
from importlib.resources import as_file, files

from mlffjax.config.data import READ_DEFAULTS
from mlffjax.data.ase_frames import read_ase
from mlffjax.data.frames import Frame

#: Each is a file ``NAME.extxyz`` beside this module; its script is
#: ``experiments/datasets/NAME``.
BUILTIN = ("ethanol",)


def is_builtin(path: str | os.PathLike) -> bool:
    """Whether a path names a built-in set, as ``builtin:ethanol``."""
    return str(path).startswith("builtin:")


def load_builtin(name: str) -> list[Frame]:
    """A built-in data set.

    ``ethanol``: isolated H, C and O, then frames of ethanol sampled at 500 K with GFN2-xTB and
    labelled with PBE/def2-SVP (energy in eV, forces in eV/Angstrom).

    Args:
      name: the set's name.

    Raises:
      ValueError: there is no such set.
    """
    if name not in BUILTIN:
        raise ValueError(
            f"got the built-in data set {name!r}; expected one of {', '.join(BUILTIN)}"
        )
    return list(_load(name))


@cache
def _load(name: str) -> tuple[Frame, ...]:
    with as_file(files("mlffjax.data") / "builtin" / f"{name}.extxyz") as path:
        return tuple(read_ase(path, READ_DEFAULTS))
