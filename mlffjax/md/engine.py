"""Running a simulation: compiled stretches of steps, redone with more room where needed."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ase
import ase.data
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md import chunk, velocities
from mlffjax.md.chunk import Program, Records, Stretch, System
from mlffjax.md.device_neighbors import default_skin, enlarge, plan_neighbors
from mlffjax.md.records import Block, MDResult, Thermo, Writer
from mlffjax.md.simulate import Integrator, State
from mlffjax.md.trajectory import open_writers
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.neighbors import complete_cell
from mlffjax.potential import Potential
from mlffjax.types import HostVectors
from mlffjax.units import BOLTZMANN

#: A stretch is redone at most so often before the run gives up: each time it grows by a margin.
MAX_REDO = 20
#: Bytes of frames kept on the device in one stretch.
MAX_RECORD_BYTES = 64_000_000

_OUTGROWN = (
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
    writers: Sequence[Writer] = (),
    initial_velocities: HostVectors | None = None,
    progress: Progress | None = None,
) -> MDResult:
    """Molecular dynamics of one structure.

    Computes in the dtype of the potential. Steps are compiled in stretches, with the neighbour
    list inside; a stretch in which the list ran out of room is discarded and done again with
    more. A run whose numbers stop being finite, or whose temperature leaves all bounds, ends
    there and keeps what came before.

    Args:
      potential: the force field.
      structure: where to start.
      settings: ensemble, steps, intervals.
      folder: where ``thermo.csv`` and the trajectory are written; nothing is if not given.
      overwrite: whether existing files of these names may be replaced.
      writers: further receivers of rows and frames; they are not closed.
      initial_velocities: ``[atoms, 3]`` in Angstrom/fs; drawn at the temperature of the settings
        if not given.
      progress: called after each stretch with the steps done and the new rows.

    Raises:
      ValueError: an element the potential does not know, a structure that has no neighbour list,
        velocities of another shape, or an energy that is not finite at the start.
      FileExistsError: a file of the run is there and ``overwrite`` is false.
    """
    frame = structure if isinstance(structure, Frame) else _frame(structure)
    run = _Run(potential, frame, settings, initial_velocities)
    own = [] if folder is None else open_writers(Path(folder), frame, settings, overwrite)
    try:
        return run.execute([*own, *writers], progress)
    finally:
        for writer in own:
            writer.close()


class _Run:
    """One simulation in progress on the host."""

    def __init__(
        self,
        potential: Potential,
        frame: Frame,
        settings: MDSettings,
        initial_velocities: HostVectors | None,
    ) -> None:
        potential.check_elements(frame.numbers)
        if potential.module.direct_forces and settings.ensemble == "nve":
            warnings.warn(
                "got direct forces in NVE; expected forces that are an energy gradient; the "
                "energy will drift: choose a thermostat",
                UserWarning,
                stacklevel=3,
            )
        self.potential, self.frame, self.settings = potential, frame, settings
        self.baseline = potential.baseline_energy(frame.numbers)
        self.masses = ase.data.atomic_masses[frame.numbers]
        dtype = potential.dtype
        self.system = System(
            numbers=jnp.asarray(frame.numbers, jnp.int32),
            masses=jnp.asarray(self.masses, dtype),
            cell=jnp.asarray(frame.cell, dtype),
            box=jnp.asarray(complete_cell(frame.cell, frame.pbc), dtype),
        )
        self.dof = velocities.degrees_of_freedom(
            frame.positions,
            self.masses,
            frame.pbc,
            without_drift=settings.remove_drift and settings.ensemble != "langevin",
            without_rotation=settings.remove_rotation,
        )
        self.program = self._program()
        self.redone = 0
        self.state = self._begin(initial_velocities)

    def _program(self) -> Program:
        settings, frame = self.settings, self.frame
        skin = default_skin(len(frame.numbers)) if settings.skin is None else settings.skin
        plan = plan_neighbors(frame.positions, frame.cell, frame.pbc, self.potential.cutoff, skin)
        hot = max(settings.temperature, settings.initial_temperature or 0)
        return Program(
            plan=plan,
            integrator=Integrator.from_settings(settings, self.dof),
            steps=_steps_per_call(settings, len(frame.numbers)),
            thermo_interval=settings.thermo_interval,
            frame_interval=settings.frame_interval,
            explosion_temperature=settings.explosion_temperature or max(1e4, 10 * hot),
        )

    def _begin(self, initial_velocities: HostVectors | None) -> State:
        dtype, settings = self.potential.dtype, self.settings
        positions = jnp.asarray(self.frame.positions, dtype)
        for_momenta, for_noise = jax.random.split(jax.random.key(settings.seed))
        if initial_velocities is None:
            momenta = self._draw_momenta(for_momenta, positions)
        else:
            if np.shape(initial_velocities) != positions.shape:
                raise ValueError(
                    f"got velocities of shape {np.shape(initial_velocities)}; expected "
                    f"{positions.shape}; give one vector for each atom"
                )
            momenta = self.masses[:, None] * np.asarray(initial_velocities) * TIME_UNIT_FS
            momenta = jnp.asarray(momenta, dtype)
        state, row, sound = self._start(positions, momenta, for_noise)
        if not bool(sound):
            raise ValueError(
                f"got the energy {float(row[0])} eV and kinetic energy {float(row[1])} eV at the "
                "start; expected finite numbers and a temperature below the explosion limit; "
                "check the structure and the potential"
            )
        self.first_rows = self._thermo(np.asarray(row)[None], np.zeros(1, int))
        return state

    def _start(self, positions: Array, momenta: Array, key: Array) -> tuple[State, Array, Array]:
        """The state at the start, with a list that has room for it."""
        for _ in range(MAX_REDO):
            state, row, sound = chunk.start(
                self.program, self.potential, self.system, positions, momenta, key
            )
            neighbors = state.force.neighbors
            if not bool(neighbors.overflow(self.program.plan)):
                return state, row, sound
            plan = enlarge(self.program.plan, neighbors, self.frame.positions)
            self.program = replace(self.program, plan=plan)
        raise RuntimeError(_OUTGROWN)

    def _draw_momenta(self, key: Array, positions: Array) -> Array:
        settings, masses = self.settings, self.system.masses
        temperature = settings.initial_temperature
        temperature = settings.temperature if temperature is None else temperature
        momenta = velocities.maxwell_boltzmann(key, masses, temperature)
        if settings.remove_drift and len(masses) > 1:
            momenta = velocities.remove_drift(momenta, masses)
            if settings.remove_rotation and not self.frame.pbc.any():
                momenta = velocities.remove_rotation(momenta, masses, positions)
        return momenta

    def execute(self, writers: Sequence[Writer], progress: Progress | None) -> MDResult:
        """All steps; frames are written by a thread while the next stretch runs."""
        tables, done, seconds, message = [self.first_rows], 0, 0.0, ""
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending.append(pool.submit(_write, writers, self._first_block()))
            self._advance(0, 0)  # compiles
            while done < self.settings.steps and not message:
                begin = time.perf_counter()
                stretch = self._sound_stretch(done, min(self.program.steps, self._left(done)))
                seconds += time.perf_counter() - begin
                last = done + int(stretch.done)
                if not bool(stretch.sound):
                    message = self._explosion(stretch.state, last)
                    last -= 1
                block = self._block(stretch.records, done, last)
                for future in pending:
                    future.result()
                pending = [pool.submit(_write, writers, block)]
                tables.append(block.thermo)
                done = last
                if progress is not None:
                    progress(done, block.thermo)
            for future in pending:
                future.result()
        return self._result(Thermo.join(tables), done, seconds, message)

    def _left(self, done: int) -> int:
        return self.settings.steps - done

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
                self.state = stretch.state if bool(stretch.sound) else stretch.previous
                return stretch
            self.redone += 1
            self._enlarge(stretch.state)
        raise RuntimeError(_OUTGROWN)

    def _enlarge(self, overflowed: State) -> None:
        """More room, from the state before the stretch that overflowed."""
        neighbors = overflowed.force.neighbors
        positions = np.asarray(self.state.position, np.float64)
        self.program = replace(self.program, plan=enlarge(self.program.plan, neighbors, positions))
        self.state = chunk.with_plan(self.program, self.state)

    def _explosion(self, state: State, step: int) -> str:
        bad = ~(
            np.isfinite(np.asarray(state.force.forces)).all(-1)
            & np.isfinite(np.asarray(state.position)).all(-1)
        )
        time_fs = step * self.settings.timestep_fs
        if bad.any():
            what, atoms = "a force that is not finite", np.flatnonzero(bad)
        else:
            finite = np.isfinite(np.asarray(state.force.energy))
            what = "a temperature beyond the limit" if finite else "an energy that is not finite"
            speed = np.linalg.norm(np.asarray(state.velocity, np.float64), axis=-1)
            atoms = np.argsort(-speed, kind="stable")
        named = ", ".join(str(a) for a in atoms[:5].tolist())
        return (
            f"got {what} in step {step} ({time_fs:g} fs), at atoms {named}"
            f"{', ...' if len(atoms) > 5 else ''}; expected stable dynamics; shorten the time "
            "step, relax the start, or improve the potential"
        )

    def _thermo(self, rows: np.ndarray, step: np.ndarray) -> Thermo:
        rows = rows.astype(np.float64)
        return Thermo(
            step=step,
            time_fs=step * self.settings.timestep_fs,
            potential=rows[:, 0],
            kinetic=rows[:, 1],
            conserved=rows[:, 2],
            temperature=2 * rows[:, 1] / (self.dof * BOLTZMANN),
        )

    def _block(self, records: Records, first: int, last: int) -> Block:
        def due(interval: int) -> np.ndarray:
            return np.arange(first // interval + 1, last // interval + 1) * interval

        rows, frames = due(self.settings.thermo_interval), due(self.settings.frame_interval)
        take = lambda a: np.asarray(a[: len(frames)], np.float64)  # noqa: E731
        return Block(
            thermo=self._thermo(np.asarray(records.thermo[: len(rows)]), rows),
            step=frames,
            time_fs=frames * self.settings.timestep_fs,
            energy=take(records.energy) + self.baseline,
            positions=take(records.positions),
            velocities=self._velocities(take(records.momenta)),
            forces=take(records.forces),
            cell=np.broadcast_to(np.asarray(self.frame.cell, np.float64), (len(frames), 3, 3)),
        )

    def _first_block(self) -> Block:
        host = lambda a: np.asarray(a, np.float64)[None]  # noqa: E731
        step = np.zeros(1, int)
        return Block(
            thermo=self.first_rows,
            step=step,
            time_fs=np.zeros(1),
            energy=self.first_rows.potential + self.baseline,
            positions=host(self.state.position),
            velocities=self._velocities(host(self.state.momentum)),
            forces=host(self.state.force.forces),
            cell=np.asarray(self.frame.cell, np.float64)[None],
        )

    def _velocities(self, momenta: np.ndarray) -> np.ndarray:
        return momenta / self.masses[:, None] / TIME_UNIT_FS

    def _result(self, thermo: Thermo, done: int, seconds: float, message: str) -> MDResult:
        state = self.state
        final = replace(
            self.frame,
            positions=np.asarray(state.position, np.float64),
            energy=float(state.force.energy) + self.baseline,
            forces=np.asarray(state.force.forces, np.float64),
            stress=None,
        )
        return MDResult(
            status="exploded" if message else "finished",
            message=message or f"{done} steps, {done * self.settings.timestep_fs:g} fs",
            thermo=thermo,
            final=final,
            velocities=self._velocities(np.asarray(state.momentum, np.float64)),
            steps=done,
            steps_per_second=done / seconds if seconds > 0 else math.nan,
            rebuilds=int(state.force.neighbors.rebuilds),
            redone_chunks=self.redone,
            degrees_of_freedom=self.dof,
        )


def _steps_per_call(settings: MDSettings, atoms: int) -> int:
    """Steps of one compiled call: some frames, within bounds of memory, at least 500 steps."""
    if settings.chunk_steps is not None:
        return min(settings.chunk_steps, settings.steps)
    frames = max(1, min(1000, MAX_RECORD_BYTES // (atoms * 3 * 3 * 8)))
    wanted = settings.frame_interval * max(1, 500 // settings.frame_interval)
    return min(wanted, frames * settings.frame_interval, settings.steps)


def _write(writers: Sequence[Writer], block: Block) -> None:
    for writer in writers:
        writer.write(block)


def _frame(atoms: ase.Atoms) -> Frame:
    return Frame(
        numbers=np.asarray(atoms.numbers),
        positions=np.asarray(atoms.positions, np.float64),
        cell=np.asarray(atoms.cell.array, np.float64),
        pbc=np.asarray(atoms.pbc, bool),
    )
