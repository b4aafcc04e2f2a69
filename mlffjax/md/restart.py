"""Restart files: everything a simulation, or one of replicas, needs to go on as if never stopped.

A file holds the state of the integrator with positions, momenta, forces, thermostats, barostat,
random keys and the neighbour list as it is; so the list is remade at the same steps, edges
keep their order, and the run that goes on gives the same numbers bit for bit on the same
device. It also holds the length of every output file at that moment.

A file replaces the one before it in one step of the file system, after it is on the disk.
"""

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlffjax.config.md import MDSettings
from mlffjax.data.frames import Frame
from mlffjax.md.cell_lists import CellLists
from mlffjax.md.device_neighbors import NeighborPlan
from mlffjax.md.records import FileWriter
from mlffjax.md.simulate import State
from mlffjax.potential import Potential
from mlffjax.types import HostVectors

RESTART_FILE = "restart.npz"
VERSION = 3

#: Settings that may differ when a run goes on: how long it is, and when it is saved.
_FREE = ("steps", "restart_interval", "restart_seconds")


@dataclass(frozen=True)
class ReplicaProgress:
    """What replicas need to go on besides what a single run does.

    Attributes:
      edges: room for the edges of all replicas together.
      steps: sound steps done by each.
      messages: why each ended early; empty for one that did not.
    """

    edges: int
    steps: tuple[int, ...]
    messages: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Restart:
    """A simulation between two stretches of steps.

    Attributes:
      state: of the integrator, after ``step`` steps; of replicas, all with a first axis.
      plan: sizes of its neighbour list.
      step: number of steps done.
      steps_per_call: length of a stretch; stretches begin at its multiples.
      redone: stretches computed again so far.
      origins: of the positions in the state, one ``[3]`` in Angstrom for each replica.
      marks: lengths of the output files by their names, in units of their writers.
      replicas: of a run of replicas; ``None`` for a single one.
    """

    state: State
    plan: NeighborPlan
    step: int
    steps_per_call: int
    redone: int
    origins: Sequence[Sequence[float]]
    marks: Mapping[str, int] = field(default_factory=dict)
    replicas: ReplicaProgress | None = None


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to go on.

    Attributes:
      settings: all settings but those that are free, as JSON values; of replicas, a list of the
        values of each for those in which they may differ.
      potential, start: digests of the force field and of the structures and velocities.
      replicas: their number; ``None`` for a single run.
    """

    settings: Mapping[str, Any]
    potential: str
    start: str
    replicas: int | None = None


def identity(
    potential: Potential,
    frame: Frame,
    settings: MDSettings,
    initial_velocities: HostVectors | None,
) -> Identity:
    """The identity of a run.

    Args:
      potential: the force field.
      frame: where the run starts.
      settings: of the run.
      initial_velocities: ``[atoms, 3]`` in Angstrom/fs, if given.
    """
    start = _digest("", _start(frame, initial_velocities))
    return Identity(_kept(settings), potential_digest(potential), start)


def replicas_identity(
    potential: Potential,
    frames: Sequence[Frame],
    settings: Sequence[MDSettings],
    initial_velocities: Sequence[HostVectors | None],
    own: Sequence[str],
) -> Identity:
    """The identity of a run of replicas.

    Args:
      potential: the force field.
      frames: where each replica starts.
      settings: of each.
      initial_velocities: of each ``[atoms, 3]`` in Angstrom/fs, if given.
      own: settings in which they may differ.
    """
    each = [_kept(s) for s in settings]
    kept = {k: [e[k] for e in each] if k in own else v for k, v in each[0].items()}
    kept.pop("replicas")
    starts = [_start(f, v) for f, v in zip(frames, initial_velocities, strict=True)]
    start = _digest("", [array for arrays in starts for array in arrays])
    return Identity(kept, potential_digest(potential), start, len(frames))


def save(path: Path, restart: Restart, run: Identity) -> None:
    """Write a restart file, in place of the one before it.

    Raises:
      OSError: it cannot be written; the one before it stays.
    """
    arrays = {name: _to_host(leaf) for name, leaf in _named(restart.state).items()}
    meta = {
        "version": VERSION,
        "step": restart.step,
        "steps_per_call": restart.steps_per_call,
        "redone": restart.redone,
        "origins": restart.origins,
        "plan": asdict(restart.plan),
        "marks": dict(restart.marks),
        "replicas": None if restart.replicas is None else asdict(restart.replicas),
        "identity": asdict(run),
    }
    # NumPy's annotations take every named array for an option.
    write: Any = np.savez
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file, meta=np.asarray(json.dumps(meta)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def read_meta(path: Path) -> dict[str, Any]:
    """What a restart file says of its run, without the state.

    Raises:
      ValueError: there is no such file, it is damaged, or it is of another version.
    """
    if not path.exists():
        raise ValueError(
            f"got nothing to go on with: {path} does not exist; expected the folder of an earlier "
            "run; name it, or start a new run"
        )
    with _archive(path) as file:
        meta = json.loads(str(file["meta"]))
    if meta["version"] != VERSION:
        raise ValueError(
            f"got the restart {path} of version {meta['version']}; expected {VERSION}; go on with "
            "the release that wrote it"
        )
    return meta


def check_identity(path: Path, run: Identity, steps: int) -> None:
    """Compare a run of so many steps with the one that wrote a restart.

    Raises:
      ValueError: as :func:`read_meta`, or potential, start, settings or number of replicas
        differ, or all steps are done.
    """
    meta = read_meta(path)
    saved = meta["identity"]
    if saved.get("replicas") != run.replicas:
        named = lambda count: f"{count} replicas" if count else "a single run"  # noqa: E731
        raise ValueError(
            f"got {named(run.replicas)} to go on with {named(saved.get('replicas'))} in "
            f"{path.parent}; expected the same; start a new run"
        )
    for what in ("potential", "start"):
        if saved[what] != getattr(run, what):
            raise ValueError(
                f"got another {'potential' if what == 'potential' else 'structure or velocities'} "
                f"than that of the run in {path.parent}; expected the same; start a new run"
            )
    # A setting that came after the file was written had the effect of its default.
    defaults = MDSettings().model_dump(mode="json")
    for name, value in run.settings.items():
        old = saved["settings"].get(name, defaults.get(name))
        if old != value:
            raise ValueError(
                f"got {name} = {value!r} to go on with a run of {name} = {old!r} in {path.parent}; "
                "expected the same; leave it out, or start a new run"
            )
    if meta["step"] >= steps:
        raise ValueError(
            f"got {steps} steps for the run in {path.parent}, which has done {meta['step']}; "
            "expected more steps; raise steps, or start a new run"
        )


def load(
    path: Path, template_of: Callable[[NeighborPlan, ReplicaProgress | None], State]
) -> Restart:
    """Read a restart file.

    Args:
      path: of the file.
      template_of: a state of the shapes and dtypes that go with the plan of a neighbour list and
        with what there is of replicas.

    Raises:
      ValueError: as :func:`read_meta`, or the file's state does not fit.
    """
    meta = read_meta(path)
    plan = _plan(meta["plan"])
    of_replicas = meta.get("replicas")
    replicas = None if of_replicas is None else _from_json(ReplicaProgress, of_replicas)
    template = template_of(plan, replicas)
    leaves, tree = jax.tree.flatten(template)
    with _archive(path) as file:
        restored = [
            _to_device(file[name] if name in file.files else None, leaf, f"{name} in {path}")
            for name, leaf in zip(_named(template), leaves, strict=True)
        ]
    return Restart(
        state=jax.tree.unflatten(tree, restored),
        plan=plan,
        step=meta["step"],
        steps_per_call=meta["steps_per_call"],
        redone=meta["redone"],
        origins=meta["origins"],
        marks=meta["marks"],
        replicas=replicas,
    )


class Saver:
    """Restart files of a run in progress, when it is time for one.

    Args:
      path: of the file.
      writers: of the output files, by the names under which their lengths are kept.
      run: what must be the same for the run to go on.
      settings: intervals.
      step: number of steps done.
    """

    def __init__(
        self,
        path: Path,
        writers: Mapping[str, FileWriter],
        run: Identity,
        settings: MDSettings,
        step: int,
    ) -> None:
        self._path, self._writers, self._run = path, writers, run
        self._interval, self._seconds = settings.restart_interval, settings.restart_seconds
        self._saved = (step, time.monotonic())

    def job(self, now: Restart, due: bool) -> Callable[[], None] | None:
        """What writes the file, for when the output is written so far; nothing before its time.

        Args:
          now: the run, without lengths of its output.
          due: whether it is time in any case.

        Raises:
          OSError: the job, as :func:`save`.
        """
        step, then = self._saved
        if self._interval is None:
            due = due or time.monotonic() - then >= self._seconds
        else:
            due = due or now.step - step >= self._interval
        if not due:
            return None
        self._saved = (now.step, time.monotonic())

        def job() -> None:
            marks = {name: writer.mark() for name, writer in self._writers.items()}
            save(self._path, replace(now, marks=marks), self._run)

        return job


def _kept(settings: MDSettings) -> dict[str, Any]:
    """The settings that are not free."""
    free = _FREE[1:] if settings.ramped else _FREE
    return {k: v for k, v in settings.model_dump(mode="json").items() if k not in free}


def potential_digest(potential: Potential) -> str:
    """A digest of what energies come from: model, elements, their E0, scale, shift, parameters."""
    energies = f"{potential.baseline}{potential.scale}{potential.shift}"
    what = f"{potential.module!r}{potential.elements}{energies}"
    return _digest(what, [np.asarray(leaf) for leaf in jax.tree.leaves(potential.params)])


def _start(frame: Frame, initial_velocities: HostVectors | None) -> list[np.ndarray]:
    arrays = [frame.numbers, frame.positions, frame.cell, frame.pbc]
    arrays += [] if initial_velocities is None else [initial_velocities]
    return [np.asarray(array) for array in arrays]


def _named(state: State) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {"state" + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _to_device(value: np.ndarray | None, like: Any, what: str) -> Array:
    if value is not None and _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(value))
    if value is None or value.shape != like.shape or value.dtype != like.dtype:
        got = "nothing" if value is None else f"{value.dtype}{list(value.shape)}"
        raise ValueError(
            f"got {got} for {what}; expected {like.dtype}{list(like.shape)}; start a new run"
        )
    return jnp.asarray(value)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[Any]:
    """A restart file opened; one that is none, or not whole, is named."""
    damaged = ValueError(
        f"got the damaged file {path}; expected a whole restart file; put it back, or start anew "
        "with overwrite"
    )
    if not zipfile.is_zipfile(path):
        raise damaged
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except zipfile.BadZipFile:
        raise damaged from None


def _plan(values: dict[str, Any]) -> NeighborPlan:
    cells = values["cells"]
    return _from_json(NeighborPlan, {**values, "cells": cells and _from_json(CellLists, cells)})


def _from_json(kind: Any, fields: dict[str, Any]) -> Any:
    """A dataclass from its JSON form, where tuples are lists."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _digest(text: str, arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        digest.update(
            f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
        )
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Bring the change of a name to the disk, on systems that can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
