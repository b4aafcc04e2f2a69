"""Replicas in progress on the host: their state together, their rows and frames one by one."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlffjax.md import engine, replica_chunk, restart
from mlffjax.md.bonds import Bonds
from mlffjax.md.chunk import Records
from mlffjax.md.device_neighbors import NeighborPlan, default_skin
from mlffjax.md.engine import MAX_REDO, OUTGROWN, Run
from mlffjax.md.origin import moved_back, way_gone
from mlffjax.md.records import Block, MDResult
from mlffjax.md.replica_chunk import PADDING_MASS, ReplicaProgram, Replicas, ReplicaStretch
from mlffjax.md.replica_plan import enlarge_replicas, plan_replicas
from mlffjax.md.restart import ReplicaProgress, Restart
from mlffjax.md.simulate import Evaluation, State
from mlffjax.potential import Potential
from mlffjax.types import HostVectors

#: Ensembles whose chains compile in which numbers of degrees of freedom there are.
CHAINS = ("nose-hoover", "npt-nose-hoover")


class Batch:
    """All replicas; see :class:`mlffjax.md.driver.Driven`.

    Attributes:
      done: steps done by those that go on.
    """

    program: ReplicaProgram
    state: State

    def __init__(self, potential: Potential, runs: Sequence[Run]) -> None:
        self.potential, self.runs = potential.interaction, runs
        self.atoms = max(len(run.frame.numbers) for run in runs)
        self.replicas = self._replicas()
        self.firsts: Sequence[Block] = ()
        self.done = self.redone = 0

    def begin(self, velocities: Sequence[HostVectors | None]) -> None:
        """Set up step zero."""
        settings = max((run.settings for run in self.runs), key=lambda s: s.steps)
        skin = settings.skin
        if skin is None:
            skin = default_skin(self.atoms, self.runs[0].frame.pbc)
        # What is one structure stays one, so that its pairs are counted once.
        starts = {id(run.frame): run.start for run in self.runs}
        frames = [starts[id(run.frame)] for run in self.runs]
        half = self.potential.module.pairwise
        plan, edges = plan_replicas(frames, self.potential.cutoff, skin, half=half)
        steps = engine.steps_per_call(settings, self.atoms * len(self.runs))
        self.program = self._program(plan, edges, steps)
        start = self._start_arguments(velocities)
        for _ in range(MAX_REDO):
            state, rows, sound, overflow = replica_chunk.start(
                self.program, self.potential, self.replicas, *start
            )
            if not bool(overflow):
                break
            self._enlarge(state, start[0])
        else:
            raise RuntimeError(OUTGROWN)
        self.state = state
        self.firsts = [
            _first(run, k, self._of(k, state), np.asarray(rows[k]), bool(sound[k]))
            for k, run in enumerate(self.runs)
        ]

    def resume(self, path: Path) -> Restart:
        """Set up the step of a restart file.

        Raises:
          ValueError: as :func:`mlffjax.md.restart.load`, or other steps for a replica that had
            ended before the others.
        """
        start = self._start_arguments([None] * len(self.runs))

        def template(plan: NeighborPlan, progress: ReplicaProgress | None) -> State:
            assert progress is not None, "checked with the identity"
            made = self._program(plan, progress.edges, 1)
            call = lambda *arguments: replica_chunk.start(made, *arguments)  # noqa: E731
            return jax.eval_shape(call, self.potential, self.replicas, *start)[0]

        earlier = restart.load(path, template)
        progress = earlier.replicas
        assert progress is not None
        self.program = self._program(earlier.plan, progress.edges, earlier.steps_per_call)
        self.state, self.redone, self.done = earlier.state, earlier.redone, earlier.step
        for k, run in enumerate(self.runs):
            run.done = run.begun = progress.steps[k]
            run.message = progress.messages[k]
            run.move_origin(np.asarray(earlier.origins[k]) - run.make.origin)
            wanted, ended = run.settings.steps, run.done < self.done
            if not run.message and wanted != run.done and (ended or wanted < run.done):
                raise ValueError(
                    f"got {wanted} steps for replica {k}, which has done {run.done}, of a run that "
                    f"has done {self.done}; expected {run.done if ended else self.done}"
                    f"{'' if ended else ' or more'}; run it by itself"
                )
        return earlier

    @property
    def unfinished(self) -> bool:
        """Whether a replica has steps to do."""
        return bool(self._running().any())

    def compile(self) -> None:
        """Compile a stretch of steps."""
        self._advance(0)

    def stretch(self) -> list[Block | None]:
        """Do a stretch of steps; they begin at multiples of their length."""
        running, begin = self._running(), time.perf_counter()
        length = self.program.single.steps
        # Not where a run was interrupted: an uninterrupted one would not either.
        if self.done % length == 0:
            self._recenter()
        count = min(length - self.done % length, self._most() - self.done)
        stretch = self._without_overflow(count)
        seconds = time.perf_counter() - begin
        stopped, sound = np.asarray(stretch.stopped), np.asarray(stretch.sound)
        records = jax.device_get(stretch.records)
        blocks: list[Block | None] = []
        for k, run in enumerate(self.runs):
            if not running[k]:
                blocks.append(None)
                continue
            first, run.done = run.done, run.done + int(stopped[k])
            run.seconds += seconds
            if not sound[k]:
                run.message = run.explosion(self._of(k, stretch.failed), run.done + 1)
            block = run.make.block(self._records(records, k), first, run.done)
            run.tables.append(block.thermo)
            blocks.append(block)
        self.state = stretch.state
        self.done += int(stretch.done)
        return blocks

    def snapshot(self) -> Restart:
        """What is needed to go on from here."""
        program = self.program
        steps = tuple(run.done for run in self.runs)
        progress = ReplicaProgress(program.edges, steps, tuple(run.message for run in self.runs))
        now = (self.state, program.plan, self.done, program.single.steps, self.redone)
        origins = [run.make.origin.tolist() for run in self.runs]
        return Restart(*now, origins=origins, replicas=progress)

    def results(self) -> list[MDResult]:
        """The outcome of each replica."""
        for k, run in enumerate(self.runs):
            run.state, run.redone = self._of(k, self.state), self.redone
        return [run.result(run.seconds, run.message) for run in self.runs]

    def _program(self, plan: NeighborPlan, edges: int, steps: int) -> ReplicaProgram:
        run = self.runs[0]
        single = run.make_program(plan, steps)
        # Targets are data of each replica: other temperatures need no new program.
        integrator = replace(single.integrator, kT=(0.0, 0.0), pressure=(0.0, 0.0), dof=0)
        integrator = replace(integrator, fixed_center=False, fixed_rotation=False)
        if run.settings.ensemble in CHAINS:
            dofs = tuple(sorted({run.integrator.dof for run in self.runs}))
            integrator = replace(integrator, dofs=dofs)
        single = replace(single, integrator=integrator, explosion_temperature=0.0)
        still = any(run.integrator.fixed_rotation for run in self.runs)
        return ReplicaProgram(single, edges, run.integrator.fixed_center, still)

    def _replicas(self) -> Replicas:
        runs, dtype = self.runs, self.potential.dtype
        stack = lambda name: jnp.stack([getattr(run.system, name) for run in runs])  # noqa: E731
        counts = np.array([len(run.frame.numbers) for run in runs])
        pad = self._padded
        return Replicas(
            numbers=pad([run.system.numbers for run in runs]),
            masses=pad([run.system.masses for run in runs], PADDING_MASS),
            node_mask=jnp.asarray(np.arange(self.atoms) < counts[:, None]),
            cell=stack("cell"),
            box=stack("box"),
            dof=jnp.asarray([run.integrator.dof for run in runs], dtype),
            kT=jnp.asarray([run.integrator.kT for run in runs], dtype),
            pressure=jnp.asarray([run.integrator.pressure for run in runs], dtype),
            limit=jnp.asarray([run.explosion_temperature for run in runs], dtype),
            steps=jnp.asarray([run.settings.steps for run in runs], jnp.int32),
            bonds=_stacked_bonds([run.system.bonds for run in runs]),
        )

    def _start_arguments(
        self, velocities: Sequence[HostVectors | None]
    ) -> tuple[Array, Array, Array]:
        """Positions, momenta and keys of all replicas."""
        starts = [run.start_arguments(v) for run, v in zip(self.runs, velocities, strict=True)]
        positions, momenta = (self._padded([start[k] for start in starts]) for k in (0, 1))
        return positions, momenta, jnp.stack([start[2] for start in starts])

    def _most(self) -> int:
        return max(run.settings.steps for run in self.runs)

    def _running(self) -> np.ndarray:
        return np.array(
            [not run.message and self.done < run.settings.steps for run in self.runs], bool
        )

    def _advance(self, count: int) -> ReplicaStretch:
        return replica_chunk.advance(
            self.program,
            self.potential,
            self.replicas,
            self.state,
            jnp.asarray(self.done, jnp.int32),
            jnp.asarray(count, jnp.int32),
            jnp.asarray(np.array([not run.message for run in self.runs], bool)),
        )

    def _recenter(self) -> None:
        """Move replicas that have gone far back to the origin, as a single run does."""
        positions = np.asarray(self.state.position)
        ways = np.zeros((len(self.runs), 1, 3))
        for k, run in enumerate(self.runs):
            ways[k] = way_gone(positions[k, : len(run.frame.numbers)])
        if ways.any() and not self.runs[0].settings.moving_cell:
            for run, way in zip(self.runs, ways, strict=True):
                run.move_origin(way[0])
            self.state = moved_back(self.state, jnp.asarray(ways, self.potential.dtype))

    def _without_overflow(self, count: int) -> ReplicaStretch:
        """A stretch without overflow; the neighbour lists grow until there is none."""
        for _ in range(MAX_REDO):
            stretch = self._advance(count)
            if not bool(stretch.overflow):
                return stretch
            self.redone += 1
            self._enlarge(stretch.state, self.state.position)
            self.state = replica_chunk.with_plan(self.program, self.replicas, self.state)
        raise RuntimeError(OUTGROWN)

    def _enlarge(self, overflowed: State, before: Array) -> None:
        """More room, after an overflow; from positions before it."""
        program, lists = self.program, overflowed.force.neighbors.list
        positions = np.asarray(before, np.float64)
        places = [p[: len(run.frame.numbers)] for p, run in zip(positions, self.runs, strict=True)]
        plan, edges = enlarge_replicas(program.plan, program.edges, lists, places)
        self.program = replace(program, single=replace(program.single, plan=plan), edges=edges)

    def _records(self, records: Records, k: int) -> Records:
        """What one replica has left in a stretch, without padding."""
        count = len(self.runs[k].frame.numbers)
        return Records(
            thermo=records.thermo[:, k],
            energy=records.energy[:, k],
            positions=records.positions[:, k, :count],
            momenta=records.momenta[:, k, :count],
            forces=records.forces[:, k, :count],
            cell=None if records.cell is None else records.cell[:, k],
        )

    def _of(self, k: int, state: State) -> State:
        """The state of one replica, without padding, as of a single run."""
        count = len(self.runs[k].frame.numbers)
        own = jax.tree.map(lambda leaf: leaf[k], state)
        now: Any = own.force
        force = Evaluation(now.forces[:count], now.energy, now.neighbors.list, now.cell, now.virial)
        return own.set(
            position=own.position[:count],
            momentum=own.momentum[:count],
            mass=own.mass[:count],
            force=force,
        )

    def _padded(self, arrays: Sequence[Array], value: float = 0) -> Array:
        widths = [[(0, self.atoms - len(a))] + [(0, 0)] * (a.ndim - 1) for a in arrays]
        rows = zip(arrays, widths, strict=True)
        return jnp.stack([jnp.pad(a, width, constant_values=value) for a, width in rows])


def _first(run: Run, k: int, state: State, row: np.ndarray, sound: bool) -> Block:
    """Hand a replica its start; the row and the frame of it."""
    if not sound:
        raise ValueError(
            f"got the energy {float(row[0])} eV and kinetic energy {float(row[1])} eV at the "
            f"start of replica {k}; expected finite numbers and a temperature below the explosion "
            "limit; check the structure and the potential"
        )
    table = run.make.thermo(row[None], np.zeros(1, int))
    run.tables.append(table)
    return run.make.first_block(table, state)


def _stacked_bonds(bonds: Sequence[Bonds | None]) -> Bonds | None:
    present = [b for b in bonds if b is not None]
    if not present:
        return None
    most = max(len(b.pairs) for b in present)
    pad = lambda a: jnp.pad(a, [(0, most - len(a))] + [(0, 0)] * (a.ndim - 1))  # noqa: E731
    columns: Any = [
        jnp.stack([pad(jnp.asarray(b[k])) for b in present]) for k in range(len(present[0]))
    ]
    return Bonds(*columns)
