"""Fixed atoms and bonds, by projection.

Forces lose their components along the constraints, so that a converged structure has none left
within them; after every step the lengths are restored by Newton's method along the constraints
(SHAKE: Ryckaert, Ciccotti and Berendsen, J. Comput. Phys. 23, 327, 1977).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.constraints import FixAtoms, FixBondLengths
from ase.geometry import find_mic
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mlffjax.data.frames import Frame

#: Newton steps that restore the lengths; each doubles the digits.
RESTORATIONS = 6


@dataclass(frozen=True)
class Fixed:
    """What does not move in one structure.

    Attributes:
      atoms: indices.
      bonds: pairs of indices whose distance stays as it is at the start; of the nearest images
        there, across periodic borders too.
    """

    atoms: tuple[int, ...] = ()
    bonds: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, atoms: ase.Atoms) -> "Fixed":
        """The constraints ASE's atoms carry.

        Raises:
          ValueError: a constraint other than FixAtoms and FixBondLengths.
        """
        fixed: list[int] = []
        bonds: list[tuple[int, int]] = []
        for constraint in atoms.constraints:
            if isinstance(constraint, FixAtoms):
                fixed += [int(k) for k in np.arange(len(atoms))[constraint.index]]
            elif isinstance(constraint, FixBondLengths):
                bonds += [(int(a), int(b)) for a, b in constraint.pairs]
            else:
                raise ValueError(
                    f"got the constraint {type(constraint).__name__}; expected FixAtoms or "
                    "FixBondLengths; remove it, or use an ASE optimiser"
                )
        return cls(tuple(fixed), tuple(bonds))

    def check(self, num_atoms: int) -> None:
        """Whether the indices name atoms.

        Raises:
          ValueError: an index out of range, or a bond of an atom with itself.
        """
        named = [*self.atoms, *(k for bond in self.bonds for k in bond)]
        wrong = [k for k in named if not 0 <= k < num_atoms]
        if wrong or any(a == b for a, b in self.bonds):
            raise ValueError(
                f"got fixed atoms {list(self.atoms)} and bonds {list(self.bonds)} in a structure "
                f"of {num_atoms} atoms; expected indices below {num_atoms}, two for a bond"
            )


@struct.dataclass
class Constraints:
    """Constraints of the slots.

    Attributes:
      free: atoms that may move ``[slots, atoms]``; false for padding.
      bonds: atoms ``i, j`` of each fixed bond ``[slots, bonds, 2]``.
      shifts: lattice vector to the image of ``j`` in Angstrom ``[slots, bonds, 3]``: the bond is
        ``r_j - r_i + shift``.
      lengths: in Angstrom ``[slots, bonds]``.
      bond_mask: real bonds ``[slots, bonds]``.
    """

    free: Bool[Array, "slots atoms"]
    bonds: Int[Array, "slots bonds 2"]
    shifts: Float[Array, "slots bonds 3"]
    lengths: Float[Array, "slots bonds"]
    bond_mask: Bool[Array, "slots bonds"]


def fill_constraints(
    fixed: Sequence[Fixed],
    frames: Sequence[Frame | None],
    slots: int,
    atoms: int,
    bonds: int,
    dtype: np.dtype | type,
) -> Constraints:
    """Constraints as arrays on the host.

    Args:
      fixed: of each slot.
      frames: of each slot, from which bonds take their lengths; ``None`` for an empty one.
      slots, atoms, bonds: room.
      dtype: of shifts and lengths.
    """
    free = np.zeros((slots, atoms), bool)
    pairs = np.zeros((slots, bonds, 2), np.int32)
    shifts = np.zeros((slots, bonds, 3), dtype)
    lengths = np.ones((slots, bonds), dtype)
    mask = np.zeros((slots, bonds), bool)
    for k, (what, frame) in enumerate(zip(fixed, frames, strict=True)):
        if frame is None:
            continue
        free[k, : len(frame.numbers)] = True
        free[k, list(what.atoms)] = False
        if what.bonds:
            count = len(what.bonds)
            pairs[k, :count] = what.bonds
            straight = frame.positions[pairs[k, :count, 1]] - frame.positions[pairs[k, :count, 0]]
            periodic: Any = frame.pbc  # ASE annotates a single value
            nearest, lengths[k, :count] = find_mic(straight, frame.cell, periodic)
            shifts[k, :count] = nearest - straight
            mask[k, :count] = True
    # NumPy arrays on the host stand where JAX arrays are annotated.
    return Constraints(free, pairs, shifts, lengths, mask)  # pyright: ignore[reportArgumentType]


def project(
    constraints: Constraints,
    positions: Float[Array, "slots atoms 3"],
    forces: Float[Array, "slots atoms 3"],
) -> Float[Array, "slots atoms 3"]:
    """Forces ``[slots, atoms, 3]`` without their components along the constraints."""
    forces = jnp.where(constraints.free[..., None], forces, 0)
    if not constraints.bonds.shape[1]:
        return forces

    def one(c: Constraints, x: Array, f: Array) -> Array:
        jacobian, inverse = _jacobian(c, x)
        along = jnp.einsum("kax,ax->k", jacobian, f)
        return f - jnp.einsum("kax,k->ax", jacobian, inverse @ along)

    return jax.vmap(one)(constraints, positions, forces)


def restore(
    constraints: Constraints, positions: Float[Array, "slots atoms 3"]
) -> Float[Array, "slots atoms 3"]:
    """Positions ``[slots, atoms, 3]`` moved, as little as can be, to the fixed lengths."""
    if not constraints.bonds.shape[1]:
        return positions

    def newton(_: int, x: Array, c: Constraints) -> Array:
        jacobian, inverse = _jacobian(c, x)
        vectors = _vectors(c, x)
        excess = jnp.where(c.bond_mask, jnp.sum(vectors**2, -1) - c.lengths**2, 0) / 2
        return x - jnp.einsum("kax,k->ax", jacobian, inverse @ excess)

    def one(c: Constraints, x: Array) -> Array:
        return jax.lax.fori_loop(0, RESTORATIONS, lambda i, y: newton(i, y, c), x)

    return jax.vmap(one)(constraints, positions)


def _vectors(c: Constraints, x: Array) -> Array:
    """The bonds ``[bonds, 3]``."""
    return x[c.bonds[:, 1]] - x[c.bonds[:, 0]] + c.shifts


def _jacobian(c: Constraints, x: Array) -> tuple[Array, Array]:
    """Derivatives of half the squared lengths ``[bonds, atoms, 3]``, and of their Gram matrix
    the pseudo-inverse, which leaves out bonds that follow from others."""
    vectors = jnp.where(c.bond_mask[:, None], _vectors(c, x), 0)
    ends = jax.nn.one_hot(c.bonds, x.shape[0], dtype=x.dtype)
    sign = (ends[:, 1] - ends[:, 0]) * c.free
    jacobian = sign[:, :, None] * vectors[:, None, :]
    gram = jnp.einsum("kax,lax->kl", jacobian, jacobian)
    return jacobian, jnp.linalg.pinv(gram, rtol=1e-5, hermitian=True)
