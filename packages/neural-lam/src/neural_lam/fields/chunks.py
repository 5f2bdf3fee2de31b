"""Reading chunk by chunk, the next chunk ahead of its use."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

__all__ = ["ChunkReader"]


class ChunkReader:
    """Reads consecutive items chunk by chunk, the next chunk ahead of its use.

    The memory it takes doesn't depend on how long the data are.

    Arguments:
        read: Reads items from a first to one past a last.
        count: Items.
        length: Items in a chunk.
        num_kept: Chunks that stay in memory.
    """

    def __init__(
        self, read: Callable[[int, int], Tensor], count: int, length: int, num_kept: int = 3
    ) -> None:
        self._read, self._count, self._length, self._num_kept = read, count, length, num_kept
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._chunks: OrderedDict[int, Future[Tensor]] = OrderedDict()

    def read(self, start: int, stop: int) -> Tensor:
        """Items ``start`` to ``stop``."""
        first, last = start // self._length, (stop - 1) // self._length
        parts = [self._chunk(number).result() for number in range(first, last + 1)]
        if (last + 1) * self._length < self._count:
            self._chunk(last + 1)
        while len(self._chunks) > max(self._num_kept, last - first + 2):
            self._chunks.popitem(last=False)
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined[start - first * self._length : stop - first * self._length]

    def _chunk(self, number: int) -> Future[Tensor]:
        if number not in self._chunks:
            first = number * self._length
            last = min(first + self._length, self._count)
            self._chunks[number] = self._pool.submit(self._read, first, last)
        self._chunks.move_to_end(number)
        return self._chunks[number]

    def __getstate__(self) -> dict[str, Any]:
        # Threads and what they hold stay behind when a process is spawned.
        return {"_read": self._read, "_count": self._count, "_length": self._length,
                "_num_kept": self._num_kept}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state.values())  # type: ignore[misc]
