"""Minima hopping with many walkers: what is decided on the host between two escapes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ase
import ase.data
import jax
import jax.numpy as jnp
import numpy as np

from mlffjax.config.explore import HoppingSettings
from mlffjax.data.frames import Frame
from mlffjax.explore import hop_program, hop_store
from mlffjax.explore.batch import enlarge, fill_slots, needs, plan_batch
from mlffjax.explore.hop_program import DONE, HopProgram, HopState
from mlffjax.explore.hop_store import Escape, HopFiles, Minimum, Status
from mlffjax.explore.identity import KnownMinima, widest_gap
from mlffjax.explore.relax import MAX_REDO, relax
from mlffjax.explore.relax_constraints import Fixed, fill_constraints
from mlffjax.explore.relax_program import CONVERGED, FAILED
from mlffjax.explore.structures import Structure, as_frame, refuse_constraints
from mlffjax.md import velocities
from mlffjax.md.restart import potential_digest
from mlffjax.potential import Potential
from mlffjax.types import HostVectors
from mlffjax.units import BOLTZMANN

#: Two atoms are bonded within this factor of the sum of their covalent radii. About the middle
#: between bonds and the closest other pairs (see :data:`mlffjax.md.bonds.BOND_FACTOR`), as here
#: a minimum is lost whether a bond is missed or one too many is found.
BOND_FACTOR = 1.3

#: Called after escapes with those that have ended and the number of known minima.
Progress = Callable[[Sequence[Escape], int], None]


@dataclass(frozen=True, eq=False)
class HopResult:
    """A search that has ended.

    Attributes:
      minima: in the order of their discovery.
      visits: how often each was reached.
      escapes: the history.
      force_calls: of the search, the relaxation of the start not counted.
      interrupted: it was told to stop before all escapes had been made.
    """

    minima: list[Minimum]
    visits: list[int]
    escapes: list[Escape]
    force_calls: int
    interrupted: bool

    @property
    def lowest(self) -> Minimum:
        """The minimum of lowest energy."""
        return min(self.minima, key=lambda m: m.energy)


@dataclass
class _Walker:
    """What the host knows of a walker; its escapes count from 0."""

    minimum: int
    temperature: float
    energy_difference: float
    escapes: int = 0


def hop(
    potential: Potential,
    start: Structure | Sequence[Structure],
    settings: HoppingSettings | None = None,
    *,
    folder: Path | str,
    resume: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> HopResult:
    """Search the minima of a molecule or cluster by minima hopping.

    All walkers share one compiled program and one history. Minima and escapes are written as
    they come; a search that was killed continues with ``resume`` from its last saved state and
    finds the same minima, in the same order, as one that was not. On a CPU this holds to the
    last bit; it takes the same number of walkers, and settings that differ in ``steps`` at most.

    Args:
      potential: the force field.
      start: one structure, or several of the same atoms, of which the walkers take turns; two
        atoms at least, all of which move. Escapes take the masses of the elements, on which no
        minimum depends.
      settings: of the search.
      folder: where ``minima.extxyz``, ``history.jsonl``, ``state.npz`` and, at the end,
        ``lowest.extxyz`` are written.
      resume: continue the search in ``folder``.
      progress: told of each escape that has ended.
      stop: asked after each stretch of force calls; where it is true the search is saved and
        ends.

    Raises:
      ValueError: a periodic structure, a single atom, constraints, starts of different atoms, a
        start that cannot be relaxed, or, to resume, no saved search or one of another potential,
        other atoms or other settings.
      FileExistsError: the folder holds a search and ``resume`` is false.
    """
    settings = settings or HoppingSettings()
    several = [start] if isinstance(start, Frame | ase.Atoms) else list(start)
    frames = _starts(several)
    search = _Search(potential, frames[0], settings, Path(folder))
    if resume:
        search.restore()
    else:
        search.begin(frames)
    try:
        return search.run(progress, stop)
    finally:
        search.files.close()


def _starts(structures: Sequence[Structure]) -> list[Frame]:
    """The structures a search begins with, checked; see :func:`hop`."""
    frames = []
    for index, structure in enumerate(structures):
        refuse_constraints(structure, "minima hopping")
        frame = as_frame(structure, index)
        frames.append(frame)
        if np.asarray(frame.pbc).any() or not np.array_equal(frame.numbers, frames[0].numbers):
            raise ValueError(
                f"got {frame.name} with pbc {np.asarray(frame.pbc).tolist()} as a start; expected "
                "free molecules or clusters of the same atoms in the same order"
            )
    if not frames or len(frames[0].numbers) < 2:
        raise ValueError(
            "got no start, or one of a single atom; expected two atoms or more; a single atom has "
            "one minimum"
        )
    return frames


class _Search:
    """One search in progress on the host."""

    files: HopFiles
    state: HopState

    def __init__(
        self, potential: Potential, frame: Frame, settings: HoppingSettings, folder: Path
    ) -> None:
        potential.check_elements(frame.numbers)
        self.potential, self.frame, self.settings, self.folder = potential, frame, settings, folder
        self.dtype = np.dtype(potential.dtype)
        self.baseline = potential.baseline_energy(frame.numbers)
        self.masses = ase.data.atomic_masses[frame.numbers]
        self.known = KnownMinima(frame.numbers, settings)
        self.minima: list[Minimum] = []
        self.visits: list[int] = []
        self.escapes: list[Escape] = []
        self.walkers: list[_Walker] = []
        need = needs(frame, potential.cutoff)
        plan = plan_batch([need] * settings.walkers, settings.walkers, potential.cutoff, False)
        self.program = HopProgram(plan, _static(settings))
        self.slots, self.constraints = self._arrays()

    def _arrays(self):
        plan = self.program.plan
        frames = [self.frame] * plan.slots
        slots = fill_slots(plan, frames, self.dtype)
        free = [Fixed()] * plan.slots
        constraints = fill_constraints(free, frames, plan.slots, plan.atoms, 0, self.dtype)
        return jax.device_put((slots, constraints))

    def begin(self, frames: Sequence[Frame]) -> None:
        """Relax the starts and send all walkers off.

        Raises:
          ValueError: a start that does not relax.
        """
        results = relax(self.potential, frames, self.settings.relax)
        for result in results:
            if not result.converged:
                raise ValueError(
                    f"got {result.frame.name}, whose relaxation is {result.status} after "
                    f"{result.force_calls} force calls (fmax {result.fmax:.2g} eV/Angstrom); "
                    "expected a structure that relaxes; raise relax.steps or relax.fmax"
                )
        self.files = HopFiles(self.folder, self.frame)
        found = []
        for result in results:
            if not self.minima:
                self._set_reference(result.frame.positions)
            positions = _centred(result.frame.positions, self.dtype)
            index = self.known.find(result.energy, positions)
            if index is None:
                index = self._new_minimum(result.energy, positions, -1)
            self.visits[index] += 1
            found.append(index)
        settings = self.settings
        self.walkers = [
            _Walker(found[k % len(found)], settings.temperature, settings.energy_difference)
            for k in range(settings.walkers)
        ]
        blank = np.zeros((settings.walkers, len(self.masses), 3), self.dtype)
        self.state = hop_program.idle(self.program.settings, self.slots, jnp.asarray(blank))
        self._launch(list(range(settings.walkers)))
        self.save()

    def _set_reference(self, positions: HostVectors) -> None:
        self.largest_gap = self.settings.fragment_factor * widest_gap(positions)
        self.bonds = _bonds(self.frame.numbers, positions)

    def run(self, progress: Progress | None, stop: Callable[[], bool] | None) -> HopResult:
        """Hop until all escapes have been made, or until told to stop."""
        saved = len(self.escapes)
        while len(self.escapes) < self.settings.steps and not (stop is not None and stop()):
            self._advance()
            ended = np.flatnonzero(np.asarray(self.state.phase) == DONE).tolist()
            if not ended:
                continue
            ended = ended[: self.settings.steps - len(self.escapes)]
            host = jax.device_get(self.state)
            for walker in ended:
                self._judge(host, walker)
            self._launch(ended)
            if progress is not None:
                progress(self.escapes[-len(ended) :], len(self.minima))
            if len(self.escapes) - saved >= self.settings.save_interval:
                self.save()
                saved = len(self.escapes)
        self.save()
        symbols = [ase.data.chemical_symbols[z] for z in self.frame.numbers]
        hop_store.write_lowest(self.folder, symbols, self.minima, self.visits)
        calls = sum(escape.force_calls for escape in self.escapes)
        interrupted = len(self.escapes) < self.settings.steps
        return HopResult(self.minima, self.visits, self.escapes, calls, interrupted)

    def _advance(self) -> None:
        """A stretch without overflow; the room for edges grows until there is none."""
        for _ in range(MAX_REDO):
            stretch = hop_program.advance(
                self.program,
                self.potential.interaction,
                self.slots,
                self.constraints,
                self.state,
                jnp.asarray(self.settings.chunk_steps, jnp.int32),
            )
            if not bool(stretch.overflow):
                self.state = stretch.state
                return
            plan = enlarge(self.program.plan, int(stretch.edges_needed))
            self.program = replace(self.program, plan=plan)
        raise RuntimeError(
            f"got more edges than there was room for {MAX_REDO} times in a row; check the potential"
        )

    def _judge(self, host: HopState, walker: int) -> None:
        """Decide on the structure a walker has come to, and note it."""
        state, settings = self.walkers[walker], self.settings
        energy = float(host.relax.energy[walker])
        positions = _centred(np.asarray(host.relax.evaluated[walker]), self.dtype)
        status, target = self._identify(int(host.relax.status[walker]), energy, positions, state)
        temperature, difference = state.temperature, state.energy_difference
        accepted = False
        if status == "same":
            state.temperature *= settings.beta_same
        elif target is None:
            state.temperature *= settings.beta_new
        else:
            state.temperature *= settings.beta_new if status == "new" else settings.beta_known
            rise = self.known.energies[target] - self.known.energies[state.minimum]
            accepted = rise < difference
            state.energy_difference *= (
                settings.alpha_accepted if accepted else settings.alpha_rejected
            )
        if target is not None:
            self.visits[target] += 1
        finite = status != "failed"
        escape = Escape(
            walker=walker,
            step=len(self.escapes),
            origin=state.minimum,
            target=target,
            temperature=temperature,
            energy_difference=difference,
            energy=energy + self.baseline if finite else None,
            barrier=float(host.highest[walker]) + self.baseline if finite else None,
            accepted=accepted,
            force_calls=int(host.calls[walker]),
            status=status,
        )
        self.escapes.append(escape)
        self.files.add_escape(escape)
        if accepted and target is not None:
            state.minimum = target

    def _identify(
        self, outcome: int, energy: float, positions: HostVectors, walker: _Walker
    ) -> tuple[Status, int | None]:
        """What a relaxed structure is, and its index where it is a minimum."""
        if outcome == FAILED or not math.isfinite(energy):
            return "failed", None
        if outcome != CONVERGED:
            return "unfinished", None
        if widest_gap(positions) > self.largest_gap:
            return "dissociated", None
        if self.settings.keep_bonds and _bonds(self.frame.numbers, positions) != self.bonds:
            return "rebonded", None
        index = self.known.find(energy, positions)
        if index is None:
            return "new", self._new_minimum(energy, positions, len(self.escapes))
        return ("same" if index == walker.minimum else "known"), index

    def _new_minimum(self, energy: float, positions: HostVectors, step: int) -> int:
        index = self.known.add(energy, positions)
        minimum = Minimum(positions, energy + self.baseline, energy, index, step)
        self.minima.append(minimum)
        self.visits.append(0)
        self.files.add_minimum(minimum)
        return index

    def _launch(self, walkers: Sequence[int]) -> None:
        """Begin escapes from where these walkers are."""
        where = np.zeros(len(self.walkers), bool)
        positions = np.zeros((len(where), len(self.masses), 3), self.dtype)
        speeds = np.zeros_like(positions)
        energy = np.zeros(len(where), self.dtype)
        for k in walkers:
            walker = self.walkers[k]
            where[k] = True
            positions[k] = self.known.positions[walker.minimum]
            energy[k] = self.known.energies[walker.minimum]
            seed = (self.settings.seed, k, walker.escapes)
            speeds[k] = self._velocities(seed, positions[k], walker.temperature)
            walker.escapes += 1
        self.state = hop_program.launch(
            self.program.settings, self.slots, self.state, where, positions, speeds, energy
        )

    def _velocities(
        self, seed: tuple[int, int, int], positions: np.ndarray, temperature: float
    ) -> np.ndarray:
        """Velocities at exactly this temperature, without drift and rotation, on the host."""
        masses, where = self.masses, np.asarray(positions, np.float64)
        normal = np.random.default_rng(seed).standard_normal(where.shape)
        momenta = np.sqrt(masses)[:, None] * normal
        momenta -= masses[:, None] * momenta.sum(0) / masses.sum()
        arms = where - (masses[:, None] * where).sum(0) / masses.sum()
        inertia = np.diag([(masses * (arms**2).sum(1)).sum()] * 3) - (masses * arms.T) @ arms
        omega = np.linalg.pinv(inertia, rcond=1e-5, hermitian=True) @ np.cross(arms, momenta).sum(0)
        speeds = momenta / masses[:, None] - np.cross(omega, arms)
        dof = velocities.degrees_of_freedom(
            len(where), np.zeros(3, bool), without_drift=True, without_rotation=True
        )
        kinetic = 0.5 * (masses[:, None] * speeds**2).sum()
        return speeds * np.sqrt(0.5 * dof * BOLTZMANN * temperature / kinetic)

    def save(self) -> None:
        """Write the state from which the search continues."""
        values = {
            **self._identity(),
            "walkers": [asdict(walker) for walker in self.walkers],
            "visits": self.visits,
            "edges": self.program.plan.edges,
            "minima": len(self.minima),
            "escapes": len(self.escapes),
            "lengths": self.files.lengths(),
        }
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(self.state))]
        hop_store.save_state(self.folder, leaves, values)

    def restore(self) -> None:
        """Continue from the saved state; what was written after it is cut off.

        Raises:
          ValueError: no saved search, or one of another potential, other atoms or settings.
        """
        leaves, values = hop_store.load_state(self.folder)
        self._check_same(values)
        first, second = values["lengths"]
        self.files = HopFiles(self.folder, self.frame, (first, second))
        for minimum in hop_store.read_minima(self.folder):
            self.known.add(minimum.interaction, minimum.positions)
            self.minima.append(minimum)
        self.escapes = hop_store.read_history(self.folder)
        self.visits = list(values["visits"])
        self.walkers = [_Walker(**walker) for walker in values["walkers"]]
        self._set_reference(self.minima[0].positions)
        plan = replace(self.program.plan, edges=values["edges"])
        self.program = replace(self.program, plan=plan)
        blank = jnp.zeros((len(self.walkers), len(self.masses), 3), self.dtype)
        like = hop_program.idle(self.program.settings, self.slots, blank)
        treedef = jax.tree.structure(like)
        self.state = jax.tree.unflatten(treedef, [jnp.asarray(leaf) for leaf in leaves])

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a search to continue, as JSON values."""
        settings = self.settings.model_dump(mode="json")
        return {
            "potential": potential_digest(self.potential),
            "numbers": self.frame.numbers.tolist(),
            "settings": {k: v for k, v in settings.items() if k not in ("steps", "save_interval")},
        }

    def _check_same(self, saved: Mapping[str, Any]) -> None:
        """Compare this search with the one that wrote a state.

        Raises:
          ValueError: another potential, other atoms or other settings.
        """
        now = self._identity()
        for name, what in (("potential", "another potential"), ("numbers", "other atoms")):
            if saved.get(name) != now[name]:
                raise ValueError(
                    f"got {what} than the search in {self.folder} has; expected the same; "
                    "begin a new one"
                )
        old, new = saved["settings"], now["settings"]
        if old != new:
            other = sorted(key for key in new if old.get(key) != new[key])
            raise ValueError(
                f"got other settings ({', '.join(other)}) than those of the search in "
                f"{self.folder}; expected the same but for steps; begin a new one"
            )


def _static(settings: HoppingSettings) -> HoppingSettings:
    """Of the settings those that the compiled program depends on."""
    return HoppingSettings(
        timestep_fs=settings.timestep_fs,
        mdmin=settings.mdmin,
        md_steps=settings.md_steps,
        soften_steps=settings.soften_steps,
        relax=settings.relax,
    )


def _centred(positions: np.ndarray, dtype: np.dtype) -> HostVectors:
    """Positions around the origin, in the digits they are computed with."""
    wide = np.asarray(positions, np.float64)
    return np.asarray(np.asarray(wide - wide.mean(0), dtype), np.float64)


def _bonds(numbers: np.ndarray, positions: HostVectors) -> frozenset[tuple[int, int]]:
    """Pairs of bonded atoms."""
    radii = ase.data.covalent_radii[numbers]
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonded = np.triu(distances < BOND_FACTOR * (radii[:, None] + radii[None]), 1)
    return frozenset((int(i), int(j)) for i, j in np.argwhere(bonded))
