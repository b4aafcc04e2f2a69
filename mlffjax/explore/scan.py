"""Scans of the energy along one or two coordinates, rigid or relaxed, many points at a time."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.config.explore import RelaxSettings
from mlffjax.data.frames import Frame
from mlffjax.explore import relax_optimizers
from mlffjax.explore.batch import (
    BatchPlan,
    Slots,
    enlarge,
    evaluate_batch,
    fill_slots,
    needs,
    plan_batch,
)
from mlffjax.explore.coordinates import Coordinate
from mlffjax.explore.structures import Structure, as_frame, fixed_atoms
from mlffjax.explore.vibrations import free_atoms
from mlffjax.potential import Potential
from mlffjax.precision import full_precision
from mlffjax.training.evaluate import evaluate

#: Newton steps that restore the coordinates after a move; each doubles the digits.
RESTORATIONS = 4
#: A stretch is redone with more room for edges at most so often in a row.
MAX_REDO = 20


@dataclass(frozen=True, eq=False)
class ScanResult:
    """Energies on a grid of one or two coordinates.

    Attributes:
      labels: of the coordinates.
      values: of each coordinate.
      frames: the structures, the last coordinate changing fastest, with energies and forces.
      energies: total energies in eV, one axis for each coordinate; NaN where one is not finite.
      converged: whether the relaxation reached its threshold; true everywhere in a rigid scan.
      force_calls: evaluations of one structure.
    """

    labels: tuple[str, ...]
    values: tuple[Float[np.ndarray, "_"], ...]
    frames: tuple[Frame, ...]
    energies: Float[np.ndarray, "*grid"]
    converged: Bool[np.ndarray, "*grid"]
    force_calls: int


def rigid_scan(
    potential: Potential,
    structure: Structure,
    coordinates: Sequence[Coordinate],
    values: Sequence[Sequence[float]],
    *,
    batch_size: int = 64,
) -> ScanResult:
    """Energies with groups of atoms moved rigidly.

    Args:
      potential: the force field.
      structure: from which every point is made; nothing is relaxed, so that constraints of ASE's
        atoms mean nothing.
      coordinates: one or more.
      values: of each coordinate.
      batch_size: points of one compiled call.

    Raises:
      ValueError: as :func:`grid_frames`, or an element the potential does not know.
    """
    frames = grid_frames(structure, coordinates, values)
    potential.check_elements(frames[0].numbers)
    labels = evaluate(potential, frames, min(batch_size, len(frames)))
    energies = np.where(np.isfinite(labels.energy), labels.energy, np.nan)
    done = [
        replace(f, energy=float(e), forces=np.asarray(g, np.float64))
        for f, e, g in zip(frames, energies, labels.forces, strict=True)
    ]
    grid = tuple(len(v) for v in values)
    return ScanResult(
        labels=tuple(c.label for c in coordinates),
        values=tuple(np.asarray(v, np.float64) for v in values),
        frames=tuple(done),
        energies=energies.reshape(grid),
        converged=np.ones(grid, bool),
        force_calls=len(frames),
    )


def relaxed_scan(
    potential: Potential,
    structure: Structure,
    coordinates: Sequence[Coordinate],
    values: Sequence[Sequence[float]],
    settings: RelaxSettings | None = None,
) -> ScanResult:
    """Energies with everything relaxed but the coordinates of the scan.

    No penalty holds the coordinates: forces lose their components along them, and after every
    move Newton's method restores their values. Every point starts from the rigid scan, so that
    the points are independent and as many as ``batch_size`` move in one program.

    Args:
      potential: the force field.
      structure: from which every point is made. Atoms that a ``FixAtoms`` of ASE names stay where
        the rigid scan puts them, as those of ``settings``.
      coordinates: one or more, independent of one another.
      values: of each coordinate.
      settings: of the relaxation; fixed bonds and a relaxed cell are not for scans.

    Raises:
      ValueError: as :func:`grid_frames`, settings that are not for scans, constraints other than
        fixed atoms, an element the potential does not know, a structure too large.
    """
    settings = settings or RelaxSettings()
    if settings.cell or settings.fixed_bonds:
        raise ValueError("got a relaxed cell or fixed bonds in a scan; expected neither; drop them")
    fixed = fixed_atoms(structure, settings.fixed_atoms)
    frames = grid_frames(structure, coordinates, values)
    potential.check_elements(frames[0].numbers)
    atoms = len(frames[0].numbers)
    free = np.isin(np.arange(atoms), free_atoms(atoms, fixed))
    targets = np.array(list(itertools.product(*values)), np.float64)
    size = min(settings.batch_size, len(frames))
    parts = [
        _relax(potential, frames[k : k + size], tuple(coordinates), targets[k : k + size], free,
               settings, size)
        for k in range(0, len(frames), size)
    ]  # fmt: skip
    done = [frame for part in parts for frame in part[0]]
    grid = tuple(len(v) for v in values)
    return ScanResult(
        labels=tuple(c.label for c in coordinates),
        values=tuple(np.asarray(v, np.float64) for v in values),
        frames=tuple(done),
        energies=np.array([f.energy for f in done], np.float64).reshape(grid),
        converged=np.concatenate([part[1] for part in parts]).reshape(grid),
        force_calls=sum(part[2] for part in parts),
    )


def grid_frames(
    structure: Structure, coordinates: Sequence[Coordinate], values: Sequence[Sequence[float]]
) -> list[Frame]:
    """The structures of a rigid scan, the last coordinate changing fastest.

    Raises:
      ValueError: no coordinate, as many values as there are not coordinates, a value that no
        motion reaches, or a motion along one coordinate that changes another.
    """
    frame = as_frame(structure)
    if not coordinates or len(coordinates) != len(values) or not all(len(v) for v in values):
        raise ValueError(
            f"got {len(coordinates)} coordinates with {[len(v) for v in values]} values; expected "
            "at least one coordinate, and one or more values of each"
        )
    frames = []
    for index, point in enumerate(itertools.product(*values)):
        positions = frame.positions
        for coordinate, value in zip(coordinates, point, strict=True):
            positions = coordinate.place(positions, float(value))
        for coordinate, value in zip(coordinates, point, strict=True):
            missed = float(_wrapped(coordinate, coordinate.value(jnp.asarray(positions)) - value))
            if not abs(missed) <= 1e-2:
                raise ValueError(_missed(coordinate.label, float(value), missed, len(coordinates)))
        frames.append(replace(frame, positions=positions, name=f"point {index}"))
    return frames


def _missed(label: str, value: float, missed: float, count: int) -> str:
    if count == 1 or not np.isfinite(missed):
        return (
            f"got {value:g} for the {label}, which no motion of the structure reaches; expected a "
            "value it can have (a distance above zero, atoms of an angle not on a line); mend it"
        )
    return (
        f"got coordinates that disturb one another: {label} misses {value:g} by {missed:.2g}; "
        "expected independent ones; choose other atoms"
    )


@struct.dataclass
class _State:
    """Relaxations in progress; what is said of an evaluation is at ``evaluated``."""

    positions: Float[Array, "slots atoms 3"]
    evaluated: Float[Array, "slots atoms 3"]
    energies: Float[Array, "slots"]
    forces: Float[Array, "slots atoms 3"]
    running: Bool[Array, "slots"]
    converged: Bool[Array, "slots"]
    calls: Int[Array, "slots"]
    steps: Int[Array, ""]
    overflow: Bool[Array, ""]
    edges_needed: Int[Array, ""]
    optimizer: Any


def _relax(
    potential: Potential,
    frames: Sequence[Frame],
    coordinates: tuple[Coordinate, ...],
    targets: np.ndarray,
    free: np.ndarray,
    settings: RelaxSettings,
    size: int,
) -> tuple[list[Frame], np.ndarray, int]:
    """Relaxed structures, whether each converged, and force calls of all together."""
    dtype = np.dtype(potential.dtype)
    # Around the origin, where single precision has most digits; no coordinate feels it.
    centre = frames[0].positions.mean(0)
    padded = [*frames, *[frames[-1]] * (size - len(frames))]
    centred = [replace(f, positions=f.positions - centre) for f in padded]
    wanted = [needs(f, potential.cutoff) for f in centred]
    plan = plan_batch(wanted, size, potential.cutoff, bool(frames[0].pbc.any()))
    slots = jax.device_put(fill_slots(plan, centred, dtype))
    goals = jnp.asarray(np.concatenate([targets, *[targets[-1:]] * (size - len(frames))]), dtype)
    begin = jnp.asarray(np.array([f.positions for f in centred]), dtype)
    state = _begin(settings, begin, np.arange(size) < len(frames))
    redone, bare = 0, potential.interaction
    while bool(np.any(state.running)):
        state = _advance(plan, settings, coordinates, bare, slots, jnp.asarray(free), goals, state)
        if state.overflow:
            plan = enlarge(plan, int(state.edges_needed))
            state = replace(state, overflow=jnp.zeros((), bool))
            redone += 1
            if redone > MAX_REDO:
                raise RuntimeError(
                    f"got more edges than there was room for {redone} times; expected a stable "
                    "density; check the potential and max_step"
                )
    host = jax.device_get(state)
    baseline = potential.baseline_energy(frames[0].numbers)
    done = [
        replace(
            frame,
            positions=np.asarray(host.evaluated[k], np.float64) + centre,
            energy=float(host.energies[k]) + baseline,
            forces=np.asarray(host.forces[k], np.float64),
        )
        for k, frame in enumerate(frames)
    ]
    return done, np.asarray(host.converged[: len(frames)]), int(host.calls.sum())


def _begin(
    settings: RelaxSettings, positions: Float[Array, "slots atoms 3"], running: np.ndarray
) -> _State:
    slots, zero, false = positions.shape[0], jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    return _State(
        positions=positions,
        evaluated=positions,
        energies=jnp.full(slots, jnp.nan, positions.dtype),
        forces=jnp.zeros_like(positions),
        running=jnp.asarray(running),
        converged=jnp.zeros(slots, bool),
        calls=jnp.zeros(slots, jnp.int32),
        steps=zero,
        overflow=false,
        edges_needed=zero,
        optimizer=relax_optimizers.init(settings, positions),
    )


@partial(jax.jit, static_argnames=("plan", "settings", "coordinates"))
@full_precision
def _advance(
    plan: BatchPlan,
    settings: RelaxSettings,
    coordinates: tuple[Coordinate, ...],
    potential: Potential,
    slots: Slots,
    free: Bool[Array, "atoms"],
    targets: Float[Array, "slots coordinates"],
    state: _State,
) -> _State:
    """Steps until every point has ended or room ran out, at most ``chunk_steps``."""
    most = state.steps + settings.chunk_steps

    def unfinished(s: _State) -> Array:
        return jnp.any(s.running) & ~s.overflow & (s.steps < most)

    def one_step(s: _State) -> _State:
        result = evaluate_batch(plan, potential, slots, s.positions, s.running)
        overflow = result.overflow(plan)
        conservative = not potential.module.direct_forces
        moved = _update(
            settings, coordinates, free, targets, s, result.energy, result.forces, conservative
        )
        kept = jax.tree.map(lambda new, old: jnp.where(overflow, old, new), moved, s)
        needed = jnp.maximum(s.edges_needed, result.edges_needed)
        return replace(kept, overflow=overflow, edges_needed=needed)

    return jax.lax.while_loop(unfinished, one_step, state)


def _update(
    settings: RelaxSettings,
    coordinates: tuple[Coordinate, ...],
    free: Bool[Array, "atoms"],
    targets: Float[Array, "slots coordinates"],
    state: _State,
    energies: Array,
    forces: Array,
    conservative: bool,
) -> _State:
    """The points after an evaluation; only running ones change."""
    along = jax.vmap(partial(_project, coordinates, free))(state.positions, forces)
    fmax = relax_optimizers.longest_row(along)
    sound = jnp.isfinite(energies) & jnp.isfinite(fmax)
    along = jnp.where(sound[:, None, None], along, 0)
    following, optimizer = relax_optimizers.step(
        settings, state.optimizer, state.positions, along, energies, conservative
    )
    following = jax.vmap(partial(_restore, coordinates, free))(following, targets)
    calls = state.calls + 1
    converged = sound & (fmax < settings.fmax)
    moved = replace(
        state,
        positions=following,
        evaluated=_where(sound, state.positions, state.evaluated),
        energies=_where(sound, energies, state.energies),
        forces=_where(sound, forces, state.forces),
        running=sound & ~converged & (calls < settings.steps),
        converged=converged,
        calls=calls,
        optimizer=optimizer,
    )
    per_slot = lambda new, old: _where(state.running, new, old) if new.ndim else new  # noqa: E731
    return replace(jax.tree.map(per_slot, moved, state), steps=state.steps + 1)


def _project(
    coordinates: tuple[Coordinate, ...],
    free: Bool[Array, "atoms"],
    positions: Float[Array, "atoms 3"],
    forces: Float[Array, "atoms 3"],
) -> Float[Array, "atoms 3"]:
    """Forces without their components along the coordinates; zero on fixed atoms."""
    forces = jnp.where(free[:, None], forces, 0)
    jacobian, inverse = _jacobian(coordinates, free, positions)
    along = jnp.einsum("kax,ax->k", jacobian, forces)
    return forces - jnp.einsum("kax,k->ax", jacobian, inverse @ along)


def _restore(
    coordinates: tuple[Coordinate, ...],
    free: Bool[Array, "atoms"],
    positions: Float[Array, "atoms 3"],
    targets: Float[Array, "coordinates"],
) -> Float[Array, "atoms 3"]:
    """Positions moved, as little as can be, to the values of the coordinates."""

    def newton(_: int, x: Array) -> Array:
        jacobian, inverse = _jacobian(coordinates, free, x)
        missing = jnp.stack(
            [_wrapped(c, c.value(x) - targets[k]) for k, c in enumerate(coordinates)]
        )
        return x - jnp.einsum("kax,k->ax", jacobian, inverse @ missing)

    return jax.lax.fori_loop(0, RESTORATIONS, newton, positions)


def _jacobian(
    coordinates: tuple[Coordinate, ...], free: Bool[Array, "atoms"], positions: Array
) -> tuple[Array, Array]:
    """Derivatives ``[coordinates, atoms, 3]`` and the pseudo-inverse of their Gram matrix."""
    jacobian = jnp.stack([jax.grad(c.value)(positions) for c in coordinates])
    jacobian = jnp.where(free[:, None], jacobian, 0)
    gram = jnp.einsum("kax,lax->kl", jacobian, jacobian)
    return jacobian, jnp.linalg.pinv(gram, rtol=1e-5, hermitian=True)


def _wrapped(coordinate: Coordinate, difference: Array) -> Array:
    """A difference of values, the nearest by the period."""
    period = coordinate.period
    return difference if period is None else difference - period * jnp.round(difference / period)


def _where(condition: Bool[Array, "slots"], new: Array, old: Array) -> Array:
    return jnp.where(condition.reshape(-1, *[1] * (new.ndim - 1)), new, old)
