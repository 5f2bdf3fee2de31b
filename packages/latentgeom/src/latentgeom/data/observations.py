"""Observations with labels, and which of them are learnt or held out."""

from itertools import pairwise
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor

from latentgeom.shell.randomness import keyed_generator
from latentgeom.shell.showing import in_a_line

__all__ = ["Observations", "Samples", "Splits", "held_out", "split"]


class Samples(NamedTuple):
    """Observations ``x`` ``(B, D)``, labels ``y`` ``(B,)``, indices ``sample_index`` ``(B,)``."""

    x: Tensor
    y: Tensor
    sample_index: Tensor

    def __str__(self) -> str:
        return in_a_line(self)


class Observations:
    """Observations with labels, read by index.

    Arguments:
        x: Observations, ``(N, D)``.
        y: Labels, ``(N,)``.
    """

    __str__ = in_a_line

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor) -> Samples:
        return Samples(self.x[index], self.y[index], index)

    def all(self) -> Samples:
        """All of them."""
        return self[torch.arange(len(self), device=self.x.device)]


class Splits(NamedTuple):
    """Parts of the observations."""

    test: Observations
    validation: Observations
    training: Observations


def split(x: Tensor, y: Tensor, num_validation: int, num_test: int, seed: int) -> Splits:
    """Shuffle, then take test, validation and training observations.

    Arguments:
        x: Observations, ``(N, D)``.
        y: Labels, ``(N,)``.
        num_validation: Observations for validation.
        num_test: Observations for testing.
        seed: Seed of the order.
    """
    order = torch.randperm(len(x), generator=keyed_generator(seed))
    stops = [0, num_test, num_test + num_validation, len(x)]
    parts = [order[i:j] for i, j in pairwise(stops)]
    return Splits(*(Observations(x[part], y[part]) for part in parts))


def held_out(module: lightning.LightningDataModule) -> Samples:
    """All test observations of any data module.

    Batches may be ``Samples``, tensors of observations, or observations first and labels second.
    """
    own = getattr(module, "held_out", None)
    if own is not None:
        samples: Samples = own()
        return samples
    module.prepare_data()
    module.setup("test")
    batches = [_pair(batch) for batch in module.test_dataloader()]
    x, y = (torch.cat(column) for column in zip(*batches, strict=True))
    return Samples(x, y, torch.arange(len(x)))


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Observations and labels of a batch, zeros where there are none."""
    if isinstance(batch, Tensor):
        batch = (batch,)
    x: Tensor = batch[0]
    y = batch[1] if len(batch) > 1 else None
    if isinstance(y, Tensor) and y.shape == x.shape[:1] and not y.is_floating_point():
        return x, y
    return x, torch.zeros(len(x), dtype=torch.long)
