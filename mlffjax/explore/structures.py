"""What explorations start from: frames, or structures of ASE with what these carry besides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import ase
import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from mlffjax.data.frames import Frame
from mlffjax.explore.relax_constraints import Fixed

Structure: TypeAlias = Frame | ase.Atoms


def as_frame(structure: Structure, index: int = 0) -> Frame:
    """A structure without its labels; those of ASE's atoms are named by ``index``."""
    if isinstance(structure, Frame):
        return replace(structure, energy=None, forces=None, stress=None)
    return Frame.from_ase(structure, name=f"structure {index}")


def carried(structure: Structure) -> Fixed:
    """The constraints of a structure; a frame has none.

    Raises:
      ValueError: a constraint other than FixAtoms and FixBondLengths.
    """
    return Fixed() if isinstance(structure, Frame) else Fixed.of(structure)


def fixed_atoms(structure: Structure, named: Sequence[int] = ()) -> tuple[int, ...]:
    """Atoms that do not move: those named, and those the structure itself keeps fixed.

    Args:
      structure: of ASE, perhaps with constraints, or a frame.
      named: indices of further atoms.

    Raises:
      ValueError: constraints other than fixed atoms.
    """
    own = carried(structure)
    if own.bonds:
        raise ValueError(
            f"got the fixed bonds {list(own.bonds)}; expected fixed atoms alone, bonds stay fixed "
            "only in a relaxation; remove the constraint"
        )
    return tuple(sorted({*own.atoms, *(int(k) for k in named)}))


def refuse_constraints(structure: Structure, what: str) -> None:
    """Refuse constraints where all atoms move.

    Args:
      structure: of ASE, perhaps with constraints, or a frame.
      what: that moves all of them, for the message.

    Raises:
      ValueError: there is a constraint.
    """
    if isinstance(structure, ase.Atoms) and structure.constraints:
        raise ValueError(
            f"got {len(structure.constraints)} constraints for {what}; expected none, as all "
            "atoms move there; remove them with atoms.set_constraint()"
        )


def masses_of(structure: Structure) -> Float[np.ndarray, "atoms"]:
    """Masses in amu: those that ASE's atoms carry, else the standard ones ``[atoms]``.

    Raises:
      ValueError: a mass that is not positive.
    """
    if isinstance(structure, Frame):
        return atomic_masses[structure.numbers]
    masses = np.asarray(structure.get_masses(), np.float64)
    if not (masses > 0).all():
        raise ValueError(
            f"got the mass {masses.min():g} amu; expected positive masses; set them with "
            "atoms.set_masses, or go back to those of the elements with set_masses('defaults')"
        )
    return masses
