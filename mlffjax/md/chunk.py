"""The compiled part of a simulation: a stretch of steps with its neighbour list."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.md import device_neighbors
from mlffjax.md.barostat import internal_pressure, volume
from mlffjax.md.bonds import Bonds
from mlffjax.md.device_neighbors import NeighborPlan, Neighbors
from mlffjax.md.invariants import body_of_loop
from mlffjax.md.simulate import Conditions, Evaluate, Evaluation, Integrator, State
from mlffjax.md.stability import broken_bonds
from mlffjax.md.velocities import kinetic_energy, temperature
from mlffjax.potential import Potential
from mlffjax.precision import full_precision
from mlffjax.types import AtomScalars, Positions, Species


@struct.dataclass
class System:
    """What stays fixed in a simulation.

    Attributes:
      numbers: atomic numbers ``[atoms]``.
      masses: in amu ``[atoms]``.
      cell: lattice vectors as rows ``[3, 3]`` in Angstrom; zeros for a molecule.
      box: the same, complete in directions that are not periodic.
      bonds: that must not break; ``None`` where none are watched.
    """

    numbers: Species
    masses: AtomScalars
    cell: Float[Array, "3 3"]
    box: Float[Array, "3 3"]
    bonds: Bonds | None = None


@dataclass(frozen=True)
class Program:
    """All that is static in a stretch of steps; a new program is a new compilation.

    Attributes:
      plan: sizes of the neighbour list.
      integrator: the time step.
      steps: the most steps of one call.
      thermo_interval: steps between rows.
      frame_interval: steps between frames.
      explosion_temperature: in kelvin.
      pressure: whether the stress is computed, and rows have volume and pressure.
    """

    plan: NeighborPlan
    integrator: Integrator
    steps: int
    thermo_interval: int
    frame_interval: int
    explosion_temperature: float
    pressure: bool = False


@struct.dataclass
class Records:
    """Rows and frames of a stretch, of one simulation or of many replicas.

    Those never reached hold zeros. The last row and the last frame are none: what is not to be
    recorded is put there.

    Attributes:
      thermo: potential, kinetic and conserved energy in eV, and, if the pressure is computed,
        volume in Angstrom^3 and pressure in eV/Angstrom^3 ``[rows, (replicas,) 3 or 5]``.
      energy: interaction energy of the frames ``[frames, (replicas)]`` in eV.
      positions: ``[frames, (replicas,) atoms, 3]`` in Angstrom.
      momenta: ``[frames, (replicas,) atoms, 3]`` in sqrt(amu eV).
      forces: ``[frames, (replicas,) atoms, 3]`` in eV/Angstrom.
      cell: ``[frames, (replicas,) 3, 3]`` in Angstrom; ``None`` where it does not move.
    """

    thermo: Float[Array, "rows *replicas columns"]
    energy: Float[Array, "frames *replicas"]
    positions: Float[Array, "frames *replicas atoms 3"]
    momenta: Float[Array, "frames *replicas atoms 3"]
    forces: Float[Array, "frames *replicas atoms 3"]
    cell: Float[Array, "frames *replicas 3 3"] | None = None

    @classmethod
    def empty(cls, program: Program, state: State) -> "Records":
        """Room for what a stretch of steps from ``state`` can leave."""
        rows = -(-program.steps // program.thermo_interval) + 1
        frames = -(-program.steps // program.frame_interval) + 1
        zeros = partial(jnp.zeros, dtype=state.position.dtype)
        *replicas, _, _ = state.position.shape
        moving = program.integrator.moving_cell
        return cls(
            thermo=zeros((rows, *replicas, 5 if program.pressure else 3)),
            energy=zeros((frames, *replicas)),
            positions=zeros((frames, *state.position.shape)),
            momenta=zeros((frames, *state.position.shape)),
            forces=zeros((frames, *state.position.shape)),
            cell=zeros((frames, *replicas, 3, 3)) if moving else None,
        )

    def with_step(
        self,
        program: Program,
        state: State,
        values: Float[Array, "*replicas columns"],
        step: Int[Array, ""],
        first: Int[Array, ""],
        valid: Bool[Array, ""],
    ) -> "Records":
        """With the row ``values`` and the frame of a step, if it is its turn and ``valid``.

        Args:
          program: with the intervals.
          state: after the step.
          values: the row.
          step: its number.
          first: number of steps done before the stretch.
          valid: whether to record it at all.
        """

        def put(interval: int, array: Array, value: Array) -> Array:
            index = step // interval - first // interval - 1
            place = jnp.where(valid & (step % interval == 0), index, len(array) - 1)
            return jax.lax.dynamic_update_index_in_dim(array, value, place, 0)

        frame = partial(put, program.frame_interval)
        return Records(
            thermo=put(program.thermo_interval, self.thermo, values),
            energy=frame(self.energy, state.force.energy),
            positions=frame(self.positions, state.position),
            momenta=frame(self.momenta, state.momentum),
            forces=frame(self.forces, state.force.forces),
            cell=None if self.cell is None else frame(self.cell, state.force.cell),
        )


@struct.dataclass
class Stretch:
    """The outcome of a stretch of steps.

    Attributes:
      state: after the last step.
      records: rows and frames; those of the last step too, unless it was unsound.
      done: steps done, the last one included.
      overflow: the neighbour list ran out of room in the last step; all of it is void.
      sound: energy, forces and positions are finite, the temperature is in bounds, and no
        watched bond is broken.
    """

    state: State
    records: Records
    done: Int[Array, ""]
    overflow: Bool[Array, ""]
    sound: Bool[Array, ""]


def evaluator(program: Program, potential: Potential, system: System) -> Evaluate:
    """Forces and energy as a function of positions and a list that has all their pairs."""

    def evaluate(
        positions: Positions, neighbors: Neighbors, cell: Float[Array, "3 3"] | None = None
    ) -> Evaluation:
        plan = program.plan
        if plan.skin == 0:
            neighbors = device_neighbors.update(plan, neighbors, positions, cell)
        cell = system.cell if cell is None else cell
        graph, neighbors = device_neighbors.current_graph(
            plan, neighbors, system.numbers, positions, cell
        )
        if program.pressure:
            prediction = potential.energy_forces_stress(graph)
            assert prediction.forces is not None
            assert prediction.virial is not None
            energy, virial = prediction.energy[0], prediction.virial[0]
            return Evaluation(prediction.forces, energy, neighbors, cell, virial)
        prediction = potential.energy_forces(graph)
        assert prediction.forces is not None
        return Evaluation(prediction.forces, prediction.energy[0], neighbors)

    return evaluate


@partial(jax.jit, static_argnames="program")
@full_precision
def start(
    program: Program,
    potential: Potential,
    system: System,
    positions: Positions,
    momenta: Float[Array, "atoms 3"],
    key: Array,
) -> tuple[State, Float[Array, "columns"], Bool[Array, ""]]:
    """The state at the start, its row of thermodynamics, and whether it is sound."""
    neighbors = device_neighbors.allocate(program.plan, positions, system.box)
    cell = system.cell if program.integrator.moving_cell else None
    evaluation = evaluator(program, potential, system)(positions, neighbors, cell)
    state = program.integrator.init(evaluation, positions, momenta, system.masses, key)
    conditions = program.integrator.conditions(jnp.zeros((), jnp.int32), positions.dtype)
    return state, row(program, state, conditions), is_sound(program, system, state)


@partial(jax.jit, static_argnames="program")
@full_precision
def with_plan(program: Program, state: State) -> State:
    """The same state, with the same neighbour list in the program's sizes.

    The list is made where the old one was made, so that it holds the same pairs in the same
    order until the same step: more room must not show in a result.
    """
    old = state.force.neighbors
    fresh = device_neighbors.allocate(program.plan, old.reference, old.box)
    fresh = replace(fresh, rebuilds=old.rebuilds)
    return state.set(force=replace(state.force, neighbors=fresh))


@partial(jax.jit, static_argnames="program")
@full_precision
def advance(
    program: Program,
    potential: Potential,
    system: System,
    state: State,
    first: Int[Array, ""],
    count: Int[Array, ""],
) -> Stretch:
    """Up to ``count`` steps; stops at once where the list overflows or a step is unsound.

    Args:
      program: what is static.
      potential: the force field.
      system: elements, masses and cell.
      state: at the start; stays valid, so that a void stretch can be done again.
      first: number of steps done before; rows and frames fall on multiples of the intervals.
      count: steps to do, at most ``program.steps``.
    """

    integrator, plan = program.integrator, program.plan

    def conditions(stretch: Stretch) -> Conditions:
        return integrator.conditions(first + stretch.done + 1, state.position.dtype)

    def unfinished(stretch: Stretch) -> Array:
        return (stretch.done < count) & ~stretch.overflow & stretch.sound

    def next_place(stretch: Stretch) -> tuple[Positions, Float[Array, "3 3"] | None]:
        # A cell that moves is periodic in all directions, so that it is its own box.
        return integrator.next_place(stretch.state, conditions(stretch))

    def outdated(stretch: Stretch) -> Array:
        neighbors = stretch.state.force.neighbors
        return device_neighbors.outdated(plan, neighbors, *next_place(stretch))

    def with_list(stretch: Stretch) -> Stretch:
        force = stretch.state.force
        neighbors = device_neighbors.update(plan, force.neighbors, *next_place(stretch))
        force = replace(force, neighbors=neighbors)
        return replace(stretch, state=stretch.state.set(force=force))

    def one_step(potential: Potential, stretch: Stretch) -> Stretch:
        targets, done = conditions(stretch), stretch.done + 1
        after = integrator.step(evaluator(program, potential, system), stretch.state, targets)
        overflow = after.force.neighbors.overflow(plan)
        sound = is_sound(program, system, after)
        values, valid = row(program, after, targets), sound & ~overflow
        records = stretch.records.with_step(program, after, values, first + done, first, valid)
        return Stretch(after, records, done, overflow, sound)

    false, none = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    begin = Stretch(state, Records.empty(program, state), none, overflow=false, sound=~false)
    step = body_of_loop(one_step, potential, begin)
    if not plan.renewed:
        return jax.lax.while_loop(unfinished, step, begin)

    def with_one_list(stretch: Stretch) -> Stretch:
        """Steps until the list is outdated: at least one, however thin the skin."""
        # A loop of its own, so that a list is not copied in every step.
        stretch, _ = jax.lax.while_loop(
            lambda carry: unfinished(carry[0]) & (carry[1] | ~outdated(carry[0])),
            lambda carry: (step(carry[0]), false),
            (with_list(stretch), ~false),
        )
        return stretch

    return jax.lax.while_loop(unfinished, with_one_list, begin)


def row(program: Program, state: State, conditions: Conditions) -> Float[Array, "columns"]:
    """Values of :attr:`Records.thermo` ``[3 or 5]``."""
    kinetic = kinetic_energy(state.momentum, state.mass)
    row = [state.force.energy, kinetic, program.integrator.conserved(state, conditions)]
    if program.pressure:
        cell, virial = state.force.cell, state.force.virial
        pressure = internal_pressure(state.momentum, state.mass, virial, cell)
        row += [volume(cell), jnp.trace(pressure) / 3]
    return jnp.stack(row)


def is_sound(program: Program, system: System, state: State) -> Bool[Array, ""]:
    """Whether all is finite, the temperature in bounds, and no watched bond broken."""
    kinetic = kinetic_energy(state.momentum, state.mass)
    sound = (
        jnp.isfinite(state.force.energy)
        & jnp.all(jnp.isfinite(state.force.forces) & jnp.isfinite(state.position))
        & (temperature(kinetic, program.integrator.dof) < program.explosion_temperature)
    )
    if system.bonds is None:
        return sound
    bonds, cell = system.bonds, state.force.cell
    cell = system.cell if cell is None else cell
    lengths = jnp.asarray(bonds.lengths)
    return sound & ~jnp.any(
        broken_bonds(
            state.position, jnp.asarray(bonds.pairs), lengths, jnp.asarray(bonds.shifts), cell
        )
    )
