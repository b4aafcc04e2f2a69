"""When observables of pairs take neighbour lists of the host instead of all pairs."""

import math

import jax
import numpy as np

from mlffjax.types import HostCell, HostPbc, HostVectors

#: Pairs of a frame that are computed in the time of a list, images included, on a CPU: lists were
#: never slower above (``experiments/analysis_scaling``).
FEW_PAIRS = 8000
#: Pairs of a list, at most: each takes up to 70 bytes. All pairs are computed in bounded memory.
MAX_LISTED = 50_000_000


def lists_pay(
    positions: HostVectors, box: HostCell, pbc: HostPbc, radius: float, images: int
) -> bool:
    """Whether neighbour lists of the host are the faster way to all pairs within a radius.

    The number of listed pairs is that of atoms spread evenly over the cell; in a direction that is
    not periodic over the width of an even distribution with their variance, so that one atom far
    off counts little. On a GPU all pairs are computed on the device.

    Args:
      positions: of the first frame ``[atoms, 3]`` in Angstrom.
      box: complete lattice vectors as rows, in Angstrom.
      pbc: periodic directions ``[3]``.
      radius: longest pair in Angstrom.
      images: how many of each atom the computation of all pairs looks at.
    """
    if jax.default_backend() != "cpu":
        return False
    widths = math.sqrt(12) * np.std(positions @ np.linalg.inv(box), axis=0)
    # A disc of radius r has the area pi r^2, a sphere 4/3 r times that: no layer is thicker.
    lengths = np.where(pbc, 1, np.maximum(widths, 4 / 3 * radius))
    volume = abs(np.linalg.det(box)) * float(np.prod(lengths))
    square = float(len(positions)) ** 2
    listed = min(square * 4 / 3 * math.pi * radius**3 / volume, square * images) / 2
    return bool(square * images > FEW_PAIRS and listed < MAX_LISTED)
