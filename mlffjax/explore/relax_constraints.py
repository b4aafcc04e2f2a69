"""Fixed atoms and bonds, by projection.

Forces lose their components along the constraints, so that a converged structure has none left
within them; after every step the lengths are restored by Newton's method along the constraints
(SHAKE: Ryckaert, Ciccotti and Berendsen, J. Comput. Phys. 23, 327, 1977).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.constraints import FixAtoms, FixBondLengths
from flax import struct
from jaxtyping import Array, Bool, Float, Int

#: Newton steps that restore the lengths; each doubles the digits.
RESTORATIONS = 6


@dataclass(frozen=True)
class Fixed:
    """What does not move in one structure.

    Attributes:
      atoms: indices.
      bonds: pairs of indices whose distance stays as it is at the start.
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
      bonds: atoms of each fixed bond ``[slots, bonds, 2]``.
      lengths: in Angstrom ``[slots, bonds]``.
      bond_mask: real bonds ``[slots, bonds]``.
    """

    free: Bool[Array, "slots atoms"]
    bonds: Int[Array, "slots bonds 2"]
    lengths: Float[Array, "slots bonds"]
    bond_mask: Bool[Array, "slots bonds"]


def fill_constraints(
    fixed: Sequence[Fixed],
    positions: Sequence[np.ndarray],
    slots: int,
    atoms: int,
    bonds: int,
    dtype: np.dtype | type,
) -> Constraints:
    """Constraints as arrays on the host.

    Args:
      fixed: of each filled slot.
      positions: of each filled slot ``[its atoms, 3]``, from which bonds take their lengths.
      slots, atoms, bonds: room.
      dtype: of the lengths.
    """
    free = np.zeros((slots, atoms), bool)
    pairs = np.zeros((slots, bonds, 2), np.int32)
    lengths = np.ones((slots, bonds), dtype)
    mask = np.zeros((slots, bonds), bool)
    for k, (what, where) in enumerate(zip(fixed, positions, strict=True)):
        free[k, : len(where)] = True
        free[k, list(what.atoms)] = False
        for b, (i, j) in enumerate(what.bonds):
            pairs[k, b] = i, j
            lengths[k, b] = np.linalg.norm(where[i] - where[j])
            mask[k, b] = True
    # NumPy arrays on the host stand where JAX arrays are annotated.
    return Constraints(free, pairs, lengths, mask)  # pyright: ignore[reportArgumentType]


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
        vectors = x[c.bonds[:, 0]] - x[c.bonds[:, 1]]
        excess = jnp.where(c.bond_mask, jnp.sum(vectors**2, -1) - c.lengths**2, 0) / 2
        return x - jnp.einsum("kax,k->ax", jacobian, inverse @ excess)

    def one(c: Constraints, x: Array) -> Array:
        return jax.lax.fori_loop(0, RESTORATIONS, lambda i, y: newton(i, y, c), x)

    return jax.vmap(one)(constraints, positions)


def _jacobian(c: Constraints, x: Array) -> tuple[Array, Array]:
    """Derivatives of half the squared lengths ``[bonds, atoms, 3]``, and of their Gram matrix
    the pseudo-inverse, which leaves out bonds that follow from others."""
    vectors = jnp.where(c.bond_mask[:, None], x[c.bonds[:, 0]] - x[c.bonds[:, 1]], 0)
    ends = jax.nn.one_hot(c.bonds, x.shape[0], dtype=x.dtype)
    sign = (ends[:, 0] - ends[:, 1]) * c.free
    jacobian = sign[:, :, None] * vectors[:, None, :]
    gram = jnp.einsum("kax,lax->kl", jacobian, jacobian)
    return jacobian, jnp.linalg.pinv(gram, rtol=1e-5, hermitian=True)
