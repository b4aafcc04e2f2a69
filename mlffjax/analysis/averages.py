"""Means over a stream of correlated values, with block-averaged errors."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

#: Blocks kept at most. Half of that to all of it are full in the end, so each is longer than a
#: sixteenth of the stream and the error itself is known to a quarter.
MAX_BLOCKS = 16


class BlockAverage:
    """The mean of values that come in order, and its standard error.

    The values are summed in consecutive blocks of equal length; when there are more than
    :data:`MAX_BLOCKS`, neighbours are merged, so a stream of any length needs the memory of a
    few values. Means of blocks longer than the correlation time are independent, and their
    scatter gives the error of the whole mean (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461,
    1989). Sums are made on the host in double precision: those of a long trajectory need more
    digits than single precision has.
    """

    def __init__(self) -> None:
        self._sums: np.ndarray | None = None
        self._length = 1
        self.count = 0

    def add(self, values: Float[np.ndarray, "values *shape"]) -> None:
        """Take the next values, along the first axis."""
        values = np.asarray(values, np.float64)
        if self._sums is None:
            self._sums = np.zeros((MAX_BLOCKS, *values.shape[1:]))
        while self.count + len(values) > MAX_BLOCKS * self._length:
            merged = self._sums[::2] + self._sums[1::2]
            self._sums = np.concatenate([merged, np.zeros_like(merged)])
            self._length *= 2
        block = (self.count + np.arange(len(values))) // self._length
        for k in np.unique(block):
            self._sums[k] += values[block == k].sum(axis=0)
        self.count += len(values)

    def mean(self) -> Float[np.ndarray, "*shape"]:
        """The mean of all values.

        Raises:
          ValueError: there are none.
        """
        if self._sums is None or not self.count:
            raise ValueError("got no values; expected at least one; check the trajectory")
        return self._sums.sum(axis=0) / self.count

    def error(
        self, function: Callable[[np.ndarray], np.ndarray] = lambda mean: mean
    ) -> Float[np.ndarray, "*result"]:
        """The standard error of ``function`` of the mean; ``nan`` where there is one block.

        Args:
          function: takes the mean of a block; its scatter over the blocks is what counts.
        """
        mean = self.mean()
        assert self._sums is not None
        full = self.count // self._length
        if full < 2:
            return np.full_like(np.asarray(function(mean), np.float64), np.nan)
        each = np.stack([np.asarray(function(s / self._length)) for s in self._sums[:full]])
        return each.std(axis=0, ddof=1) / np.sqrt(full)
