"""When a simulation is no longer physical: criteria A and B, and the stability coefficient.

Frank et al. 2024 (SO3krates), Methods, "MD Stability": a run is unstable (A) where the
temperature shows a peak of orders of magnitude, or (B) where a bond length differs from its
equilibrium by more than 50 %. Here are the limit of A, and B as a plain function of arrays for
use inside a compiled simulation; what it finds is named on the host.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Bool, Float, Int

from mlffjax.md.bonds import Bonds, bond_lengths
from mlffjax.types import HostCell, HostNumbers, HostVectors, Positions

#: Criterion B: the largest relative deviation of a bond length.
BOND_TOLERANCE = 0.5
#: Criterion A asks for a peak of "a few orders of magnitude" above the target: a factor of ten,
#: and no less than what any molecule in a simulation survives.
SPIKE_FACTOR = 10.0
SPIKE_TEMPERATURE = 10_000.0


def spike_limit(target: float) -> float:
    """Criterion A: temperature in kelvin that only an explosion reaches, for a target in kelvin."""
    return max(SPIKE_TEMPERATURE, SPIKE_FACTOR * target)


def broken_bonds(
    positions: Positions,
    bonds: Int[Array, "bonds 2"],
    reference_lengths: Float[Array, "bonds"],
    shifts: Int[Array, "bonds 3"],
    cell: Float[Array, "3 3"],
    tolerance: float = BOND_TOLERANCE,
) -> Bool[Array, "bonds"]:
    """Criterion B: bonds too long or too short, or whose length is not a number.

    Args:
      positions: ``[atoms, 3]`` in Angstrom, not wrapped into the cell.
      bonds, shifts: see :class:`mlffjax.md.bonds.Bonds`.
      reference_lengths: equilibrium lengths ``[bonds]`` in Angstrom; those of a relaxed start.
      cell: lattice vectors as rows, in Angstrom; zeros for a molecule.
      tolerance: largest relative deviation.
    """
    lengths = bond_lengths(positions, bonds, shifts, cell)
    return ~(jnp.abs(lengths - reference_lengths) <= tolerance * reference_lengths)


def describe_broken(
    numbers: HostNumbers,
    positions: HostVectors,
    cell: HostCell,
    bonds: Bonds,
    broken: Bool[np.ndarray, "bonds"],
    most: int = 3,
) -> str:
    """The atoms of broken bonds and their lengths, in words; empty where none is broken.

    Args:
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom, as given to :func:`broken_bonds`.
      cell: lattice vectors as rows, in Angstrom.
      bonds: with the reference lengths.
      broken: as :func:`broken_bonds` gives it ``[bonds]``.
      most: bonds to name, those that deviate most first.
    """
    found = np.flatnonzero(broken)
    if not len(found):
        return ""
    i, j = bonds.pairs[found].T
    shift = bonds.shifts[found] @ np.asarray(cell, np.float64)
    lengths = np.linalg.norm(positions[j] - positions[i] + shift, axis=1)
    # What is not a number deviates most; it sorts to the end of an ascending order.
    order = np.argsort(np.abs(lengths / bonds.lengths[found] - 1), kind="stable")[::-1]
    named = [
        f"{chemical_symbols[numbers[i[k]]]}{i[k]}-{chemical_symbols[numbers[j[k]]]}{j[k]} "
        f"({lengths[k]:.2f} Å, {bonds.lengths[found[k]]:.2f} Å at the start)"
        for k in order[:most]
    ]
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return f"broken bond{'s' if len(found) > 1 else ''} {', '.join(named)}{rest}"


def stability_coefficient(stable_steps: Sequence[int], total_steps: int) -> float:
    """Stability coefficient ``c_s = n_s / n_tot`` (eq. 28 of SO3krates), the mean over runs.

    Args:
      stable_steps: of each run, the steps until it became unstable; ``total_steps`` where it
        did not.
      total_steps: the most steps of a run.

    Raises:
      ValueError: no runs, or a number of steps outside 0 to ``total_steps``.

    >>> stability_coefficient([1000, 250], 1000)
    0.625
    """
    steps = np.asarray(stable_steps)
    if total_steps < 1 or not steps.size or steps.min() < 0 or steps.max() > total_steps:
        raise ValueError(
            f"got {list(stable_steps)} stable of {total_steps} steps; expected at least one run "
            "with 0 to all of the steps; count the steps before the instability"
        )
    return float(steps.mean() / total_steps)
