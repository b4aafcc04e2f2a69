"""One labelled structure, on the host in double precision."""

from dataclasses import dataclass, replace

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


def about_origin(frame: Frame) -> tuple[Frame, Float[np.ndarray, "3"]]:
    """The structure moved so that its middle is within an Angstrom of the origin.

    Single precision has seven digits; far from the origin they go to the distance, and none are
    left for forces. It is moved by whole Angstroms, so that its own digits stay as they are.

    Returns:
      The structure, and ``[3]`` in Angstrom what brings it back when added.
    """
    origin = np.round(np.asarray(frame.positions, np.float64).mean(axis=0))
    return replace(frame, positions=frame.positions - origin), origin
