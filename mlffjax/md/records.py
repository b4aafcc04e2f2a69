"""What a simulation hands out: rows of thermodynamics, frames, and the final state."""

from collections.abc import Sequence
from dataclasses import dataclass
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
        system and thermostat for Nose-Hoover, NaN for Langevin, which conserves nothing.
      temperature: in kelvin ``[rows]``.
    """

    step: Int[np.ndarray, "rows"]
    time_fs: Float[np.ndarray, "rows"]
    potential: Float[np.ndarray, "rows"]
    kinetic: Float[np.ndarray, "rows"]
    conserved: Float[np.ndarray, "rows"]
    temperature: Float[np.ndarray, "rows"]

    @property
    def total(self) -> Float[np.ndarray, "rows"]:
        """Potential and kinetic energy ``[rows]`` in eV."""
        return self.potential + self.kinetic

    @classmethod
    def join(cls, parts: Sequence["Thermo"]) -> "Thermo":
        """All rows in one table."""
        names = cls.__dataclass_fields__
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


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
    """

    thermo: Thermo
    step: Int[np.ndarray, "frames"]
    time_fs: Float[np.ndarray, "frames"]
    energy: Float[np.ndarray, "frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    forces: Float[np.ndarray, "frames atoms 3"]


class Writer(Protocol):
    """Takes blocks in order, from one thread at a time."""

    def write(self, block: Block) -> None:
        """Append a block and flush it."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@dataclass(frozen=True, eq=False)
class MDResult:
    """The outcome of :func:`mlffjax.md.engine.run_md`.

    Attributes:
      status: ``finished``, or ``exploded`` where the run had to stop.
      message: one line on how it ended; for an explosion when and which atoms.
      thermo: all rows up to the end.
      final: the last valid structure, with energy and forces as the potential gives them.
      velocities: of ``final`` ``[atoms, 3]`` in Angstrom/fs.
      steps: steps done.
      steps_per_second: without compilation.
      rebuilds: how often the neighbour list was made.
      redone_chunks: stretches computed again with a larger neighbour list.
      degrees_of_freedom: counted in the temperature.
    """

    status: Literal["finished", "exploded"]
    message: str
    thermo: Thermo
    final: Frame
    velocities: HostVectors
    steps: int
    steps_per_second: float
    rebuilds: int
    redone_chunks: int
    degrees_of_freedom: int
