"""Frames of a simulation in ASE's ``.traj`` format."""

import os
from pathlib import Path

import ase
import ase.data
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter

from mlffjax.data.frames import Frame
from mlffjax.md.records import Block, FileWriter
from mlffjax.md.velocities import TIME_UNIT_FS

#: Where the number of frames stands in a file of ASE's format, in bytes; an int64.
_COUNT_AT = 32


class AseTrajectoryWriter(FileWriter):
    """Frames with energy, forces and momenta, and ``step`` and ``time_fs`` in ``info``.

    ASE counts a frame only once all of it is written, so whatever happens to the writer the
    file has whole frames. Marks are frames.

    Raises:
      FileExistsError: the file is there, and is neither to be replaced nor to be continued.
      ValueError: a file to be continued has fewer frames than its mark.
    """

    def __init__(
        self,
        path: Path | str,
        frame: Frame,
        overwrite: bool = False,
        *,
        resume_at: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._frame = frame
        self._masses = ase.data.atomic_masses[frame.numbers]
        if resume_at is None:
            # Refused here, as ASE replaces a file without asking.
            self.path.open("wb" if overwrite else "xb").close()
            self._file = TrajectoryWriter(os.fspath(path), "w")
        else:
            _cut(self.path, resume_at)
            self._file = TrajectoryWriter(os.fspath(path), "a" if resume_at else "w")

    def write(self, block: Block) -> None:
        """Append the frames of a block."""
        try:
            for k in range(len(block.step)):
                self._file.write(self._atoms(block, k))
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error

    def mark(self) -> int:
        """Frames on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        return len(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _atoms(self, block: Block, k: int) -> ase.Atoms:
        atoms = ase.Atoms(
            self._frame.numbers,
            block.positions[k],
            cell=block.cell[k],
            pbc=self._frame.pbc,
            momenta=self._masses[:, None] * block.velocities[k] * TIME_UNIT_FS,
            info={"step": int(block.step[k]), "time_fs": float(block.time_fs[k])},
        )
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(block.energy[k]), forces=block.forces[k]
        )
        return atoms


def _cut(path: Path, frames: int) -> None:
    """Forget the frames from ``frames`` on; what they took up stays in the file, unread."""
    with path.open("r+b") as file:
        file.seek(_COUNT_AT)
        count = np.frombuffer(file.read(8) or bytes(8), "<i8")[0]
        if count < frames:
            raise ValueError(
                f"got {path} with {count} frames; expected at least the {frames} that the restart "
                "knows; put the file back, or start anew with overwrite"
            )
        if count:
            file.seek(_COUNT_AT)
            file.write(np.array(frames, "<i8").tobytes())
