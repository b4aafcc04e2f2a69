"""What a careful person checks in reference data before training on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from mlffjax.config.data import BASELINE_DEFAULTS, BaselineSettings
from mlffjax.data import report_warnings
from mlffjax.data.baseline import Baseline, fit_baseline
from mlffjax.data.checks import is_isolated_atom
from mlffjax.data.consistency import Consistency, check_consistency
from mlffjax.data.frames import Frame
from mlffjax.data.structure_checks import (
    Balance,
    ShortestDistance,
    find_duplicates,
    force_balance,
    shortest_distances,
)


@dataclass(frozen=True, eq=False)
class Report:
    """Findings on a data set; :meth:`text` prints them.

    Isolated atoms are counted, and left out of everything else.

    Attributes:
      source: name of the data set.
      num_frames, num_isolated: frames in all, and isolated atoms among them.
      atoms: number of atoms of each structure.
      elements: frames that have each element, by atomic number.
      groups: frames of each group (``config_type``).
      periodicity: frames with 0, 1, 2 and 3 periodic directions.
      volumes: volume per atom in Angstrom^3 of the frames periodic in three directions.
      labels: structures that have each label.
      baseline: element energies, or ``None`` where none could be found.
      energies: energy per atom less the baseline of each structure with an energy, in eV.
      forces: magnitude of each force vector in eV/Angstrom.
      force_rms: of the force components in eV/Angstrom; ``None`` without forces.
      stresses: pressure ``-tr(stress)/3`` of each labelled structure in GPa.
      balance: net forces and torques.
      distances: shortest distance of each pair of elements.
      duplicates: names of frames that are the same structure.
      outliers: one line each.
      consistency: whether energy differences follow forces and stresses.
      warnings: one line each: what was found and what to do.
    """

    source: str
    num_frames: int
    num_isolated: int
    atoms: np.ndarray
    elements: dict[int, int]
    groups: dict[str, int]
    periodicity: tuple[int, int, int, int]
    volumes: Float[np.ndarray, "periodic"]
    labels: dict[str, int]
    baseline: Baseline | None
    energies: Float[np.ndarray, "labelled"]
    forces: Float[np.ndarray, "vectors"]
    force_rms: float | None
    stresses: Float[np.ndarray, "stressed"]
    balance: Balance
    distances: tuple[ShortestDistance, ...]
    duplicates: tuple[tuple[str, ...], ...]
    outliers: tuple[str, ...]
    consistency: Consistency
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """The report as lines of text, warnings last."""
        structures = self.num_frames - self.num_isolated
        lines = [
            f"{self.source}: {self.num_frames} frames, {self.num_isolated} of them isolated atoms",
            f"atoms a frame   {_range(self.atoms, '.0f')}",
            "elements        "
            + ", ".join(f"{chemical_symbols[z]} in {n}" for z, n in self.elements.items()),
            "groups          "
            + ", ".join(f"{name or '(none)'} {n}" for name, n in self.groups.items()),
            "periodic        "
            + ", ".join(f"{n} in {d} directions" for d, n in enumerate(self.periodicity) if n),
        ]
        if self.volumes.size:
            lines.append(f"volume an atom  {_range(self.volumes, '.3f')} Angstrom^3")
        lines.append(
            "labels          "
            + ", ".join(f"{label} on {n} of {structures}" for label, n in self.labels.items())
        )
        if self.baseline is not None:
            lines.append(f"baseline        {self.baseline.describe()}")
        if self.energies.size:
            lines.append(f"E/atom - E0     {_range(self.energies, '.4f')} eV")
        if self.force_rms is not None:
            lines.append(
                f"force           RMS {self.force_rms:.4f} a component, largest "
                f"{self.forces.max():.3f} eV/Angstrom"
            )
        if self.stresses.size:
            lines.append(f"pressure        {_range(self.stresses, '.3f')} GPa")
        lines += self.balance.lines()
        lines += [f"shortest        {pair.line()}" for pair in self.distances[:10]]
        if len(self.distances) > 10:
            lines.append(f"                and {len(self.distances) - 10} more pairs of elements")
        lines += [
            f"consistency     {line}" for line in self.consistency.lines(self.labels["stress"] > 0)
        ]
        lines.append(f"duplicates      {len(self.duplicates)} groups of equal structures")
        lines += [f"outlier         {line}" for line in self.outliers]
        lines += [f"WARNING         {line}" for line in self.warnings] or ["no warnings"]
        return "\n".join(lines)


def make_report(
    frames: Sequence[Frame],
    settings: BaselineSettings = BASELINE_DEFAULTS,
    source: str = "data",
    isolated: Sequence[Frame] = (),
) -> Report:
    """Look at every frame; all of them are held in memory.

    Args:
      frames: the data set.
      settings: of the element energies.
      source: name for the first line.
      isolated: isolated-atom frames kept in another file.

    Raises:
      ValueError: no structure among the frames, or the given baseline does not cover the
        elements.
    """
    structures = [frame for frame in frames if not is_isolated_atom(frame)]
    if not structures:
        raise ValueError(
            f"{source}: got {len(frames)} frames, none with more than an isolated atom; expected "
            "structures; check the file"
        )
    alone = len(frames) - len(structures)
    has_energy = any(frame.energy is not None for frame in structures)
    baseline = fit_baseline(frames, settings, isolated) if has_energy else None
    energies = _energies(structures, baseline)
    vectors = [frame.forces for frame in structures if frame.forces is not None]
    components = np.concatenate(vectors) if vectors else np.zeros((0, 3))
    elements = Counter(z for f in structures for z in np.unique(f.numbers).tolist())
    groups = Counter(f.group for f in frames)
    periodic = Counter(int(f.pbc.sum()) for f in structures)
    report = Report(
        source=source,
        num_frames=len(frames),
        num_isolated=alone,
        atoms=np.array([len(f.numbers) for f in structures]),
        elements=dict(sorted(elements.items())),
        groups=dict(groups.most_common()),
        periodicity=(periodic[0], periodic[1], periodic[2], periodic[3]),
        volumes=_volumes(structures),
        labels={
            label: sum(getattr(f, label) is not None for f in structures)
            for label in ("energy", "forces", "stress")
        },
        baseline=baseline,
        energies=energies,
        forces=np.linalg.norm(components, axis=1),
        force_rms=float(np.sqrt(np.mean(components**2))) if vectors else None,
        stresses=_pressures(structures),
        balance=force_balance(structures),
        distances=shortest_distances(structures),
        duplicates=find_duplicates(structures),
        outliers=report_warnings.find_outliers(structures, energies),
        consistency=check_consistency(structures),
    )
    found = report_warnings.find_warnings(report, structures)
    return Report(**{**report.__dict__, "warnings": found})


def _volumes(structures: Sequence[Frame]) -> np.ndarray:
    """Volume per atom in Angstrom^3 of the frames periodic in three directions."""
    periodic = [f for f in structures if f.pbc.all()]
    return np.array([abs(np.linalg.det(f.cell)) / len(f.numbers) for f in periodic])


def _pressures(structures: Sequence[Frame]) -> np.ndarray:
    """Pressure ``-tr(stress)/3`` in GPa of the frames with a stress."""
    traces = [np.trace(f.stress) for f in structures if f.stress is not None]
    return np.array([-trace / 3 * report_warnings.EV_PER_A3_IN_GPA for trace in traces])


def _energies(structures: Sequence[Frame], baseline: Baseline | None) -> np.ndarray:
    if baseline is None:
        return np.zeros(0)
    return np.array(
        [
            (f.energy - baseline.total(f.numbers)) / len(f.numbers)
            for f in structures
            if f.energy is not None
        ]
    )


def _range(values: np.ndarray, form: str) -> str:
    return (
        f"{values.min():{form}} to {values.max():{form}}, mean {values.mean():.4f}, "
        f"standard deviation {values.std():.4f}"
    )
