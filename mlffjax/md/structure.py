"""A structure of ASE as the start of dynamics."""

import ase
import ase.data
import numpy as np

from mlffjax.data.frames import Frame


def frame_of(atoms: ase.Atoms) -> Frame:
    """The frame of a structure of ASE, without labels and velocities.

    Raises:
      ValueError: constraints, or masses of isotopes, which dynamics here does not know.
    """
    if atoms.constraints:
        raise ValueError(
            f"got {len(atoms.constraints)} constraints; expected none, as all atoms move here; "
            "remove them from atoms.constraints, or use ASE's dynamics with MLFFCalculator"
        )
    # Tables of other programs are rounded differently: oxygen is 15.9994 in some.
    if not np.allclose(atoms.get_masses(), ase.data.atomic_masses[atoms.numbers], rtol=1e-3):
        raise ValueError(
            "got masses that are not those of the elements; expected the standard atomic weights; "
            "remove them with atoms.set_masses('defaults')"
        )
    return Frame.from_ase(atoms)
