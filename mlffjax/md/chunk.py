"""The compiled part of a simulation: a stretch of steps with its neighbour list."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.md import device_neighbors
from mlffjax.md.device_neighbors import NeighborPlan, Neighbors
from mlffjax.md.simulate import Evaluate, Evaluation, Integrator, State
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
    """

    numbers: Species
    masses: AtomScalars
    cell: Float[Array, "3 3"]
    box: Float[Array, "3 3"]


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
    """

    plan: NeighborPlan
    integrator: Integrator
    steps: int
    thermo_interval: int
    frame_interval: int
    explosion_temperature: float


@struct.dataclass
class Records:
    """Rows and frames of a stretch; those never reached hold zeros.

    Attributes:
      thermo: potential, kinetic and conserved energy ``[rows, 3]`` in eV.
      energy: interaction energy of the frames ``[frames]`` in eV.
      positions: ``[frames, atoms, 3]`` in Angstrom.
      momenta: ``[frames, atoms, 3]`` in sqrt(amu eV).
      forces: ``[frames, atoms, 3]`` in eV/Angstrom.
    """

    thermo: Float[Array, "rows 3"]
    energy: Float[Array, "frames"]
    positions: Float[Array, "frames atoms 3"]
    momenta: Float[Array, "frames atoms 3"]
    forces: Float[Array, "frames atoms 3"]


@struct.dataclass
class Stretch:
    """The outcome of a stretch of steps.

    Attributes:
      state: after the last step.
      previous: before the last step; the last sound one where that step was not.
      records: rows and frames; those of the last step too, unless it was unsound.
      done: steps done, the last one included.
      overflow: the neighbour list ran out of room in the last step; all of it is void.
      sound: energy, forces and positions are finite and the temperature is in bounds.
    """

    state: State
    previous: State
    records: Records
    done: Int[Array, ""]
    overflow: Bool[Array, ""]
    sound: Bool[Array, ""]


def evaluator(plan: NeighborPlan, potential: Potential, system: System) -> Evaluate:
    """Forces, energy and neighbour list as a function of positions and the previous list."""

    def evaluate(positions: Positions, neighbors: Neighbors) -> Evaluation:
        neighbors = device_neighbors.update(plan, neighbors, positions)
        graph, neighbors = device_neighbors.current_graph(
            plan, neighbors, system.numbers, positions, system.cell
        )
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
) -> tuple[State, Float[Array, "3"], Bool[Array, ""]]:
    """The state at the start, its row of thermodynamics, and whether it is sound."""
    neighbors = device_neighbors.allocate(program.plan, positions, system.box)
    evaluation = evaluator(program.plan, potential, system)(positions, neighbors)
    state = program.integrator.init(evaluation, positions, momenta, system.masses, key)
    return state, _row(program, state), _sound(program, state)


@partial(jax.jit, static_argnames="program")
def with_plan(program: Program, state: State) -> State:
    """The same state with a fresh neighbour list of the program's sizes."""
    old = state.force.neighbors
    fresh = device_neighbors.allocate(program.plan, state.position, old.box)
    fresh = replace(fresh, rebuilds=old.rebuilds + 1)
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
    evaluate = evaluator(program.plan, potential, system)
    rows = -(-program.steps // program.thermo_interval) + 1
    frames = -(-program.steps // program.frame_interval) + 1
    shape = (frames, *state.position.shape)
    zeros = partial(jnp.zeros, dtype=state.position.dtype)
    empty = Records(zeros((rows, 3)), zeros((frames,)), zeros(shape), zeros(shape), zeros(shape))

    def unfinished(stretch: Stretch) -> Array:
        return (stretch.done < count) & ~stretch.overflow & stretch.sound

    def one_step(stretch: Stretch) -> Stretch:
        state = program.integrator.step(evaluate, stretch.state)
        overflow = state.force.neighbors.overflow(program.plan)
        sound = _sound(program, state)
        done = stretch.done + 1
        records = _recorded(program, stretch.records, state, first, done, sound & ~overflow)
        return Stretch(state, stretch.state, records, done, overflow, sound)

    false = jnp.zeros((), bool)
    begin = Stretch(state, state, empty, jnp.zeros((), jnp.int32), false, ~false)
    return jax.lax.while_loop(unfinished, one_step, begin)


def _recorded(
    program: Program, records: Records, state: State, first: Array, done: Array, valid: Array
) -> Records:
    """Records with the row and the frame of this step, if it is its turn."""

    def slot(interval: int, size: int) -> Array:
        step = first + done
        index = step // interval - first // interval - 1
        return jnp.where(valid & (step % interval == 0), index, size)

    row = slot(program.thermo_interval, records.thermo.shape[0])
    frame = slot(program.frame_interval, records.energy.shape[0])
    put = lambda array, index, value: array.at[index].set(value, mode="drop")  # noqa: E731
    return Records(
        thermo=put(records.thermo, row, _row(program, state)),
        energy=put(records.energy, frame, state.force.energy),
        positions=put(records.positions, frame, state.position),
        momenta=put(records.momenta, frame, state.momentum),
        forces=put(records.forces, frame, state.force.forces),
    )


def _row(program: Program, state: State) -> Float[Array, "3"]:
    kinetic = kinetic_energy(state.momentum, state.mass)
    return jnp.stack([state.force.energy, kinetic, program.integrator.conserved(state)])


def _sound(program: Program, state: State) -> Bool[Array, ""]:
    kinetic = kinetic_energy(state.momentum, state.mass)
    return (
        jnp.isfinite(state.force.energy)
        & jnp.all(jnp.isfinite(state.force.forces))
        & jnp.all(jnp.isfinite(state.position))
        & (temperature(kinetic, program.integrator.dof) < program.explosion_temperature)
    )
