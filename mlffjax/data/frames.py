"""One labelled structure, on the host in double precision."""

from dataclasses import dataclass

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
