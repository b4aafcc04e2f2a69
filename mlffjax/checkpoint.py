"""Potentials and training states as folders: written whole or not at all, read without a model.

A checkpoint is a folder with ``checkpoint.json`` (what the potential is, where it comes from,
the list of its arrays) and the arrays themselves, ``params`` and, of a training run, ``state``,
written by Orbax. The arrays are gathered on one host.
"""

import contextlib
import functools
import json
import logging
import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from mlffjax.models import Architecture, build, describe, hyperparameters
from mlffjax.potential import Potential

#: Version of the layout above; raised with every change that older code cannot read.
FORMAT_VERSION = 1
_FORMAT = "mlffjax-checkpoint"
_INDEX = "checkpoint.json"
_UNITS = {"energy": "eV", "length": "Angstrom", "stress": "eV/Angstrom^3"}
_PACKAGES = ("mlffjax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")
#: Entries of a potential in the index and their types.
_POTENTIAL = {
    "architecture": str,
    "hyperparameters": dict,
    "elements": list,
    "baseline": list,
    "scale": (int, float),
    "shift": (list, type(None)),
    "cutoff": (int, float),
    "dtype": str,
}

PyTree = TypeVar("PyTree")


class CheckpointError(ValueError):
    """A folder that cannot be read as a checkpoint, or must not be overwritten."""


def save(
    potential: Potential,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    metrics: Mapping[str, float] | None = None,
    training: tuple[Any, Mapping[str, Any]] | None = None,
) -> Path:
    """Write a potential to the folder ``path``.

    The folder appears under its name only when it is complete; what stood there before is
    removed only then.

    Args:
      potential: architecture, parameters and baseline.
      path: folder to make.
      overwrite: replace an existing checkpoint; any other folder or file is never replaced.
      metrics: errors of the potential, kept in its metadata.
      training: a pytree of arrays and a JSON mapping from which a training continues.

    Raises:
      CheckpointError: ``path`` exists.
      OSError: the folder cannot be written, disk full for example.
    """
    path = Path(path).absolute()
    if path.exists() and not (overwrite and (path / _INDEX).is_file()):
        raise CheckpointError(
            f"got {path}, which exists; expected a new folder; choose another"
            + ("" if overwrite else ", or overwrite=True for a checkpoint")
        )
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    arrays = {"params": potential.params}
    index = _index(potential, metrics)
    if training is not None:
        arrays["state"] = {f"{k:05d}": x for k, x in enumerate(jax.tree.leaves(training[0]))}
        index["training"] = {"paths": _paths(training[0]), "progress": dict(training[1])}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, tree in arrays.items():
            index.setdefault("arrays", {})[name] = _manifest(tree)
            _write_arrays(temporary / name, tree)
        (temporary / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
        _flush(temporary)
        _replace(temporary, path)
    except (OSError, ValueError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        number = getattr(error, "errno", None) or 0
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(
            number,
            f"the checkpoint {path} was not written: {reason}; earlier checkpoints are "
            "untouched; free space or choose another folder",
        ) from error
    return path


def load(path: str | os.PathLike[str], dtype: Any = None) -> Potential:
    """Read a potential; nothing but the folder is needed.

    Args:
      path: a folder of :func:`save`, or one of a training run (its best potential).
      dtype: of the parameters; that of the checkpoint by default.

    Raises:
      CheckpointError: no checkpoint, one of another version, a damaged one, or one whose
        hyperparameters or parameters are not those of the architecture; float64 without jax's x64
        mode.
    """
    folder, index = _open(path)
    text = index["potential"]
    module = _module(folder, index)
    dtype = jnp.dtype(dtype or text["dtype"])
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise CheckpointError(
            f"got float64 parameters in {folder} while jax computes in float32; expected x64 "
            "mode; set JAX_ENABLE_X64=1, or load with dtype='float32'"
        )
    params = _read_arrays(folder, "params", index)
    potential = Potential(
        params=jax.tree.map(
            lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None),
            params,
        ),
        module=module,
        elements=tuple(text["elements"]),
        baseline=tuple(text["baseline"]),
        scale=text["scale"],
        shift=None if text["shift"] is None else tuple(text["shift"]),
        metadata=json.dumps(index["metadata"]),
    )
    try:
        potential.check_parameters()
    except Exception as error:  # Hyperparameters of wrong types raise many kinds.
        raise _of_another_revision(folder, index, error) from None
    return potential


def load_training(path: str | os.PathLike[str], like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """Read the training state beside a potential.

    Args:
      path: a folder that :func:`save` wrote with ``training``.
      like: a pytree of the same structure, shapes and dtypes.

    Returns:
      The pytree of NumPy arrays and the JSON mapping.

    Raises:
      CheckpointError: no training state, or one of another structure.
    """
    folder, index = _open(path)
    if "training" not in index:
        raise CheckpointError(
            f"got {folder}, which holds a potential without its training state; expected a "
            "checkpoint to resume from, such as 'last' of a run"
        )
    _check_entries(index["training"], {"paths": list, "progress": dict}, folder)
    stored, wanted = index["training"]["paths"], _paths(like)
    if stored != wanted:
        unlike = sorted(set(stored) ^ set(wanted)) or ["their order"]
        raise CheckpointError(
            f"got a training state in {folder} that differs in {unlike[0]} "
            f"({len(unlike)} in all); expected the architecture and optimiser of this run"
        )
    flat = _read_arrays(folder, "state", index)
    leaves = [flat[key] for key in sorted(flat)]
    for name, leaf, target in zip(wanted, leaves, jax.tree.leaves(like), strict=True):
        if leaf.shape != target.shape or leaf.dtype != target.dtype:
            raise CheckpointError(
                f"got {leaf.dtype}{list(leaf.shape)} for {name} in {folder}; expected "
                f"{target.dtype}{list(target.shape)}; resume with the settings of the run"
            )
    return jax.tree.unflatten(jax.tree.structure(like), leaves), index["training"]["progress"]


def _open(path: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    folder = Path(path).absolute()
    aside = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and aside.exists():
        folder = aside  # Overwriting was interrupted between its two renames.
    for name in ("best", "last"):
        if not (folder / _INDEX).exists() and (folder / name / _INDEX).exists():
            folder = folder / name
    if not folder.exists():
        raise CheckpointError(f"got {folder}, which does not exist; expected a checkpoint folder")
    if not (folder / _INDEX).is_file():
        raise CheckpointError(
            f"got {folder}, which has no {_INDEX}; expected a folder written by this package"
        )
    try:
        index = json.loads((folder / _INDEX).read_text())
        if index["format"] != _FORMAT:
            raise KeyError
        version = index["version"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"got {folder / _INDEX}, which is not the index of a checkpoint; restore the folder"
        ) from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"got version {version} of the checkpoint format in {folder}; expected "
            f"{FORMAT_VERSION}; use the release of mlffjax that wrote it ({_written_by(index)})"
        )
    _check_entries(index, {"potential": dict, "arrays": dict, "metadata": dict}, folder)
    _check_potential(index["potential"], folder)
    return folder, index


def _check_entries(values: Any, kinds: Mapping[str, Any], folder: Path) -> None:
    """Check that a part of the index has the entries ``kinds`` of these types.

    Raises:
      CheckpointError: it has not; the message names the entry.
    """
    for key, kind in kinds.items():
        if not isinstance(values, dict) or key not in values:
            raise _malformed(folder, f"no {key}")
        if not isinstance(values[key], kind):
            raise _malformed(folder, f"the {key} {values[key]!r}")


def _check_potential(text: dict[str, Any], folder: Path) -> None:
    """Check what the index says of a potential, but for its hyperparameters.

    Raises:
      CheckpointError: an entry is missing, of another type, or not one number for each element.
    """
    _check_entries(text, _POTENTIAL, folder)
    elements, shift = text["elements"], text["shift"]
    if elements != sorted({z for z in elements if type(z) is int and 0 < z < 119}) or not elements:
        raise _malformed(folder, f"the elements {elements}")
    energies = {
        "baseline": text["baseline"],
        "shift": [0.0] * len(elements) if shift is None else shift,
    }
    for what, values in energies.items():
        if len(values) != len(elements):
            raise _malformed(folder, f"{len(values)} {what} energies for {len(elements)} elements")
    for value in (text["scale"], *energies["baseline"], *energies["shift"]):
        if type(value) not in (int, float) or not math.isfinite(value):
            raise _malformed(folder, f"{value!r} for the scale or the energy of an element")
    try:
        known = jnp.issubdtype(jnp.dtype(text["dtype"]), jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise _malformed(folder, f"the dtype {text['dtype']}")


def _malformed(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"got {what} in {folder / _INDEX}; expected what this package writes; restore it from a "
        "copy"
    )


def _module(folder: Path, index: Mapping[str, Any]) -> Architecture:
    """The architecture of a potential, from exactly its hyperparameters.

    None is taken from a default: with another one an old potential would be another function.

    Raises:
      CheckpointError: unknown, missing or wrong ones, or not those of the elements or the cutoff.
    """
    text = index["potential"]
    name, given = text["architecture"], text["hyperparameters"]
    try:
        module = build(name, given)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except Exception as error:  # Wrong types raise many kinds.
        raise _of_another_revision(folder, index, error) from None
    missing = [key for key in hyperparameters(type(module)) if key not in given]
    if missing:
        problem = f"got no {missing[0]} among the hyperparameters of {name}; expected all"
        raise _of_another_revision(folder, index, problem)
    for what, value, expected in (
        ("elements", module.num_elements, len(text["elements"])),
        ("cutoff", module.cutoff, text["cutoff"]),
    ):
        if value != expected:
            raise _malformed(folder, f"{what} {expected} of a potential, {value} of its {name}")
    return module


def _of_another_revision(
    folder: Path, index: Mapping[str, Any], problem: object
) -> CheckpointError:
    reason = (str(problem) or type(problem).__name__).splitlines()[0]
    return CheckpointError(
        f"{reason}; {folder} was written by another revision of mlffjax"
        f" ({_written_by(index)}): use that one, or train again"
    )


def _written_by(index: Mapping[str, Any]) -> str:
    """Release and, from a checkout, revision of the package that wrote a checkpoint."""
    metadata = index.get("metadata")
    about = metadata.get("saved_by") if isinstance(metadata, dict) else None
    known = []
    if isinstance(about, dict):
        known = [str(about[key]) for key in ("mlffjax", "git_revision") if about.get(key)]
    return ", ".join(known) or "unknown"


def _index(potential: Potential, metrics: Mapping[str, float] | None) -> dict[str, Any]:
    name, settings = describe(potential.module)
    about = json.loads(potential.metadata)
    about["saved_by"] = {"git_revision": git_revision(), **package_versions()}
    if metrics is not None:
        about["metrics"] = dict(metrics)
    return {
        "format": _FORMAT,
        "version": FORMAT_VERSION,
        "potential": {
            "architecture": name,
            "hyperparameters": settings,
            "elements": potential.elements,
            "baseline": potential.baseline,
            "scale": potential.scale,
            "shift": potential.shift,
            "cutoff": potential.cutoff,
            "dtype": str(np.dtype(potential.dtype)),
            "units": _UNITS,
        },
        "metadata": about,
    }


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of this package and of those that results depend on."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@functools.cache
def git_revision() -> str | None:
    """Revision of the checkout the package runs from, ``-dirty`` with local changes."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def _paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _manifest(tree: Any) -> dict[str, str]:
    shapes = [f"{x.dtype}{list(x.shape)}" for x in jax.tree.leaves(tree)]
    return dict(zip(_paths(tree), shapes, strict=True))


def _write_arrays(folder: Path, tree: Any) -> None:
    host = jax.tree.map(np.asarray, jax.device_get(tree))
    with _quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
        writer.save(folder, args=ocp.args.PyTreeSave(host))


def _read_arrays(folder: Path, name: str, index: Mapping[str, Any]) -> Any:
    try:
        with _quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            tree = reader.restore(folder / name)
    except Exception as error:  # Orbax raises many kinds for damaged files.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"got a damaged checkpoint {folder}: {name} cannot be read ({reason}); restore it "
            "from a copy"
        ) from error
    if _manifest(tree) != index["arrays"].get(name):
        raise CheckpointError(
            f"got a damaged checkpoint {folder}: the arrays of {name} are not those listed in "
            f"{_INDEX}; restore it from a copy"
        )
    return tree


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's progress notes out of the log while it runs."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _flush(folder: Path) -> None:
    """Ask the system to put every file on the disk before the folder gets its name."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(temporary: Path, path: Path) -> None:
    aside = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    temporary.rename(path)
    shutil.rmtree(aside, ignore_errors=True)
