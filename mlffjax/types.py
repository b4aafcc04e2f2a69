"""Array shapes and the conventions every module of the package keeps.

Units at every interface: Angstrom, eV, amu, fs, kelvin. Stress is in eV/Angstrom^3 with
tension positive, the sign of ASE. Rows of ``cell`` are the lattice vectors.

An edge points from a neighbour ``j`` (sender) to a centre ``i`` (receiver) and carries

    r_ij = r_j - r_i + S_ij @ cell

with an integer lattice translation ``S_ij`` (shift). Edges are sorted by receiver, and every
edge has its reverse in the list. Padding is an explicit mask; a padded atom, edge or graph
cannot change any result or gradient.

Axis names in the annotations: ``atoms``, ``edges`` and ``graphs`` count a whole batch with its
padding; ``features`` counts the channels of one atom or edge; ``elements`` the chemical
elements a potential knows.
"""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Int

Params: TypeAlias = Any  # a nested mapping of arrays, as flax.linen makes it

Positions: TypeAlias = Float[Array, "atoms 3"]
Forces: TypeAlias = Float[Array, "atoms 3"]
AtomScalars: TypeAlias = Float[Array, "atoms"]
AtomFeatures: TypeAlias = Float[Array, "atoms features"]
Species: TypeAlias = Int[Array, "atoms"]
AtomMask: TypeAlias = Bool[Array, "atoms"]

EdgeVectors: TypeAlias = Float[Array, "edges 3"]
EdgeScalars: TypeAlias = Float[Array, "edges"]
EdgeFeatures: TypeAlias = Float[Array, "edges features"]
EdgeIndex: TypeAlias = Int[Array, "edges"]
EdgeMask: TypeAlias = Bool[Array, "edges"]

Cells: TypeAlias = Float[Array, "graphs 3 3"]
Energies: TypeAlias = Float[Array, "graphs"]
Stresses: TypeAlias = Float[Array, "graphs 3 3"]
GraphMask: TypeAlias = Bool[Array, "graphs"]

HostVectors: TypeAlias = Float[np.ndarray, "atoms 3"]
HostNumbers: TypeAlias = Int[np.ndarray, "atoms"]
HostCell: TypeAlias = Float[np.ndarray, "3 3"]
HostPbc: TypeAlias = Bool[np.ndarray, "3"]
