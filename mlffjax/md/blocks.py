"""From arrays of the compiled part to rows and frames on the host, in the package's units."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mlffjax.md.chunk import Records
from mlffjax.md.records import Block, Thermo
from mlffjax.md.simulate import State
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.types import HostCell
from mlffjax.units import BOLTZMANN, GPA


@dataclass(frozen=True, eq=False)
class BlockMaker:
    """What is needed to make rows and frames.

    Attributes:
      masses: in amu ``[atoms]``.
      cell: lattice vectors as rows in Angstrom at the start, and
      moving_cell: whether they change.
      origin: of the positions in the state, where the user has them ``[3]`` in Angstrom (at the
        start, if the cell moves), see :func:`mlffjax.data.frames.about_origin`.
      baseline: element energies in eV, added to the energies of frames.
      dof: degrees of freedom.
      timestep_fs: in fs.
      thermo_interval, frame_interval: steps between rows and between frames.
    """

    masses: Float[np.ndarray, "atoms"]
    cell: HostCell
    moving_cell: bool
    origin: Float[np.ndarray, "3"]
    baseline: float
    dof: int
    timestep_fs: float
    thermo_interval: int
    frame_interval: int

    def thermo(
        self, rows: Float[np.ndarray, "rows columns"], step: Int[np.ndarray, "rows"]
    ) -> Thermo:
        """Rows as :attr:`mlffjax.md.chunk.Records.thermo` has them, with their steps."""
        rows = rows.astype(np.float64)
        pressure = rows.shape[1] > 3
        return Thermo(
            step=step,
            time_fs=step * self.timestep_fs,
            potential=rows[:, 0],
            kinetic=rows[:, 1],
            conserved=rows[:, 2],
            temperature=2 * rows[:, 1] / (self.dof * BOLTZMANN),
            volume=rows[:, 3] if pressure else None,
            pressure=rows[:, 4] / GPA if pressure else None,
        )

    def block(self, records: Records, first: int, last: int) -> Block:
        """Rows and frames of the steps after ``first`` up to ``last``."""

        def due(interval: int) -> np.ndarray:
            return np.arange(first // interval + 1, last // interval + 1) * interval

        rows, frames = due(self.thermo_interval), due(self.frame_interval)
        take = lambda a: np.asarray(a[: len(frames)], np.float64)  # noqa: E731
        fixed = np.broadcast_to(np.asarray(self.cell, np.float64), (len(frames), 3, 3))
        cell = fixed if records.cell is None else take(records.cell)
        return Block(
            thermo=self.thermo(np.asarray(records.thermo[: len(rows)]), rows),
            step=frames,
            time_fs=frames * self.timestep_fs,
            energy=take(records.energy) + self.baseline,
            positions=self.positions(take(records.positions), cell),
            velocities=self.velocities(take(records.momenta)),
            forces=take(records.forces),
            cell=cell,
        )

    def first_block(self, rows: Thermo, state: State) -> Block:
        """The row and the frame of the start."""
        host = lambda a: np.asarray(a, np.float64)[None]  # noqa: E731
        cell = self.cell_of(state)[None]
        return Block(
            thermo=rows,
            step=np.zeros(1, int),
            time_fs=np.zeros(1),
            energy=rows.potential + self.baseline,
            positions=self.positions(host(state.position), cell),
            velocities=self.velocities(host(state.momentum)),
            forces=host(state.force.forces),
            cell=cell,
        )

    def velocities(
        self, momenta: Float[np.ndarray, "... atoms 3"]
    ) -> Float[np.ndarray, "... atoms 3"]:
        """Velocities in Angstrom/fs of momenta in sqrt(amu eV)."""
        return momenta / self.masses[:, None] / TIME_UNIT_FS

    def positions(
        self, positions: Float[np.ndarray, "... atoms 3"], cell: Float[np.ndarray, "... 3 3"]
    ) -> Float[np.ndarray, "... atoms 3"]:
        """Positions where the user has them, from those in the state and the cell of then."""
        # A cell that moves carries all of space with it.
        moved = np.linalg.inv(self.cell) @ cell if self.moving_cell else np.eye(3)
        return positions + (self.origin @ moved)[..., None, :]

    def cell_of(self, state: State) -> HostCell:
        """Lattice vectors as rows ``[3, 3]`` in Angstrom."""
        return np.asarray(state.force.cell if self.moving_cell else self.cell, np.float64)
