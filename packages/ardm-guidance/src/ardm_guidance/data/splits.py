"""Named random splits.

The split of :math:`N` molecules is one seeded permutation, cut into test, validation and
training parts in this order, so that a report can name it and anyone can draw it again.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Split"]


class Split(NamedTuple):
    """Shares of a random split.

    Attributes:
        val: Share of the validation part.
        test: Share of the test part.
        seed: Seed of the permutation.
    """

    val: float = 0.05
    test: float = 0.1
    seed: int = 0

    def check(self) -> "Split":
        """Refuse shares that leave nothing to train on."""
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise ValueError(
                f"val and test must be shares with a sum below 1, got {self.val} and {self.test}"
            )
        return self

    def indices(self, length: int) -> dict[str, Tensor]:
        """Sorted indices of the parts ``train``, ``val`` and ``test``."""
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(length, generator=generator)
        cut = round(self.test * length)
        end = cut + round(self.val * length)
        parts = {"train": order[end:], "val": order[cut:end], "test": order[:cut]}
        return {name: index.sort().values for name, index in parts.items()}

    def describe(self, length: int) -> str:
        """The split in words."""
        parts = ", ".join(f"{len(index)} {name}" for name, index in self.indices(length).items())
        return f"random split of {length}: {parts}, seed {self.seed}"
