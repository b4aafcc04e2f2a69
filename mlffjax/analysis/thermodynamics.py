"""Temperature, pressure, density and energy of the frames of a trajectory."""

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.results import Observable, Result, Scalar
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.md.velocities import degrees_of_freedom
from mlffjax.types import HostNumbers, HostPbc
from mlffjax.units import AMU, AMU_ANGSTROM2_PER_FS2, BOLTZMANN, GPA

#: A momentum this small beside the thermal one has been removed, not drawn.
AT_REST = 1e-3


class Thermodynamics(Observable):
    """Means of what the frames allow: each quantity needs its own entries of a frame.

    Temperature from the velocities, with the degrees of freedom that are left where the first
    frame shows that drift and rotation were removed; density and volume for three periodic
    directions; pressure ``(2 K - V tr(stress)) / 3 V`` from velocities and stress; potential
    energy per atom.

    Args:
      numbers: atomic numbers ``[atoms]``.
      pbc: periodic directions ``[3]``.
    """

    def __init__(self, numbers: HostNumbers, pbc: HostPbc) -> None:
        self._masses, self._pbc = atomic_masses[numbers], np.asarray(pbc, bool)
        self._averages: dict[tuple[str, str], BlockAverage] = {}
        self._dof: int | None = None

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        values: dict[tuple[str, str], np.ndarray] = {}
        kinetic = None
        if block.velocities is not None:
            square = (block.velocities**2).sum(axis=-1) @ self._masses
            kinetic = 0.5 * AMU_ANGSTROM2_PER_FS2 * square
            if self._dof is None:
                self._dof = self._degrees_of_freedom(block.positions[0], block.velocities[0])
            values["temperature", "K"] = 2 * kinetic / (self._dof * BOLTZMANN)
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
        return [
            Scalar(name, float(average.mean()), float(average.error()), unit)
            for (name, unit), average in self._averages.items()
        ]

    def _degrees_of_freedom(
        self, positions: Float[np.ndarray, "atoms 3"], velocities: Float[np.ndarray, "atoms 3"]
    ) -> int:
        momenta = self._masses[:, None] * velocities
        centre = self._masses @ positions / self._masses.sum()
        angular = np.cross(positions - centre, momenta)

        def vanishes(vectors: np.ndarray) -> bool:
            # Beside the sum of as many independent vectors.
            scale = np.sqrt((vectors**2).sum())
            return bool(np.linalg.norm(vectors.sum(axis=0)) <= AT_REST * scale)

        return degrees_of_freedom(
            positions,
            self._masses,
            self._pbc,
            without_drift=vanishes(momenta),
            without_rotation=vanishes(angular),
        )
