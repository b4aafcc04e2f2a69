"""Time correlation functions over stretches of a trajectory: velocities, spectra, diffusion.

A stretch has twice as many frames as there are lags, and every stretch starts where the first
half of the one before ended. With time origins in the first half only, no frame is an origin
twice, all lags have equally many, and no more than one stretch is in memory. The last frames,
as many as there are lags and less than twice as many, are no origins: too few frames follow
them to fill a stretch. Products are summed over origins by FFT (Wiener-Khinchin), as in
Calandrini et al., Collection SFN 12, 201 (2011).
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_masses, chemical_symbols
from jaxtyping import Array, Float, Int

from mlffjax.analysis.averages import BlockAverage
from mlffjax.analysis.results import Curves, Observable, Result, Scalar
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.precision import full_precision
from mlffjax.types import HostNumbers, HostPbc
from mlffjax.units import SPEED_OF_LIGHT_CM_PER_FS

#: Numbers of one Fourier transform.
MAX_VALUES = 8_000_000
#: The spectrum's points lie so many times denser than its resolution.
ZERO_PADDING = 4
#: The line of diffusion is fitted to the lags from this part of the longest on. A choice: the
#: ballistic start, of less than a picosecond in a liquid, must be left out, and the curve tells
#: whether it was straight from there on.
FIT_FROM = 0.2
#: 1 Angstrom^2/fs in 10^-5 cm^2/s.
DIFFUSION_UNIT = 1e4


class TimeCorrelation(Observable):
    """Base of what correlates frames of a trajectory with later ones.

    Args:
      numbers: atomic numbers ``[atoms]``.
      frame_fs: time from one frame to the next in fs.
      num_lags: lags, zero included; a stretch is twice as long.
      masses: in amu ``[atoms]``; those of the elements if not given.

    Raises:
      ValueError: fewer than two lags.
    """

    def __init__(
        self,
        numbers: HostNumbers,
        frame_fs: float,
        num_lags: int,
        *,
        masses: Float[np.ndarray, "atoms"] | None = None,
    ) -> None:
        if num_lags < 2:
            raise ValueError(
                f"got {num_lags} lags for a time correlation; expected two or more; give more "
                "frames, or a longer lag"
            )
        self.elements = np.unique(numbers)
        self.species = np.searchsorted(self.elements, numbers).astype(np.int32)
        self.masses = atomic_masses[numbers] if masses is None else masses
        self.frame_fs, self.num_lags = frame_fs, num_lags
        self.average = BlockAverage()
        self._buffer: list[np.ndarray] = []

    @property
    def averages(self) -> tuple[BlockAverage, ...]:
        """See :attr:`Observable.averages`."""
        return (self.average,)

    def next_trajectory(self) -> None:
        """No frame is correlated with one of another trajectory."""
        super().next_trajectory()
        self._buffer = []

    def add(self, block: FrameBlock) -> None:
        """See :meth:`Observable.add`."""
        self._buffer.append(self.values(block))
        if sum(map(len, self._buffer)) < 2 * self.num_lags:
            return
        frames = np.concatenate(self._buffer)
        while len(frames) >= 2 * self.num_lags:
            self.average.add(self._by_element(frames[: 2 * self.num_lags])[None])
            frames = frames[self.num_lags :]
        self._buffer = [frames]

    @property
    def lags_fs(self) -> Float[np.ndarray, "lags"]:
        """The lags in fs."""
        return np.arange(self.num_lags) * self.frame_fs

    @property
    def labels(self) -> tuple[str, ...]:
        """All atoms, then each element where there are several."""
        symbols = [chemical_symbols[z] for z in self.elements]
        return ("all", *symbols) if len(symbols) > 1 else ("all",)

    def _by_element(self, stretch: np.ndarray) -> np.ndarray:
        """Sums over the atoms of each element ``[elements, lags]``, a few atoms at a time."""
        size = max(1, MAX_VALUES // (stretch.shape[2] * len(stretch)))
        total = np.zeros((len(self.elements), self.num_lags))
        for first in range(0, stretch.shape[1], size):
            part = slice(first, first + size)
            total += np.asarray(
                self.correlate(
                    jnp.asarray(stretch[:, part]),
                    jnp.asarray(self.species[part]),
                    num_elements=len(self.elements),
                )
            )
        return total

    def _with_total(self, by_element: np.ndarray) -> np.ndarray:
        """The sum over the elements, then each element where there are several."""
        total = by_element.sum(axis=0, keepdims=True)
        return np.concatenate([total, by_element]) if len(by_element) > 1 else total

    @abstractmethod
    def values(self, block: FrameBlock) -> Float[np.ndarray, "frames atoms components"]:
        """What is correlated."""

    @property
    @abstractmethod
    def correlate(self) -> Callable[..., Array]:
        """Sums over origins and atoms of an element, over the number of origins."""


class VelocityCorrelation(TimeCorrelation):
    """Velocity autocorrelation and vibrational power spectrum, weighted with the masses.

    ``C(t) = sum_i m_i <v_i(0) . v_i(t)>``, given divided by ``C(0)``; the spectrum is its
    Fourier transform, with a Hann window over the lags and padded with zeros to four times as
    many; a line is ``1 / (T c)`` wide at half its height for lags up to ``T``. It is normalised
    to one over all wave numbers, the spectra of elements to their share of it, which at
    equilibrium is their share of the degrees of freedom.
    """

    def values(self, block: FrameBlock) -> Float[np.ndarray, "frames atoms 3"]:
        """Velocities times the root of the mass."""
        if block.velocities is None:
            raise ValueError(
                "got frames without velocities for the velocity autocorrelation; expected "
                "velocities; write them, or leave out the spectrum"
            )
        return block.velocities * np.sqrt(self.masses)[:, None]

    @property
    def correlate(self) -> Callable[..., Array]:
        """See :meth:`TimeCorrelation.correlate`."""
        return _autocorrelation

    def results(self) -> list[Result]:
        """``vacf`` and ``spectrum``."""
        mean = self.average.mean()
        wave_numbers = self.wave_numbers()

        def normalized(c: np.ndarray) -> np.ndarray:
            with_total = self._with_total(c)
            return with_total / with_total[:, :1]

        vacf = Curves(
            name="vacf",
            title="Velocity autocorrelation",
            x_label="time (fs)",
            y_label="C(t) / C(0)",
            x=self.lags_fs,
            labels=self.labels,
            values=normalized(mean),
            errors=self.average.error(normalized),
        )
        spectrum = Curves(
            name="spectrum",
            title="Vibrational power spectrum",
            x_label="wave number (1/cm)",
            y_label="density of states (cm)",
            x=wave_numbers,
            labels=self.labels,
            values=self._spectrum(mean),
            errors=self.average.error(self._spectrum),
        )
        return [vacf, spectrum]

    def wave_numbers(self) -> Float[np.ndarray, "points"]:
        """Of the spectrum in 1/cm, up to the Nyquist limit of the frames."""
        points = 2 * ZERO_PADDING * self.num_lags
        return np.fft.rfftfreq(points, self.frame_fs) / SPEED_OF_LIGHT_CM_PER_FS

    def _spectrum(self, by_element: np.ndarray) -> np.ndarray:
        lags = self.num_lags
        window = np.cos(0.5 * np.pi * np.arange(lags) / lags) ** 2
        even = np.zeros((len(by_element), 2 * ZERO_PADDING * lags))
        even[:, :lags] = by_element * window
        even[:, -lags + 1 :] = even[:, 1:lags][:, ::-1]
        spectrum = self._with_total(np.fft.rfft(even).real)
        width = self.wave_numbers()[1]
        return spectrum / (spectrum[0].sum() * width)


class Diffusion(TimeCorrelation):
    """Mean squared displacement, relative to the centre of mass, and diffusion coefficients.

    ``D`` is the slope over ``2 d`` of a line fitted from a fifth of the longest lag on (Einstein;
    Allen and Tildesley, sec. 2.7), with ``d`` the number of periodic directions. In a slab or a
    wire only the motion along its lattice vectors counts: across them atoms are confined, and the
    displacement stops growing. The error comes from fits to parts of the trajectory.

    At constant pressure positions scale with the cell, also of an atom that has left its first
    cell, so that breathing of the cell adds to displacements far from the origin (von Bülow,
    Bullerjahn and Hummer, J. Chem. Phys. 153, 021101, 2020): for diffusion over many cells
    simulate at constant volume.

    Args:
      numbers: atomic numbers ``[atoms]``.
      pbc: periodic directions ``[3]``, one at least.
      frame_fs: time from one frame to the next in fs.
      num_lags: lags, zero included; a stretch is twice as long.
      masses: in amu ``[atoms]``; those of the elements if not given.

    Raises:
      ValueError: fewer than two lags.
    """

    def __init__(
        self,
        numbers: HostNumbers,
        pbc: HostPbc,
        frame_fs: float,
        num_lags: int,
        *,
        masses: Float[np.ndarray, "atoms"] | None = None,
    ) -> None:
        super().__init__(numbers, frame_fs, num_lags, masses=masses)
        self.pbc = np.asarray(pbc, bool)
        self._along: np.ndarray | None = None

    def next_trajectory(self) -> None:
        """Its lattice may be turned another way."""
        super().next_trajectory()
        self._along = None

    def values(self, block: FrameBlock) -> Float[np.ndarray, "frames atoms directions"]:
        """Components along the periodic directions of positions relative to the centre of mass."""
        centre = np.einsum("i,tic->tc", self.masses / self.masses.sum(), block.positions)
        positions = block.positions - centre[:, None]
        if self.pbc.all():
            return positions
        if self._along is None:
            # An orthonormal basis of what the periodic lattice vectors span.
            self._along = np.linalg.qr(block.cell[0][self.pbc].T)[0]
        return positions @ self._along

    @property
    def correlate(self) -> Callable[..., Array]:
        """See :meth:`TimeCorrelation.correlate`."""
        return _squared_displacement

    def results(self) -> list[Result]:
        """``msd``, and ``diffusion`` of all atoms and of each element."""
        amounts = self._with_total(np.bincount(self.species)[:, None])

        def per_atom(summed: np.ndarray) -> np.ndarray:
            return self._with_total(summed) / amounts

        def coefficient(summed: np.ndarray) -> np.ndarray:
            first = int(FIT_FROM * self.num_lags)
            time = self.lags_fs[first:]
            slope = np.polyfit(time - time.mean(), per_atom(summed)[:, first:].T, 1)[0]
            return DIFFUSION_UNIT * slope / (2 * self.pbc.sum())

        mean = self.average.mean()
        values, errors = coefficient(mean), self.average.error(coefficient)
        where = "" if self.pbc.all() else " along the periodic directions"
        msd = Curves(
            name="msd",
            title=f"Mean squared displacement{where}",
            x_label="time (ps)",
            y_label="MSD (Å²)",
            x=self.lags_fs / 1000,
            labels=self.labels,
            values=per_atom(mean),
            errors=self.average.error(per_atom),
        )
        names = [f"diffusion coefficient{'' if n == 'all' else f' {n}'}" for n in self.labels]
        return [
            msd,
            *(
                Scalar(name, float(v), float(e), "10⁻⁵ cm²/s")
                for name, v, e in zip(names, values, errors, strict=True)
            ),
        ]


@partial(jax.jit, static_argnames="num_elements")
@full_precision
def _autocorrelation(
    stretch: Float[Array, "frames atoms components"],
    species: Int[Array, "atoms"],
    num_elements: int,
) -> Float[Array, "elements lags"]:
    lags = stretch.shape[0] // 2
    origins = stretch.at[lags:].set(0)
    # The padding of the origins keeps the circular correlation from wrapping around.
    product = jnp.conj(jnp.fft.rfft(origins, axis=0)) * jnp.fft.rfft(stretch, axis=0)
    summed = jax.ops.segment_sum(product.sum(axis=-1).T, species, num_elements)
    return jnp.fft.irfft(summed, n=2 * lags, axis=-1)[:, :lags] / lags


@partial(jax.jit, static_argnames="num_elements")
@full_precision
def _squared_displacement(
    stretch: Float[Array, "frames atoms components"],
    species: Int[Array, "atoms"],
    num_elements: int,
) -> Float[Array, "elements lags"]:
    lags = stretch.shape[0] // 2
    # |r(t) - r(0)|^2 = r(t)^2 + r(0)^2 - 2 r(t) r(0); these cancel least about the
    # middle of the path.
    stretch = stretch - stretch.mean(axis=0)
    squares = jax.ops.segment_sum((stretch**2).sum(axis=-1).T, species, num_elements)
    sums = jnp.pad(jnp.cumsum(squares, axis=-1), ((0, 0), (1, 0)))
    windows = sums[:, lags : 2 * lags] - sums[:, :lags]
    products = _autocorrelation(stretch, species, num_elements)
    displacement = (windows + windows[:, :1]) / lags - 2 * products
    # The lag of zero is zero but for rounding.
    return displacement.at[:, 0].set(0)
