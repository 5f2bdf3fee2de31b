r"""Loaders for training that can stop anywhere, on any number of devices.

The order of epoch :math:`e` is a permutation that depends on (seed, :math:`e`) alone. Global
batch :math:`k` is its entries :math:`kB, \dots, (k+1)B - 1`, and rank :math:`r` of
:math:`R` takes every :math:`R`-th of them. One device with batch :math:`B` therefore sees
what :math:`R` devices with :math:`B/R` see, and a resumed run continues with the batch
that was next. Evaluation takes every sample once: no rank pads its share.
"""

from collections.abc import Collection, Iterator
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.randomness import keyed_generator

__all__ = ["EvaluationLoader", "IndexedDataset", "TrainingLoader"]


class IndexedDataset(Protocol):
    """Samples read by a tensor of indices, as one batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Any: ...


def _rank_and_size() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class TrainingLoader:
    """Shuffled batches of training samples; its position can be saved and restored.

    Every batch is full: the last ``len(dataset) % global batch`` samples of a permutation
    wait for another epoch.

    Arguments:
        dataset: Where the samples come from.
        batch_size: Samples per device.
        seed: Seed of the permutations.
    """

    def __init__(self, dataset: IndexedDataset, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.epoch, self.batch = 0, 0

    def __len__(self) -> int:
        _, size = _rank_and_size()
        length = len(self.dataset) // (self.batch_size * size)
        if length == 0:
            raise InputError(
                f"batch_size x devices must be at most the {len(self.dataset)} training samples,"
                f" got {self.batch_size} x {size}"
            )
        return length

    def __iter__(self) -> Iterator[Any]:
        if self.batch >= len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        rank, size = _rank_and_size()
        order = torch.randperm(len(self.dataset), generator=keyed_generator(self.seed, self.epoch))
        for start in range(self.batch, len(self)):
            step = self.batch_size * size
            # Counted before the batch is handed out: a checkpoint written while it is
            # being learnt must continue with the next one.
            self.batch = start + 1
            yield self.dataset[order[start * step : (start + 1) * step][rank::size]]

    def state_dict(self) -> dict[str, int]:
        """Position of the loader: the epoch, and the batches handed out in it."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position."""
        self.epoch, self.batch = state["epoch"], state["batch"]


class EvaluationLoader:
    """Every sample once, in order, spread over the ranks without padding.

    Arguments:
        dataset: Where the samples come from.
        batch_size: Samples per device; the last batch may be smaller.
        skipped: Indices that are left out.
    """

    def __init__(
        self, dataset: IndexedDataset, batch_size: int, skipped: Collection[int] = ()
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset, self.batch_size, self.skipped = dataset, batch_size, set(skipped)

    def _share(self) -> Tensor:
        rank, size = _rank_and_size()
        if self.skipped:
            left = [index for index in range(len(self.dataset)) if index not in self.skipped]
            return torch.tensor(left[rank::size], dtype=torch.int64)
        if len(self.dataset) < size:
            raise InputError(
                f"{size} devices need at least {size} samples to evaluate, got {len(self.dataset)}"
            )
        return torch.arange(rank, len(self.dataset), size)

    def __len__(self) -> int:
        return -(-len(self._share()) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        for index in torch.split(self._share(), self.batch_size):
            if len(index):
                yield self.dataset[index]
