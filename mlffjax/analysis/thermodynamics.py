"""Temperature, pressure, density and energy of the frames of a trajectory."""

from collections.abc import Iterable

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.results import Observable, Result, Scalar
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.md.velocities import degrees_of_freedom
from mlffjax.types import HostNumbers, HostPbc
from mlffjax.units import AMU, AMU_ANGSTROM2_PER_FS2, BOLTZMANN, GPA

#: A momentum this small beside the thermal one, over all frames, has been removed and stays so.
AT_REST = 1e-2

TEMPERATURE = ("temperature", "K")


class Thermodynamics(Observable):
    """Means of what the frames allow: each quantity needs its own entries of a frame.

    Temperature from the velocities, with the degrees of freedom that are left where all frames
    together show that there is no drift and no rotation (noise brings back what was removed at
    the start); density and volume for three periodic directions; pressure
    ``(2 K - V tr(stress)) / 3 V`` from velocities and stress; potential energy per atom.

    Args:
      numbers: atomic numbers ``[atoms]``.
      pbc: periodic directions ``[3]``.
      masses: in amu ``[atoms]``; those of the elements if not given.
    """

    def __init__(
        self,
        numbers: HostNumbers,
        pbc: HostPbc,
        *,
        masses: Float[np.ndarray, "atoms"] | None = None,
    ) -> None:
        self._masses = atomic_masses[numbers] if masses is None else masses
        self._pbc = np.asarray(pbc, bool)
        self._averages: dict[tuple[str, str], BlockAverage] = {}
        # Total momentum and angular momentum squared, and those of as many independent vectors.
        self._squares = np.zeros((2, 2))

    @property
    def averages(self) -> Iterable[BlockAverage]:
        """See :attr:`Observable.averages`."""
        return self._averages.values()

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        values: dict[tuple[str, str], np.ndarray] = {}
        kinetic = None
        if block.velocities is not None:
            square = (block.velocities**2).sum(axis=-1) @ self._masses
            kinetic = 0.5 * AMU_ANGSTROM2_PER_FS2 * square
            self._add_momenta(block.positions, block.velocities)
            values[TEMPERATURE] = 2 * kinetic / BOLTZMANN  # times the degrees of freedom
        if block.energy is not None:
            values["potential energy", "eV/atom"] = block.energy / len(self._masses)
        if self._pbc.all():
            volume = np.abs(np.linalg.det(block.cell))
            # kg/Angstrom^3 in g/cm^3: a factor of 10^3 over 10^-24.
            values["density", "g/cm³"] = self._masses.sum() / volume * AMU * 1e27
            values["volume", "Å³"] = volume
            if block.stress is not None and kinetic is not None:
                virial = np.trace(block.stress, axis1=1, axis2=2)
                values["pressure", "GPa"] = (2 * kinetic / volume - virial) / 3 / GPA
        for name, series in values.items():
            self._averages.setdefault(name, BlockAverage()).add(series)

    def results(self) -> list[Result]:
        """Numbers."""
        results: list[Result] = []
        for (name, unit), average in self._averages.items():
            parts = self._degrees_of_freedom() if (name, unit) == TEMPERATURE else 1
            mean, error = float(average.mean()) / parts, float(average.error()) / parts
            results.append(Scalar(name, mean, error, unit))
        return results

    def _add_momenta(
        self,
        positions: Float[np.ndarray, "frames atoms 3"],
        velocities: Float[np.ndarray, "frames atoms 3"],
    ) -> None:
        momenta = self._masses[:, None] * velocities
        kinds = [momenta]
        if not self._pbc.any():
            centre = np.einsum("a,fax->fx", self._masses, positions) / self._masses.sum()
            kinds.append(np.cross(positions - centre[:, None], momenta))
        for k, vectors in enumerate(kinds):
            self._squares[k] += (vectors.sum(axis=1) ** 2).sum(), (vectors**2).sum()

    def _degrees_of_freedom(self) -> int:
        total, independent = self._squares.T
        drifts, turns = np.sqrt(total) > AT_REST * np.sqrt(independent)
        return degrees_of_freedom(
            len(self._masses),
            self._pbc,
            without_drift=not drifts,
            without_rotation=not turns,
        )
