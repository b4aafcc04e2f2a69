"""Means over a stream of correlated values, with block-averaged errors."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

#: Blocks kept at most. Half of that to all of it are full in the end, so each is longer than a
#: sixteenth of the stream and the error itself is known to a quarter.
MAX_BLOCKS = 16


class BlockAverage:
    """The mean of values that come in order, in one stream or several, and its standard error.

    The values are summed in consecutive blocks of equal length; when there are more than
    :data:`MAX_BLOCKS`, neighbours are merged, so a stream of any length needs the memory of a
    few values. Means of blocks longer than the correlation time are independent, and their
    scatter gives the error of the whole mean (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461,
    1989). Of several streams, such as replicas, the scatter of their means gives it too, also
    where each stays in a state of its own and its blocks agree: the larger of the two errors is
    given. Sums are made on the host in double precision: those of a long trajectory need more
    digits than single precision has.
    """

    def __init__(self) -> None:
        self._sums: np.ndarray | None = None
        self._length = 1
        self._streams: list[tuple[np.ndarray, int]] = []
        self._new_stream = True
        self.count = 0

    def next_stream(self) -> None:
        """The values that follow are of another stream, independent of those before."""
        self._new_stream = True

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
        before, count = (0, 0) if self._new_stream else self._streams.pop()
        self._streams.append((before + values.sum(axis=0), count + len(values)))
        self._new_stream = False

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
          function: takes the mean of a block, or of a stream; its scatter over them is what counts.
        """
        mean = self.mean()
        assert self._sums is not None
        full = self.count // self._length
        errors = np.full_like(np.asarray(function(mean), np.float64), np.nan)
        for parts in (
            [sums / self._length for sums in self._sums[:full]],
            [sums / count for sums, count in self._streams],
        ):
            if len(parts) > 1:
                each = np.stack([np.asarray(function(part)) for part in parts])
                errors = np.fmax(errors, each.std(axis=0, ddof=1) / np.sqrt(len(parts)))
        return errors
