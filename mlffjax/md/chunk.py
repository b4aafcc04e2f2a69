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
    """Rows and frames of a stretch; those never reached hold zeros.

    Attributes:
      thermo: potential, kinetic and conserved energy in eV, and, if the pressure is computed,
        volume in Angstrom^3 and pressure in eV/Angstrom^3 ``[rows, 3 or 5]``.
      energy: interaction energy of the frames ``[frames]`` in eV.
      positions: ``[frames, atoms, 3]`` in Angstrom.
      momenta: ``[frames, atoms, 3]`` in sqrt(amu eV).
      forces: ``[frames, atoms, 3]`` in eV/Angstrom.
      cell: ``[frames, 3, 3]`` in Angstrom; ``None`` where it does not move.
    """

    thermo: Float[Array, "rows columns"]
    energy: Float[Array, "frames"]
    positions: Float[Array, "frames atoms 3"]
    momenta: Float[Array, "frames atoms 3"]
    forces: Float[Array, "frames atoms 3"]
    cell: Float[Array, "frames 3 3"] | None = None


@struct.dataclass
class Stretch:
    """The outcome of a stretch of steps.

    Attributes:
      state: after the last step.
      previous: before the last step; the last sound one where that step was not.
      records: rows and frames; those of the last step too, unless it was unsound.
      done: steps done, the last one included.
      overflow: the neighbour list ran out of room in the last step; all of it is void.
      sound: energy, forces and positions are finite, the temperature is in bounds, and no
        watched bond is broken.
    """

    state: State
    previous: State
    records: Records
    done: Int[Array, ""]
    overflow: Bool[Array, ""]
    sound: Bool[Array, ""]


def evaluator(program: Program, potential: Potential, system: System) -> Evaluate:
    """Forces, energy and neighbour list as a function of positions and the previous list."""

    def evaluate(
        positions: Positions, neighbors: Neighbors, cell: Float[Array, "3 3"] | None = None
    ) -> Evaluation:
        plan = program.plan
        # A cell that moves is periodic in all directions, so that it is its own box.
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
    rows = -(-program.steps // program.thermo_interval) + 1
    frames = -(-program.steps // program.frame_interval) + 1
    shape = (frames, *state.position.shape)
    zeros = partial(jnp.zeros, dtype=state.position.dtype)
    cells = zeros((frames, 3, 3)) if program.integrator.moving_cell else None
    table = zeros((rows, 5 if program.pressure else 3))
    empty = Records(table, zeros((frames,)), zeros(shape), zeros(shape), zeros(shape), cells)

    def unfinished(stretch: Stretch) -> Array:
        return (stretch.done < count) & ~stretch.overflow & stretch.sound

    def one_step(potential: Potential, stretch: Stretch) -> Stretch:
        evaluate = evaluator(program, potential, system)
        done = stretch.done + 1
        conditions = program.integrator.conditions(first + done, state.position.dtype)
        after = program.integrator.step(evaluate, stretch.state, conditions)
        overflow = after.force.neighbors.overflow(program.plan)
        sound = is_sound(program, system, after)
        values = row(program, after, conditions)
        valid = sound & ~overflow
        records = _recorded(program, stretch.records, after, values, first + done, first, valid)
        return Stretch(after, stretch.state, records, done, overflow, sound)

    false = jnp.zeros((), bool)
    begin = Stretch(state, state, empty, jnp.zeros((), jnp.int32), false, ~false)
    return jax.lax.while_loop(unfinished, body_of_loop(one_step, potential, begin), begin)


def _recorded(
    program: Program,
    records: Records,
    state: State,
    values: Float[Array, "columns"],
    step: Int[Array, ""],
    first: Int[Array, ""],
    valid: Bool[Array, ""],
) -> Records:
    """Records with the row and the frame of this step, if it is its turn."""

    def slot(interval: int, size: int) -> Array:
        index = step // interval - first // interval - 1
        return jnp.where(valid & (step % interval == 0), index, size)

    row = slot(program.thermo_interval, records.thermo.shape[0])
    frame = slot(program.frame_interval, records.energy.shape[0])
    put = lambda array, index, value: array.at[index].set(value, mode="drop")  # noqa: E731
    cell = None if records.cell is None else put(records.cell, frame, state.force.cell)
    return Records(
        thermo=put(records.thermo, row, values),
        energy=put(records.energy, frame, state.force.energy),
        positions=put(records.positions, frame, state.position),
        momenta=put(records.momenta, frame, state.momentum),
        forces=put(records.forces, frame, state.force.forces),
        cell=cell,
    )


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
        & jnp.all(jnp.isfinite(state.force.forces))
        & jnp.all(jnp.isfinite(state.position))
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
