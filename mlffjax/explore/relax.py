"""Relaxation of many structures at once: slots that are refilled as structures converge."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from mlffjax.config.explore import RelaxSettings
from mlffjax.data.frames import Frame, about_origin
from mlffjax.explore import relax_program
from mlffjax.explore.batch import (
    Needs,
    Slots,
    enlarge,
    fill_slots,
    needs,
    plan_batch,
)
from mlffjax.explore.relax_constraints import Constraints, Fixed, fill_constraints
from mlffjax.explore.relax_program import RelaxProgram, RelaxState, Stretch
from mlffjax.explore.structures import Structure, as_frame, carried
from mlffjax.potential import Potential

#: Room for a cell to shrink before its copies must be listed anew: a third of the radius.
CELL_ROOM = 1.3
#: A stretch is redone at most so often in a row.
MAX_REDO = 20

#: Called with the structures that are done and the total.
Progress = Callable[[int, int], None]

_STATUS: dict[int, Literal["converged", "unfinished", "failed"]] = {
    relax_program.CONVERGED: "converged",
    relax_program.UNFINISHED: "unfinished",
    relax_program.FAILED: "failed",
}


@dataclass(frozen=True, eq=False)
class RelaxResult:
    """The outcome of one relaxation.

    Attributes:
      frame: the structure at the end, with energy and forces (those of the potential, also on
        fixed atoms) and, with a relaxed cell, stress.
      status: ``converged``; ``unfinished`` after all force calls; ``failed`` where a number was
        not finite, with the last sound structure (the start and no energy if there is none).
      fmax: longest generalised force at the end in eV/Angstrom, see
        :class:`mlffjax.config.explore.RelaxSettings`.
      force_calls: evaluations of this structure.
      energy: interaction energy in eV, without the element baseline; it keeps the digits the
        total energy loses.
    """

    frame: Frame
    status: Literal["converged", "unfinished", "failed"]
    fmax: float
    force_calls: int
    energy: float

    @property
    def converged(self) -> bool:
        """Whether the forces are below the threshold."""
        return self.status == "converged"


def relax(
    potential: Potential,
    structures: Sequence[Structure],
    settings: RelaxSettings | None = None,
    *,
    fixed: Sequence[Fixed] | None = None,
    progress: Progress | None = None,
) -> list[RelaxResult]:
    """Relax structures, many in one compiled program, each until it has converged.

    Structures of like size (within a factor of two in atoms and of four in pairs) share a
    program: its slots are refilled as structures converge, so that the model always works on a
    full batch. Computes in the dtype of the potential.

    Args:
      potential: the force field.
      structures: of any size, free or periodic.
      settings: method, threshold, cell, constraints of all structures.
      fixed: further constraints, one for each structure; those that ASE's atoms carry are used
        if not given.
      progress: called whenever structures are done.

    Returns:
      One result for each structure, in order.

    Raises:
      ValueError: an element the potential does not know, a structure without neighbour list or
        too large, constraints that name no atoms, a relaxed cell that is not periodic in three
        directions or not free of fixed bonds.
    """
    settings = settings or RelaxSettings()
    if fixed is not None and len(fixed) != len(structures):
        raise ValueError(
            f"got constraints for {len(fixed)} of {len(structures)} structures; expected one each"
        )
    jobs = []
    for index, structure in enumerate(structures):
        own = fixed[index] if fixed is not None else carried(structure)
        jobs.append(_job(potential, as_frame(structure, index), settings, own))
    groups: dict[Any, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(job.group, []).append(index)
    results: dict[int, RelaxResult] = {}

    def done(index: int, result: RelaxResult) -> None:
        results[index] = result
        if progress is not None:
            progress(len(results), len(jobs))

    for members in groups.values():
        _Group(potential, settings, [jobs[k] for k in members]).run(members, done)
    return [results[k] for k in range(len(jobs))]


@dataclass(frozen=True, eq=False)
class _Job:
    """One structure that is to be relaxed; ``group`` names those that share a program."""

    frame: Frame
    fixed: Fixed
    needs: Needs
    baseline: float
    group: tuple[int, int, bool, bool]


def _job(potential: Potential, frame: Frame, settings: RelaxSettings, fixed: Fixed) -> _Job:
    potential.check_elements(frame.numbers)
    fixed = Fixed(
        tuple(sorted({*settings.fixed_atoms, *fixed.atoms})),
        tuple(dict.fromkeys([*settings.fixed_bonds, *fixed.bonds])),
    )
    fixed.check(len(frame.numbers))
    if settings.cell and not np.asarray(frame.pbc).all():
        raise ValueError(
            f"got {frame.name} with pbc {np.asarray(frame.pbc).tolist()} and cell=true; expected "
            "three periodic directions; relax it with cell=false"
        )
    if settings.cell and fixed.bonds:
        raise ValueError(f"got fixed bonds in {frame.name} with cell=true; drop one of the two")
    need = needs(frame, potential.cutoff, CELL_ROOM if settings.cell else 1.0)
    group = (
        math.ceil(math.log2(need.atoms)),
        math.ceil(math.log2(need.pairs) / 2),
        bool(np.any(frame.pbc)),
        bool(fixed.bonds),
    )
    return _Job(frame, fixed, need, potential.baseline_energy(frame.numbers), group)


class _Group:
    """Structures of like size in one program."""

    def __init__(self, potential: Potential, settings: RelaxSettings, jobs: Sequence[_Job]) -> None:
        self.potential, self.settings, self.jobs = potential.interaction, settings, jobs
        self.room = CELL_ROOM if settings.cell else 1.0
        self.bonds = max(len(job.fixed.bonds) for job in jobs)
        self.dtype = np.dtype(potential.dtype)
        size = min(settings.batch_size, len(jobs))
        plan = plan_batch(
            [job.needs for job in jobs], size, potential.cutoff, bool(jobs[0].frame.pbc.any())
        )
        self.program = RelaxProgram(plan, settings)
        self.holds: list[int | None] = [None] * size
        self.waiting = list(range(len(jobs)))[::-1]
        self.slots, self.constraints = self._arrays([None] * size)
        positions = np.zeros((size, plan.atoms, 3), self.dtype)
        self.state = relax_program.begin(
            settings, self.slots, jnp.asarray(positions), jnp.zeros(size, bool)
        )

    def run(self, names: Sequence[int], done: Callable[[int, RelaxResult], None]) -> None:
        """Relax all; ``done`` is told the name and the result of each."""
        while True:
            status = np.asarray(self.state.status)
            ended = np.isin(status, list(_STATUS))
            if ended.any():
                host = jax.device_get(self.state)
                for slot in np.flatnonzero(ended):
                    index = self.holds[slot]
                    if index is not None:
                        done(names[index], self._result(host, int(slot), self.jobs[index]))
                        self.holds[slot] = None
            self._fill()
            filled = sum(k is not None for k in self.holds)
            if not filled:
                return
            # With structures waiting, an eighth of the slots may idle; else all must end.
            patience = max(1, filled // 8) if self.waiting else filled
            self._advance(len(self.holds) - filled + patience)

    def _fill(self) -> None:
        """Put waiting structures into empty slots."""
        fresh = np.zeros(len(self.holds), bool)
        positions = np.zeros((len(self.holds), self.program.plan.atoms, 3), self.dtype)
        for slot, held in enumerate(self.holds):
            if held is None and self.waiting:
                self.holds[slot] = self.waiting.pop()
                fresh[slot] = True
        if not fresh.any():
            return
        for slot in np.flatnonzero(fresh).tolist():
            start = about_origin(self._job_in(slot).frame)[0]
            positions[slot, : len(start.numbers)] = start.positions
        self.slots, self.constraints = self._arrays(self.holds)
        self.state = relax_program.refill(
            self.settings, self.slots, positions, fresh, fresh, self.state
        )

    def _job_in(self, slot: int) -> _Job:
        index = self.holds[slot]
        assert index is not None
        return self.jobs[index]

    def _arrays(self, holds: Sequence[int | None]) -> tuple[Slots, Constraints]:
        jobs = [None if k is None else self.jobs[k] for k in holds]
        plan = self.program.plan
        slots = fill_slots(
            plan, [None if job is None else job.frame for job in jobs], self.dtype, self.room
        )
        constraints = fill_constraints(
            [Fixed() if job is None else job.fixed for job in jobs],
            [None if job is None else job.frame for job in jobs],
            plan.slots,
            plan.atoms,
            self.bonds,
            self.dtype,
        )
        return jax.device_put((slots, constraints))

    def _advance(self, wanted: int) -> None:
        """A stretch without overflow; the room for edges grows until there is none."""
        for _ in range(MAX_REDO):
            stretch = relax_program.advance(
                self.program,
                self.potential,
                self.slots,
                self.constraints,
                self.state,
                jnp.asarray(wanted, jnp.int32),
            )
            if not bool(stretch.overflow):
                self.state = stretch.state
                return
            self._make_room(stretch)
        raise RuntimeError(
            f"got more edges than there was room for {MAX_REDO} times in a row; expected a stable "
            "density; check the potential and max_step"
        )

    def _make_room(self, stretch: Stretch) -> None:
        """More edges, or, where a cell became thin, more copies of all cells."""
        plan = self.program.plan
        if not np.any(stretch.thin):
            self.program = replace(self.program, plan=enlarge(plan, int(stretch.edges_needed)))
            return
        self.room *= CELL_ROOM
        most = [needs(job.frame, plan.cutoff, self.room) for job in self.jobs]
        edges = max(plan.edges, int(stretch.edges_needed))
        plan = plan_batch(most, plan.slots, plan.cutoff, plan.periodic, edges)
        self.program = replace(self.program, plan=plan)
        self.slots, self.constraints = self._arrays(self.holds)

    def _result(self, state: RelaxState, slot: int, job: _Job) -> RelaxResult:
        count = len(job.frame.numbers)
        status = _STATUS[int(state.status[slot])]
        calls = int(state.calls[slot])
        if status == "failed" and calls == 1:
            return RelaxResult(job.frame, status, math.nan, calls, math.nan)
        one = jax.tree.map(lambda a: np.asarray(a[slot], np.float64), state)
        positions = one.evaluated[:count] + about_origin(job.frame)[1]
        # Exactly there, whatever the digits of the potential.
        fixed = list(job.fixed.atoms)
        positions[fixed] = job.frame.positions[fixed]
        cell, stress = job.frame.cell, None
        if self.settings.cell:
            deformation = one.evaluated[-3:] / count
            positions, cell = positions @ deformation, cell @ deformation
            stress = one.virial / abs(np.linalg.det(cell))
        frame = replace(
            job.frame,
            positions=positions,
            cell=cell,
            energy=float(one.energy) + job.baseline,
            forces=one.forces[:count],
            stress=stress,
        )
        return RelaxResult(frame, status, float(one.fmax), calls, float(one.energy))
