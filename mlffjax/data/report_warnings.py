"""What in a data set deserves a second look, and what to do about it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from mlffjax.data.consistency import Consistency, check_consistency
from mlffjax.data.frames import Frame
from mlffjax.data.structure_checks import structure_digest
from mlffjax.units import GPA

if TYPE_CHECKING:
    from mlffjax.data.report import Report

EV_PER_A3_IN_GPA = 1 / GPA
LISTED = 5  # outliers of each kind that are named
#: Robust standard deviations from the median; a normal distribution has none this far out.
OUTLIER = 10.0
#: RMS force components of thermal and rattled reference data, eV/Angstrom: the sets of MD17,
#: 3BPA, AcAc, LiPS and MPtrj lie between 0.6 and 1.9.
USUAL_FORCES = (0.05, 6.0)
#: What a usual force scale is multiplied by where another unit was taken for eV/Angstrom.
FORCE_UNITS = {"kcal/mol/Angstrom": 23.06, "kJ/mol/Angstrom": 96.49, "Hartree/Bohr": 1 / 51.42}
LARGE_PRESSURE = 200.0  # GPa, RMS; beyond what data sets of materials span
TYPICAL_FORCE = 1.0  # eV/Angstrom
SAMPLED = 1000  # frames that are looked at before a training
COMPARED = 50_000  # frames of a training that are compared one by one, in a second or two
SHORT = 0.55  # of the sum of covalent radii; bonds of hot molecules stay above 0.75


def find_outliers(structures: Sequence[Frame], energies: np.ndarray) -> tuple[str, ...]:
    """Frames whose energy per atom or largest force lies far from the others'."""
    labelled = [f.name for f in structures if f.energy is not None]
    largest = [
        (f.name, float(np.linalg.norm(f.forces, axis=1).max()))
        for f in structures
        if f.forces is not None
    ]
    lines = _far_out(labelled, energies, "energy per atom less E0", "eV")
    values = np.array([value for _, value in largest])
    lines += _far_out([name for name, _ in largest], values, "largest force", "eV/Angstrom")
    return tuple(lines)


def find_warnings(report: "Report", structures: Sequence[Frame]) -> tuple[str, ...]:
    """One line for everything that should be understood before training."""
    return (
        *_labels(report, structures),
        *_units(report),
        *_baseline(report),
        *_forces(report, structures),
        *_structures(report, structures),
        *_consistency(report.consistency),
    )


def training_warnings(
    train: Sequence[Frame],
    valid: Sequence[Frame],
    test: Sequence[Frame],
    force_rms: float | None,
) -> tuple[str, ...]:
    """What looks like wrong units or signs, or frames in two parts; the full report finds more.

    Args:
      train: training frames, of which at most :data:`SAMPLED` are read for units and signs.
      valid: validation frames; what they share with others is looked for in sets of at most
        :data:`COMPARED` frames.
      test: test frames, likewise.
      force_rms: of all force components of the training frames in eV/Angstrom; ``None`` without
        forces.
    """
    step = max(1, -(-len(train) // SAMPLED))
    sample = [train[k] for k in range(0, len(train), step)]
    lines = [*_force_unit(force_rms), *_consistency(check_consistency(sample))]
    if len(train) + len(valid) + len(test) <= COMPARED:
        lines += _shared({"training": train, "validation": valid, "test": test})
    return tuple(lines)


def _shared(parts: Mapping[str, Sequence[Frame]]) -> list[str]:
    found = {
        part: {structure_digest(frame): frame.name for frame in frames}
        for part, frames in parts.items()
    }
    lines = []
    for one, other in combinations(parts, 2):
        names = [name for digest, name in found[other].items() if digest in found[one]]
        if names:
            lines.append(
                f"{len(names)} structures (as {names[0]}) are in the {one} frames and the {other} "
                "frames: errors look smaller than they are; remove them from one of the two"
            )
    return lines


def _far_out(names: list[str], values: np.ndarray, what: str, unit: str) -> list[str]:
    if len(values) < 10:
        return []
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))  # equals sigma for a normal distribution
    if spread <= 0:
        return []
    score = np.abs(values - middle) / spread
    order = np.argsort(-score)
    far = [k for k in order if score[k] > OUTLIER]
    lines = [
        f"{names[k]}: {what} {values[k]:.4g} {unit}, {score[k]:.0f} robust standard deviations "
        f"from the median {middle:.4g}"
        for k in far[:LISTED]
    ]
    if len(far) > LISTED:
        lines.append(f"and {len(far) - LISTED} more frames with an unusual {what}")
    return lines


def _labels(report: "Report", structures: Sequence[Frame]) -> list[str]:
    lines = []
    total = len(structures)
    for label, count in report.labels.items():
        expected = sum(f.pbc.all() for f in structures) if label == "stress" else total
        if 0 < count < expected:
            lines.append(
                f"{expected - count} of {expected} frames have no {label}; they train without it: "
                "check that this is meant, or remove them"
            )
    lines += [
        f"no frame has {label}; set keys.{label} to the name the file uses, or train without"
        for label in ("energy", "forces")
        if not report.labels[label]
    ]
    if report.energies.size > 1 and np.ptp(report.energies) == 0:
        lines.append("all energies are equal; check which value the file keeps under its key")
    return lines


def _units(report: "Report") -> list[str]:
    return [*_force_unit(report.force_rms), *_stress_unit(report.stresses)]


def _stress_unit(pressures: np.ndarray) -> list[str]:
    rms = float(np.sqrt(np.mean(pressures**2))) if pressures.size else 0.0
    if rms < LARGE_PRESSURE:
        return []
    return [
        f"the RMS pressure is {rms:.3g} GPa, usual is less than 50; if the file is in GPa or kbar "
        "(160 and 1602 times larger numbers than eV/Angstrom^3), set units.stress; if it keeps "
        "virials, set keys.virial"
    ]


def _force_unit(rms: float | None) -> list[str]:
    if rms is None:
        return []
    if rms == 0:
        return ["all forces are zero; check keys.forces, or that the forces were computed"]
    if USUAL_FORCES[0] <= rms <= USUAL_FORCES[1]:
        return []
    scale = {unit: abs(np.log(rms / (TYPICAL_FORCE * f))) for unit, f in FORCE_UNITS.items()}
    unit = min(scale, key=lambda name: scale[name])
    return [
        f"the RMS force component is {rms:.3g} eV/Angstrom, usual are {USUAL_FORCES[0]} to "
        f"{USUAL_FORCES[1]}; if the file is in {unit} (a scale of {FORCE_UNITS[unit]:.3g}), set "
        "units.energy and units.length; if the structures are close to minima (or very hot), it "
        "may be right"
    ]


def _baseline(report: "Report") -> list[str]:
    baseline = report.baseline
    if baseline is None:
        return []
    lines = []
    if not baseline.determined:
        lines.append(
            f"the compositions determine {baseline.rank} of {len(baseline.elements)} element "
            "energies; add isolated-atom frames, or give baseline.energies, if the potential "
            "shall see other compositions or broken bonds"
        )
    if baseline.source in ("isolated", "given") and report.energies.size:
        mean = float(report.energies.mean())
        # Cohesive energies of the elements and of molecules: none (noble gases) to 9 eV/atom.
        if not -12.0 < mean < 0.5:
            lines.append(
                f"the mean energy per atom less E0 is {mean:.3f} eV, cohesive energies are 0 to -9 "
                "eV; check that the isolated atoms have the same method and unit as the frames"
            )
    return lines


def _forces(report: "Report", structures: Sequence[Frame]) -> list[str]:
    lines = []
    rms, net = report.force_rms, report.balance.net_force_rms
    fixed = [
        f.name
        for f in structures
        if f.forces is not None
        and 0 < int((f.forces == 0).all(1).sum()) < len(f.numbers)
        # Zeros by symmetry leave no net force.
        and np.linalg.norm(f.forces.sum(0)) > 1e-3 * len(f.numbers)
    ]
    if len(fixed) > 0.05 * len(structures):
        lines.append(
            f"{len(fixed)} frames (as {fixed[0]}) have forces of exactly zero on some atoms, as "
            "constraints leave them; write the unconstrained forces"
        )
    if rms and net is not None and net > 0.01 * rms:
        lines.append(
            f"the net force per atom is {net:.2e} eV/Angstrom (RMS), {100 * net / rms:.1f} % of "
            "the forces; no energy model can fit it: tighten the reference's grid and convergence, "
            "or look for constraints and external fields"
        )
    torque = report.balance.torque_rms
    if rms and torque is not None and torque > 0.03 * rms:
        lines.append(
            f"the torque per atom of the molecules is {torque:.2e} eV (RMS); a rotation-invariant "
            "model cannot fit it: look for an external field, or forces and positions in "
            "different frames of reference"
        )
    return lines


def _structures(report: "Report", structures: Sequence[Frame]) -> list[str]:
    lines = []
    for pair in report.distances:
        if pair.relative < SHORT:
            a, b = (chemical_symbols[z] for z in pair.pair)
            lines.append(
                f"{a} and {b} come as close as {pair.distance:.3f} Angstrom ({pair.frame}), "
                f"{pair.relative:.2f} of the sum of covalent radii; check the frame, the length "
                "unit and the cell"
            )
    if report.duplicates:
        extra = sum(len(names) - 1 for names in report.duplicates)
        lines.append(
            f"{extra} frames repeat another ({', '.join(report.duplicates[0][:2])}); remove them, "
            "or a random split puts the same structure into training and validation"
        )
    boxed = sum(
        f.pbc.all() and abs(np.linalg.det(f.cell)) > 500 * len(f.numbers) for f in structures
    )
    if boxed:
        lines.append(
            f"{boxed} frames are periodic with more than 500 Angstrom^3 an atom; if they are "
            "molecules in a box, set pbc to false"
        )
    return lines


def _consistency(found: Consistency) -> list[str]:
    lines = []
    slope = found.force_slope
    if slope is not None and not 0.6 < slope < 1.6:  # anharmonicity gives 20 %
        lines.append(
            f"energy differences are {slope:.3g} times the work of the forces, 1 is expected; "
            "check that energies and forces have the units they are read with, and the same method"
        )
    if found.stress_sign == -1:
        lines.append(
            "energies fit the stresses with the opposite sign; set units.stress_sign to the other "
            "of tension and compression"
        )
    return lines
