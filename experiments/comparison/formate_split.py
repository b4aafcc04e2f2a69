"""Divide the two overlapping selections of formate on Cu(110) into train, valid and test.

    python formate_split.py EX2.xyz RES.xyz formate_split.json

Training and validation frames are of the first file; test frames are those of the second whose
positions are in none of the first. (The files number the frames of a trajectory, but one frame
has another number in each.)
"""

import argparse
from pathlib import Path
from typing import cast

import ase.io
import numpy as np
from ase import Atoms

from mlffjax.data.splits import Split

NUM_VALID = 50
#: Largest displacement of an atom, in Angstrom, between two writings of one frame.
SAME = 1e-3


def main(first: Path, second: Path, target: Path) -> None:
    """Write the split of the frames of both files."""
    left, right = (cast(list[Atoms], ase.io.read(path, ":")) for path in (first, second))
    known = np.array([atoms.positions for atoms in left])
    test, nearest = [], []
    for k, atoms in enumerate(right):
        distance = np.linalg.norm(known - atoms.positions, axis=2).max(axis=1).min()
        if distance > SAME:
            test.append(len(left) + k)
            nearest.append(distance)
    order = np.random.default_rng(0).permutation(len(left))
    split = Split(
        train=order[NUM_VALID:],
        valid=order[:NUM_VALID],
        test=np.array(test),
        num_frames=len(left) + len(right),
        source="formate_split.py: test frames by positions that are not in the first file",
    )
    split.save(target)
    print(f"{len(split.train)} train, {len(split.valid)} validate, {len(split.test)} test")
    print(
        "largest displacement from a test frame to the nearest frame of the first file: "
        f"least {min(nearest):.3f}, median {np.median(nearest):.3f} Angstrom"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, help="frames that train and validate")
    parser.add_argument("second", type=Path, help="frames of which the others test")
    parser.add_argument("target", type=Path, help="the split, to write")
    args = parser.parse_args()
    main(args.first, args.second, args.target)
