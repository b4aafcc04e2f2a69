"""What observables give: numbers, curves and maps, each with errors."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from numpy import ndarray

from mlffjax.analysis.averages import BlockAverage
from mlffjax.md.trajectory_readers import FrameBlock


@dataclass(frozen=True)
class Scalar:
    """A mean value.

    Attributes:
      name: what it is.
      value: in ``unit``.
      error: standard error in ``unit``; ``nan`` where it is not known.
      unit: of both; empty for a plain number.
    """

    name: str
    value: float
    error: float
    unit: str

    def __str__(self) -> str:
        # What is constant has an error of rounding; one that is not known is nan.
        known = self.error > 1e-9 * abs(self.value)
        error = f" ± {self.error:.2g}" if known else ""
        return f"{self.value:.6g}{error} {self.unit}".rstrip()


@dataclass(frozen=True, eq=False)
class Curves:
    """Functions of one variable.

    Attributes:
      name: of the files they are written to.
      title, x_label, y_label: of a figure; labels carry the units.
      x: ``[points]``.
      labels: what each curve is.
      values: ``[curves, points]``.
      errors: standard errors ``[curves, points]``; ``nan`` where not known.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    x: Float[ndarray, "points"]
    labels: tuple[str, ...]
    values: Float[ndarray, "curves points"]
    errors: Float[ndarray, "curves points"]


@dataclass(frozen=True, eq=False)
class Map:
    """A function of two variables.

    Attributes:
      name, title, x_label, y_label: as of :class:`Curves`.
      x, y: centres of the bins ``[columns]``, ``[rows]``.
      values, errors: ``[columns, rows]``.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    x: Float[ndarray, "columns"]
    y: Float[ndarray, "rows"]
    values: Float[ndarray, "columns rows"]
    errors: Float[ndarray, "columns rows"]


Result: TypeAlias = Scalar | Curves | Map


class Observable(ABC):
    """Something that is read off a trajectory, or several, block after block."""

    @property
    @abstractmethod
    def averages(self) -> Iterable[BlockAverage]:
        """What the frames so far are summed in."""

    def next_trajectory(self) -> None:
        """The frames that follow are of another trajectory, of the same atoms."""
        for average in self.averages:
            average.next_stream()

    @abstractmethod
    def add(self, block: FrameBlock) -> None:
        """Take the next frames, of molecules made whole and not wrapped into the cell."""

    @abstractmethod
    def results(self) -> list[Result]:
        """What the frames so far give.

        Raises:
          ValueError: there were too few.
        """
