"""Labelled silicon of Stillinger and Weber: ``python silicon_frames.py silicon.extxyz``."""

import argparse
from pathlib import Path

from mlffjax.data.extxyz import write_extxyz
from mlffjax.md.stillinger_weber import silicon_frames

#: Wider than in a crystal at 1000 K, whose atoms move by 0.15 Angstrom along each axis.
MAX_RATTLE = 0.22
FRAMES = 640

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="extended XYZ, to write")
    target = parser.parse_args().target
    frames = silicon_frames(FRAMES, seed=5, max_rattle=MAX_RATTLE, max_strain=0.04)
    print(f"{write_extxyz(frames, target)} frames of {len(frames[0].numbers)} atoms")
