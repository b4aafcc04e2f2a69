"""Running many simulations as one program: copies, temperatures, or different molecules."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.graph import bucket
from mlffjax.md import engine, replica_chunk
from mlffjax.md.bonds import Bonds
from mlffjax.md.chunk import Records
from mlffjax.md.device_neighbors import MARGIN, NeighborPlan, default_skin, plan_neighbors
from mlffjax.md.engine import MAX_REDO, OUTGROWN, Run
from mlffjax.md.records import Block, MDResult, Writer
from mlffjax.md.replica_chunk import PADDING_MASS, ReplicaProgram, Replicas, ReplicaStretch
from mlffjax.md.simulate import Evaluation, State
from mlffjax.md.trajectory import open_writers
from mlffjax.neighbors import neighbor_list
from mlffjax.potential import Potential
from mlffjax.types import HostVectors

#: Settings in which replicas may differ.
OWN_SETTINGS = ("temperature", "initial_temperature", "explosion_temperature", "seed", "steps")

Progress = Callable[[int], None]


def run_replicas(
    potential: Potential,
    structures: Frame | ase.Atoms | Sequence[Frame | ase.Atoms],
    settings: MDSettings | Sequence[MDSettings],
    *,
    folder: Path | str | None = None,
    overwrite: bool = False,
    initial_velocities: Sequence[HostVectors] | None = None,
    progress: Progress | None = None,
) -> list[MDResult]:
    """Molecular dynamics of many replicas, by one call of the potential a step.

    Each replica gives what :func:`mlffjax.md.engine.run_md` gives for its structure and its
    settings, up to rounding. One that explodes stops where it is; the others go on. All stop
    together only to enlarge their neighbour lists. No restart files are written.

    Args:
      potential: the force field.
      structures: where to start; one structure for all replicas, or one for each. They may have
        different atoms and cells, but the same periodic directions.
      settings: one for each replica, the same but for :data:`OWN_SETTINGS`; or one for all, of
        which replica ``k`` takes the seed plus ``k``. With one structure and one for all there
        are ``settings.replicas`` copies.
      folder: of the run; replica ``k`` writes as a single run does, into ``replica_00k`` in it.
      overwrite: whether existing files may be replaced.
      initial_velocities: of each replica, ``[atoms, 3]`` in Angstrom/fs; drawn if not given.
      progress: called after each stretch with the steps done.

    Returns:
      A result for each replica. ``steps_per_second`` is that of one among the others: their sum
      is the rate of all together.

    Raises:
      ValueError: structures, settings and velocities of different number, settings that cannot
        go into one program, or as :func:`mlffjax.md.engine.run_md`.
      FileExistsError: a file of the run is there and ``overwrite`` is false.
    """
    frames, each = paired(structures, settings)
    _check(frames, each)
    given = [None] * len(frames) if initial_velocities is None else list(initial_velocities)
    if len(given) != len(frames):
        raise ValueError(
            f"got velocities for {len(given)} of {len(frames)} replicas; expected one array each"
        )
    runs = [Run(potential, f, s, v) for f, s, v in zip(frames, each, given, strict=True)]
    batch = _Batch(potential, runs, given)
    with contextlib.ExitStack() as stack:
        writers: list[Sequence[Writer]] = []
        for k, run in enumerate(runs):
            own: Sequence[Writer] = ()
            if folder is not None:
                path = Path(folder) / f"replica_{k:03d}"
                own = open_writers(path, run.frame, run.settings, overwrite)
            for writer in own:
                stack.callback(writer.close)
            writers.append(own)
        return batch.execute(writers, progress)


def paired(
    structures: Frame | ase.Atoms | Sequence[Frame | ase.Atoms],
    settings: MDSettings | Sequence[MDSettings],
) -> tuple[list[Frame], list[MDSettings]]:
    """A structure and settings for each replica; what is given once is for all.

    Raises:
      ValueError: none, or different numbers of both.
    """
    some = [structures] if isinstance(structures, Frame | ase.Atoms) else list(structures)
    single = isinstance(structures, Frame | ase.Atoms)
    if isinstance(settings, MDSettings):
        count = settings.replicas if single else len(some)
        each = [settings.model_copy(update={"seed": settings.seed + k}) for k in range(count)]
    else:
        each = list(settings)
    some = some * len(each) if single else some
    if not some or len(some) != len(each):
        raise ValueError(
            f"got {len(some)} structures and {len(each)} settings; expected one of each for "
            "every replica; give both in the same number, or one for all"
        )
    wrong = {s.replicas for s in each} - {1, len(each)}
    if wrong:
        raise ValueError(
            f"got replicas={wrong.pop()} in the settings of {len(each)} replicas; expected "
            f"{len(each)}, or 1; leave it out"
        )
    return [s if isinstance(s, Frame) else engine.frame_of(s) for s in some], each


def _check(frames: Sequence[Frame], each: Sequence[MDSettings]) -> None:
    base = each[0]
    if base.moving_cell or base.record_pressure:
        raise ValueError(
            f"got {base.ensemble} with record_pressure {base.record_pressure} for replicas; "
            "expected constant volume and no pressure; run these one by one"
        )
    own = OWN_SETTINGS[:-1] if base.ramped else OWN_SETTINGS
    common = lambda s: s.model_dump(exclude=set(own))  # noqa: E731
    for k, other in enumerate(each):
        differ = [name for name, value in common(other).items() if value != common(base)[name]]
        if differ:
            raise ValueError(
                f"got other {', '.join(differ)} for replica {k} than for the first; expected "
                f"replicas to differ in {', '.join(own)} alone; run these one by one"
            )
    for k, frame in enumerate(frames):
        if (frame.pbc != frames[0].pbc).any():
            raise ValueError(
                f"got periodic directions {frame.pbc.tolist()} for replica {k} and "
                f"{frames[0].pbc.tolist()} for the first; expected the same; run these one by one"
            )


class _Batch:
    """Replicas in progress on the host."""

    state: State

    def __init__(
        self,
        potential: Potential,
        runs: Sequence[Run],
        velocities: Sequence[HostVectors | None],
    ) -> None:
        self.potential, self.runs = potential, runs
        self.atoms = max(len(run.frame.numbers) for run in runs)
        self.program = self._program()
        self.replicas = self._replicas()
        self.sound = np.ones(len(runs), bool)
        self.done = self.redone = 0
        self._begin(velocities)

    def _program(self) -> ReplicaProgram:
        settings = self.runs[0].settings
        skin = default_skin(self.atoms) if settings.skin is None else settings.skin
        cutoff = self.potential.cutoff
        plans: dict[int, NeighborPlan] = {}
        edges: dict[int, int] = {}
        for frame in {id(run.frame): run.frame for run in self.runs}.values():
            place = frame.positions, frame.cell, frame.pbc
            plans[id(frame)] = plan_neighbors(*place, cutoff, skin)
            edges[id(frame)] = len(neighbor_list(*place, cutoff).senders)
        copies = np.array([p.replicas for p in plans.values()]).max(axis=0).tolist()
        plan = replace(
            next(iter(plans.values())),
            replicas=(copies[0], copies[1], copies[2]),
            candidates=max(p.candidates for p in plans.values()),
            cells=None,
        )
        plan = replace(plan, edges=plan.candidates)
        steps = engine.steps_per_call(settings, self.atoms * len(self.runs))
        most = max(run.settings.steps for run in self.runs)
        single = self.runs[0].make_program(plan, min(steps, most))
        # Targets are data of each replica: other temperatures need no new program.
        integrator = replace(single.integrator, kT=(0.0, 0.0))
        single = replace(single, integrator=integrator, explosion_temperature=0.0)
        return ReplicaProgram(single, _room(sum(edges[id(run.frame)] for run in self.runs)))

    def _replicas(self) -> Replicas:
        runs, dtype = self.runs, self.potential.dtype
        programs = [run.make_program(self.program.plan, 1) for run in runs]
        dofs = [program.integrator.dof for program in programs]
        ensemble = runs[0].settings.ensemble
        if len(set(dofs)) > 1 and ensemble not in ("nve", "langevin"):
            raise ValueError(
                f"got replicas with {sorted(set(dofs))} degrees of freedom for {ensemble}, in "
                "which their number is compiled in; expected the same; choose nve or langevin, or "
                "run these one by one"
            )
        stack = lambda name: jnp.stack([getattr(run.system, name) for run in runs])  # noqa: E731
        counts = np.array([len(run.frame.numbers) for run in runs])
        pad = self._padded
        return Replicas(
            numbers=pad([run.system.numbers for run in runs]),
            masses=pad([run.system.masses for run in runs], PADDING_MASS),
            node_mask=jnp.asarray(np.arange(self.atoms) < counts[:, None]),
            cell=stack("cell"),
            box=stack("box"),
            dof=None if len(set(dofs)) == 1 else jnp.asarray(dofs, dtype),
            kT=jnp.asarray([program.integrator.kT for program in programs], dtype),
            limit=jnp.asarray([program.explosion_temperature for program in programs], dtype),
            steps=jnp.asarray([run.settings.steps for run in runs], jnp.int32),
            bonds=_stacked_bonds([run.system.bonds for run in runs]),
        )

    def _begin(self, velocities: Sequence[HostVectors | None]) -> None:
        starts = [run.start_arguments(v) for run, v in zip(self.runs, velocities, strict=True)]
        positions, momenta = (self._padded([start[k] for start in starts]) for k in (0, 1))
        keys = jnp.stack([start[2] for start in starts])
        for _ in range(MAX_REDO):
            state, rows, sound, overflow = replica_chunk.start(
                self.program, self.potential, self.replicas, positions, momenta, keys
            )
            if not bool(overflow):
                break
            self.program = _enlarged(self.program, state)
        else:
            raise RuntimeError(OUTGROWN)
        self.state = state
        for k, run in enumerate(self.runs):
            _start(run, k, self._of(k, state), np.asarray(rows[k]), bool(sound[k]))

    def execute(
        self, writers: Sequence[Sequence[Writer]], progress: Progress | None
    ) -> list[MDResult]:
        """All steps; frames are written by a thread while the next stretch runs."""
        most = max(run.settings.steps for run in self.runs)
        seconds = np.zeros(len(self.runs))
        messages = [""] * len(self.runs)
        with ThreadPoolExecutor(max_workers=1) as pool:
            firsts = [run.first for run in self.runs]
            pending: Future[None] = pool.submit(_write, writers, firsts)
            self._advance(0)  # compiles
            while self.done < most and self._running().any():
                running, begin = self._running(), time.perf_counter()
                stretch = self._without_overflow(min(self.program.single.steps, most - self.done))
                seconds[running] += time.perf_counter() - begin
                blocks = self._blocks(stretch, running, messages)
                pending.result()
                pending = pool.submit(_write, writers, blocks)
                if progress is not None:
                    progress(self.done)
            pending.result()
        results = []
        for k, run in enumerate(self.runs):
            run.state, run.redone = self._of(k, self.state), self.redone
            results.append(run.result(float(seconds[k]), messages[k]))
        return results

    def _running(self) -> np.ndarray:
        return self.sound & np.array([self.done < run.settings.steps for run in self.runs])

    def _advance(self, count: int) -> ReplicaStretch:
        return replica_chunk.advance(
            self.program,
            self.potential,
            self.replicas,
            self.state,
            jnp.asarray(self.done, jnp.int32),
            jnp.asarray(count, jnp.int32),
            jnp.asarray(self.sound),
        )

    def _without_overflow(self, count: int) -> ReplicaStretch:
        """A stretch without overflow; the neighbour lists grow until there is none."""
        for _ in range(MAX_REDO):
            stretch = self._advance(count)
            if not bool(stretch.overflow):
                return stretch
            self.redone += 1
            self.program = _enlarged(self.program, stretch.state)
            self.state = replica_chunk.with_plan(self.program, self.replicas, self.state)
        raise RuntimeError(OUTGROWN)

    def _blocks(
        self, stretch: ReplicaStretch, running: np.ndarray, messages: list[str]
    ) -> list[Block | None]:
        """What each replica has done in a stretch; none where it had ended before."""
        stopped, sound = np.asarray(stretch.stopped), np.asarray(stretch.sound)
        records = jax.device_get(stretch.records)
        blocks: list[Block | None] = []
        for k, run in enumerate(self.runs):
            if not running[k]:
                blocks.append(None)
                continue
            first, run.done = run.done, run.done + int(stopped[k])
            if not sound[k]:
                messages[k] = run.explosion(self._of(k, stretch.failed), run.done + 1)
            count = len(run.frame.numbers)
            own = Records(
                thermo=records.thermo[:, k],
                energy=records.energy[:, k],
                positions=records.positions[:, k, :count],
                momenta=records.momenta[:, k, :count],
                forces=records.forces[:, k, :count],
            )
            block = run.make.block(own, first, run.done)
            run.tables.append(block.thermo)
            blocks.append(block)
        self.state, self.sound = stretch.state, sound
        self.done += int(stretch.done)
        return blocks

    def _of(self, k: int, state: State) -> State:
        """The state of one replica, without padding, as of a single run."""
        count = len(self.runs[k].frame.numbers)
        own = jax.tree.map(lambda leaf: leaf[k], state)
        now: Any = own.force
        force = Evaluation(now.forces[:count], now.energy, now.neighbors.list)
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


def _start(run: Run, k: int, state: State, row: np.ndarray, sound: bool) -> None:
    """Hand a replica its start."""
    if not sound:
        raise ValueError(
            f"got the energy {float(row[0])} eV and kinetic energy {float(row[1])} eV at the "
            f"start of replica {k}; expected finite numbers and a temperature below the explosion "
            "limit; check the structure and the potential"
        )
    run.state = state
    table = run.make.thermo(row[None], np.zeros(1, int))
    run.tables.append(table)
    run.first = run.make.first_block(table, state)


def _enlarged(program: ReplicaProgram, overflowed: State) -> ReplicaProgram:
    """More room, after an overflow."""
    lists = overflowed.force.neighbors.list
    candidates, edges = int(lists.candidates_needed.max()), int(lists.edges_needed.max())
    plan, room = program.plan, program.edges
    if candidates > plan.candidates:
        plan = replace(plan, candidates=_room(candidates), edges=_room(candidates))
    if edges > room:
        room = _room(edges)
    return ReplicaProgram(replace(program.single, plan=plan), room)


def _room(count: int) -> int:
    return bucket(int(np.ceil(MARGIN * count)) + 8, 32)


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


def _write(writers: Sequence[Sequence[Writer]], blocks: Sequence[Block | None]) -> None:
    for own, block in zip(writers, blocks, strict=True):
        if block is not None:
            for writer in own:
                writer.write(block)
