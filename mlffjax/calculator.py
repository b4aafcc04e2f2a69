"""A potential as an ASE calculator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import ase
import jax
import numpy as np
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.stress import full_3x3_to_voigt_6_stress

from mlffjax.graph import AtomGraph, GraphSize, pad
from mlffjax.neighbors import Edges, graph_of, neighbor_list
from mlffjax.potential import Potential, Prediction
from mlffjax.types import HostCell, HostPbc, HostVectors

_energy_forces = jax.jit(Potential.energy_forces)
_energy_forces_stress = jax.jit(Potential.energy_forces_stress)


class MLFFCalculator(Calculator):
    """Energies, forces and stresses of a :class:`~mlffjax.potential.Potential` for ASE.

    Energies are total energies in eV, the element baseline added in double precision. Shapes
    are padded to buckets with some room, so that a structure whose neighbours change, or which
    gains or loses few atoms, needs no new compilation. Neighbour lists are reused until an atom
    has moved half the skin.

    >>> atoms.calc = MLFFCalculator(potential)  # doctest: +SKIP
    >>> atoms.get_potential_energy()  # doctest: +SKIP

    Args:
      potential: the force field.
      skin: in Angstrom; zero makes a new neighbour list for every structure.

    Raises:
      ValueError: a skin that is negative or not finite.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]
    ignored_changes: ClassVar[set[str]] = {"initial_magmoms", "initial_charges"}

    def __init__(self, potential: Potential, skin: float = 0.5) -> None:
        super().__init__()
        if not (np.isfinite(skin) and skin >= 0):
            raise ValueError(f"got a skin of {skin} Angstrom; expected zero or more")
        self._potential = potential
        self._list = _SkinList(potential.cutoff, skin)
        self._room: GraphSize | None = None

    @property
    def potential(self) -> Potential:
        """The force field; another one needs a calculator of its own."""
        return self._potential

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Called by ASE; fills ``results``.

        Raises:
          ValueError: an element the potential does not know, positions that are not finite, or
            two atoms at one place.
          PropertyNotImplementedError: a stress was asked for and the cell has no volume.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        numbers = np.asarray(self.atoms.numbers)
        self.potential.check_elements(numbers)
        with_stress = "stress" in properties
        if with_stress and abs(np.linalg.det(self.atoms.cell.array)) < 1e-9:
            raise PropertyNotImplementedError(
                f"got the cell {self.atoms.cell.array.tolist()} without volume; expected three "
                "independent lattice vectors for a stress; set the cell, or ask for forces only"
            )
        function: Any = _energy_forces_stress if with_stress else _energy_forces
        self._keep(function(self._potential.interaction, self._graph(numbers)), numbers)

    def _graph(self, numbers: np.ndarray) -> AtomGraph:
        atoms = self.atoms
        assert atoms is not None
        positions, cell = atoms.get_positions(), np.asarray(atoms.cell.array)
        edges = self._list.edges(positions, cell, np.asarray(atoms.pbc))
        # Around the origin, where single precision has most digits.
        centred = positions - positions.mean(0)
        graph = graph_of(numbers, centred, cell, edges, self.potential.dtype)
        return pad(graph, self._room_for(graph.size))

    def _room_for(self, size: GraphSize) -> GraphSize:
        """The same room as before where it fits and is not wasteful; else some more than now."""
        room = self._room
        if room is None or not size.fits(room) or room.edges > 2 * size.edges + 64:
            atoms = size.atoms
            if room is not None and size.atoms <= room.atoms <= 2 * size.atoms:
                atoms = room.atoms
            room = GraphSize(atoms, size.edges + size.edges // 8 + 16, 1).bucket()
            self._room = room
        return room

    def _keep(self, prediction: Prediction, numbers: np.ndarray) -> None:
        count = len(numbers)
        host = jax.device_get(prediction)
        baseline = np.asarray(self.potential.baseline)
        of_atom = baseline[np.searchsorted(self.potential.elements, numbers)]
        energies = np.asarray(host.node_energy[:count], np.float64) + of_atom
        # In double precision: the sum of many atoms has more digits than float32.
        energy = float(energies.sum())
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": energies,
            "forces": np.asarray(host.forces[:count], np.float64),
        }
        if host.stress is not None:
            stress = np.asarray(host.stress[0], np.float64)
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)


@dataclass(eq=False)
class _SkinList:
    """Neighbours within the cutoff from a wider list, remade when it may miss one."""

    cutoff: float
    skin: float
    _made_for: tuple[HostVectors, HostCell, HostPbc] | None = None
    _wide: Edges | None = None

    def edges(self, positions: HostVectors, cell: HostCell, pbc: HostPbc) -> Edges:
        if self.skin == 0:
            return neighbor_list(positions, cell, pbc, self.cutoff)
        if not self._holds(positions, cell, pbc) or self._wide is None:
            self._wide = neighbor_list(positions, cell, pbc, self.cutoff + self.skin)
            self._made_for = (positions.copy(), cell.copy(), pbc.copy())
        wide = self._wide
        vectors = positions[wide.senders] - positions[wide.receivers]
        if pbc.any():
            vectors += wide.shifts @ cell
        distances2 = np.einsum("ex,ex->e", vectors, vectors)
        if distances2.size and distances2.min() < 1e-6:
            # The list itself names the atoms.
            return neighbor_list(positions, cell, pbc, self.cutoff)
        near = np.flatnonzero(distances2 < self.cutoff**2)
        return Edges(wide.senders[near], wide.receivers[near], wide.shifts[near])

    def _holds(self, positions: HostVectors, cell: HostCell, pbc: HostPbc) -> bool:
        if self._made_for is None:
            return False
        old, old_cell, old_pbc = self._made_for
        if old.shape != positions.shape or (old_pbc != pbc).any() or (old_cell != cell).any():
            return False
        # A comparison that is false for a coordinate that is not finite.
        return bool((np.sum((positions - old) ** 2, axis=1) < (self.skin / 2) ** 2).all())
