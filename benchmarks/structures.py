"""Structures to time: from a file where one is given, made here where not."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import ase.build
import ase.io
import numpy as np
from ase import Atoms

#: Water of 1 g/cm^3: molecules in a cubic Angstrom.
WATER_DENSITY = 0.0334
#: Heavy atoms and hydrogens of a protein, as in molecules of the size asked for.
ORGANIC = ((1, 0.5), (6, 0.32), (7, 0.08), (8, 0.10))
#: Atoms in a cubic Angstrom of an organic molecule, about that of a folded protein.
ORGANIC_DENSITY = 0.10


@dataclasses.dataclass(frozen=True)
class System:
    """What is timed.

    Attributes:
      name: as printed.
      frames: structures; the first is simulated, the first ``k`` are a batch.
      origin: what it is and where it comes from.
    """

    name: str
    frames: tuple[Atoms, ...]
    origin: str

    def as_json(self, count: int = 1) -> list[dict[str, Any]]:
        """The first ``count`` frames for a request."""
        return [
            {
                "numbers": atoms.numbers.tolist(),
                "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist(),
                "pbc": atoms.pbc.tolist(),
            }
            for atoms in self.frames[:count]
        ]


def from_file(name: str, path: Path, count: int = 5) -> System:
    """The first frames of a file that ASE reads.

    A frame in whose cell no atom comes near a periodic image (6 Angstrom) counts as a molecule:
    some data sets state a box for free molecules.
    """
    frames = cast(list[Atoms], ase.io.read(path, f":{count}"))
    for atoms in frames:
        extent = np.ptp(atoms.positions, axis=0)
        if np.all(atoms.cell.lengths() - extent > 6):
            atoms.pbc = False
    return System(name, tuple(frames), f"file {path.name}")


def molecule(num_atoms: int, seed: int = 0, frames: int = 5) -> System:
    """Atoms at random in a ball of the density of an organic molecule, 0.9 Angstrom apart."""
    rng = np.random.default_rng(seed)
    radius = (3 * num_atoms / (4 * np.pi * ORGANIC_DENSITY)) ** (1 / 3)
    elements, weights = np.array([z for z, _ in ORGANIC]), np.array([w for _, w in ORGANIC])
    made = []
    for _ in range(frames):
        positions = _packed(num_atoms, radius, rng)
        made.append(Atoms(rng.choice(elements, num_atoms, p=weights), positions))
    return System(f"molecule{num_atoms}", tuple(made), "random molecule of organic density")


def _packed(count: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Points in a ball, a jittered grid: never closer than 0.9 Angstrom."""
    spacing = ORGANIC_DENSITY ** (-1 / 3)
    steps = np.arange(-np.ceil(radius / spacing), np.ceil(radius / spacing) + 1)
    grid = spacing * np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    nearest = np.argsort(np.linalg.norm(grid, axis=1))[:count]
    jitter = (spacing - 0.9) / 2 / np.sqrt(3)
    return grid[nearest] + rng.uniform(-jitter, jitter, (count, 3))


def water(num_atoms: int, seed: int = 0) -> System:
    """Molecules on a jittered grid, turned at random, in a periodic box of 1 g/cm^3."""
    rng = np.random.default_rng(seed)
    count = num_atoms // 3
    side = (count / WATER_DENSITY) ** (1 / 3)
    cells = int(np.ceil(count ** (1 / 3) - 1e-9))
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3), -1).reshape(-1, 3)
    grid = grid[rng.permutation(len(grid))[:count]]
    monomer = ase.build.molecule("H2O")
    positions = []
    for place in grid:
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        inner = (monomer.positions - monomer.positions[0]) @ rotation
        positions.append((place + 0.5 + rng.uniform(-0.05, 0.05, 3)) * side / cells + inner)
    box = Atoms("OHH" * count, np.concatenate(positions), cell=[side] * 3, pbc=True)
    return System(f"water{3 * count}", (box,), "jittered grid of water, 1 g/cm^3")


def copper(num_atoms: int, seed: int = 0) -> System:
    """Rattled fcc copper of the next cubic number of cells."""
    cells = max(1, round((num_atoms / 4) ** (1 / 3)))
    atoms = ase.build.bulk("Cu", "fcc", a=3.61, cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=seed)
    return System(f"cu{len(atoms)}", (atoms,), "rattled fcc copper")


def lithium_phosphate(seed: int = 0) -> System:
    """192 atoms with the composition and density of Li3PO4, at random."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat([3, 15, 8], [72, 24, 96])
    side = (192 / 0.1003) ** (1 / 3)  # 8 atoms in 79.8 cubic Angstrom: the beta phase
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3)
    grid = grid[rng.permutation(216)[:192]] + rng.uniform(-0.1, 0.1, (192, 3))
    atoms = Atoms(rng.permutation(numbers), grid * side / 6, cell=[side] * 3, pbc=True)
    return System("li3po4", (atoms,), "random atoms with the density of Li3PO4")


def make(name: str, files: dict[str, Path]) -> System:
    """The system called ``name``.

    Args:
      name: of a file given, or ``molecule<n>``, ``water<n>``, ``cu<n>``, ``bpa27`` (a random
        molecule of 27 atoms), ``li3po4``.
      files: structure files by name.

    Raises:
      ValueError: an unknown name.
    """
    if name in files:
        return from_file(name, files[name])
    if name == "li3po4":
        return lithium_phosphate()
    if name == "bpa27":
        return dataclasses.replace(molecule(27), name=name)
    for prefix, function in (("molecule", molecule), ("water", water), ("cu", copper)):
        if name.startswith(prefix) and name[len(prefix) :].isdigit():
            return function(int(name[len(prefix) :]))
    raise ValueError(
        f"got the system {name!r}; expected bpa27, li3po4, molecule<n>, water<n>, cu<n> or the "
        "name of a --structure"
    )


def elements(systems: Sequence[System]) -> list[int]:
    """Atomic numbers that occur."""
    return sorted({int(z) for s in systems for atoms in s.frames for z in atoms.numbers})
