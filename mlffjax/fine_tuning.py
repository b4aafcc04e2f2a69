"""A training's start at a saved potential instead of random parameters (fine-tuning)."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols

from mlffjax import checkpoint
from mlffjax.config.data import BaselineSettings
from mlffjax.data import Baseline, Frame, fit_baseline
from mlffjax.potential import Potential
from mlffjax.training.evaluate import evaluate


def starting_potential(
    path: str | os.PathLike[str],
    frames: Sequence[Frame],
    settings: BaselineSettings,
    isolated: Iterable[Frame] = (),
    dtype: str | None = None,
) -> tuple[Potential, Baseline]:
    """A saved potential with element energies for other data.

    Architecture, parameters, scale, shift and elements are those of the saved potential, so that
    forces are too. Only the element energies of the frames' elements are made to fit the data,
    whose reference method may have another zero of energy, see :func:`shifted_baseline`.

    Args:
      path: a saved potential or a training run.
      frames: training frames.
      settings: where the element energies come from.
      isolated: isolated-atom frames that are no training frames.
      dtype: of the parameters; that of the saved potential by default.

    Returns:
      The potential, and the element energies of the frames' elements.

    Raises:
      CheckpointError: there is no potential that can be read.
      ValueError: it cannot be trained, lacks an element of the frames, or the element energies
        cannot be found.
    """
    potential = checkpoint.load(path, dtype)
    if potential.is_compressed:
        raise ValueError(
            f"got the compressed potential {path} to start from; expected one that can be "
            "trained; start from the one it was made from, and compress the result"
        )
    _check_elements(potential, frames, path)
    if settings.source == "auto" and settings.energies is None:
        baseline = shifted_baseline(potential, frames)
    else:
        baseline = fit_baseline(frames, settings, isolated)
    energies = dict(zip(potential.elements, potential.baseline, strict=True))
    energies |= dict(zip(baseline.elements, baseline.energies, strict=True))
    about = {k: v for k, v in json.loads(potential.metadata).items() if k != "metrics"}
    return replace(
        potential,
        baseline=tuple(energies[z] for z in potential.elements),
        metadata=json.dumps({**about, "start": os.fspath(path)}),
    ), baseline


def shifted_baseline(potential: Potential, frames: Sequence[Frame]) -> Baseline:
    """Element energies with which a potential fits the energies of frames best.

    Least squares of the errors of the energy per atom over the compositions. Where these do not
    determine every element's energy, the smallest change is taken.

    Args:
      potential: with its present element energies; knows all elements of the frames.
      frames: with or without energies; without any, nothing changes.

    Returns:
      Of the frames' elements; its ``source`` is ``start``.
    """
    own = dict(zip(potential.elements, potential.baseline, strict=True))
    if all(frame.energy is None for frame in frames):
        found = sorted({int(z) for frame in frames for z in np.unique(frame.numbers)})
        return Baseline(tuple(found), tuple(own[z] for z in found), "start", len(found))
    predicted = evaluate(potential, frames).energy
    missed = [
        frame if frame.energy is None else replace(frame, energy=frame.energy - float(energy))
        for frame, energy in zip(frames, predicted, strict=True)
    ]
    change = fit_baseline(missed, BaselineSettings(source="least_squares"))
    pairs = zip(change.elements, change.energies, strict=True)
    return replace(change, energies=tuple(own[z] + e for z, e in pairs), source="start")


def _check_elements(
    potential: Potential, frames: Sequence[Frame], path: str | os.PathLike[str]
) -> None:
    """Refuse data with elements for which the potential has no parameters."""
    found = {int(z) for frame in frames for z in np.unique(frame.numbers)}
    unknown = ", ".join(chemical_symbols[z] for z in sorted(found - set(potential.elements)))
    if unknown:
        known = ", ".join(chemical_symbols[z] for z in potential.elements)
        raise ValueError(
            f"got training frames with {unknown}, which the potential {path} does not know; "
            f"expected only {known}; start from one that was trained on them, or give "
            "model.architecture in place of model.start"
        )
