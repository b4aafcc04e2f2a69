"""The compiled part of a relaxation: slots of structures that converge one by one."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.config.explore import RelaxSettings
from mlffjax.explore import relax_optimizers
from mlffjax.explore.batch import BatchEvaluation, BatchPlan, Slots, evaluate_batch
from mlffjax.explore.relax_constraints import Constraints, project, restore
from mlffjax.potential import Potential
from mlffjax.precision import full_precision
from mlffjax.units import GPA

#: States of a slot.
EMPTY, RUNNING, CONVERGED, UNFINISHED, FAILED = range(5)


@dataclass(frozen=True)
class RelaxProgram:
    """All that is static; a new program is a new compilation.

    Attributes:
      plan: sizes.
      settings: of the relaxation.
    """

    plan: BatchPlan
    settings: RelaxSettings


@struct.dataclass
class RelaxState:
    """Relaxations in progress.

    Rows of the coordinates are positions in the cell as it was at the start and, with a relaxed
    cell, the symmetric matrix ``n D`` below them, with ``n`` the number of atoms and ``cell @ D``
    the present cell. That scale gives lattice and atoms like curvatures (as in ASE's
    ``UnitCellFilter``); a symmetric ``D`` reaches every cell without turning the structure.

    Attributes:
      coordinates: where to evaluate next ``[slots, rows, 3]``.
      status: of each slot, one of the constants of this module.
      calls: force calls ``[slots]``.
      evaluated: coordinates of the last sound evaluation ``[slots, rows, 3]``.
      energy: there, interaction energy in eV ``[slots]``.
      forces: there, unconstrained, ``[slots, atoms, 3]`` in eV/Angstrom.
      virial: there, ``[slots, 3, 3]`` in eV; zeros with a fixed cell.
      fmax: there, longest generalised force ``[slots]``.
      optimizer: its memory.
    """

    coordinates: Float[Array, "slots rows 3"]
    status: Int[Array, "slots"]
    calls: Int[Array, "slots"]
    evaluated: Float[Array, "slots rows 3"]
    energy: Float[Array, "slots"]
    forces: Float[Array, "slots atoms 3"]
    virial: Float[Array, "slots 3 3"]
    fmax: Float[Array, "slots"]
    optimizer: Any


@struct.dataclass
class Stretch:
    """The outcome of a stretch of steps.

    Attributes:
      state: after it.
      done: force calls of the batch.
      edges_needed: the most edges there have been.
      thin: cells that became too thin for their copies ``[slots]``.
      overflow: a pair was left out; all of the stretch is void.
    """

    state: RelaxState
    done: Int[Array, ""]
    edges_needed: Int[Array, ""]
    thin: Bool[Array, "slots"]
    overflow: Bool[Array, ""]


def begin(
    settings: RelaxSettings,
    slots: Slots,
    positions: Float[Array, "slots atoms 3"],
    running: Bool[Array, "slots"],
) -> RelaxState:
    """Relaxations that have not begun; can be compiled.

    Args:
      settings: of the relaxation.
      slots: the structures.
      positions: ``[slots, atoms, 3]`` in Angstrom.
      running: slots that hold a structure.
    """
    coordinates = positions
    if settings.cell:
        scale = _scale(slots)[:, None, None]
        identity = jnp.broadcast_to(jnp.eye(3, dtype=positions.dtype), (positions.shape[0], 3, 3))
        coordinates = jnp.concatenate([positions, scale * identity], axis=1)
    return RelaxState(
        coordinates=coordinates,
        status=jnp.where(running, RUNNING, EMPTY),
        calls=jnp.zeros(running.shape, jnp.int32),
        evaluated=coordinates,
        energy=jnp.zeros(running.shape, positions.dtype),
        forces=jnp.zeros_like(positions),
        virial=jnp.zeros((running.shape[0], 3, 3), positions.dtype),
        fmax=jnp.zeros(running.shape, positions.dtype),
        optimizer=relax_optimizers.init(settings, coordinates),
    )


def geometry(
    settings: RelaxSettings, slots: Slots, coordinates: Float[Array, "slots rows 3"]
) -> tuple[Float[Array, "slots atoms 3"], Float[Array, "slots 3 3"] | None]:
    """Positions ``[slots, atoms, 3]`` and, with a relaxed cell, ``D`` ``[slots, 3, 3]``."""
    if not settings.cell:
        return coordinates, None
    deformation = coordinates[:, -3:] / _scale(slots)[:, None, None]
    return jnp.einsum("nax,nxy->nay", coordinates[:, :-3], deformation), deformation


def update(
    settings: RelaxSettings,
    slots: Slots,
    constraints: Constraints,
    state: RelaxState,
    evaluation: BatchEvaluation,
    conservative: bool,
) -> RelaxState:
    """The state after an evaluation at its coordinates; only running slots change.

    Args:
      settings: of the relaxation.
      slots: the structures.
      constraints: fixed atoms and bonds.
      state: whose coordinates were evaluated.
      evaluation: energies, forces and virials there.
      conservative: forces are the gradient of the energy.
    """
    running = state.status == RUNNING
    positions, deformation = geometry(settings, slots, state.coordinates)
    forces = project(constraints, positions, evaluation.forces)
    energy, rows = evaluation.energy, forces
    if deformation is not None:
        energy, rows = _with_cell(settings, slots, deformation, evaluation, forces)
    fmax = relax_optimizers.longest_row(rows)
    sound = jnp.isfinite(energy) & jnp.isfinite(fmax)
    # Rows that are not finite must not enter the memory: their slot stops here.
    rows = jnp.where(sound[:, None, None], rows, 0)
    following, optimizer = relax_optimizers.step(
        settings, state.optimizer, state.coordinates, rows, energy, conservative
    )
    following = restore(constraints, following)
    calls = state.calls + 1
    status = jnp.where(calls >= settings.steps, UNFINISHED, RUNNING)
    status = jnp.where(fmax < settings.fmax, CONVERGED, status)
    status = jnp.where(sound, status, FAILED)
    moved = replace(
        state,
        coordinates=following,
        status=status,
        calls=calls,
        evaluated=_keep(sound, state.coordinates, state.evaluated),
        energy=_keep(sound, evaluation.energy, state.energy),
        forces=_keep(sound, evaluation.forces, state.forces),
        virial=_keep(sound, evaluation.virial, state.virial),
        fmax=_keep(sound, fmax, state.fmax),
        optimizer=optimizer,
    )
    return jax.tree.map(lambda new, old: _keep(running, new, old), moved, state)


@partial(jax.jit, static_argnames="program")
@full_precision
def advance(
    program: RelaxProgram,
    potential: Potential,
    slots: Slots,
    constraints: Constraints,
    state: RelaxState,
    wanted: Int[Array, ""],
) -> Stretch:
    """Steps until ``wanted`` slots run no more, at most ``chunk_steps``, or until an overflow.

    Args:
      program: what is static.
      potential: the force field.
      slots: the structures.
      constraints: fixed atoms and bonds.
      state: at the start; stays valid, so that a void stretch can be done again.
      wanted: number of slots that do not run at the end.
    """
    plan, settings = program.plan, program.settings

    def unfinished(stretch: Stretch) -> Array:
        idle = jnp.sum(stretch.state.status != RUNNING)
        return (stretch.done < settings.chunk_steps) & (idle < wanted) & ~stretch.overflow

    def one_step(stretch: Stretch) -> Stretch:
        state = stretch.state
        positions, deformation = geometry(settings, slots, state.coordinates)
        evaluation = evaluate_batch(
            plan, potential, slots, positions, state.status == RUNNING, deformation
        )
        conservative = not potential.module.direct_forces
        return Stretch(
            state=update(settings, slots, constraints, state, evaluation, conservative),
            done=stretch.done + 1,
            edges_needed=jnp.maximum(stretch.edges_needed, evaluation.edges_needed),
            thin=stretch.thin | evaluation.thin,
            overflow=evaluation.overflow(plan),
        )

    zero = jnp.zeros((), jnp.int32)
    nothing = jnp.zeros(plan.slots, bool)
    return jax.lax.while_loop(
        unfinished, one_step, Stretch(state, zero, zero, nothing, jnp.zeros((), bool))
    )


@partial(jax.jit, static_argnames="settings")
@full_precision
def refill(
    settings: RelaxSettings,
    slots: Slots,
    positions: Float[Array, "slots atoms 3"],
    fresh: Bool[Array, "slots"],
    running: Bool[Array, "slots"],
    state: RelaxState,
) -> RelaxState:
    """The state with new relaxations where ``fresh``.

    Args:
      settings: of the relaxation.
      slots: the structures, the new ones among them.
      positions: of the new structures ``[slots, atoms, 3]``.
      fresh: slots to begin anew.
      running: of these, those that hold a structure.
      state: so far.
    """
    new = begin(settings, slots, positions, running)
    return jax.tree.map(lambda a, b: _keep(fresh, a, b), new, state)


def _with_cell(
    settings: RelaxSettings,
    slots: Slots,
    deformation: Float[Array, "slots 3 3"],
    evaluation: BatchEvaluation,
    forces: Float[Array, "slots atoms 3"],
) -> tuple[Float[Array, "slots"], Float[Array, "slots rows 3"]]:
    """Enthalpy, and forces on positions in the first cell and on ``n D``.

    With ``x = x0 D`` and a symmetric ``D`` the energy changes by ``W : D^-1 dD``, with ``W`` the
    virial; the enthalpy adds ``p V`` and so ``p V 1`` to ``W``.
    """
    cell = slots.box @ deformation
    volume = jnp.abs(jnp.linalg.det(cell))
    work = settings.pressure_gpa * GPA * volume
    virial = evaluation.virial + work[:, None, None] * jnp.eye(3, dtype=cell.dtype)
    gradient = jnp.linalg.solve(deformation, virial)
    gradient = 0.5 * (gradient + jnp.swapaxes(gradient, 1, 2)) / _scale(slots)[:, None, None]
    atoms = jnp.einsum("nax,nxy->nay", forces, deformation)
    return evaluation.energy + work, jnp.concatenate([atoms, -gradient], axis=1)


def _scale(slots: Slots) -> Float[Array, "slots"]:
    return jnp.maximum(jnp.sum(slots.node_mask, axis=1), 1).astype(slots.cell.dtype)


def _keep(where: Bool[Array, "slots"], new: Array, old: Array) -> Array:
    return jnp.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)
