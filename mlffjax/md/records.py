"""What a simulation hands out: rows of thermodynamics, frames, and the final state."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from mlffjax.data.frames import Frame
from mlffjax.types import HostVectors


@dataclass(frozen=True, eq=False)
class Thermo:
    """Rows of thermodynamics; energies without the element baseline, in eV.

    Attributes:
      step: number of steps done ``[rows]``.
      time_fs: in fs ``[rows]``.
      potential: interaction energy ``[rows]``.
      kinetic: kinetic energy ``[rows]``.
      conserved: what the exact dynamics conserves ``[rows]``: the total energy for NVE, that of
        system, thermostat and barostat for Nose-Hoover and CSVR; NaN where there is no such
        quantity.
      temperature: in kelvin ``[rows]``.
      volume: of the cell in Angstrom^3 ``[rows]``; ``None`` where the pressure is not recorded.
      pressure: kinetic and virial part, a third of the trace of the internal pressure, in GPa
        ``[rows]``; ``None`` where it is not recorded.
    """

    step: Int[np.ndarray, "rows"]
    time_fs: Float[np.ndarray, "rows"]
    potential: Float[np.ndarray, "rows"]
    kinetic: Float[np.ndarray, "rows"]
    conserved: Float[np.ndarray, "rows"]
    temperature: Float[np.ndarray, "rows"]
    volume: Float[np.ndarray, "rows"] | None = None
    pressure: Float[np.ndarray, "rows"] | None = None

    @property
    def total(self) -> Float[np.ndarray, "rows"]:
        """Potential and kinetic energy ``[rows]`` in eV."""
        return self.potential + self.kinetic

    @classmethod
    def join(cls, parts: Sequence["Thermo"]) -> "Thermo":
        """All rows in one table; a column that a part lacks is left out."""
        columns = {name: [getattr(p, name) for p in parts] for name in cls.__dataclass_fields__}
        whole = {n: c for n, c in columns.items() if not any(part is None for part in c)}
        return cls(**{name: np.concatenate(column) for name, column in whole.items()})


@dataclass(frozen=True, eq=False)
class Block:
    """Rows and frames of one stretch of a simulation, as given to the writers.

    Attributes:
      thermo: the rows.
      step: of each frame ``[frames]``.
      time_fs: of each frame in fs ``[frames]``.
      energy: total energy of each frame in eV, element baseline included ``[frames]``.
      positions: ``[frames, atoms, 3]`` in Angstrom, not wrapped into the cell.
      velocities: ``[frames, atoms, 3]`` in Angstrom/fs.
      forces: ``[frames, atoms, 3]`` in eV/Angstrom.
      cell: of each frame, lattice vectors as rows ``[frames, 3, 3]`` in Angstrom; zeros for a
        molecule.
    """

    thermo: Thermo
    step: Int[np.ndarray, "frames"]
    time_fs: Float[np.ndarray, "frames"]
    energy: Float[np.ndarray, "frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    forces: Float[np.ndarray, "frames atoms 3"]
    cell: Float[np.ndarray, "frames 3 3"]


class Writer(Protocol):
    """Takes blocks in order, from one thread at a time."""

    def write(self, block: Block) -> None:
        """Append a block and flush it."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class FileWriter(Writer, Protocol):
    """A writer whose file can be cut back to an earlier length, for a restart.

    Constructed with ``resume_at=None`` it makes a new file; with the number that :meth:`mark`
    gave it opens the file, cuts off all that was written after that mark, and appends.

    Attributes:
      path: of the file.
    """

    path: Path

    def mark(self) -> int:
        """The length of the file, in the writer's own unit, once all of it is on the disk."""
        ...


@dataclass(frozen=True, eq=False)
class MDResult:
    """The outcome of :func:`mlffjax.md.engine.run_md`.

    Attributes:
      status: ``finished``, ``interrupted`` where it was told to stop, or ``exploded`` where it
        had to.
      message: one line on how it ended; for an explosion when and which atoms.
      thermo: all rows up to the end; those before a restart as the log has them.
      final: the last valid structure, with energy and forces as the potential gives them.
      velocities: of ``final`` ``[atoms, 3]`` in Angstrom/fs.
      steps: steps done, also those before a restart.
      steps_per_second: without compilation, since the restart.
      rebuilds: how often the neighbour list was made.
      redone_chunks: stretches computed again with a larger neighbour list.
      degrees_of_freedom: counted in the temperature.
    """

    status: Literal["finished", "interrupted", "exploded"]
    message: str
    thermo: Thermo
    final: Frame
    velocities: HostVectors
    steps: int
    steps_per_second: float
    rebuilds: int
    redone_chunks: int
    degrees_of_freedom: int
