"""L-BFGS and FIRE for many structures at once: one step each, without evaluating anything.

Coordinates are rows of three numbers, one for each atom and three more where the cell is
relaxed. A step never moves a row by more than ``max_step``.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from mlffjax.config.explore import RelaxSettings


@struct.dataclass
class LBFGSState:
    """What L-BFGS remembers of each slot, the newest pair first.

    Attributes:
      moves: differences of coordinates ``s_k`` ``[slots, memory, rows, 3]``.
      changes: differences of gradients ``y_k`` ``[slots, memory, rows, 3]``.
      inverse_products: ``1 / (s_k . y_k)`` ``[slots, memory]``; zero where there is no pair.
      previous: coordinates of the last accepted point ``[slots, rows, 3]``.
      previous_forces: forces there ``[slots, rows, 3]``.
      previous_energy: energy there ``[slots]``; infinite before the first.
    """

    moves: Float[Array, "slots memory rows 3"]
    changes: Float[Array, "slots memory rows 3"]
    inverse_products: Float[Array, "slots memory"]
    previous: Float[Array, "slots rows 3"]
    previous_forces: Float[Array, "slots rows 3"]
    previous_energy: Float[Array, "slots"]


@struct.dataclass
class FIREState:
    """What FIRE remembers of each slot.

    Attributes:
      velocities: ``[slots, rows, 3]``, for unit masses.
      dt: time step ``[slots]``.
      alpha: mixing of velocity and force ``[slots]``.
      downhill: steps since the last uphill one ``[slots]``.
    """

    velocities: Float[Array, "slots rows 3"]
    dt: Float[Array, "slots"]
    alpha: Float[Array, "slots"]
    downhill: Int[Array, "slots"]


OptimizerState = LBFGSState | FIREState

#: Parameters of FIRE as in its paper; first and longest time step as in ASE.
FIRE_FIRST_DT, FIRE_MAX_DT = 0.1, 1.0
FIRE_ALPHA, FIRE_ALPHA_FACTOR = 0.1, 0.99
FIRE_GROW, FIRE_SHRINK, FIRE_DELAY = 1.1, 0.5, 5


def init(settings: RelaxSettings, coordinates: Float[Array, "slots rows 3"]) -> OptimizerState:
    """A state without memory.

    Args:
      settings: method and memory.
      coordinates: ``[slots, rows, 3]``.
    """
    slots, dtype = coordinates.shape[0], coordinates.dtype
    zeros = jnp.zeros_like(coordinates)
    if settings.method == "fire":
        return FIREState(
            velocities=zeros,
            dt=jnp.full(slots, FIRE_FIRST_DT, dtype),
            alpha=jnp.full(slots, FIRE_ALPHA, dtype),
            downhill=jnp.zeros(slots, jnp.int32),
        )
    many = jnp.zeros((slots, settings.memory, *coordinates.shape[1:]), dtype)
    return LBFGSState(
        moves=many,
        changes=many,
        inverse_products=jnp.zeros((slots, settings.memory), dtype),
        previous=coordinates,
        previous_forces=zeros,
        previous_energy=jnp.full(slots, jnp.inf, dtype),
    )


def step(
    settings: RelaxSettings,
    state: Any,
    coordinates: Float[Array, "slots rows 3"],
    forces: Float[Array, "slots rows 3"],
    energy: Float[Array, "slots"],
    conservative: bool,
) -> tuple[Float[Array, "slots rows 3"], Any]:
    """Where to evaluate next ``[slots, rows, 3]``, and the new state.

    Args:
      settings: method, longest step, memory.
      state: of :func:`init` or the step before.
      coordinates: ``[slots, rows, 3]``.
      forces: minus the gradient there.
      energy: there ``[slots]``.
      conservative: forces are the gradient of the energy; only then the energy is looked at.
    """
    if settings.method == "fire":
        return _fire(settings, state, coordinates, forces)
    return _lbfgs(settings, state, coordinates, forces, energy, conservative)


def longest_row(rows: Float[Array, "slots rows 3"]) -> Float[Array, "slots"]:
    """Length of the longest row of each slot ``[slots]``."""
    return jnp.sqrt(jnp.max(jnp.sum(rows**2, axis=-1), axis=-1))


def _limited(settings: RelaxSettings, move: Array) -> Array:
    longest = longest_row(move)
    factor = jnp.minimum(1, settings.max_step / jnp.where(longest > 0, longest, 1))
    return move * factor[:, None, None]


def _lbfgs(
    settings: RelaxSettings,
    state: LBFGSState,
    coordinates: Array,
    forces: Array,
    energy: Array,
    conservative: bool,
) -> tuple[Array, LBFGSState]:
    """One step; a point of higher energy is not accepted, and half the way to it tried next."""
    if conservative:
        # Of the last digits of the energy nothing follows.
        noise = 50 * jnp.finfo(energy.dtype).eps * jnp.maximum(jnp.abs(energy), 1)
        worse = energy > state.previous_energy + noise
    else:
        worse = jnp.zeros(energy.shape, bool)
    updated = _remember(state, coordinates, forces, energy)
    move = _limited(settings, _two_loop(settings, updated, forces))
    halfway = 0.5 * (state.previous + coordinates)
    keep = lambda old, new: jnp.where(worse.reshape(-1, *[1] * (new.ndim - 1)), old, new)  # noqa: E731
    return keep(halfway, coordinates + move), jax.tree.map(keep, state, updated)


def _remember(state: LBFGSState, coordinates: Array, forces: Array, energy: Array) -> LBFGSState:
    """The memory with the newest pair, if the curvature along it is positive."""
    s = coordinates - state.previous
    y = state.previous_forces - forces
    dot = lambda a, b: jnp.sum(a * b, axis=(1, 2))  # noqa: E731
    sy = dot(s, y)
    good = jnp.isfinite(state.previous_energy) & (sy > 1e-4 * dot(s, s))
    inverse = jnp.where(good, 1 / jnp.where(good, sy, 1), 0)

    def push(memory: Array, newest: Array) -> Array:
        shifted = jnp.concatenate([newest[:, None], memory[:, :-1]], axis=1)
        return jnp.where(good.reshape(-1, *[1] * newest.ndim), shifted, memory)

    return LBFGSState(
        moves=push(state.moves, s),
        changes=push(state.changes, y),
        inverse_products=push(state.inverse_products, inverse),
        previous=coordinates,
        previous_forces=forces,
        previous_energy=energy,
    )


def _two_loop(settings: RelaxSettings, state: LBFGSState, forces: Array) -> Array:
    """``H f`` by the two-loop recursion (Nocedal, Math. Comput. 35, 773, 1980)."""
    memory = settings.memory
    dot = lambda a, b: jnp.sum(a * b, axis=(1, 2))  # noqa: E731
    wide = lambda a: a[:, None, None]  # noqa: E731

    def backward(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        q, a = carry
        ak = state.inverse_products[:, k] * dot(state.moves[:, k], q)
        return q - wide(ak) * state.changes[:, k], a.at[:, k].set(ak)

    q, a = jax.lax.fori_loop(0, memory, backward, (forces, jnp.zeros_like(state.inverse_products)))
    newest = state.changes[:, 0]
    known = state.inverse_products[:, 0] > 0
    curvature = jnp.where(
        known, dot(newest, newest) * state.inverse_products[:, 0], settings.curvature
    )
    z = q / wide(jnp.maximum(curvature, 1e-3))

    def forward(i: Array, z: Array) -> Array:
        k = memory - 1 - i
        b = state.inverse_products[:, k] * dot(state.changes[:, k], z)
        return z + wide(a[:, k] - b) * state.moves[:, k]

    return jax.lax.fori_loop(0, memory, forward, z)


def _fire(
    settings: RelaxSettings, state: FIREState, coordinates: Array, forces: Array
) -> tuple[Array, FIREState]:
    wide = lambda a: a[:, None, None]  # noqa: E731
    size = lambda a: jnp.sqrt(jnp.sum(a**2, axis=(1, 2)))  # noqa: E731
    power = jnp.sum(forces * state.velocities, axis=(1, 2))
    downhill = power > 0
    strength = size(forces)
    ratio = size(state.velocities) / jnp.where(strength > 0, strength, 1)
    mixed = wide(1 - state.alpha) * state.velocities + wide(state.alpha * ratio) * forces
    late = downhill & (state.downhill > FIRE_DELAY)
    faster = jnp.minimum(state.dt * FIRE_GROW, FIRE_MAX_DT)
    # A start at rest is neither uphill nor downhill.
    resting = jnp.all(state.velocities == 0, axis=(1, 2))
    slower = jnp.where(resting, state.dt, state.dt * FIRE_SHRINK)
    dt = jnp.where(downhill, jnp.where(late, faster, state.dt), slower)
    alpha = jnp.where(late, state.alpha * FIRE_ALPHA_FACTOR, state.alpha)
    velocities = jnp.where(wide(downhill), mixed, 0) + wide(dt) * forces
    move = _limited(settings, wide(dt) * velocities)
    return coordinates + move, FIREState(
        velocities=velocities,
        dt=dt,
        alpha=jnp.where(downhill, alpha, FIRE_ALPHA),
        downhill=jnp.where(downhill, state.downhill + 1, 0),
    )
