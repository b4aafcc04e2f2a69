"""All observables of a trajectory, or of several replicas, in one pass over the files."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from mlffjax.analysis.times import frame_interval, time_span
from mlffjax.config.analysis import OBSERVABLES, AnalysisSettings, ObservableName
from mlffjax.data.frames import Frame
from mlffjax.md.bonds import Bonds, find_bonds
from mlffjax.md.trajectory import THERMO_FILE, read_thermo
from mlffjax.md.trajectory_readers import FrameBlock, Trajectory
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
      frames: number of frames, of all trajectories together.
      trajectories: number of trajectories.
      settings: with which it was made; where they were not given, as they were chosen.
    """

    results: tuple[Result, ...]
    notes: tuple[str, ...]
    frames: int
    trajectories: int
    settings: AnalysisSettings


def analyze(
    trajectories: Trajectory | Sequence[Trajectory], settings: AnalysisSettings
) -> Analysis:
    """Make all observables that the settings ask for, or that make sense.

    Of several trajectories, such as replicas, all frames count alike. No frame is correlated with
    one of another trajectory, and errors are no smaller than the scatter of the trajectories says.

    Args:
      trajectories: one, or several of the same atoms; each is read once, block after block.
      settings: which observables, of which frames of each.

    Raises:
      ValueError: no frames are left, trajectories of different atoms, positions that are not
        finite, or an observable that was asked for by name cannot be made.
    """
    several = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    frames = [_chosen(trajectory, settings) for trajectory in several]
    plan = _Plan(several, frames, settings)
    observables = plan.observables()
    moving = any(isinstance(each, VelocityCorrelation | Thermodynamics) for each in observables)
    with_velocities = moving and plan.has_velocities
    for trajectory, rows in zip(several, frames, strict=True):
        for observable in observables:
            observable.next_trajectory()
        for block in _sound_frames(trajectory, rows, with_velocities):
            for observable in observables:
                observable.add(block)
    results = [result for observable in observables for result in observable.results()]
    if "thermo" in plan.wanted:
        results = _with_logs(results, several, frames)
    total = sum(map(len, frames))
    return Analysis(tuple(results), tuple(plan.notes), total, len(several), plan.settings)


def _chosen(trajectory: Trajectory, settings: AnalysisSettings) -> range:
    frames = range(len(trajectory))[settings.start : settings.stop : settings.step]
    if not len(frames):
        raise ValueError(
            f"got start={settings.start}, stop={settings.stop} for {len(trajectory)} frames of "
            f"{trajectory.path}; expected some frames; change them"
        )
    return frames


def _sound_frames(
    trajectory: Trajectory, frames: range, with_velocities: bool
) -> Iterator[FrameBlock]:
    """The frames, whole and not wrapped; none whose numbers are not finite, or are missing."""
    passed = 0
    for block in continuous_frames(trajectory, frames, find_bonds(trajectory[frames[0]])):
        if with_velocities and block.velocities is None:
            rows = frames[passed : passed + len(block)]
            k = next(k for k in rows if trajectory.read(k, k + 1).velocities is None)
            raise ValueError(
                f"{trajectory.path.name}#{k}: got a frame without velocities, which frames before "
                f"it have; expected them in every frame; leave the frame out, as with stop={k}, or "
                "thermo and spectrum, by what"
            )
        for name in ("positions", "cell", "velocities"):
            values = getattr(block, name)
            if values is not None and not np.isfinite(values).all():
                bad = int(np.argmin(np.isfinite(values).all(axis=(1, 2))))
                k = frames[passed + bad]
                raise ValueError(
                    f"{trajectory.path.name}#{k}: got {name} that are not finite; expected "
                    f"numbers; leave the frame out, as with stop={k}"
                )
        passed += len(block)
        yield block


class _Plan:
    """Decides what can be made, and remembers why the rest cannot."""

    def __init__(
        self, several: Sequence[Trajectory], frames: Sequence[range], settings: AnalysisSettings
    ) -> None:
        self.several, self.frames = several, frames
        self.trajectory = several[0]
        for other in several[1:]:
            same = np.array_equal(other.numbers, self.trajectory.numbers)
            if not same or (other.pbc != self.trajectory.pbc).any():
                raise ValueError(
                    f"got other atoms or periodic directions in {other.path} than in "
                    f"{self.trajectory.path}; expected the same; analyse them one by one"
                )
        first = self.trajectory[frames[0][0]]
        self.bonds: Bonds = find_bonds(first)
        self.wanted: tuple[ObservableName, ...] = settings.what or OBSERVABLES
        self.strict = settings.what is not None
        self.notes: list[str] = []
        self.has_velocities = all(
            t.read(rows[0], rows[0] + 1).velocities is not None
            for t, rows in zip(several, frames, strict=True)
        )
        chosen = {"r_max": settings.r_max or _default_r_max(first)}
        self.settings = settings.model_copy(update=chosen)

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
        t = self.trajectory
        return [Thermodynamics(t.numbers, t.pbc, masses=t.masses)]

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
        counts = [len(rows) for rows in self.frames]
        count = max(counts)
        frame_fs = frame_interval(self.several, self.frames, self.settings.frame_fs)
        wanted = min(count // PARTS, MAX_LAGS)
        if self.settings.max_lag_fs is not None:
            wanted = round(self.settings.max_lag_fs / frame_fs) + 1
        if wanted < 2 or 2 * wanted > count:
            raise ValueError(
                f"got {count} frames for correlations over {max(wanted, 2)}; expected twice as "
                f"many, better {PARTS} times; give more frames or a shorter max_lag_fs"
            )
        short = sum(2 * wanted > n for n in counts)
        note = f"{short} of {len(counts)} trajectories are too short for time correlations"
        if short and note not in self.notes:
            self.notes.append(note)
        return frame_fs, wanted

    def _msd(self) -> list[Observable]:
        pbc = self.trajectory.pbc
        if not pbc.any():
            raise ValueError("got no periodic direction; expected a system that can diffuse")
        t = self.trajectory
        made = Diffusion(t.numbers, pbc, *self._lags(), masses=t.masses)
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
        t = self.trajectory
        return [VelocityCorrelation(t.numbers, frame_fs, lags, masses=t.masses)]

    def _shape(self) -> list[Observable]:
        numbers = self.trajectory.numbers
        if len(numbers) < 3 or not is_one_molecule(self.bonds, len(numbers)):
            raise ValueError("got no single molecule of three or more atoms")
        # All bonds in a row: longer than any chain that stays whole.
        reach = min(1.5 * float(self.bonds.lengths.sum()), EXTENT)
        bins = math.ceil(reach / EXTENT_BIN)
        ends, masses = chain_ends(numbers, self.bonds), self.trajectory.masses
        return [Extent(numbers, ends, bins * EXTENT_BIN, bins, masses=masses)]

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
        fours = [*chosen, *(four for pair in maps for four in pair)]
        named = [k for four in fours for k in four]
        twice = [list(four) for four in fours if len(set(four)) < 4]
        if twice:
            raise ValueError(f"got {twice[0]}; expected four different atoms; mend it")
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


def _with_logs(
    results: list[Result], several: Sequence[Trajectory], frames: Sequence[range]
) -> list[Result]:
    """Temperature and pressure from the logs of the runs: more rows, and their degrees of freedom.

    Args:
      results: of the frames.
      several: trajectories; where one has no log beside it, none counts.
      frames: of each; only rows between the first and the last of them count.
    """
    logs = [trajectory.path.with_name(THERMO_FILE) for trajectory in several]
    if not all(log.is_file() for log in logs):
        return results
    spans = [time_span(*each) for each in zip(several, frames, strict=True)]
    averages = {"temperature": BlockAverage(), "pressure": BlockAverage()}
    for log, span in zip(logs, spans, strict=True):
        if span is None:
            return results
        thermo = read_thermo(log)
        # The log has ten digits, a frame may have more.
        margin = 1e-9 * abs(span[1])
        rows = (thermo.time_fs >= span[0] - margin) & (thermo.time_fs <= span[1] + margin)
        for name, average in averages.items():
            series = getattr(thermo, name)
            if series is not None and rows.any():
                average.next_stream()
                average.add(series[rows])
    kept = list(results)
    for (name, average), unit in zip(averages.items(), ("K", "GPa"), strict=True):
        if average.count:
            scalar = Scalar(name, float(average.mean()), float(average.error()), unit)
            kept = [scalar, *(r for r in kept if not (isinstance(r, Scalar) and r.name == name))]
    return kept
