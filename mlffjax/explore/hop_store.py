"""What a search leaves on disk, streamed, and continued exactly where a saved state says."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import ase.data
import numpy as np

from mlffjax.data.frames import Frame
from mlffjax.md.restart import sync_folder
from mlffjax.types import HostVectors

MINIMA_FILE = "minima.extxyz"
HISTORY_FILE = "history.jsonl"
STATE_FILE = "state.npz"
LOWEST_FILE = "lowest.extxyz"

Status = Literal["same", "known", "new", "dissociated", "rebonded", "unfinished", "failed"]


@dataclass(frozen=True)
class Escape:
    """One line of the history.

    Attributes:
      walker: that escaped.
      step: number of the escape, of all walkers together, from 0.
      origin: index of the minimum it began in (``from`` in the file).
      target: index of the minimum it led to (``to``), or ``None`` where it led to none.
      temperature: ``T0`` of the escape in kelvin.
      energy_difference: ``E_diff`` in eV, before it was adapted.
      energy: of the relaxed structure in eV, element baseline included; ``None`` where not finite.
      barrier: highest potential energy between the two minima in eV, likewise: an upper bound of
        the barrier along this way.
      accepted: whether the walker went on from the target.
      force_calls: of this escape and relaxation.
      status: ``same`` as the origin, ``known`` in the history, ``new``; or rejected because it
        was ``dissociated``, ``rebonded``, its relaxation ``unfinished`` or ``failed``.
    """

    walker: int
    step: int
    origin: int
    target: int | None
    temperature: float
    energy_difference: float
    energy: float | None
    barrier: float | None
    accepted: bool
    force_calls: int
    status: Status

    def line(self) -> str:
        """As JSON."""
        values = asdict(self)
        named = {"origin": "from", "target": "to"}
        return json.dumps({named.get(key, key): value for key, value in values.items()})

    @classmethod
    def of(cls, line: str) -> "Escape":
        """From a line of the file."""
        values = json.loads(line)
        values["origin"], values["target"] = values.pop("from"), values.pop("to")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Minimum:
    """A minimum as the file has it.

    Attributes:
      positions: ``[atoms, 3]`` in Angstrom, every digit kept.
      energy: in eV, element baseline included.
      interaction: in eV, without it; every digit kept.
      index: in the order of discovery.
      first_seen: number of the escape that found it; -1 for a start.
    """

    positions: HostVectors
    energy: float
    interaction: float
    index: int
    first_seen: int


class HopFiles:
    """The growing files of a search in one folder.

    Args:
      folder: of the run.
      frame: whose elements the minima have.
      lengths: bytes of ``minima.extxyz`` and ``history.jsonl`` to keep, when a search continues;
        new files if not given.

    Raises:
      FileExistsError: there is a search in the folder already.
      ValueError: a file is shorter than the state says.
    """

    def __init__(self, folder: Path, frame: Frame, lengths: tuple[int, int] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._symbols = [ase.data.chemical_symbols[z] for z in frame.numbers]
        paths = (folder / MINIMA_FILE, folder / HISTORY_FILE)
        if lengths is None:
            for path in paths:
                if path.exists():
                    raise FileExistsError(
                        f"got the existing file {path}; expected a new folder; choose another, or "
                        "resume"
                    )
        else:
            for path, length in zip(paths, lengths, strict=True):
                if not path.exists() or path.stat().st_size < length:
                    raise ValueError(
                        f"got {path} with less than the {length} bytes the saved state names; "
                        "expected the files of one search; begin a new one"
                    )
                os.truncate(path, length)
        self._minima, self._history = (path.open("ab") for path in paths)

    def lengths(self) -> tuple[int, int]:
        """Bytes written so far, once all of them are on the disk."""
        for file in (self._minima, self._history):
            file.flush()
            os.fsync(file.fileno())
        return self._minima.tell(), self._history.tell()

    def add_minimum(self, minimum: Minimum) -> None:
        """Append a minimum."""
        rows = [
            f"{symbol} {x!r} {y!r} {z!r}\n"
            for symbol, (x, y, z) in zip(self._symbols, minimum.positions.tolist(), strict=True)
        ]
        header = (
            f'{len(rows)}\nProperties=species:S:1:pos:R:3 pbc="F F F" energy={minimum.energy!r} '
            f"interaction_energy={minimum.interaction!r} visits=1 index={minimum.index} "
            f"first_seen_step={minimum.first_seen}\n"
        )
        self._minima.write((header + "".join(rows)).encode())
        self._minima.flush()

    def add_escape(self, escape: Escape) -> None:
        """Append a line of the history."""
        self._history.write((escape.line() + "\n").encode())
        self._history.flush()

    def close(self) -> None:
        """Close the files."""
        self._minima.close()
        self._history.close()


def read_minima(folder: Path) -> Iterator[Minimum]:
    """The minima of a search in the order of their discovery."""
    with (folder / MINIMA_FILE).open() as file:
        for first in iter(file.readline, ""):
            header = dict(part.split("=", 1) for part in file.readline().split() if "=" in part)
            rows = [file.readline().split()[1:] for _ in range(int(first))]
            yield Minimum(
                positions=np.array(rows, np.float64),
                energy=float(header["energy"]),
                interaction=float(header["interaction_energy"]),
                index=int(header["index"]),
                first_seen=int(header["first_seen_step"]),
            )


def read_history(folder: Path) -> list[Escape]:
    """The escapes of a search in order."""
    lines = (folder / HISTORY_FILE).read_text().splitlines()
    return [Escape.of(line) for line in lines]


def write_lowest(
    folder: Path, symbols: Sequence[str], minima: Sequence[Minimum], visits: Sequence[int]
) -> None:
    """All minima in the order of their energy, with the number of their visits."""
    partial = folder / f".{LOWEST_FILE}.partial"
    with partial.open("w") as file:
        for minimum in sorted(minima, key=lambda m: m.energy):
            file.write(
                f"{len(symbols)}\nProperties=species:S:1:pos:R:3 "
                f'pbc="F F F" energy={minimum.energy:.10f} visits={visits[minimum.index]} '
                f"index={minimum.index} first_seen_step={minimum.first_seen}\n"
            )
            file.writelines(
                f"{symbol} {x:.10f} {y:.10f} {z:.10f}\n"
                for symbol, (x, y, z) in zip(symbols, minimum.positions.tolist(), strict=True)
            )
    os.replace(partial, folder / LOWEST_FILE)


def save_state(folder: Path, leaves: Sequence[np.ndarray], values: Mapping[str, Any]) -> None:
    """Write arrays and JSON values as one file, which appears whole or not at all."""
    partial = folder / f".{STATE_FILE}.partial"
    text = np.frombuffer(json.dumps(values).encode(), np.uint8)
    with partial.open("wb") as file:
        np.savez(file, text, *leaves)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / STATE_FILE)
    sync_folder(folder)


def load_state(folder: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What :func:`save_state` wrote.

    Raises:
      ValueError: there is no saved state.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise ValueError(f"got {folder}, which has no saved search; expected one; begin it anew")
    with np.load(path) as arrays:
        text, *leaves = (arrays[f"arr_{k}"] for k in range(len(arrays.files)))
        return leaves, json.loads(text.tobytes())
