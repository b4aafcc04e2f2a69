"""What is analysed: trajectories, folders of simulations and of replicas, data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_masses

from mlffjax.data.frames import Frame
from mlffjax.data.readers import read_frames
from mlffjax.md.trajectory import TRAJECTORY_FILE
from mlffjax.md.trajectory_readers import (
    SUFFIXES,
    FrameBlock,
    Trajectory,
    is_h5md,
    open_trajectory,
)


class FramesTrajectory(Trajectory):
    """A data set as a trajectory: frames of the same atoms, without times and velocities.

    Isolated atoms, which data sets keep for their element energies, are left out.

    Raises:
      ValueError: the frames have different atoms.
    """

    def __init__(self, frames: Sequence[Frame], path: Path) -> None:
        self.path, self._frames = path, frames
        several = [k for k in range(len(frames)) if len(frames[k].numbers) > 1]
        self._rows = several or list(range(len(frames)))
        first = frames[self._rows[0]]
        self.numbers, self.pbc = first.numbers, first.pbc
        self.masses = atomic_masses[first.numbers]

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, start: int, stop: int, step: int = 1) -> FrameBlock:
        """See :meth:`Trajectory.read`."""
        frames = [self._frames[k] for k in self._rows[start:stop:step]]
        for frame in frames:
            same = np.array_equal(frame.numbers, self.numbers)
            if not same or (frame.pbc != self.pbc).any():
                raise ValueError(
                    f"got other {'periodic directions' if same else 'atoms'} in {frame.name} than "
                    "in the frames before; expected the same, atoms in the same order; split the "
                    "file by composition"
                )
        energies = [frame.energy for frame in frames]
        labelled = all(energy is not None for energy in energies)
        return FrameBlock(
            positions=np.stack([frame.positions for frame in frames]),
            cell=np.stack([frame.cell for frame in frames]),
            energy=np.array(energies, float) if labelled else None,
        )


def open_frames(source: str | Path) -> Trajectory:
    """A trajectory, the folder of a simulation that has one, or a data set.

    Raises:
      ValueError, OSError: as :func:`mlffjax.md.trajectory_readers.open_trajectory` and
        :func:`mlffjax.data.read_frames`.
    """
    path = Path(source)
    if path.is_dir():
        return open_trajectory(_file_in(path))
    if path.is_file() and path.suffix in SUFFIXES and is_h5md(path) is not False:
        trajectory = open_trajectory(path)
        if len(trajectory.numbers) > 1 or _is_of_one_atom(trajectory):
            return trajectory
        trajectory.close()
    return FramesTrajectory(read_frames(source), path)


def open_replicas(source: str | Path) -> list[Trajectory]:
    """The trajectories of all replicas in a folder, or what :func:`open_frames` opens.

    Args:
      source: folder of a run of replicas, or anything else that can be analysed.

    Raises:
      ValueError, OSError: as :func:`open_frames`; the message names the replica.
    """
    path = Path(source)
    replicas = sorted(p for p in path.glob("replica_*") if p.is_dir()) if path.is_dir() else []
    if not replicas or any((path / name).is_file() for name in TRAJECTORY_FILE.values()):
        return [open_frames(source)]
    opened = []
    for folder in replicas:
        try:
            opened.append(open_frames(folder))
        except ValueError as error:
            for trajectory in opened:
                trajectory.close()
            raise ValueError(f"{folder.name}: {error}") from None
    return opened


def _file_in(folder: Path) -> Path:
    names = tuple(TRAJECTORY_FILE.values())
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) != 1:
        inner = sorted({file.parent for name in names for file in folder.glob(f"*/{name}")})
        raise ValueError(
            f"got the folder {folder} with {len(found)} trajectories; expected one of "
            f"{', '.join(names)}; name the {f'folder, as {inner[0]}' if inner else 'file'}"
        )
    return found[0]


def _is_of_one_atom(trajectory: Trajectory) -> bool:
    """Whether frames of one atom are a simulation, not isolated atoms before a data set."""
    try:
        return len(trajectory) > 1 and len(trajectory[-1].numbers) == 1
    except ValueError:  # other atoms in the last frame
        return False
