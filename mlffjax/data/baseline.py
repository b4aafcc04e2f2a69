"""Energy E0 of each element: what is subtracted from total energies before training.

All in double precision on the host: total energies of -10^4 eV lose a meV in float32.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float

from mlffjax.config.data import BASELINE_DEFAULTS, BaselineSettings
from mlffjax.data.checks import is_isolated_atom
from mlffjax.data.frames import Frame
from mlffjax.types import HostNumbers


@dataclass(frozen=True)
class Baseline:
    """Element energies.

    Attributes:
      elements: atomic numbers, ascending.
      energies: E0 of each in eV.
      source: ``given``, ``isolated``, ``least_squares``, ``none``, or ``start``: those of a
        potential that training starts from, shifted to fit the data.
      rank: number of independent compositions the energies rest on; less than the number of
        elements means that only some combinations of E0 are determined by the data, and the
        least-norm solution was taken.
      residual: RMS of the energy per atom that is left after the fit, in eV; ``None`` where
        nothing was fitted.
    """

    elements: tuple[int, ...]
    energies: tuple[float, ...]
    source: str
    rank: int
    residual: float | None = None

    @property
    def determined(self) -> bool:
        """Whether every element's energy is determined."""
        return self.rank == len(self.elements)

    def total(self, numbers: HostNumbers) -> float:
        """Sum of the element energies of a structure in eV.

        Raises:
          ValueError: an element without an energy.
        """
        numbers = np.asarray(numbers)
        unknown = sorted(set(numbers.tolist()) - set(self.elements))
        if unknown:
            raise ValueError(
                f"got {', '.join(chemical_symbols[z] for z in unknown)}, which has no baseline "
                f"energy; expected only {', '.join(chemical_symbols[z] for z in self.elements)}; "
                "give the missing energies, or fit the baseline to data that has the element"
            )
        return float(np.asarray(self.energies)[np.searchsorted(self.elements, numbers)].sum())

    def describe(self) -> str:
        """One line: where the energies come from, the energies, and what is not determined."""
        values = ", ".join(
            f"{chemical_symbols[z]} {e:.6f}"
            for z, e in zip(self.elements, self.energies, strict=True)
        )
        text = f"E0 ({self.source.replace('_', ' ')}) in eV: {values}"
        if not self.determined and self.source == "start":
            text += (
                f"; the compositions have rank {self.rank} for {len(self.elements)} elements, so "
                "single E0 are not determined and were changed as little as possible"
            )
        elif not self.determined:
            text += (
                f"; the compositions have rank {self.rank} for {len(self.elements)} elements, so "
                "single E0 are not determined (least-norm solution): other compositions than "
                "those of the data, and atoms pulled apart, get arbitrary energies; add "
                "isolated-atom frames"
            )
        return text


def fit_baseline(
    frames: Sequence[Frame],
    settings: BaselineSettings = BASELINE_DEFAULTS,
    isolated: Iterable[Frame] = (),
) -> Baseline:
    """Element energies for the elements of ``frames``.

    Args:
      frames: training frames; isolated atoms among them are found
        (:func:`mlffjax.data.checks.is_isolated_atom`) and not fitted as structures, except
        those of elements that occur in no structure with an energy.
      settings: the source.
      isolated: further isolated-atom frames.

    Raises:
      ValueError: given or isolated energies do not cover the elements, two isolated atoms of
        an element disagree, or there are no energies to fit.
    """
    rows: list[_Row] = []
    atoms = list(isolated)
    for frame in frames:  # one pass, keeping no structure: there may be more than memory holds
        if is_isolated_atom(frame) and frame.energy is not None:
            atoms.append(frame)
        else:
            rows.append(_Row.of(frame))
    found = [row.elements for row in rows] + [frame.numbers for frame in atoms]
    elements = tuple(np.unique(np.concatenate(found)).tolist()) if found else ()
    if settings.energies is not None:
        return _given(elements, settings.energies)
    if settings.source == "none":
        return Baseline(elements, (0.0,) * len(elements), "none", len(elements))
    if settings.source != "least_squares":
        energies = _isolated_energies(atoms)
        missing = [chemical_symbols[z] for z in elements if z not in energies]
        if not missing:
            values = tuple(energies[z] for z in elements)
            return Baseline(elements, values, "isolated", len(elements))
        if settings.source == "isolated":
            raise ValueError(
                f"got no isolated-atom energy for {', '.join(missing)}; expected a frame with one "
                "atom of each element; add them, or set baseline.source to least_squares"
            )
    return _least_squares([*rows, *_only_alone(rows, atoms)], elements)


def subtract_baseline(frames: Iterable[Frame], baseline: Baseline) -> Float[np.ndarray, "frames"]:
    """Energy of each frame without its element energies, in eV, float64 ``[frames]``.

    NaN where a frame has no energy.

    Raises:
      ValueError: an element without a baseline energy.
    """
    return np.array(
        [np.nan if f.energy is None else f.energy - baseline.total(f.numbers) for f in frames],
        np.float64,
    )


class _Row(NamedTuple):
    """Composition and energy of a frame."""

    elements: np.ndarray
    counts: np.ndarray
    energy: float | None

    @classmethod
    def of(cls, frame: Frame) -> "_Row":
        return cls(*np.unique(frame.numbers, return_counts=True), frame.energy)


def _given(elements: tuple[int, ...], energies: dict[str, float]) -> Baseline:
    unknown = [symbol for symbol in energies if symbol not in atomic_numbers]
    if unknown:
        raise ValueError(
            f"got the baseline energies of {', '.join(unknown)}; expected chemical symbols; "
            "correct baseline.energies"
        )
    table = {atomic_numbers[symbol]: float(value) for symbol, value in energies.items()}
    missing = [chemical_symbols[z] for z in elements if z not in table]
    if missing:
        raise ValueError(
            f"got baseline energies of {', '.join(energies)} and data with "
            f"{', '.join(missing)}; expected every element of the data; add the missing energies"
        )
    known = tuple(sorted(table))
    return Baseline(known, tuple(table[z] for z in known), "given", len(known))


def _isolated_energies(atoms: Iterable[Frame]) -> dict[int, float]:
    energies: dict[int, float] = {}
    for frame in atoms:
        if frame.energy is None:
            continue
        z = int(frame.numbers[0])
        # 1 meV: beyond the noise of two runs of one reference method.
        if abs(energies.setdefault(z, frame.energy) - frame.energy) > 1e-3:
            raise ValueError(
                f"{frame.name}: got the energy {frame.energy} eV for the isolated atom "
                f"{chemical_symbols[z]}, another frame has {energies[z]} eV; expected one energy; "
                "remove the wrong frame, or set baseline.source to least_squares"
            )
    return energies


def _only_alone(rows: Sequence[_Row], atoms: Iterable[Frame]) -> list[_Row]:
    """Isolated atoms of the elements whose energy no structure tells anything of."""
    told = {int(z) for row in rows if row.energy is not None for z in row.elements}
    return [_Row.of(frame) for frame in atoms if int(frame.numbers[0]) not in told]


def _least_squares(rows: Sequence[_Row], elements: tuple[int, ...]) -> Baseline:
    labelled = [row for row in rows if row.energy is not None]
    if not labelled:
        raise ValueError(
            "got no frame with an energy; expected some to fit the baseline to; set "
            "baseline.source to none, or give keys.energy"
        )
    counts = np.zeros((len(labelled), len(elements)))
    for k, row in enumerate(labelled):
        counts[k, np.searchsorted(elements, row.elements)] = row.counts
    sizes = counts.sum(1)
    # Energies per atom, so that large cells do not outweigh small ones.
    fractions = counts / sizes[:, None]
    per_atom = np.array([row.energy for row in labelled], np.float64) / sizes
    rank = int(np.linalg.matrix_rank(np.unique(fractions, axis=0)))
    energies, *_ = np.linalg.lstsq(fractions, per_atom)
    residual = float(np.sqrt(np.mean((per_atom - fractions @ energies) ** 2)))
    return Baseline(elements, tuple(energies.tolist()), "least_squares", rank, residual)
