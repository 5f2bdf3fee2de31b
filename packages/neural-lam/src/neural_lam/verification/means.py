"""Means of fields over the forecasts of all ranks, each counted once."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["MeanField"]


class MeanField(Metric):
    """Mean of fields of any shape, as `torchmetrics.MeanMetric` is of numbers.

    Sums and counts are float64 and added over the ranks, which may hold different numbers of
    forecasts. What is no number stays one: a forecast that ran off must not look like one that
    didn't.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, fields: Tensor) -> None:
        """Count fields, ``(B, ...)``."""
        self.total = self.total + fields.double().sum(0)
        self.count = self.count + len(fields)

    def compute(self) -> Tensor:
        """The mean over all ranks, ``(...)``."""
        return self.total / self.count
