"""The compiled part of minima hopping: escapes and relaxations of many walkers side by side.

Each step is one call of the model for all walkers, whatever each of them does: a walker that has
escaped begins its relaxation in the next step, without waiting for the others.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.config.explore import HoppingSettings
from mlffjax.explore import relax_program
from mlffjax.explore.batch import BatchEvaluation, BatchPlan, Slots, evaluate_batch
from mlffjax.explore.relax_constraints import Constraints
from mlffjax.explore.relax_program import FAILED, RUNNING, RelaxState
from mlffjax.md.velocities import TIME_UNIT_FS
from mlffjax.potential import Potential
from mlffjax.precision import full_precision

#: What a walker is doing; ``DONE`` waits for the host.
SOFTEN, ESCAPE, RELAX, DONE = range(4)
#: Softening of Sicher, Mohr and Goedecker (its steps are those along the force over the curvature
#: of the relaxation): displacement an atom in Angstrom. A choice: so small beside a bond that the
#: force over it is a curvature of the minimum, so large that single precision resolves the force.
SOFTEN_DISPLACEMENT = 0.05


@dataclass(frozen=True)
class HopProgram:
    """All that is static; a new program is a new compilation.

    Attributes:
      plan: sizes; one slot a walker.
      settings: of the search.
    """

    plan: BatchPlan
    settings: HoppingSettings


@struct.dataclass
class HopState:
    """Walkers on their way from one minimum to the next.

    Attributes:
      phase: one of the constants of this module ``[walkers]``.
      origin: the minimum the escape began in ``[walkers, atoms, 3]``.
      positions: where to evaluate next, before the relaxation ``[walkers, atoms, 3]``.
      velocities: in Angstrom per internal time; half a step behind ``positions`` during the
        escape, the direction before it ``[walkers, atoms, 3]``.
      kinetic: kinetic energy the escape begins with in eV ``[walkers]``.
      energies: the last two potential energies in eV ``[walkers, 2]``, the later one first.
      minima: minima of the potential energy passed ``[walkers]``.
      steps: of this phase ``[walkers]``.
      calls: force calls since the minimum ``[walkers]``.
      highest: highest potential energy since the minimum in eV ``[walkers]``.
      relax: relaxations in progress.
    """

    phase: Int[Array, "walkers"]
    origin: Float[Array, "walkers atoms 3"]
    positions: Float[Array, "walkers atoms 3"]
    velocities: Float[Array, "walkers atoms 3"]
    kinetic: Float[Array, "walkers"]
    energies: Float[Array, "walkers 2"]
    minima: Int[Array, "walkers"]
    steps: Int[Array, "walkers"]
    calls: Int[Array, "walkers"]
    highest: Float[Array, "walkers"]
    relax: RelaxState


@struct.dataclass
class HopStretch:
    """The outcome of a stretch of steps.

    Attributes:
      state: after it.
      done: force calls of the batch.
      edges_needed: the most edges there have been.
      overflow: a pair was left out; all of the stretch is void.
    """

    state: HopState
    done: Int[Array, ""]
    edges_needed: Int[Array, ""]
    overflow: Bool[Array, ""]


def idle(
    settings: HoppingSettings, slots: Slots, positions: Float[Array, "walkers atoms 3"]
) -> HopState:
    """Walkers that wait at ``positions``; can be compiled."""
    count, dtype = positions.shape[0], positions.dtype
    zero, none = jnp.zeros(count, dtype), jnp.zeros(count, jnp.int32)
    return HopState(
        phase=jnp.full(count, DONE, jnp.int32),
        origin=positions,
        positions=positions,
        velocities=jnp.zeros_like(positions),
        kinetic=zero,
        energies=jnp.zeros((count, 2), dtype),
        minima=none,
        steps=none,
        calls=none,
        highest=zero,
        relax=relax_program.begin(settings.relax, slots, positions, none > 0),
    )


@partial(jax.jit, static_argnames="settings")
@full_precision
def launch(
    settings: HoppingSettings,
    slots: Slots,
    state: HopState,
    where: Bool[Array, "walkers"],
    positions: Float[Array, "walkers atoms 3"],
    velocities: Float[Array, "walkers atoms 3"],
    energy: Float[Array, "walkers"],
) -> HopState:
    """The state with new escapes of the walkers ``where``.

    Args:
      settings: of the search.
      slots: the structures.
      state: so far.
      where: walkers that begin an escape.
      positions: the minima they begin in ``[walkers, atoms, 3]``.
      velocities: ``[walkers, atoms, 3]`` in Angstrom per internal time.
      energy: of the minima in eV ``[walkers]``.
    """
    fresh = idle(settings, slots, positions)
    first = ESCAPE
    displaced = positions + _time_step(settings, positions) * velocities
    if settings.soften_steps:
        first = SOFTEN
        displaced = _displaced(slots, positions, velocities)
    fresh = replace(
        fresh,
        phase=jnp.full(where.shape, first, jnp.int32),
        positions=displaced,
        velocities=velocities,
        kinetic=0.5 * jnp.sum(slots.masses[..., None] * velocities**2, axis=(1, 2)),
        energies=jnp.stack([energy, energy], axis=1),
        highest=energy,
    )
    return jax.tree.map(lambda new, old: _keep(where, new, old), fresh, state)


@partial(jax.jit, static_argnames="program")
@full_precision
def advance(
    program: HopProgram,
    potential: Potential,
    slots: Slots,
    constraints: Constraints,
    state: HopState,
    most: Int[Array, ""],
) -> HopStretch:
    """Steps until a walker is done, at most ``most``, or until an overflow.

    Args:
      program: what is static.
      potential: the force field.
      slots: the structures.
      constraints: none, in the shapes of the slots.
      state: at the start; stays valid, so that a void stretch can be done again.
      most: force calls of the batch.
    """

    def unfinished(stretch: HopStretch) -> Array:
        going = jnp.all(stretch.state.phase != DONE)
        return (stretch.done < most) & going & ~stretch.overflow

    def one_step(stretch: HopStretch) -> HopStretch:
        state = stretch.state
        relaxing = state.phase == RELAX
        positions = _keep(relaxing, state.relax.coordinates, state.positions)
        evaluation = evaluate_batch(program.plan, potential, slots, positions, state.phase != DONE)
        conservative = not potential.module.direct_forces
        return HopStretch(
            state=_update(program.settings, slots, constraints, state, evaluation, conservative),
            done=stretch.done + 1,
            edges_needed=jnp.maximum(stretch.edges_needed, evaluation.edges_needed),
            overflow=evaluation.overflow(program.plan),
        )

    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(
        unfinished, one_step, HopStretch(state, zero, zero, jnp.zeros((), bool))
    )


def _update(
    settings: HoppingSettings,
    slots: Slots,
    constraints: Constraints,
    state: HopState,
    evaluation: BatchEvaluation,
    conservative: bool,
) -> HopState:
    """The state after an evaluation of all walkers, each in its own phase."""
    phase = state.phase
    relax = relax_program.update(
        settings.relax, slots, constraints, state.relax, evaluation, conservative
    )
    relaxed = (phase == RELAX) & (relax.status != RUNNING)
    changed = replace(
        state, relax=relax, phase=jnp.where(relaxed, DONE, phase), calls=state.calls + 1
    )
    state = jax.tree.map(lambda new, old: _keep(phase != DONE, new, old), changed, state)
    state = _escape(settings, slots, state, evaluation, phase == ESCAPE)
    if settings.soften_steps:
        state = _soften(settings, slots, state, evaluation, phase == SOFTEN)
    return state


def _escape(
    settings: HoppingSettings,
    slots: Slots,
    state: HopState,
    evaluation: BatchEvaluation,
    where: Bool[Array, "walkers"],
) -> HopState:
    """A velocity Verlet step; ends in a relaxation after ``mdmin`` minima or ``md_steps``."""
    energy = evaluation.energy
    dt = _time_step(settings, state.positions)
    kick = dt * evaluation.forces / slots.masses[..., None]
    velocities = state.velocities + kick
    previous, earlier = state.energies[:, 0], state.energies[:, 1]
    minima = state.minima + ((previous < earlier) & (previous < energy))
    steps = state.steps + 1
    over = steps >= settings.md_steps
    if settings.mdmin:
        over |= minima >= settings.mdmin
    sound = jnp.isfinite(energy) & jnp.all(jnp.isfinite(kick), axis=(1, 2))
    fresh = relax_program.begin(settings.relax, slots, state.positions, sound)
    fresh = replace(fresh, status=jnp.where(sound, fresh.status, FAILED))
    ended = where & (over | ~sound)
    relax = jax.tree.map(lambda new, old: _keep(ended, new, old), fresh, state.relax)
    following = jnp.where(sound, jnp.where(over, RELAX, ESCAPE), DONE)
    changed = replace(
        state,
        phase=following,
        positions=state.positions + dt * velocities,
        velocities=velocities,
        energies=jnp.stack([energy, previous], axis=1),
        minima=minima,
        steps=steps,
        highest=jnp.where(sound, jnp.maximum(state.highest, energy), state.highest),
    )
    changed = jax.tree.map(lambda new, old: _keep(where, new, old), changed, state)
    return replace(changed, relax=relax)


def _soften(
    settings: HoppingSettings,
    slots: Slots,
    state: HopState,
    evaluation: BatchEvaluation,
    where: Bool[Array, "walkers"],
) -> HopState:
    """Turn the direction along the force across it, which lowers the curvature along it."""
    arm = state.positions - state.origin
    unit = arm / jnp.sqrt(jnp.sum(arm**2, axis=(1, 2), keepdims=True))
    along = jnp.sum(evaluation.forces * unit, axis=(1, 2), keepdims=True)
    across = evaluation.forces - along * unit
    direction = arm + across / settings.relax.curvature
    steps = state.steps + 1
    over = steps >= settings.soften_steps
    weight = jnp.sum(slots.masses[..., None] * direction**2, axis=(1, 2))
    velocities = direction * jnp.sqrt(2 * state.kinetic / weight)[:, None, None]
    launched = state.origin + _time_step(settings, state.positions) * velocities
    sound = jnp.isfinite(evaluation.energy) & jnp.all(jnp.isfinite(across), axis=(1, 2))
    changed = replace(
        state,
        phase=jnp.where(sound, jnp.where(over, ESCAPE, SOFTEN), DONE),
        positions=_keep(over, launched, _displaced(slots, state.origin, direction)),
        velocities=_keep(over, velocities, direction),
        steps=jnp.where(over, 0, steps),
    )
    failed = where & ~sound
    changed = jax.tree.map(lambda new, old: _keep(where, new, old), changed, state)
    status = jnp.where(failed, FAILED, changed.relax.status)
    return replace(changed, relax=replace(changed.relax, status=status))


def _displaced(
    slots: Slots,
    origin: Float[Array, "walkers atoms 3"],
    direction: Float[Array, "walkers atoms 3"],
) -> Float[Array, "walkers atoms 3"]:
    """``origin`` moved along ``direction`` by a fixed root mean square over the atoms."""
    atoms = jnp.sum(slots.node_mask, axis=1).astype(origin.dtype)
    length = jnp.sqrt(jnp.sum(direction**2, axis=(1, 2)) / atoms)
    return origin + direction * (SOFTEN_DISPLACEMENT / length)[:, None, None]


def _time_step(settings: HoppingSettings, like: Array) -> Array:
    return jnp.asarray(settings.timestep_fs / TIME_UNIT_FS, like.dtype)


def _keep(where: Array, new: Array, old: Array) -> Array:
    return jnp.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old)
