"""Structures with what a potential predicts for them, and predictions beside labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mlffjax.data.frames import Frame
from mlffjax.potential import Potential
from mlffjax.training.evaluate import Evaluation, evaluate
from mlffjax.types import HostVectors


def predict_frames(
    potential: Potential, frames: Sequence[Frame], *, batch_size: int = 32
) -> list[Frame]:
    """The frames with the potential's energies, forces and stresses in place of their labels.

    Args:
      potential: the force field.
      frames: structures; labels are not needed and not read.
      batch_size: structures of one compiled call.

    Returns:
      Frames in the same order, in eV, eV/Angstrom and eV/Angstrom^3; one without three
      periodic directions has no stress.

    Raises:
      ValueError: an element the potential does not know, a structure without a neighbour list,
        or a prediction that is not finite; the message names the frame.
    """
    bare = [replace(f, energy=None, forces=None, stress=None) for f in frames]
    evaluation = evaluate(potential, bare, batch_size)
    result = []
    for k, frame in enumerate(bare):
        energy, forces = float(evaluation.energy[k]), np.asarray(evaluation.forces[k], np.float64)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise ValueError(
                f"got a prediction that is not finite for {frame.name or f'frame {k}'}; expected "
                "numbers; check the structure, or whether the training diverged"
            )
        stress = np.asarray(evaluation.stress[k], np.float64) if frame.pbc.all() else None
        result.append(replace(frame, energy=energy, forces=forces, stress=stress))
    return result


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictions beside labels, for parity plots.

    Attributes:
      energy, predicted_energy: of frames with an energy, eV/atom ``[frames]``.
      forces, predicted_forces: of atoms of frames with forces, eV/Angstrom ``[atoms, 3]``.
    """

    energy: Float[np.ndarray, "frames"]
    predicted_energy: Float[np.ndarray, "frames"]
    forces: HostVectors
    predicted_forces: HostVectors


def compare(frames: Sequence[Frame], evaluation: Evaluation) -> Comparison:
    """Labels beside the predictions of an evaluation of the same frames."""
    sizes = [len(frame.numbers) for frame in frames]
    energies = [
        (frame.energy / n, predicted / n)
        for frame, predicted, n in zip(frames, evaluation.energy, sizes, strict=True)
        if frame.energy is not None
    ]
    forces = [
        (frame.forces, np.asarray(predicted, np.float64))
        for frame, predicted in zip(frames, evaluation.forces, strict=True)
        if frame.forces is not None
    ]
    pairs = np.array(energies, np.float64).reshape(-1, 2)
    none = np.zeros((0, 3))
    return Comparison(
        energy=pairs[:, 0],
        predicted_energy=pairs[:, 1],
        forces=np.concatenate([none, *(label for label, _ in forces)]),
        predicted_forces=np.concatenate([none, *(predicted for _, predicted in forces)]),
    )
