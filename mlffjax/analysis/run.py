"""All observables of a trajectory in one pass over its file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlffjax.analysis.angles import AngleDistribution
from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.conformations import (
    DihedralDistribution,
    Extent,
    Ramachandran,
    backbone_dihedrals,
    chain_ends,
    is_one_molecule,
    rotatable_dihedrals,
)
from mlffjax.analysis.correlation import Diffusion, VelocityCorrelation
from mlffjax.analysis.frames import continuous_frames
from mlffjax.analysis.pairs import RadialDistribution
from mlffjax.analysis.results import Observable, Result, Scalar
from mlffjax.analysis.thermodynamics import Thermodynamics
from mlffjax.config.analysis import OBSERVABLES, AnalysisSettings, ObservableName
from mlffjax.data.frames import Frame
from mlffjax.data.readers import read_frames
from mlffjax.md.bonds import Bonds, find_bonds
from mlffjax.md.trajectory import THERMO_FILE, TRAJECTORY_FILE, read_thermo
from mlffjax.md.trajectory_readers import (
    SUFFIXES,
    FrameBlock,
    Trajectory,
    is_h5md,
    open_trajectory,
)
from mlffjax.neighbors import complete_cell
from mlffjax.units import SPEED_OF_LIGHT_CM_PER_FS

#: Radius of the radial distribution in Angstrom, where the system is larger.
R_MAX = 10.0
#: Frames of the longest lag, at most: more make no line narrower that is worth it.
MAX_LAGS = 2000
#: Largest extent of a molecule in a distribution, and its bins, in Angstrom.
EXTENT, EXTENT_BIN = 100.0, 0.05
#: Parts of a trajectory that correlations have for their error.
PARTS = 10


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a trajectory gave.

    Attributes:
      results: numbers, curves and maps.
      notes: what was left out and why, and what limits a result.
      frames: number of frames.
      settings: with which it was made; where they were not given, as they were chosen.
    """

    results: tuple[Result, ...]
    notes: tuple[str, ...]
    frames: int
    settings: AnalysisSettings


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

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, start: int, stop: int, step: int = 1) -> FrameBlock:
        """See :meth:`Trajectory.read`."""
        frames = [self._frames[k] for k in self._rows[start:stop:step]]
        for frame in frames:
            if not np.array_equal(frame.numbers, self.numbers):
                raise ValueError(
                    f"got other atoms in {frame.name} than in the frames before; expected the "
                    "same in the same order; split the file by composition"
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
        names = tuple(TRAJECTORY_FILE.values())
        found = [path / name for name in names if (path / name).is_file()]
        if len(found) != 1:
            inner = sorted({file.parent for name in names for file in path.glob(f"*/{name}")})
            raise ValueError(
                f"got the folder {path} with {len(found)} trajectories; expected one of "
                f"{', '.join(names)}; name the {f'folder, as {inner[0]}' if inner else 'file'}"
            )
        return open_trajectory(found[0])
    if path.is_file() and path.suffix in SUFFIXES and is_h5md(path) is not False:
        trajectory = open_trajectory(path)
        if len(trajectory.numbers) > 1:
            return trajectory
        trajectory.close()
    return FramesTrajectory(read_frames(source), path)


def analyze(trajectory: Trajectory, settings: AnalysisSettings) -> Analysis:
    """Make all observables that the settings ask for, or that make sense.

    Args:
      trajectory: read once, block after block.
      settings: which observables, of which frames.

    Raises:
      ValueError: no frames are left, or an observable that was asked for by name cannot be made.
    """
    frames = range(len(trajectory))[settings.start : settings.stop : settings.step]
    if not len(frames):
        raise ValueError(
            f"got start={settings.start}, stop={settings.stop} for {len(trajectory)} frames of "
            f"{trajectory.path}; expected some frames; change them"
        )
    plan = _Plan(trajectory, frames, settings)
    observables = plan.observables()
    for block in continuous_frames(trajectory, frames, plan.bonds):
        for observable in observables:
            observable.add(block)
    results = [result for observable in observables for result in observable.results()]
    if "thermo" in plan.wanted:
        results = _with_log(results, trajectory.path.with_name(THERMO_FILE), plan.times)
    return Analysis(tuple(results), tuple(plan.notes), len(frames), plan.settings)


class _Plan:
    """Decides what can be made, and remembers why the rest cannot."""

    def __init__(self, trajectory: Trajectory, frames: range, settings: AnalysisSettings) -> None:
        self.trajectory, self.frames = trajectory, frames
        first = trajectory[frames[0]]
        self.bonds: Bonds = find_bonds(first)
        self.wanted: tuple[ObservableName, ...] = settings.what or OBSERVABLES
        self.strict = settings.what is not None
        self.notes: list[str] = []
        begin = trajectory.read(frames[0], min(frames[0] + 2, len(trajectory)))
        self.has_velocities = begin.velocities is not None
        end = trajectory.read(frames[-1], frames[-1] + 1)
        self.times = None
        if begin.time_fs is not None and end.time_fs is not None:
            self.times = (float(begin.time_fs[0]), float(end.time_fs[0]))
        self.frame_fs = self._frame_fs(begin, settings)
        chosen = {"r_max": settings.r_max or _default_r_max(first)}
        self.settings = settings.model_copy(update=chosen)

    def _frame_fs(self, begin: FrameBlock, settings: AnalysisSettings) -> float | None:
        if settings.frame_fs is not None:
            return settings.frame_fs * self.frames.step
        if begin.time_fs is None or len(begin) < 2:
            return None
        return float(begin.time_fs[1] - begin.time_fs[0]) * self.frames.step

    def observables(self) -> list[Observable]:
        """Those that are wanted and possible."""
        makers = {
            "thermo": self._thermo,
            "rdf": self._rdf,
            "adf": self._adf,
            "msd": self._msd,
            "spectrum": self._spectrum,
            "shape": self._shape,
            "dihedrals": self._dihedrals,
        }
        made = []
        for name in self.wanted:
            try:
                made += makers[name]()
            except ValueError as error:
                if self.strict:
                    raise ValueError(f"{name}: {error}") from None
                self.notes.append(f"{name} left out: {error}")
        return made

    def _thermo(self) -> list[Observable]:
        return [Thermodynamics(self.trajectory.numbers, self.trajectory.pbc)]

    def _rdf(self) -> list[Observable]:
        t, s = self.trajectory, self.settings
        if len(t.numbers) < 2:
            raise ValueError("got one atom; expected two or more")
        assert s.r_max is not None
        return [RadialDistribution(t.numbers, t.pbc, s.r_max, s.num_bins)]

    def _adf(self) -> list[Observable]:
        t = self.trajectory
        if self.settings.angle_cutoff is None and len(self.bonds.pairs) < 2:
            raise ValueError("got atoms without bonds; give angle_cutoff")
        return [AngleDistribution(t.numbers, t.pbc, self.settings.angle_cutoff)]

    def _lags(self) -> tuple[float, int]:
        if self.frame_fs is None or self.frame_fs <= 0:
            raise ValueError("got frames without times in order; give frame_fs")
        count = len(self.frames)
        wanted = min(count // PARTS, MAX_LAGS)
        if self.settings.max_lag_fs is not None:
            wanted = round(self.settings.max_lag_fs / self.frame_fs) + 1
        if wanted < 2 or 2 * wanted > count:
            raise ValueError(
                f"got {count} frames for correlations over {max(wanted, 2)}; expected twice as "
                f"many, better {PARTS} times; give more frames or a shorter max_lag_fs"
            )
        return self.frame_fs, wanted

    def _msd(self) -> list[Observable]:
        pbc = self.trajectory.pbc
        if not pbc.any():
            raise ValueError("got no periodic direction; expected a system that can diffuse")
        made = Diffusion(self.trajectory.numbers, pbc, *self._lags())
        if not pbc.all():
            self.notes.append(
                f"msd: of the motion along the periodic directions alone, {pbc.sum()} of three"
            )
        return [made]

    def _spectrum(self) -> list[Observable]:
        if not self.has_velocities:
            raise ValueError("got frames without velocities; write them")
        frame_fs, lags = self._lags()
        limit = 1 / (2 * frame_fs * SPEED_OF_LIGHT_CM_PER_FS)
        if limit < 4500:  # the fastest vibration, H-F, is at 4138 1/cm
            self.notes.append(
                f"spectrum: frames {frame_fs:g} fs apart resolve up to {limit:.0f} 1/cm and fold "
                "what is above into it; write frames more often"
            )
        return [VelocityCorrelation(self.trajectory.numbers, frame_fs, lags)]

    def _shape(self) -> list[Observable]:
        numbers = self.trajectory.numbers
        if len(numbers) < 3 or not is_one_molecule(self.bonds, len(numbers)):
            raise ValueError("got no single molecule of three or more atoms")
        # All bonds in a row: longer than any chain that stays whole.
        reach = min(1.5 * float(self.bonds.lengths.sum()), EXTENT)
        bins = math.ceil(reach / EXTENT_BIN)
        return [Extent(numbers, chain_ends(numbers, self.bonds), bins * EXTENT_BIN, bins)]

    def _dihedrals(self) -> list[Observable]:
        t, s = self.trajectory, self.settings
        alone = is_one_molecule(self.bonds, len(t.numbers))
        if s.dihedrals is None and s.ramachandran is None and not alone:
            raise ValueError("got no single molecule; name atoms with dihedrals")
        chosen = list(s.dihedrals or ())
        maps = list(s.ramachandran or ())
        if alone:
            chosen = chosen or rotatable_dihedrals(t.numbers, self.bonds)
            maps = maps or backbone_dihedrals(t.numbers, self.bonds)
        named = [k for four in (*chosen, *(f for pair in maps for f in pair)) for k in four]
        if not named:
            raise ValueError("got no rotatable bond; name atoms with dihedrals")
        if min(named) < 0 or max(named) >= len(t.numbers):
            raise ValueError(
                f"got the atoms {min(named)} to {max(named)} in dihedral angles; expected 0 to "
                f"{len(t.numbers) - 1}; name atoms of the trajectory"
            )
        made: list[Observable] = []
        made += [DihedralDistribution(t.numbers, chosen)] if chosen else []
        return made + ([Ramachandran(maps)] if maps else [])


def _default_r_max(frame: Frame) -> float:
    if not frame.pbc.any():
        # A system so wide needs no look at every pair, and a large one has no room for it.
        if 1.25 * float(np.ptp(frame.positions, axis=0).max()) + 1 >= R_MAX:
            return R_MAX
        between = frame.positions[:, None] - frame.positions
        return min(R_MAX, 1.25 * float(np.linalg.norm(between, axis=-1).max()) + 1)
    box = complete_cell(frame.cell, frame.pbc)
    heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
    # A cell of few atoms has structure beyond its half; images are counted, so that is no limit.
    return min(R_MAX, max(float(heights[frame.pbc].min()) / 2, 6.0))


def _with_log(results: list[Result], log: Path, times: tuple[float, float] | None) -> list[Result]:
    """Temperature and pressure from the log of the run: more rows, and its degrees of freedom.

    Args:
      results: of the frames.
      log: may be missing.
      times: of the first and the last frame in fs; only rows between them count.
    """
    if not log.is_file() or times is None:
        return results
    thermo = read_thermo(log)
    # The log has ten digits, a frame may have more.
    margin = 1e-9 * abs(times[1])
    rows = (thermo.time_fs >= times[0] - margin) & (thermo.time_fs <= times[1] + margin)
    kept = list(results)
    for name, series, unit in (
        ("temperature", thermo.temperature, "K"),
        ("pressure", thermo.pressure, "GPa"),
    ):
        if series is None or not rows.any():
            continue
        average = BlockAverage()
        average.add(series[rows])
        scalar = Scalar(name, float(average.mean()), float(average.error()), unit)
        kept = [scalar, *(r for r in kept if not (isinstance(r, Scalar) and r.name == name))]
    return kept
