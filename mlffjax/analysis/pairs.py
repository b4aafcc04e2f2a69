"""Radial distribution functions, partial by elements, and coordination numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Float, Int

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.frames import map_frames
from mlffjax.analysis.images import (
    Images,
    boxes_of,
    centre_chunks,
    frames_at_once,
    images_needed,
    vectors_from,
)
from mlffjax.analysis.lists import lists_pay
from mlffjax.analysis.results import Curves, Observable, Result, Scalar
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.neighbors import pair_distances
from mlffjax.precision import full_precision
from mlffjax.types import HostCell, HostNumbers, HostPbc, HostVectors, Positions

#: The first minimum of ``g(r)`` is sought up to so many times the place of its peak: the second
#: shell of a close packing is at 1.41 of the first, that of liquids and of water at 1.6 and more.
SHELL_REACH = 1.6


class RadialDistribution(Observable):
    """Radial distribution functions and coordination numbers; else the density of pair distances.

    ``g_ab(r) = V / (N_a N_b) <n_ab(r)> / (4 pi r^2 dr)`` with ``n_ab`` the number of ordered
    pairs in the shell (Allen and Tildesley, Computer Simulation of Liquids, sec. 2.6; the shell's
    volume is taken exactly). A frame without three periodic directions has no density. Of a
    molecule the probability density of a pair's distance is given instead, with integral one over
    all pairs, however far apart. In a slab or a wire an atom has any number of images: there it is
    ``<n_ab(r)> / (N_a N_b dr)``, whose integral up to ``r`` is the mean number of images of an
    atom ``b`` within ``r`` of an atom ``a``. The running coordination number is the mean number
    of ``b`` nearer to an ``a`` than ``r``.

    Args:
      numbers: atomic numbers ``[atoms]``.
      pbc: periodic directions ``[3]``.
      r_max: in Angstrom; may exceed half the cell, images are counted.
      num_bins: number of bins.
      lists: whether pairs come from neighbour lists, one frame after the other, or all pairs of
        many frames are computed at once; the faster of the two for the first frame if not given.
    """

    def __init__(
        self,
        numbers: HostNumbers,
        pbc: HostPbc,
        r_max: float,
        num_bins: int = 200,
        *,
        lists: bool | None = None,
    ) -> None:
        elements = np.unique(numbers)
        self.pbc = (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))
        self.edges = np.linspace(0, r_max, num_bins + 1)
        self._species = np.searchsorted(elements, numbers).astype(np.int32)
        self._amounts = np.bincount(self._species)
        self._symbols = [chemical_symbols[z] for z in elements]
        self._pairs = [(a, b) for a in range(len(elements)) for b in range(a, len(elements))]
        self._density, self._neighbors = BlockAverage(), BlockAverage()
        self._images: Images = ()
        self._lists = lists

    @property
    def averages(self) -> tuple[BlockAverage, ...]:
        """See :attr:`Observable.averages`."""
        return (self._density, self._neighbors)

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        boxes, pbc = boxes_of(block.cell, np.asarray(self.pbc)), np.asarray(self.pbc)
        r_max = float(self.edges[-1])
        self._images = images_needed(boxes, pbc, r_max, self._images)
        if self._lists is None:
            self._lists = lists_pay(block.positions[0], boxes[0], pbc, r_max, len(self._images))
        if self._lists:
            frames = zip(block.positions, boxes, strict=True)
            ordered = np.stack([self._listed(positions, box) for positions, box in frames])
        else:
            ordered = self._of_all_pairs(block.positions, boxes)
        ordered = ordered.astype(np.float64)
        self._neighbors.add(np.cumsum(ordered, axis=-1) / self._amounts[:, None, None])
        self._density.add(self._normalized(ordered, np.abs(np.linalg.det(boxes))))

    def _of_all_pairs(
        self, positions: Float[np.ndarray, "frames atoms 3"], boxes: Float[np.ndarray, "frames 3 3"]
    ) -> Int[np.ndarray, "frames elements elements bins"]:
        function = partial(
            _counts,
            species=self._species,
            num_elements=len(self._symbols),
            pbc=self.pbc,
            images=self._images,
            r_max=float(self.edges[-1]),
            num_bins=len(self.edges) - 1,
        )
        size = frames_at_once(len(self._species), len(self._images))
        return map_frames(function, size, positions, boxes)

    def _listed(
        self, positions: HostVectors, box: HostCell
    ) -> Int[np.ndarray, "elements elements bins"]:
        """Ordered pairs of one frame, as :func:`_counts` gives them."""
        kinds, num_bins, r_max = len(self._symbols), len(self.edges) - 1, float(self.edges[-1])
        i, j, r = pair_distances(positions, box, np.asarray(self.pbc), r_max)
        kind = self._species[i] * kinds + self._species[j]
        bins = np.minimum((r * (num_bins / r_max)).astype(np.int64), num_bins - 1)
        index = (kind * num_bins + bins)[r < r_max]
        once = np.bincount(index, minlength=kinds**2 * num_bins).reshape(kinds, kinds, num_bins)
        return once + once.transpose(1, 0, 2)

    def _normalized(self, ordered: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """Densities ``[frames, 1 + pairs, bins]`` from ordered counts ``[frames, a, b, bins]``."""
        n = self._amounts
        counts = [ordered.sum(axis=(1, 2)), *(ordered[:, a, b] for a, b in self._pairs)]
        # All pairs of two atoms, those of an atom with itself included, and excluded.
        square = np.array([n.sum() ** 2, *(n[a] * n[b] for a, b in self._pairs)])
        distinct = square - np.array([n.sum(), *(n[a] * (a == b) for a, b in self._pairs)])
        counted = np.stack(counts, axis=1)
        if all(self.pbc):
            shells = 4 / 3 * np.pi * np.diff(self.edges**3)
            return counted * volumes[:, None, None] / (square[:, None] * shells)
        # An atom is no neighbour of itself, but of its own images.
        most = square if any(self.pbc) else np.maximum(distinct, 1)
        return counted / (most[:, None] * np.diff(self.edges))

    def results(self) -> list[Result]:
        """``rdf`` and ``coordination``; in a periodic system also numbers in the first shell."""
        r = (self.edges[1:] + self.edges[:-1]) / 2
        density, names = self._density.mean(), [self._name(a, b) for a, b in self._pairs]
        periodic = all(self.pbc)
        density_label = "images per pair (1/Å)" if any(self.pbc) else "probability density (1/Å)"
        shown = [0, *(k + 1 for k in range(len(names)) if density[k + 1].any())]
        shown = shown[:1] if len(names) == 1 else shown
        rdf = Curves(
            name="rdf",
            title="Radial distribution function" if periodic else "Interatomic distances",
            x_label="distance (Å)",
            y_label="g(r)" if periodic else density_label,
            x=r,
            labels=tuple(["all", *names][k] for k in shown),
            values=density[shown],
            errors=self._density.error()[shown],
        )
        return [rdf, *(self._coordination(r, density[1:]) if periodic else [])]

    def _coordination(self, r: np.ndarray, density: np.ndarray) -> list[Result]:
        neighbors, errors = self._neighbors.mean(), self._neighbors.error()
        both = sorted({*self._pairs, *((b, a) for a, b in self._pairs)})
        curves = Curves(
            name="coordination",
            title="Running coordination number",
            x_label="distance (Å)",
            y_label="neighbours nearer than r",
            x=self.edges[1:],
            labels=tuple(self._name(a, b) for a, b in both),
            values=np.stack([neighbors[a, b] for a, b in both]),
            errors=np.stack([errors[a, b] for a, b in both]),
        )
        scalars = []
        for a, b in both:
            shell = first_shell(r, density[self._pairs.index((min(a, b), max(a, b)))])
            if shell is not None:
                scalars.append(
                    Scalar(
                        f"coordination {self._name(a, b)} (r < {self.edges[shell + 1]:.2f} Å)",
                        float(neighbors[a, b, shell]),
                        float(errors[a, b, shell]),
                        "",
                    )
                )
        return [curves, *scalars]

    def _name(self, a: int, b: int) -> str:
        return f"{self._symbols[a]}-{self._symbols[b]}"


def first_shell(r: Float[np.ndarray, "bins"], density: Float[np.ndarray, "bins"]) -> int | None:
    """The bin of the first minimum after the peak of ``g(r)``; ``None`` if it lies beyond.

    Args:
      r: centres of the bins in Angstrom.
      density: ``g(r)``.
    """
    peak = int(density.argmax())
    reach = np.flatnonzero(r < SHELL_REACH * r[peak])
    if density[peak] <= 1 or r[-1] < SHELL_REACH * r[peak] or reach[-1] <= peak:
        return None
    low = density[peak : reach[-1] + 1]
    # The middle of the first empty stretch, where there is one.
    lowest = np.flatnonzero(low <= low.min())
    stretch = np.split(lowest, np.flatnonzero(np.diff(lowest) > 1) + 1)[0]
    return peak + int(stretch[len(stretch) // 2])


@partial(jax.jit, static_argnames=("num_elements", "pbc", "images", "r_max", "num_bins"))
@full_precision
def _counts(
    positions: Float[Array, "frames atoms 3"],
    boxes: Float[Array, "frames 3 3"],
    species: Int[Array, "atoms"],
    num_elements: int,
    pbc: tuple[bool, bool, bool],
    images: Images,
    r_max: float,
    num_bins: int,
) -> Int[Array, "frames elements elements bins"]:
    """Ordered pairs by the elements of centre and neighbour, and by distance."""
    shape = (num_elements, num_elements, num_bins)
    chunks = jnp.asarray(centre_chunks(positions.shape[1], len(images)))

    def of_frame(positions: Positions, box: Float[Array, "3 3"]) -> Array:
        def of_centres(counts: Array, centres: Array) -> tuple[Array, None]:
            vectors, elsewhere = vectors_from(centres, positions, box, pbc, images)
            r = jnp.linalg.norm(vectors, axis=-1)
            near = elsewhere & (r < r_max) & (centres >= 0)[:, None, None]
            bins = jnp.minimum((r * (num_bins / r_max)).astype(jnp.int32), num_bins - 1)
            kind = species[centres][:, None] * num_elements + species
            index = jnp.where(near, kind[:, :, None] * num_bins + bins, counts.size)
            return counts.at[index.reshape(-1)].add(1, mode="drop"), None

        empty = jnp.zeros(num_elements**2 * num_bins, jnp.int32)
        return jax.lax.scan(of_centres, empty, chunks)[0].reshape(shape)

    return jax.vmap(of_frame)(positions, boxes)
