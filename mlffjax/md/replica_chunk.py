"""The compiled part of a simulation of replicas: many structures, one call of the potential.

All replicas are padded to the atoms of the largest and stand in one batched graph, so that the
potential runs once a step. Integrators are mapped over the replicas; within that map the
evaluation of the potential has its own rule, which takes all replicas at once.

A replica that has come to its end, or whose step was unsound, stays as it was before that step.
It has no edges from then on, and does not touch the others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.compaction import first_true
from mlffjax.graph import AtomGraph
from mlffjax.md import chunk, device_neighbors
from mlffjax.md.bonds import Bonds
from mlffjax.md.chunk import Program, Records, System
from mlffjax.md.device_neighbors import NeighborPlan, Neighbors
from mlffjax.md.invariants import body_of_loop
from mlffjax.md.simulate import Conditions, Evaluate, Evaluation, State, rotation_removed
from mlffjax.md.velocities import remove_drift, remove_rotation
from mlffjax.potential import Potential
from mlffjax.precision import full_precision

#: Mass of padding in amu: so light that it vanishes in any sum of masses, exactly.
PADDING_MASS = 1e-30
#: Pairs of atoms that are looked at together when lists are made; more go one after the other.
PAIRS_TOGETHER = 4_000_000


@struct.dataclass
class Replicas:
    """What stays fixed in a simulation of replicas.

    Attributes:
      numbers: atomic numbers ``[replicas, atoms]``.
      masses: in amu ``[replicas, atoms]``; :data:`PADDING_MASS` for padding.
      node_mask: true for real atoms ``[replicas, atoms]``.
      cell: lattice vectors as rows ``[replicas, 3, 3]`` in Angstrom at the start; zeros for a
        molecule.
      box: the same, complete in directions that are not periodic.
      dof: degrees of freedom ``[replicas]``.
      kT: thermal energy in eV at the start and the end of the ramp ``[replicas, 2]``.
      pressure: in eV/Angstrom^3, likewise.
      limit: temperature in kelvin at which a replica has exploded ``[replicas]``.
      steps: of each replica ``[replicas]``.
      bonds: that must not break; padded with pairs of an atom and itself, of length zero, which
        never break. ``None`` where none are watched.
    """

    numbers: Int[Array, "replicas atoms"]
    masses: Float[Array, "replicas atoms"]
    node_mask: Bool[Array, "replicas atoms"]
    cell: Float[Array, "replicas 3 3"]
    box: Float[Array, "replicas 3 3"]
    dof: Float[Array, "replicas"]
    kT: Float[Array, "replicas 2"]
    pressure: Float[Array, "replicas 2"]
    limit: Float[Array, "replicas"]
    steps: Int[Array, "replicas"]
    bonds: Bonds | None = None

    def systems(self) -> System:
        """The same as the systems of single runs, all arrays with an axis of replicas."""
        return System(self.numbers, self.masses, self.cell, self.box, self.bonds)


@dataclass(frozen=True)
class ReplicaProgram:
    """All that is static in a stretch of steps; a new program is a new compilation.

    Attributes:
      single: of one replica; its plan has room for the candidates of the largest. Targets and
        degrees of freedom are zero in it, as each replica has its own.
      edges: room for the edges of all replicas together.
      fixed_center: the momentum of the centre of mass is set to zero in every step, and
      fixed_rotation: the overall rotation too, of those in which it is not counted.
    """

    single: Program
    edges: int
    fixed_center: bool
    fixed_rotation: bool

    @property
    def plan(self) -> NeighborPlan:
        """Sizes of the list of one replica."""
        return self.single.plan


@struct.dataclass
class ReplicaNeighbors:
    """The list of one replica, within the map over replicas.

    Attributes:
      list: its candidates; ``edges_needed`` counts the edges of all replicas.
      active: whether the replica is still simulated.
    """

    list: Neighbors
    active: Bool[Array, ""]

    def overflow(self, program: ReplicaProgram) -> Bool[Array, ""]:
        """Whether a pair was ever left out for want of room; results are then void."""
        return (
            (self.list.candidates_needed > program.plan.candidates)
            | (self.list.edges_needed > program.edges)
            | self.list.cells_overflow
        )


@struct.dataclass
class ReplicaStretch:
    """The outcome of a stretch of steps.

    Attributes:
      state: of all replicas, each after its last sound step.
      failed: of the replicas that are not sound, after the step that was not.
      records: rows and frames.
      done: steps done by those that go on.
      sound: false for replicas whose step ``stopped`` was unsound ``[replicas]``.
      stopped: sound steps of each replica in this stretch ``[replicas]``.
      overflow: a neighbour list ran out of room in the last step; all of it is void.
    """

    state: State
    failed: State
    records: Records
    done: Int[Array, ""]
    sound: Bool[Array, "replicas"]
    stopped: Int[Array, "replicas"]
    overflow: Bool[Array, ""]


@partial(jax.jit, static_argnames="program")
@full_precision
def start(
    program: ReplicaProgram,
    potential: Potential,
    replicas: Replicas,
    positions: Float[Array, "replicas atoms 3"],
    momenta: Float[Array, "replicas atoms 3"],
    keys: Array,
) -> tuple[State, Float[Array, "replicas columns"], Bool[Array, "replicas"], Bool[Array, ""]]:
    """States at the start, their rows, whether each is sound, and whether a list overflowed."""
    active = jnp.ones(len(positions), bool)
    lists = _allocated(program, positions, replicas.box, replicas.node_mask)
    evaluation = _together(program, potential, replicas, positions, lists, active, None)

    def one(
        replica: Replicas, now: Evaluation, start: Array, momenta: Array, key: Array
    ) -> tuple[State, Array, Array]:
        single = _single(program, replica)
        state = single.integrator.init(now, start, momenta, replica.masses, key)
        row = chunk.row(single, state, _conditions(single, replica, jnp.zeros((), jnp.int32)))
        return state, row, chunk.is_sound(single, replica.systems(), state)

    state, rows, sound = jax.vmap(one)(replicas, evaluation, positions, momenta, keys)
    return state, rows, sound, jnp.any(jax.vmap(lambda n: n.overflow(program))(_lists(state)))


@partial(jax.jit, static_argnames="program")
@full_precision
def with_plan(program: ReplicaProgram, replicas: Replicas, state: State) -> State:
    """The same states, with lists of the program's sizes made where the old ones were made."""
    old = _lists(state)
    fresh = _allocated(program, old.list.reference, old.list.box, replicas.node_mask)
    fresh = replace(fresh, rebuilds=old.list.rebuilds)
    return state.set(force=replace(state.force, neighbors=replace(old, list=fresh)))


@partial(jax.jit, static_argnames="program")
@full_precision
def advance(
    program: ReplicaProgram,
    potential: Potential,
    replicas: Replicas,
    state: State,
    first: Int[Array, ""],
    count: Int[Array, ""],
    sound: Bool[Array, "replicas"],
) -> ReplicaStretch:
    """Up to ``count`` steps; stops where a list overflows or no replica is left.

    Args:
      program: what is static.
      potential: the force field.
      replicas: elements, masses, cells and targets.
      state: at the start; stays valid, so that a void stretch can be done again.
      first: number of steps done before; rows and frames fall on multiples of the intervals.
      count: steps to do, at most ``program.single.steps``.
      sound: replicas that have not exploded.
    """

    def running(stretch: ReplicaStretch) -> Bool[Array, "replicas"]:
        return stretch.sound & (first + stretch.done < replicas.steps)

    def unfinished(stretch: ReplicaStretch) -> Array:
        return (stretch.done < count) & ~stretch.overflow & jnp.any(running(stretch))

    def one_step(potential: Potential, stretch: ReplicaStretch) -> ReplicaStretch:
        moving, step = running(stretch), first + stretch.done + 1
        after, rows, sound = _stepped(program, potential, replicas, stretch.state, moving, step)
        keep = moving & sound
        overflow = jnp.any(moving & jax.vmap(lambda n: n.overflow(program))(_lists(after)))
        # What is void shows how much room it would have taken.
        kept = _chosen(keep | overflow, after, stretch.state)
        return ReplicaStretch(
            state=kept,
            failed=_chosen(moving & ~sound, after, stretch.failed),
            records=stretch.records.with_step(program.single, kept, rows, step, first, ~overflow),
            done=stretch.done + 1,
            sound=stretch.sound & (sound | ~moving),
            stopped=stretch.stopped + keep.astype(jnp.int32),
            overflow=overflow,
        )

    begin = ReplicaStretch(
        state=state,
        failed=state,
        records=Records.empty(program.single, state),
        done=jnp.zeros((), jnp.int32),
        sound=sound,
        stopped=jnp.zeros(len(sound), jnp.int32),
        overflow=jnp.zeros((), bool),
    )
    return jax.lax.while_loop(unfinished, body_of_loop(one_step, potential, begin), begin)


def _stepped(
    program: ReplicaProgram,
    potential: Potential,
    replicas: Replicas,
    state: State,
    moving: Bool[Array, "replicas"],
    step: Int[Array, ""],
) -> tuple[State, Float[Array, "replicas columns"], Bool[Array, "replicas"]]:
    """States after a step of all replicas, their rows, and whether each is sound."""
    evaluate = _evaluator(program, potential, replicas)

    def one(replica: Replicas, state: State, active: Array) -> tuple[State, Array, Array]:
        single = _single(program, replica)
        conditions = _conditions(single, replica, step)
        lists = replace(state.force.neighbors, active=active)
        before = state.set(force=replace(state.force, neighbors=lists))
        after = single.integrator.step(evaluate, before, conditions)
        # Noise moves padding too.
        real = replica.node_mask[:, None]
        momentum = jnp.where(real, after.momentum, 0)
        if program.fixed_center:
            centred = jnp.where(real, remove_drift(momentum, replica.masses), 0)
            # A lone atom keeps its momentum, as in a single run.
            momentum = jnp.where(jnp.sum(replica.node_mask) > 1, centred, momentum)
        position = jnp.where(real, after.position, state.position)
        if program.fixed_rotation:
            still = jnp.where(real, remove_rotation(momentum, replica.masses, position), 0)
            removed = rotation_removed(replica.dof, jnp.sum(replica.node_mask))
            momentum = jnp.where(removed, still, momentum)
        after = after.set(position=position, momentum=momentum)
        sound = chunk.is_sound(single, replica.systems(), after)
        return after, chunk.row(single, after, conditions), sound

    return jax.vmap(one)(replicas, state, moving)


def _evaluator(program: ReplicaProgram, potential: Potential, replicas: Replicas) -> Evaluate:
    """One replica's share of one evaluation of all; only for use within a map over replicas."""

    pressure = program.single.pressure

    @jax.custom_batching.custom_vmap
    def mapped(positions: Array, neighbors: ReplicaNeighbors, cell: Array | None) -> Evaluation:
        """What an evaluation looks like; never computed, as the map has its own rule."""
        zero = jnp.zeros((), positions.dtype)
        square = jnp.zeros((3, 3), positions.dtype) if cell is None else cell
        both = (square, square) if pressure else (None, None)
        return Evaluation(jnp.zeros_like(positions), zero, neighbors, *both)  # type: ignore[arg-type]

    @mapped.def_vmap
    def _all(
        size: int,
        batched: object,
        positions: Array,
        neighbors: ReplicaNeighbors,
        cell: Array | None,
    ) -> tuple[Evaluation, Evaluation]:
        del size, batched  # all of a state differs between replicas
        lists = _updated(program, neighbors, positions, cell, replicas)
        active = neighbors.active
        result = _together(program, potential, replicas, positions, lists, active, cell)
        return result, jax.tree.map(lambda _: True, result)

    def evaluate(positions: Array, neighbors: Any, cell: Array | None = None) -> Evaluation:
        return mapped(positions, neighbors, cell)

    return evaluate


def _together(
    program: ReplicaProgram,
    potential: Potential,
    replicas: Replicas,
    positions: Float[Array, "replicas atoms 3"],
    lists: Neighbors,
    active: Bool[Array, "replicas"],
    cell: Float[Array, "replicas 3 3"] | None,
) -> Evaluation:
    """Evaluations of all replicas by one call of the potential; cells are given if they move."""
    count, atoms, _ = positions.shape
    cell = replicas.cell if cell is None else cell
    flat = positions.reshape(-1, 3)
    base = jnp.arange(count, dtype=jnp.int32)[:, None] * atoms
    senders, receivers = (lists.senders + base).reshape(-1), (lists.receivers + base).reshape(-1)
    vectors, shifts = flat[senders] - flat[receivers], lists.shifts.reshape(-1, 3)
    if any(program.plan.pbc):
        translations = jnp.einsum("rek,rkx->rex", lists.shifts.astype(flat.dtype), cell)
        vectors += translations.reshape(-1, 3)
    near = (lists.mask & active[:, None]).reshape(-1)
    near &= jnp.sum(vectors**2, axis=-1) < program.plan.cutoff**2
    if program.edges < near.size:
        index, near, needed = first_true(near, program.edges)
        senders = jnp.where(near, senders[index], count * atoms - 1)
        receivers = jnp.where(near, receivers[index], count * atoms - 1)
        shifts = jnp.where(near[:, None], shifts[index], 0)
        lists = replace(lists, edges_needed=jnp.maximum(lists.edges_needed, needed))
    graph = AtomGraph(
        numbers=replicas.numbers.reshape(-1),
        positions=flat,
        cell=cell,
        graph_index=jnp.repeat(jnp.arange(count, dtype=jnp.int32), atoms),
        senders=senders,
        receivers=receivers,
        shifts=shifts,
        node_mask=replicas.node_mask.reshape(-1),
        edge_mask=near,
        graph_mask=jnp.ones(count, bool),
        halved=program.plan.half,
    )
    neighbors: Any = ReplicaNeighbors(lists, active)
    pressure = program.single.pressure
    call = potential.energy_forces_stress if pressure else potential.energy_forces
    prediction = call(graph)
    assert prediction.forces is not None
    forces = prediction.forces.reshape(positions.shape)
    both = (cell, prediction.virial) if pressure else (None, None)
    return Evaluation(forces, prediction.energy, neighbors, *both)


def _updated(
    program: ReplicaProgram,
    neighbors: ReplicaNeighbors,
    positions: Float[Array, "replicas atoms 3"],
    box: Float[Array, "replicas 3 3"] | None,
    replicas: Replicas,
) -> Neighbors:
    """Lists of all replicas, all remade where that of one is outdated."""
    plan, old = program.plan, neighbors.list
    real = replicas.node_mask & neighbors.active[:, None]
    now = old if box is None else replace(old, box=box)
    make = _mapped(program, positions, partial(device_neighbors.rebuild, plan))
    if not plan.renewed:
        return make((now, positions, real)) if plan.skin == 0 else old
    outdated = jax.vmap(partial(device_neighbors.outdated, plan))(old, positions, box, real)
    return jax.lax.cond(jnp.any(outdated), lambda: make((now, positions, real)), lambda: old)


def _allocated(
    program: ReplicaProgram,
    positions: Float[Array, "replicas atoms 3"],
    box: Float[Array, "replicas 3 3"],
    node_mask: Bool[Array, "replicas atoms"],
) -> Neighbors:
    make = _mapped(program, positions, partial(device_neighbors.allocate, program.plan))
    return make((positions, box, node_mask))


def _mapped(
    program: ReplicaProgram, positions: Float[Array, "replicas atoms 3"], make: Callable
) -> Callable:
    """``make`` over replicas, as many together as there is memory for."""
    count, atoms, _ = positions.shape
    columns = atoms * math.prod(program.plan.replicas)
    columns = columns if program.plan.cells is None else program.plan.cells.slots_per_atom
    together = max(1, min(count, PAIRS_TOGETHER // (atoms * columns)))
    call = lambda arguments: make(*arguments)  # noqa: E731
    if together == count:
        return jax.vmap(call)
    return lambda arguments: jax.lax.map(call, arguments, batch_size=together)


def _single(program: ReplicaProgram, replica: Replicas) -> Program:
    """The program of one replica, with its own targets, within the map over replicas."""
    kT = (replica.kT[0], replica.kT[1])
    # Static for one run, arrays here: whatever an integrator does with them is arithmetic.
    integrator: Any = replace(program.single.integrator, kT=kT, dof=replica.dof)  # type: ignore[arg-type]
    return replace(program.single, integrator=integrator, explosion_temperature=replica.limit)


def _conditions(single: Program, replica: Replicas, step: Int[Array, ""]) -> Conditions:
    """The targets of the time step that ends with ``step`` steps done."""
    ramp = single.integrator.ramp_steps

    def at(ends: Float[Array, "2"]) -> Float[Array, ""]:
        if not ramp:
            return ends[0]
        part = jnp.minimum(step.astype(ends.dtype) / ramp, 1)
        return (1 - part) * ends[0] + part * ends[1]

    return Conditions(at(replica.kT), at(replica.pressure))


def _chosen(where: Bool[Array, "replicas"], new: State, old: State) -> State:
    def choose(a: Array, b: Array) -> Array:
        mask = where.reshape(where.shape + (1,) * (a.ndim - 1))
        return jnp.where(mask, a, b)

    return jax.tree.map(choose, new, old)


def _lists(state: State) -> ReplicaNeighbors:
    return state.force.neighbors
