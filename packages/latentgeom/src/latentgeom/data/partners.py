"""Batches of samples with partners from the whole data set, that can stop anywhere.

The partner of the sample at position :math:`k` of an epoch's permutation is the entry :math:`k`
of a second permutation, which depends on (seed, epoch) alone.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentgeom.shell.loading import IndexedDataset, TrainingLoader
from latentgeom.shell.randomness import keyed_generator

__all__ = ["PairLoader", "Pairs"]


class Pairs(NamedTuple):
    """A batch of samples, and for each of them a partner from the whole data set."""

    first: Any
    second: Any


class _Indices:
    """The indices themselves as samples."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Tensor) -> Tensor:
        return index


class PairLoader:
    """Shuffled batches with partners; its position can be saved and restored.

    Arguments:
        dataset: Where the samples come from.
        batch_size: Samples per device.
        seed: Seed of the permutations.
    """

    def __init__(self, dataset: IndexedDataset, batch_size: int, seed: int = 0) -> None:
        self.dataset, self.seed = dataset, seed
        self.loader = TrainingLoader(_Indices(len(dataset)), batch_size, seed)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Pairs]:
        partners: Tensor | None = None
        for index in self.loader:
            if partners is None:
                partners = self._partners()
            yield Pairs(self.dataset[index], self.dataset[partners[index]])

    def _partners(self) -> Tensor:
        """The partner of each sample in this epoch, by index."""
        count, epoch = len(self.dataset), self.loader.epoch
        order = torch.randperm(count, generator=keyed_generator(self.seed, epoch))
        second = torch.randperm(count, generator=keyed_generator(self.seed, epoch, 1))
        return torch.empty_like(order).scatter(0, order, second)

    def state_dict(self) -> dict[str, int]:
        """Position of the loader: the epoch, and the batches handed out in it."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position."""
        self.loader.load_state_dict(state)
