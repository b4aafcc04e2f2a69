"""The shape of one molecule: radius of gyration, end-to-end distance, dihedral angles."""

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_masses, chemical_symbols
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import connected_components, shortest_path

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.frames import bond_graph, whole_molecules
from mlffjax.analysis.results import Curves, Map, Observable, Result, Scalar
from mlffjax.md.bonds import Bonds
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.precision import full_precision
from mlffjax.types import HostNumbers

Quadruple = tuple[int, int, int, int]

#: Dihedral angles of a molecule that are chosen by themselves, at most.
MAX_DIHEDRALS = 8


class Extent(Observable):
    """Radius of gyration (weighted with the masses) and end-to-end distance of one molecule.

    Means, and probability densities per Angstrom up to a distance that no chain reaches.

    Args:
      numbers: atomic numbers ``[atoms]``.
      ends: the two atoms of the end-to-end distance, see :func:`chain_ends`.
      r_max: of the densities in Angstrom.
      num_bins: of the densities.
      masses: in amu ``[atoms]``; those of the elements if not given.
    """

    def __init__(
        self,
        numbers: HostNumbers,
        ends: tuple[int, int],
        r_max: float,
        num_bins: int = 200,
        *,
        masses: Float[np.ndarray, "atoms"] | None = None,
    ) -> None:
        self._masses = atomic_masses[numbers] if masses is None else masses
        self._ends = ends
        symbols = [chemical_symbols[numbers[k]] for k in ends]
        pair = f"{symbols[0]}{ends[0]}-{symbols[1]}{ends[1]}"
        self._names = "radius of gyration", f"end-to-end distance {pair}"
        self.edges = np.linspace(0, r_max, num_bins + 1)
        self._average, self._density = BlockAverage(), BlockAverage()

    @property
    def averages(self) -> tuple[BlockAverage, ...]:
        """See :attr:`Observable.averages`."""
        return (self._average, self._density)

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        weights = self._masses / self._masses.sum()
        centre = np.einsum("i,tic->tc", weights, block.positions)
        squares = ((block.positions - centre[:, None]) ** 2).sum(axis=-1)
        first, last = (block.positions[:, k] for k in self._ends)
        lengths = np.sqrt(squares @ weights), np.linalg.norm(last - first, axis=-1)
        values = np.stack(lengths, axis=1)
        self._average.add(values)
        index = (values[..., None] >= self.edges[1:]).sum(axis=-1)
        bins = len(self.edges) - 1
        # What is beyond the last bin is in none.
        self._density.add(np.eye(bins + 1)[index][..., :bins] / self.edges[1])

    def results(self) -> list[Result]:
        """Two numbers, and ``extent``."""
        values, errors = self._average.mean(), self._average.error()
        return [
            *(
                Scalar(name, float(v), float(e), "Å")
                for name, v, e in zip(self._names, values, errors, strict=True)
            ),
            Curves(
                name="extent",
                title="Extent of the molecule",
                x_label="distance (Å)",
                y_label="probability density (1/Å)",
                x=(self.edges[1:] + self.edges[:-1]) / 2,
                labels=self._names,
                values=self._density.mean(),
                errors=self._density.error(),
            ),
        ]


class DihedralDistribution(Observable):
    """Probability densities of dihedral angles, per degree, from -180 to 180.

    Args:
      numbers: atomic numbers ``[atoms]``.
      dihedrals: four atoms each, see :func:`rotatable_dihedrals`.
      num_bins: over the whole circle.
    """

    def __init__(
        self, numbers: HostNumbers, dihedrals: list[Quadruple], num_bins: int = 120
    ) -> None:
        self._atoms = np.array(dihedrals, np.int32)
        self._labels = tuple(
            "-".join(f"{chemical_symbols[numbers[k]]}{k}" for k in four) for four in dihedrals
        )
        self.edges = np.linspace(-180, 180, num_bins + 1)
        self._average = BlockAverage()

    @property
    def averages(self) -> tuple[BlockAverage, ...]:
        """See :attr:`Observable.averages`."""
        return (self._average,)

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        angles = np.asarray(dihedral_angles(jnp.asarray(block.positions), self._atoms))
        bins = len(self.edges) - 1
        index = np.clip(((angles + 180) * bins / 360).astype(int), 0, bins - 1)
        self._average.add(np.eye(bins)[index] / (360 / bins))

    def results(self) -> list[Result]:
        """``dihedrals``."""
        return [
            Curves(
                name="dihedrals",
                title="Dihedral angles",
                x_label="angle (°)",
                y_label="probability density (1/°)",
                x=(self.edges[1:] + self.edges[:-1]) / 2,
                labels=self._labels,
                values=self._average.mean(),
                errors=self._average.error(),
            )
        ]


class Ramachandran(Observable):
    """The joint probability density of pairs of dihedral angles, per square degree.

    Args:
      residues: for each map the four atoms of phi and the four of psi, see
        :func:`backbone_dihedrals`.
      num_bins: over the circle of each angle.
    """

    def __init__(self, residues: list[tuple[Quadruple, Quadruple]], num_bins: int = 36) -> None:
        self._atoms = np.array(residues, np.int32).reshape(-1, 4)
        self.edges = np.linspace(-180, 180, num_bins + 1)
        self._average = BlockAverage()

    @property
    def averages(self) -> tuple[BlockAverage, ...]:
        """See :attr:`Observable.averages`."""
        return (self._average,)

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        angles = np.asarray(dihedral_angles(jnp.asarray(block.positions), self._atoms))
        bins = len(self.edges) - 1
        index = np.clip(((angles + 180) * bins / 360).astype(int), 0, bins - 1)
        residues = index.shape[1] // 2
        counts = np.zeros((len(index), residues, bins, bins))
        frame, residue = np.indices((len(index), residues))
        counts[frame, residue, index[:, ::2], index[:, 1::2]] = 1
        self._average.add(counts / (360 / bins) ** 2)

    def results(self) -> list[Result]:
        """A map ``ramachandran_N`` for each residue."""
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        values, errors = self._average.mean(), self._average.error()
        return [
            Map(
                name=f"ramachandran_{k + 1}",
                title=f"Ramachandran map, residue {k + 1}",
                x_label="φ (°)",
                y_label="ψ (°)",
                x=centres,
                y=centres,
                values=values[k],
                errors=errors[k],
            )
            for k in range(len(values))
        ]


@jax.jit
@full_precision
def dihedral_angles(
    positions: Float[Array, "frames atoms 3"], dihedrals: Int[Array, "dihedrals 4"]
) -> Float[Array, "frames dihedrals"]:
    """Dihedral angles in degrees, from -180 to 180, with the sign of IUPAC.

    Args:
      positions: in Angstrom; molecules are whole.
      dihedrals: indices of four atoms each.
    """
    a, b, c, d = (positions[:, dihedrals[:, k]] for k in range(4))
    axis = c - b
    first, second = jnp.cross(b - a, axis), jnp.cross(axis, d - c)
    length = jnp.linalg.norm(axis, axis=-1)
    sine = length * jnp.sum((b - a) * second, axis=-1)
    return jnp.degrees(jnp.arctan2(sine, jnp.sum(first * second, axis=-1)))


def is_one_molecule(bonds: Bonds, atoms: int) -> bool:
    """Whether all atoms hang together by bonds that lead to no image of any of them.

    The bonds of a crystal or a network do: no lattice translations put all its bonded atoms next
    to each other.
    """
    if atoms < 2 or connected_components(bond_graph(bonds, atoms), directed=False)[0] > 1:
        return False
    shifts = whole_molecules(bonds, atoms)
    i, j = bonds.pairs.T
    return bool((shifts[j] - shifts[i] == bonds.shifts).all())


def chain_ends(numbers: HostNumbers, bonds: Bonds) -> tuple[int, int]:
    """The two atoms with the most bonds between them; not hydrogen, where there are others."""
    steps = shortest_path(bond_graph(bonds, len(numbers)), directed=False, unweighted=True)
    heavy = numbers > 1
    if heavy.sum() > 1:
        steps = np.where(heavy[:, None] & heavy, steps, -1)
    first, last = np.unravel_index(int(steps.argmax()), steps.shape)
    return int(first), int(last)


def rotatable_dihedrals(numbers: HostNumbers, bonds: Bonds) -> list[Quadruple]:
    """One dihedral angle about each bond that is in no ring and has neighbours at both ends.

    Its ends are the heaviest neighbours. Bonds to groups of hydrogen atoms alone, such as
    methyl, come last; :data:`MAX_DIHEDRALS` at most.
    """
    neighbors = _neighbors(bonds, len(numbers))

    def end(of: int, without: int) -> int:
        return max(neighbors[of] - {without}, key=lambda k: (numbers[k], -k))

    found = []
    for index, (b, c) in enumerate(bonds.pairs.tolist()):
        if len(neighbors[b]) < 2 or len(neighbors[c]) < 2 or _in_ring(bonds, index, len(numbers)):
            continue
        found.append((end(b, c), b, c, end(c, b)))
    found.sort(key=lambda four: (min(numbers[four[0]], numbers[four[3]]) == 1, four[1:3]))
    return found[:MAX_DIHEDRALS]


def backbone_dihedrals(numbers: HostNumbers, bonds: Bonds) -> list[tuple[Quadruple, Quadruple]]:
    """The angles phi (C-N-CA-C) and psi (N-CA-C-N) of each peptide residue with both.

    Found from the bonds: two amide groups C(=O)-N with one carbon between the nitrogen of the
    first and the carbonyl of the second.
    """
    neighbors = _neighbors(bonds, len(numbers))

    def of(element: int, atom: int) -> list[int]:
        return sorted(k for k in neighbors[atom] if numbers[k] == element)

    def carbonyl(atom: int) -> bool:
        return numbers[atom] == 6 and any(len(neighbors[o]) == 1 for o in of(8, atom))

    found = []
    for alpha in np.flatnonzero(numbers == 6).tolist():
        if carbonyl(alpha):
            continue
        for nitrogen in of(7, alpha):
            for carbon in filter(carbonyl, of(6, alpha)):
                before = [c for c in of(6, nitrogen) if carbonyl(c)]
                after = [n for n in of(7, carbon) if n != nitrogen]
                found += [
                    ((b, nitrogen, alpha, carbon), (nitrogen, alpha, carbon, a))
                    for b in before[:1]
                    for a in after[:1]
                ]
    return found


def _neighbors(bonds: Bonds, atoms: int) -> list[set[int]]:
    neighbors: list[set[int]] = [set() for _ in range(atoms)]
    for i, j in bonds.pairs.tolist():
        neighbors[i].add(j)
        neighbors[j].add(i)
    return neighbors


def _in_ring(bonds: Bonds, index: int, atoms: int) -> bool:
    """Whether the ends of a bond are connected without it."""
    rest = Bonds(*(np.delete(field, index, axis=0) for field in bonds))
    molecule = connected_components(bond_graph(rest, atoms), directed=False)[1]
    i, j = bonds.pairs[index]
    return bool(molecule[i] == molecule[j])
