"""Minimum energy paths by the nudged elastic band, all images in one compiled program."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.build import minimize_rotation_and_translation
from ase.constraints import FixAtoms
from ase.geometry import find_mic
from ase.mep.neb import NEB, idpp_interpolate
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.config.explore import RelaxSettings
from mlffjax.config.paths import NEBSettings
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
from mlffjax.explore.neb_forces import band_forces, hermite_profile, slopes
from mlffjax.explore.structures import Structure, as_frame, fixed_atoms
from mlffjax.explore.vibrations import free_atoms
from mlffjax.potential import Potential
from mlffjax.precision import full_precision
from mlffjax.training.evaluate import evaluate

#: A stretch is redone with more room for edges at most so often in a row.
MAX_REDO = 20


@dataclass(frozen=True, eq=False)
class NEBResult:
    """A path between two minima.

    Attributes:
      frames: both ends and the images between them, with energies and (true) forces.
      lengths: of the path up to each of them in Angstrom, in all coordinates together.
      slopes: derivative of the energy by that length in eV/Angstrom.
      residual: largest force of the band on an atom in eV/Angstrom.
      status: ``converged``, ``unfinished`` after all steps, or ``failed`` where a number was
        not finite, with the last sound path.
      steps: of the optimiser.
      force_calls: evaluations of one structure.
      warnings: one line each.
    """

    frames: tuple[Frame, ...]
    lengths: Float[np.ndarray, "nodes"]
    slopes: Float[np.ndarray, "nodes"]
    residual: float
    status: Literal["converged", "unfinished", "failed"]
    steps: int
    force_calls: int
    warnings: tuple[str, ...] = ()

    @property
    def energies(self) -> Float[np.ndarray, "nodes"]:
        """Total energies in eV."""
        return np.array([frame.energy for frame in self.frames], np.float64)

    @property
    def saddle(self) -> int:
        """Index of the frame of highest energy."""
        return int(np.argmax(self.energies))

    @property
    def barrier(self) -> float:
        """Energy of the highest frame over the start in eV."""
        return float(self.energies.max() - self.energies[0])

    @property
    def reverse_barrier(self) -> float:
        """Energy of the highest frame over the end in eV."""
        return float(self.energies.max() - self.energies[-1])

    def profile(
        self, points: int = 200
    ) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
        """The energy over the start along the path, a cubic through energies and slopes."""
        energies = self.energies
        return hermite_profile(self.lengths, energies - energies[0], self.slopes, points)


@struct.dataclass
class BandState:
    """A band in progress.

    Attributes:
      positions: where to evaluate next ``[images, atoms, 3]`` in Angstrom.
      evaluated: positions of the last sound evaluation.
      energies: there ``[images]`` in eV, without the element baseline.
      forces: true ones there ``[images, atoms, 3]`` in eV/Angstrom.
      residual: largest force of the band on an atom.
      climbing: whether the highest image climbs.
      converged, failed, overflow: why the loop ends; after an overflow nothing has changed.
      edges_needed: most edges there have been.
      steps: evaluations of the band.
      optimizer: its memory.
    """

    positions: Float[Array, "images atoms 3"]
    evaluated: Float[Array, "images atoms 3"]
    energies: Float[Array, "images"]
    forces: Float[Array, "images atoms 3"]
    residual: Float[Array, ""]
    climbing: Bool[Array, ""]
    converged: Bool[Array, ""]
    failed: Bool[Array, ""]
    overflow: Bool[Array, ""]
    edges_needed: Int[Array, ""]
    steps: Int[Array, ""]
    optimizer: Any


@struct.dataclass
class Ends:
    """What stays as it is; not static, so that other thresholds need no new compilation.

    Attributes:
      positions: of the two ends ``[2, atoms, 3]`` in Angstrom.
      energies: of the two ends ``[2]`` in eV.
      free: atoms that may move ``[atoms]``.
      spring, fmax, climb_below, steps: as in :class:`mlffjax.config.paths.NEBSettings`.
    """

    positions: Float[Array, "2 atoms 3"]
    energies: Float[Array, "2"]
    free: Bool[Array, "atoms"]
    spring: Float[Array, ""]
    fmax: Float[Array, ""]
    climb_below: Float[Array, ""]
    steps: Int[Array, ""]


def nudged_elastic_band(
    potential: Potential,
    start: Structure,
    end: Structure,
    settings: NEBSettings | None = None,
    *,
    path: Sequence[Structure] | None = None,
) -> NEBResult:
    """The minimum energy path between two minima.

    Args:
      potential: the force field; computes in its own dtype.
      start: a minimum. Atoms that a ``FixAtoms`` of ASE names in either end do not move.
      end: another, the same atoms in the same order and cell; across a periodic cell the nearest
        way is taken.
      settings: images, optimiser, threshold.
      path: images to begin with, instead of an interpolation; each is brought next to the one
        before it across a periodic cell.

    Raises:
      ValueError: the ends do not match, an unknown element, a structure too large, constraints
        other than fixed atoms, or a first path of the wrong length.
    """
    settings = settings or NEBSettings()
    named = {*fixed_atoms(start, settings.fixed_atoms), *fixed_atoms(end)}
    settings = settings.model_copy(update={"fixed_atoms": tuple(sorted(named))})
    start, end = as_frame(start), as_frame(end, 1)
    potential.check_elements(start.numbers)
    atoms = len(start.numbers)
    free = np.isin(np.arange(atoms), free_atoms(atoms, settings.fixed_atoms))
    first = _first_path(start, end, settings, path)
    ends = [replace(start, positions=first[0]), replace(start, positions=first[-1])]
    labels = evaluate(potential, ends, 2)
    warnings = _warnings(labels.forces, free, settings)
    inner, calls = _optimise(potential, start, first, labels.energy, free, settings)
    baseline = potential.baseline_energy(start.numbers)
    nodes = np.concatenate([first[:1], np.asarray(inner.evaluated, np.float64), first[-1:]])
    energies = np.array(
        [labels.energy[0], *(np.asarray(inner.energies, np.float64) + baseline), labels.energy[1]]
    )
    forces = np.stack([labels.forces[0], *np.asarray(inner.forces), labels.forces[1]])
    forces = forces.astype(np.float64)
    steps = np.linalg.norm(np.diff(nodes, axis=0).reshape(len(nodes) - 1, -1), axis=1)
    status = "converged" if inner.converged else "failed" if inner.failed else "unfinished"
    return NEBResult(
        frames=tuple(
            replace(start, positions=x, energy=float(e), forces=f, name=f"image {k}")
            for k, (x, e, f) in enumerate(zip(nodes, energies, forces, strict=True))
        ),
        lengths=np.concatenate([[0.0], np.cumsum(steps)]),
        slopes=slopes(nodes, energies, np.where(free[:, None], forces, 0)),
        residual=float(inner.residual),
        status=status,
        steps=int(inner.steps),
        force_calls=calls,
        warnings=warnings,
    )


def interpolate(
    start: Structure,
    end: Structure,
    images: int,
    method: str = "idpp",
    *,
    align: bool = True,
    fixed: Sequence[int] = (),
) -> Float[np.ndarray, "nodes atoms 3"]:
    """A first path: positions of the ends and of ``images`` structures between them.

    Args:
      start: where it begins.
      end: where it ends; shifted by lattice vectors to the nearest images of the atoms.
      images: number of structures between.
      method: ``linear``, or ``idpp`` by ASE.
      align: turn and shift the end of a molecule onto the start; never with fixed atoms, which
        would turn with it.
      fixed: indices of atoms that stay where the ends have them.

    Raises:
      ValueError: atoms, cells or periodic directions differ, the ends are the same, or
        constraints other than fixed atoms.
    """
    fixed = sorted({*fixed_atoms(start, fixed), *fixed_atoms(end)})
    start, end = as_frame(start), as_frame(end, 1)
    _check_ends(start, end)
    first, last = _atoms(start), _atoms(end)
    if align and not start.pbc.any() and not len(fixed):
        minimize_rotation_and_translation(first, last)
    vectors = _nearest(last.positions - first.positions, first)
    if np.abs(vectors).max() < 1e-3:
        raise ValueError(
            "got the same structure as start and end of a path; expected two minima; relax the "
            "ends and look at their energies"
        )
    first.set_constraint(FixAtoms(fixed))
    path = [first.copy() for _ in range(images + 2)]
    for k, atoms in enumerate(path):
        atoms.positions += vectors * k / (images + 1)
    if method == "idpp":
        band: Any = NEB(path, method="improvedtangent")
        silent: Any = None  # ASE's annotations know no silence
        idpp_interpolate(band, traj=silent, log=silent, mic=bool(start.pbc.any()))
    positions = np.array([atoms.positions for atoms in path])
    # ASE may wrap a periodic image.
    return _without_jumps(positions, first)


def _optimise(
    potential: Potential,
    start: Frame,
    first: np.ndarray,
    energies: np.ndarray,
    free: np.ndarray,
    settings: NEBSettings,
) -> tuple[BandState, int]:
    """The band at the end, on the host, and the structures evaluated for it."""
    dtype = np.dtype(potential.dtype)
    # Around the origin, where single precision has most digits.
    centre = first[0].mean(0)
    frames = [replace(start, positions=x - centre) for x in first[1:-1]]
    wanted = [needs(frame, potential.cutoff) for frame in frames]
    plan = plan_batch(wanted, settings.images, potential.cutoff, bool(start.pbc.any()))
    slots = jax.device_put(fill_slots(plan, frames, dtype))
    baseline = potential.baseline_energy(start.numbers)
    ends = Ends(
        positions=jnp.asarray(first[[0, -1]] - centre, dtype),
        energies=jnp.asarray(energies - baseline, dtype),
        free=jnp.asarray(free),
        spring=jnp.asarray(settings.spring, dtype),
        fmax=jnp.asarray(settings.fmax, dtype),
        climb_below=jnp.asarray(max(settings.climb_below, settings.fmax), dtype),
        steps=jnp.asarray(settings.steps, jnp.int32),
    )
    rules = _optimizer(settings)
    state = _begin(rules, jnp.asarray(first[1:-1] - centre, dtype))
    redone, bare = 0, potential.interaction
    while not (state.converged or state.failed or int(state.steps) >= settings.steps):
        state = _advance(plan, rules, settings.climb, bare, slots, ends, state)
        if state.overflow:
            plan = enlarge(plan, int(state.edges_needed))
            state = replace(state, overflow=jnp.zeros((), bool))
            redone += 1
            if redone > MAX_REDO:
                raise RuntimeError(
                    f"got more edges than there was room for {redone} times; expected a path "
                    "of stable density; check the potential and max_step"
                )
    calls = int(state.steps) * settings.images + 2
    host = jax.device_get(state)
    positions: Any = np.asarray(host.evaluated, np.float64) + centre
    return replace(host, evaluated=positions), calls


def _begin(rules: RelaxSettings, positions: Float[Array, "images atoms 3"]) -> BandState:
    false, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    return BandState(
        positions=positions,
        evaluated=positions,
        energies=jnp.zeros(len(positions), positions.dtype),
        forces=jnp.zeros_like(positions),
        residual=jnp.asarray(jnp.inf, positions.dtype),
        climbing=false,
        converged=false,
        failed=false,
        overflow=false,
        edges_needed=zero,
        steps=zero,
        optimizer=relax_optimizers.init(rules, positions.reshape(1, -1, 3)),
    )


@partial(jax.jit, static_argnames=("plan", "rules", "climb"))
@full_precision
def _advance(
    plan: BatchPlan,
    rules: RelaxSettings,
    climb: bool,
    potential: Potential,
    slots: Slots,
    ends: Ends,
    state: BandState,
) -> BandState:
    """Steps until the band has converged or cannot go on, at most ``chunk_steps``."""
    most = jnp.minimum(ends.steps, state.steps + rules.chunk_steps)

    def unfinished(s: BandState) -> Array:
        return ~(s.converged | s.failed | s.overflow) & (s.steps < most)

    def one_step(s: BandState) -> BandState:
        active = jnp.ones(plan.slots, bool)
        result = evaluate_batch(plan, potential, slots, s.positions, active)
        overflow = result.overflow(plan)
        moved = _update(rules, climb, ends, s, result.energy, result.forces)
        kept = jax.tree.map(lambda new, old: jnp.where(overflow, old, new), moved, s)
        needed = jnp.maximum(s.edges_needed, result.edges_needed)
        return replace(kept, overflow=overflow, edges_needed=needed)

    return jax.lax.while_loop(unfinished, one_step, state)


def _update(
    rules: RelaxSettings,
    climb: bool,
    ends: Ends,
    state: BandState,
    energies: Array,
    forces: Array,
) -> BandState:
    """The band after an evaluation at its positions."""
    sound = jnp.all(jnp.isfinite(energies)) & jnp.all(jnp.isfinite(forces))
    path = jnp.concatenate([ends.positions[:1], state.positions, ends.positions[1:]])
    heights = jnp.concatenate([ends.energies[:1], energies, ends.energies[1:]])
    true = jnp.where(ends.free[:, None] & sound, forces, 0)
    band = band_forces(path, heights, true, ends.spring, state.climbing)
    residual = jnp.sqrt(jnp.max(jnp.sum(band**2, axis=-1)))
    converged = sound & (residual < ends.fmax)
    begin_climbing = climb & sound & ~state.climbing & (residual < ends.climb_below)
    flat = state.positions.reshape(1, -1, 3)
    # With the climbing image the forces are others: what was learnt of them no longer holds.
    fresh = relax_optimizers.init(rules, flat)
    following, optimizer = relax_optimizers.step(
        rules, state.optimizer, flat, band.reshape(1, -1, 3), energies[:1], conservative=False
    )
    following = jnp.where(begin_climbing, flat, following).reshape(path[1:-1].shape)
    optimizer = jax.tree.map(lambda a, b: jnp.where(begin_climbing, a, b), fresh, optimizer)
    keep = lambda new, old: jnp.where(sound, new, old)  # noqa: E731
    return replace(
        state,
        positions=keep(following, state.positions),
        evaluated=keep(state.positions, state.evaluated),
        energies=keep(energies, state.energies),
        forces=keep(forces, state.forces),
        residual=keep(residual, state.residual),
        climbing=state.climbing | begin_climbing,
        converged=converged & ~begin_climbing,
        failed=~sound,
        steps=state.steps + 1,
        optimizer=optimizer,
    )


def _optimizer(settings: NEBSettings) -> RelaxSettings:
    """What is static of the settings: a new value is a new compilation."""
    return RelaxSettings(
        method=settings.method,
        max_step=settings.max_step,
        memory=settings.memory,
        curvature=settings.curvature,
        chunk_steps=settings.chunk_steps,
    )


def _first_path(
    start: Frame, end: Frame, settings: NEBSettings, path: Sequence[Structure] | None
) -> np.ndarray:
    if path is None:
        return interpolate(
            start,
            end,
            settings.images,
            settings.interpolation,
            align=settings.align,
            fixed=settings.fixed_atoms,
        )
    _check_ends(start, end)
    if len(path) != settings.images:
        raise ValueError(
            f"got a first path of {len(path)} structures; expected {settings.images}, the "
            "number of images; set images to match"
        )
    frames = [as_frame(structure, k) for k, structure in enumerate(path)]
    for frame in frames:
        _check_ends(start, frame)
    positions = np.array([f.positions for f in (start, *frames, end)])
    return _without_jumps(positions, _atoms(start))


def _check_ends(start: Frame, end: Frame) -> None:
    same = (
        len(start.numbers) == len(end.numbers)
        and (start.numbers == end.numbers).all()
        and (start.pbc == end.pbc).all()
        and np.allclose(start.cell, end.cell, atol=1e-6)
    )
    if not same:
        raise ValueError(
            f"got {len(start.numbers)} and {len(end.numbers)} atoms, or other elements, cells or "
            "periodic directions, at the ends of a path; expected the same atoms in the same "
            "order and cell; reorder the atoms"
        )


def _warnings(
    forces: Sequence[np.ndarray], free: np.ndarray, settings: NEBSettings
) -> tuple[str, ...]:
    lines = []
    for name, f in zip(("start", "end"), forces, strict=True):
        fmax = float(np.linalg.norm(f[free], axis=1).max())
        if not fmax < settings.end_fmax:
            lines.append(
                f"the {name} has a force of {fmax:.3f} eV/Angstrom, more than "
                f"{settings.end_fmax:g}: it is no minimum of this potential; relax it first"
            )
    return tuple(lines)


def _without_jumps(
    positions: Float[np.ndarray, "nodes atoms 3"], atoms: ase.Atoms
) -> Float[np.ndarray, "nodes atoms 3"]:
    """A path on which no atom jumps across a periodic cell."""
    positions = positions.copy()
    for k in range(1, len(positions)):
        positions[k] = positions[k - 1] + _nearest(positions[k] - positions[k - 1], atoms)
    return positions


def _nearest(vectors: np.ndarray, atoms: ase.Atoms) -> np.ndarray:
    """The shortest periodic images of vectors ``[atoms, 3]``."""
    periodic: Any = atoms.pbc
    return find_mic(vectors, atoms.cell, periodic)[0]


def _atoms(frame: Frame) -> ase.Atoms:
    return ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
