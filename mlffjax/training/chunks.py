"""The stream of batches a training or validation consumes, some steps at a time."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from mlffjax.data.loader import BatchOrder, PackedFrames, choose_rooms, room_of, select
from mlffjax.graph import GraphSize
from mlffjax.training.step import BATCH_AXIS, replicated

#: Steps in one call at most; with more, the host's share per step no longer falls.
MAX_CHUNK = 64
#: Steps that travel to the device together when the data set does not live there.
STREAM_CHUNK = 16
#: Share of the device's memory a resident data set may take.
RESIDENT_SHARE = 0.25
#: Memory assumed where the device does not tell (CPU).
UNKNOWN_MEMORY = 16 * 2**30


@dataclass(frozen=True)
class Chunk:
    """Consecutive batches of one padded size.

    Attributes:
      first: step of the first batch.
      count: number of batches.
      frames: indices into the data set ``[count, graphs]``, -1 for empty places.
      packed: data on the device.
      rows: indices into ``packed`` ``[chunk, graphs]``; only ``count`` rows are meant.
      room: padded size of each device's part of a batch.
    """

    first: int
    count: int
    frames: Int[np.ndarray, "count graphs"]
    packed: PackedFrames
    rows: Int[np.ndarray, "chunk graphs"]
    room: GraphSize


class BatchStream:
    """Batches of a packed data set in a fixed order, from the device or through it.

    Args:
      packed: the data set on the host.
      batch_size: structures a step; split evenly over the mesh.
      seed: of the order; ``None`` keeps that of the data.
      mesh: devices.
      resident: whether the data live on the device; ``None`` decides by their size.
    """

    def __init__(
        self,
        packed: PackedFrames,
        batch_size: int,
        seed: int | None,
        mesh: Mesh,
        resident: bool | None = None,
    ):
        self.order = BatchOrder(packed.num_frames, batch_size, seed)
        self._host = packed
        self._mesh = mesh
        self._shards = mesh.shape[BATCH_AXIS]
        self._width = -(-batch_size // self._shards) * self._shards
        self.rooms = choose_rooms(
            np.asarray(packed.num_atoms), np.asarray(packed.num_edges), self._width // self._shards
        )
        if resident is None:
            resident = packed.nbytes < RESIDENT_SHARE * _device_memory(mesh)
        self.resident = resident
        self.chunk_size = MAX_CHUNK if resident else STREAM_CHUNK
        self._device = replicated(mesh, packed) if resident else None

    def frames(self, first: int, count: int) -> Int[np.ndarray, "count graphs"]:
        """Frame indices of the steps from ``first`` on, padded to the width of the mesh."""
        rows = self.order.rows(first, count)
        return np.pad(rows, [(0, 0), (0, self._width - rows.shape[1])], constant_values=-1)

    def chunks(
        self, first: int, boundary: Callable[[int], int], length: Callable[[], int]
    ) -> Iterator[Chunk]:
        """Chunks from the step ``first`` on.

        Args:
          first: step to start at.
          boundary: the next step, after a given one, at which a chunk must end; the same step
            ends the stream.
          length: wanted number of batches; asked when a chunk is made.

        How the steps are cut into chunks changes nothing in their results: the padded size of
        a batch follows from its frames alone.
        """
        specs = self._specs(first, boundary, length)
        if self._device is not None:
            yield from (self._prepare(*spec) for spec in specs)
            return
        with ThreadPoolExecutor(1, "batches") as pool:
            waiting: deque[Future[Chunk]] = deque()
            for spec in specs:
                waiting.append(pool.submit(self._prepare, *spec))
                if len(waiting) > 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _specs(
        self, first: int, boundary: Callable[[int], int], length: Callable[[], int]
    ) -> Iterator[tuple[int, np.ndarray, GraphSize]]:
        while (end := boundary(first)) > first:
            frames = self.frames(first, min(end - first, max(1, length()), self.chunk_size))
            sizes = [self._room(row) for row in frames]
            count = next((k for k, s in enumerate(sizes) if s != sizes[0]), len(sizes))
            yield first, frames[:count], sizes[0]
            first += count

    def _room(self, row: Int[np.ndarray, "graphs"]) -> GraphSize:
        return room_of(self.rooms, self._host, row.reshape(self._shards, -1))

    def _prepare(self, first: int, frames: np.ndarray, room: GraphSize) -> Chunk:
        rows = np.full((self.chunk_size, self._width), -1, np.int32)
        count = len(frames)
        if self._device is not None:
            rows[:count] = frames
            return Chunk(first, count, frames, self._device, rows, room)
        places = self.chunk_size * self._shards
        capacity = GraphSize(places * room.atoms, places * room.edges, places * room.graphs)
        real = frames >= 0
        rows[:count][real] = np.arange(real.sum(), dtype=np.int32)
        packed = replicated(self._mesh, select(self._host, frames[real], capacity))
        return Chunk(first, count, frames, packed, rows, room)


def _device_memory(mesh: Mesh) -> int:
    stats = mesh.devices.flat[0].memory_stats() or {}
    return stats.get("bytes_limit", UNKNOWN_MEMORY)
