"""Running a simulation: compiled stretches of steps, redone with more room where needed."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ase
import ase.data
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame, about_origin
from mlffjax.md import chunk, restart, velocities
from mlffjax.md.blocks import BlockMaker
from mlffjax.md.bonds import Bonds, find_bonds
from mlffjax.md.chunk import Program, Stretch, System
from mlffjax.md.device_neighbors import (
    NeighborPlan,
    default_skin,
    enlarge,
    plan_neighbors,
)
from mlffjax.md.driver import Stop, drive
from mlffjax.md.filters import for_dynamics
from mlffjax.md.origin import moved_back, way_gone
from mlffjax.md.records import Block, MDResult, Thermo, Writer
from mlffjax.md.restart import RESTART_FILE, ReplicaProgress, Restart, Saver
from mlffjax.md.simulate import Integrator, State, keeps_center
from mlffjax.md.stability import BOND_TOLERANCE, describe_broken, spike_limit
from mlffjax.md.structure import frame_of
from mlffjax.md.trajectory import THERMO_FILE, clear_folder, open_writers, read_thermo
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.neighbors import complete_cell
from mlffjax.potential import Potential
from mlffjax.types import HostVectors

#: A stretch is redone at most so often before the run gives up: each time it grows by a margin.
MAX_REDO = 20
#: Bytes of frames kept on the device in one stretch.
MAX_RECORD_BYTES = 64_000_000
#: Atoms times steps of one compiled call, at most: some ten seconds of a network on a CPU, so
#: that a large system too is saved, and stops when it is told to.
MAX_ATOM_STEPS = 25_000

#: What is said then.
OUTGROWN = (
    f"got a neighbour list that outgrew its room {MAX_REDO} times in a row; expected a stable "
    "density; check the potential and the time step"
)

Progress = Callable[[int, Thermo], None]


def run_md(
    potential: Potential,
    structure: Frame | ase.Atoms,
    settings: MDSettings,
    *,
    folder: Path | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    writers: Sequence[Writer] = (),
    initial_velocities: HostVectors | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> MDResult:
    """Molecular dynamics of one structure.

    Computes in the dtype of the potential and near the origin, wherever the structure is. Steps
    are compiled in stretches, with the neighbour list inside; a stretch in which the list ran out
    of room is discarded and done again with more. A run whose numbers stop being finite, or whose
    temperature leaves all bounds, ends there and keeps what came before.

    With a folder the run writes a restart file between stretches. Continued from it, also after
    it was killed, it leaves the same files and ends in the same state, bit for bit on the same
    device, as if it had not been interrupted.

    Args:
      potential: the force field.
      structure: where to start; when resuming, where the run started.
      settings: ensemble, steps, intervals.
      folder: where ``thermo.csv``, the trajectory and the restart file are written; nothing is
        if not given.
      overwrite: whether files of an earlier run may be replaced; trajectories in other formats
        and those of replicas go too.
      resume: go on from the restart file in ``folder``; what its files have beyond it is cut.
      writers: further receivers of rows and frames; they are not closed.
      initial_velocities: ``[atoms, 3]`` in Angstrom/fs; drawn at the temperature of the settings
        if not given. Their drift is taken away where ``settings.remove_drift`` says so.
      progress: called at the beginning and after each stretch with the steps done and the new
        rows.
      stop: asked after each stretch; where it is true the run is saved and ends.

    Raises:
      ValueError: an element the potential does not know, a structure that has no neighbour list,
        velocities of another shape, an energy that is not finite at the start, constant pressure
        without three periodic directions, more than one replica, or nothing to resume from
        these arguments.
      FileExistsError: a file of the run is there and ``overwrite`` is false.
      OSError: a file cannot be written; the restart file stays.
    """
    if settings.replicas != 1:
        raise ValueError(
            f"got replicas={settings.replicas} for run_md; expected 1; use run_replicas"
        )
    frame = structure if isinstance(structure, Frame) else frame_of(structure)
    fast = for_dynamics(potential, settings, len(frame.numbers))
    run = Run(fast, frame, settings, initial_velocities)
    if folder is None:
        if resume:
            raise ValueError("got resume without a folder; expected that of the run; name it")
        run.begin(initial_velocities)
        return run.execute(writers, None, progress, stop)
    who = restart.identity(potential, frame, settings, initial_velocities)
    path = Path(folder) / RESTART_FILE
    marks = None
    if resume:
        restart.check_identity(path, who, settings.steps)
        marks = run.resume(path).marks
    else:
        run.begin(initial_velocities)
        clear_folder(path.parent, overwrite)
    own = open_writers(path.parent, frame, settings, overwrite, marks)
    saver = Saver(path, {writer.path.name: writer for writer in own}, who, settings, run.done)
    if resume:
        run.tables.append(read_thermo(path.with_name(THERMO_FILE)))
    try:
        return run.execute([*own, *writers], saver, progress, stop)
    finally:
        for writer in own:
            writer.close()


class Run:
    """One simulation in progress on the host."""

    program: Program
    state: State

    def __init__(
        self,
        potential: Potential,
        frame: Frame,
        settings: MDSettings,
        initial_velocities: HostVectors | None,
    ) -> None:
        potential.check_elements(frame.numbers)
        _check_ensemble(potential, frame, settings)
        self.potential, self.frame, self.settings = potential.interaction, frame, settings
        # All is computed there: far from the origin single precision is none.
        self.start, origin = about_origin(frame)
        self.masses = ase.data.atomic_masses[frame.numbers]
        self.bonds: Bonds | None = find_bonds(frame) if settings.bond_check else None
        dtype = potential.dtype
        self.system = System(
            numbers=jnp.asarray(frame.numbers, jnp.int32),
            masses=jnp.asarray(self.masses, dtype),
            cell=jnp.asarray(frame.cell, dtype),
            box=jnp.asarray(complete_cell(frame.cell, frame.pbc), dtype),
            bonds=None if self.bonds is None else _on_device(self.bonds, dtype),
        )
        direct = potential.module.direct_forces
        dof = _degrees_of_freedom(frame, self.masses, settings, initial_velocities, direct)
        self.make = BlockMaker(
            masses=self.masses,
            cell=frame.cell,
            moving_cell=settings.moving_cell,
            origin=origin,
            baseline=potential.baseline_energy(frame.numbers),
            dof=dof,
            timestep_fs=settings.timestep_fs,
            thermo_interval=settings.thermo_interval,
            frame_interval=settings.frame_interval,
        )
        count = len(frame.numbers)
        self.integrator = Integrator.from_settings(settings, dof, count, net_force=direct)
        targets = (settings.temperature, settings.initial_temperature, settings.temperature_end)
        hot = max(t for t in targets if t is not None)
        self.explosion_temperature = settings.explosion_temperature or spike_limit(hot)
        self.done = self.begun = self.redone = 0
        self.seconds, self.message = 0.0, ""
        self.tables: list[Thermo] = []
        self.firsts: Sequence[Block] = ()

    def begin(self, initial_velocities: HostVectors | None) -> None:
        """Set up step zero."""
        settings, start = self.settings, self.start
        skin = settings.skin
        if skin is None:
            skin = default_skin(len(start.numbers), start.pbc)
        place, pairwise = (start.positions, start.cell, start.pbc), self.potential.module.pairwise
        plan = plan_neighbors(*place, self.potential.cutoff, skin, half=pairwise)
        self.program = self.make_program(plan, steps_per_call(settings, len(start.numbers)))
        positions, momenta, key = self.start_arguments(initial_velocities)
        state, row, sound = self._start(positions, momenta, key)
        if not bool(sound):
            raise ValueError(
                f"got the energy {float(row[0])} eV and kinetic energy {float(row[1])} eV at the "
                "start; expected finite numbers and a temperature below the explosion limit; "
                "check the structure and the potential"
            )
        self.state = state
        rows = self.make.thermo(np.asarray(row)[None], np.zeros(1, int))
        self.tables.append(rows)
        self.firsts = [self.make.first_block(rows, state)]

    def resume(self, path: Path) -> Restart:
        """Set up the step of a restart file."""
        arguments = self.start_arguments(None)

        def template(plan: NeighborPlan, replicas: ReplicaProgress | None) -> State:
            del replicas
            call = partial(chunk.start, self.make_program(plan, 1))
            return jax.eval_shape(call, self.potential, self.system, *arguments)[0]

        earlier = restart.load(path, template)
        self.program = self.make_program(earlier.plan, earlier.steps_per_call)
        self.state, self.redone = earlier.state, earlier.redone
        self.done = self.begun = earlier.step
        self.move_origin(np.asarray(earlier.origins[0]) - self.make.origin)
        return earlier

    def make_program(self, plan: NeighborPlan, steps: int) -> Program:
        """What is static, with a neighbour list and the steps of a call."""
        settings = self.settings
        return Program(
            plan=plan,
            integrator=self.integrator,
            steps=steps,
            thermo_interval=settings.thermo_interval,
            frame_interval=settings.frame_interval,
            explosion_temperature=self.explosion_temperature,
            pressure=settings.record_pressure or settings.moving_cell,
        )

    def start_arguments(self, initial_velocities: HostVectors | None) -> tuple[Array, ...]:
        """Positions, momenta and the key of the noise."""
        dtype, settings = self.potential.dtype, self.settings
        positions = jnp.asarray(self.start.positions, dtype)
        for_momenta, for_noise = jax.random.split(jax.random.key(settings.seed))
        if initial_velocities is None:
            return positions, self._draw_momenta(for_momenta, positions), for_noise
        if np.shape(initial_velocities) != positions.shape:
            raise ValueError(
                f"got velocities of shape {np.shape(initial_velocities)}; expected "
                f"{positions.shape}; give one vector for each atom"
            )
        momenta = self.masses[:, None] * np.asarray(initial_velocities) * TIME_UNIT_FS
        momenta = jnp.asarray(momenta, dtype)
        if keeps_center(settings) and len(momenta) > 1:
            momenta = velocities.remove_drift(momenta, self.system.masses)
        return positions, momenta, for_noise

    def _start(self, positions: Array, momenta: Array, key: Array) -> tuple[State, Array, Array]:
        """The state at the start, with a list that has room for it."""
        for _ in range(MAX_REDO):
            state, row, sound = chunk.start(
                self.program, self.potential, self.system, positions, momenta, key
            )
            neighbors = state.force.neighbors
            if not bool(neighbors.overflow(self.program.plan)):
                return state, row, sound
            plan = enlarge(self.program.plan, neighbors, self.start.positions)
            self.program = replace(self.program, plan=plan)
        raise RuntimeError(OUTGROWN)

    def _draw_momenta(self, key: Array, positions: Array) -> Array:
        settings, masses = self.settings, self.system.masses
        temperature = settings.initial_temperature
        temperature = settings.temperature if temperature is None else temperature
        momenta = velocities.maxwell_boltzmann(key, masses, temperature)
        if settings.remove_drift and len(masses) > 1:
            momenta = velocities.remove_drift(momenta, masses)
            if settings.remove_rotation and not self.frame.pbc.any():
                momenta = velocities.remove_rotation(momenta, masses, positions)
        if settings.exact_temperature:
            momenta = velocities.scaled_to(momenta, masses, temperature, self.make.dof)
        return momenta

    def execute(
        self,
        writers: Sequence[Writer],
        saver: Saver | None,
        progress: Progress | None,
        stop: Stop | None,
    ) -> MDResult:
        """All steps, and the outcome."""
        report = None if progress is None else lambda: progress(self.done, self.tables[-1])
        drive(self, [writers], saver, report, stop)
        return self.result(self.seconds, self.message)

    @property
    def unfinished(self) -> bool:
        """Whether there are steps to do."""
        return self.done < self.settings.steps and not self.message

    def compile(self) -> None:
        """Compile a stretch of steps."""
        self._advance(self.done, 0)

    def stretch(self) -> list[Block | None]:
        """Do a stretch of steps; they begin at multiples of their length."""
        begin, before = time.perf_counter(), self.done
        # Not where a run was interrupted: an uninterrupted one would not either.
        if before % self.program.steps == 0:
            self._recenter()
        left = self.settings.steps - before
        count = min(self.program.steps - before % self.program.steps, left)
        stretch = self._sound_stretch(before, count)
        self.seconds += time.perf_counter() - begin
        self.done = before + int(stretch.done)
        if not bool(stretch.sound):
            self.message = self.explosion(stretch.state, self.done)
            self.done -= 1
        block = self.make.block(stretch.records, before, self.done)
        self.tables.append(block.thermo)
        return [block]

    def snapshot(self) -> Restart | None:
        """What is needed to go on from here; none after an explosion."""
        if self.message:
            return None
        now = (self.state, self.program.plan, self.done, self.program.steps, self.redone)
        return Restart(*now, origins=[self.make.origin.tolist()])

    def _recenter(self) -> None:
        """Move a system that has gone far back to the origin; a moving cell is about the start."""
        way = way_gone(np.asarray(self.state.position))
        if way.any() and not self.settings.moving_cell:
            self.move_origin(way)
            self.state = moved_back(self.state, jnp.asarray(way, self.potential.dtype))

    def move_origin(self, way: np.ndarray) -> None:
        """Positions in the state count from an origin that is moved by ``way`` ``[3]``."""
        self.make = replace(self.make, origin=self.make.origin + way)

    def _advance(self, first: int, count: int) -> Stretch:
        return chunk.advance(
            self.program,
            self.potential,
            self.system,
            self.state,
            jnp.asarray(first, jnp.int32),
            jnp.asarray(count, jnp.int32),
        )

    def _sound_stretch(self, first: int, count: int) -> Stretch:
        """A stretch without overflow; the neighbour list grows until there is none."""
        for _ in range(MAX_REDO):
            stretch = self._advance(first, count)
            if not bool(stretch.overflow):
                self.state = self._last_sound(stretch, first)
                return stretch
            self.redone += 1
            self._enlarge(stretch.state)
        raise RuntimeError(OUTGROWN)

    def _last_sound(self, stretch: Stretch, first: int) -> State:
        """The state after the last sound step of a stretch, whose start is still at hand."""
        while not bool(stretch.sound):
            # On a GPU sums may round differently, and an earlier step be the unsound one.
            stretch = self._advance(first, int(stretch.done) - 1)
        return stretch.state

    def _enlarge(self, overflowed: State) -> None:
        """More room, from the state before the stretch that overflowed."""
        neighbors = overflowed.force.neighbors
        positions = np.asarray(self.state.position, np.float64)
        self.program = replace(self.program, plan=enlarge(self.program.plan, neighbors, positions))
        self.state = chunk.with_plan(self.program, self.state)

    def explosion(self, state: State, step: int) -> str:
        """What went wrong in a step, when, and at which atoms."""
        positions = np.asarray(state.position, np.float64)
        bad = ~(
            np.isfinite(np.asarray(state.force.forces)).all(-1) & np.isfinite(positions).all(-1)
        )
        finite = np.isfinite(np.asarray(state.force.energy))
        if bad.any():
            what, atoms = "a force that is not finite", np.flatnonzero(bad)
        else:
            broken = self._broken(state) if finite else ""
            what = broken or "a temperature beyond the limit"
            what = what if finite else "an energy that is not finite"
            speed = np.linalg.norm(np.asarray(state.velocity, np.float64), axis=-1)
            atoms = np.argsort(-speed, kind="stable")
        named = ", ".join(str(a) for a in atoms[:5].tolist())
        more = ", ..." if len(atoms) > 5 else ""
        at = "" if what.startswith("broken") else f", at atoms {named}{more}"
        return (
            f"got {what} in step {step} ({step * self.settings.timestep_fs:g} fs){at}; expected "
            "stable dynamics; shorten the time step, relax the start, or improve the potential"
        )

    def _broken(self, state: State) -> str:
        """The broken bonds in words, if any."""
        if self.bonds is None:
            return ""
        positions, cell = np.asarray(state.position, np.float64), self.make.cell_of(state)
        i, j = self.bonds.pairs.T
        vectors = positions[j] - positions[i] + self.bonds.shifts @ cell
        off = np.abs(np.linalg.norm(vectors, axis=1) / self.bonds.lengths - 1) > BOND_TOLERANCE
        return describe_broken(self.frame.numbers, positions, cell, self.bonds, off)

    def result(self, seconds: float, message: str) -> MDResult:
        """The outcome after so many seconds of stepping, and why it ended early, if it did."""
        state, steps = self.state, self.done - self.begun
        reached = f"{self.done} steps, {self.done * self.settings.timestep_fs:g} fs"
        interrupted = not message and self.done < self.settings.steps
        cell = self.make.cell_of(state)
        final = replace(
            self.frame,
            positions=self.make.positions(np.asarray(state.position, np.float64), cell),
            cell=cell,
            energy=float(state.force.energy) + self.make.baseline,
            forces=np.asarray(state.force.forces, np.float64),
            stress=None,
        )
        return MDResult(
            status="exploded" if message else "interrupted" if interrupted else "finished",
            message=message or (f"interrupted after {reached}" if interrupted else reached),
            thermo=Thermo.join(self.tables),
            final=final,
            velocities=self.make.velocities(np.asarray(state.momentum, np.float64)),
            steps=self.done,
            steps_per_second=steps / seconds if seconds > 0 else math.nan,
            rebuilds=int(state.force.neighbors.rebuilds),
            redone_chunks=self.redone,
            degrees_of_freedom=self.make.dof,
        )


def _check_ensemble(potential: Potential, frame: Frame, settings: MDSettings) -> None:
    if potential.module.direct_forces and settings.ensemble == "nve":
        warnings.warn(
            "got direct forces in NVE; expected forces that are an energy gradient; the "
            "energy will drift: choose a thermostat",
            UserWarning,
            stacklevel=4,
        )
    if not frame.pbc.all() and (settings.moving_cell or settings.record_pressure):
        raise ValueError(
            f"got periodic directions {frame.pbc.tolist()} and a pressure to control or to log; "
            "expected three periodic directions, which a volume needs; choose an ensemble at "
            "constant volume without record_pressure, or give a cell"
        )


def _degrees_of_freedom(
    frame: Frame,
    masses: np.ndarray,
    settings: MDSettings,
    initial_velocities: HostVectors | None,
    direct_forces: bool,
) -> int:
    """Degrees of freedom: what is at rest at the start, and stays so, does not count."""
    # Forces that are no gradient need not add up to zero, nor do their torques.
    conserved = settings.ensemble == "nve" and not direct_forces
    still = keeps_center(settings) or (settings.remove_drift and conserved)
    turning = not settings.remove_rotation or settings.ensemble == "langevin" or direct_forces
    if initial_velocities is not None and np.shape(initial_velocities) == frame.positions.shape:
        momenta = masses[:, None] * np.asarray(initial_velocities, np.float64)
        size = np.abs(momenta).sum()
        arms = frame.positions - (masses[:, None] * frame.positions).sum(0) / masses.sum()
        angular = np.abs(np.cross(arms, momenta).sum(0)).max()
        turning = turning or angular > 1e-4 * max(size * np.abs(arms).max(), 1e-300)
        moving = np.abs(momenta.sum(0)).max() > 1e-4 * max(size, 1e-300)
        # Under a thermostat that keeps the centre at rest, the drift is taken away at the start.
        still = still and not (moving and settings.ensemble == "nve")
    return velocities.degrees_of_freedom(
        len(masses), frame.pbc, without_drift=still, without_rotation=not turning
    )


def _on_device(bonds: Bonds, dtype: Any) -> Bonds:
    pairs, shifts = jnp.asarray(bonds.pairs, jnp.int32), jnp.asarray(bonds.shifts, jnp.int32)
    moved: Any = (pairs, shifts, jnp.asarray(bonds.lengths, dtype))
    return Bonds(*moved)


def steps_per_call(settings: MDSettings, atoms: int) -> int:
    """Steps of one compiled call, if the settings name none: up to 500, or one frame if longer.

    Fewer in a large system, within bounds of memory (:data:`MAX_RECORD_BYTES`) and of time
    (:data:`MAX_ATOM_STEPS`, but at least ten).
    """
    if settings.chunk_steps is not None:
        return min(settings.chunk_steps, settings.steps)
    frames = max(1, min(1000, MAX_RECORD_BYTES // (atoms * 3 * 3 * 8)))
    wanted = settings.frame_interval * max(1, 500 // settings.frame_interval)
    wanted = min(wanted, max(10, MAX_ATOM_STEPS // atoms))
    return min(wanted, frames * settings.frame_interval, settings.steps)
