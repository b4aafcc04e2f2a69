"""One labelled structure, on the host in double precision."""

from dataclasses import dataclass, replace

import ase
import numpy as np
from jaxtyping import Float

from mlffjax.types import HostCell, HostNumbers, HostPbc, HostVectors


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure and its reference labels. A data set is a ``Sequence[Frame]``.

    Attributes:
      numbers: atomic numbers ``[atoms]``.
      positions: ``[atoms, 3]`` in Angstrom, float64.
      cell: lattice vectors as rows ``[3, 3]`` in Angstrom; zeros for a molecule.
      pbc: periodic directions ``[3]``.
      energy: total energy in eV, or ``None`` where there is no label.
      forces: ``[atoms, 3]`` in eV/Angstrom, or ``None``.
      stress: ``[3, 3]`` in eV/Angstrom^3, tension positive, or ``None``.
      name: where the frame comes from, for messages: ``file.xyz#17``.
      group: the data set's own label of the frame (``config_type``), or empty.
    """

    numbers: HostNumbers
    positions: HostVectors
    cell: HostCell
    pbc: HostPbc
    energy: float | None = None
    forces: HostVectors | None = None
    stress: Float[np.ndarray, "3 3"] | None = None
    name: str = ""
    group: str = ""

    @classmethod
    def from_ase(cls, atoms: ase.Atoms, name: str = "") -> "Frame":
        """A structure of ASE, without labels."""
        return cls(
            numbers=np.asarray(atoms.numbers, np.int32),
            positions=np.asarray(atoms.positions, np.float64),
            cell=np.asarray(atoms.cell.array, np.float64),
            pbc=np.asarray(atoms.pbc, bool),
            name=name,
        )

    @property
    def wrong_shape(self) -> str:
        """Which array has not one row an atom, in words; empty if all have."""
        wanted = {
            "positions": (len(self.numbers), 3),
            "forces": (len(self.numbers), 3),
            "cell": (3, 3),
            "pbc": (3,),
            "stress": (3, 3),
        }
        for what, shape in wanted.items():
            value = getattr(self, what)
            if value is not None and np.shape(value) != shape:
                return f"{what} of shape {np.shape(value)}; expected {shape}"
        return ""


def about_origin(frame: Frame) -> tuple[Frame, Float[np.ndarray, "3"]]:
    """The structure moved so that its middle is within an Angstrom of the origin.

    Single precision has seven digits; far from the origin they go to the distance, and none are
    left for forces. It is moved by whole Angstroms, so that its own digits stay as they are.

    Returns:
      The structure, and ``[3]`` in Angstrom what brings it back when added.
    """
    origin = np.round(np.asarray(frame.positions, np.float64).mean(axis=0))
    return replace(frame, positions=frame.positions - origin), origin
