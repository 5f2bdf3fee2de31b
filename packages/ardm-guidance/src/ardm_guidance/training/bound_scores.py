"""Scores of a likelihood bound over all molecules of all ranks, each counted once."""

import math

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, SumMetric

__all__ = ["BoundScores"]


class BoundScores(nn.Module):
    r"""Mean negative bound with its standard error, and bits a site.

    .. math:: \bar b = \frac1N \sum_i b_i, \qquad
        \mathrm{error} = \sqrt{\frac{\overline{b^2} - \bar b^2}{N}}, \qquad
        \mathrm{bits} = \frac{\sum_i b_i}{\ln 2 \sum_i D_i}

    Sums are float64, and added over the ranks; a value that is no number is an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nats, self.squares, self.sites = (
            MeanMetric(nan_strategy="error").set_dtype(torch.float64) for _ in range(3)
        )
        self.count = SumMetric(nan_strategy="error").set_dtype(torch.float64)

    def _metrics(self) -> tuple[Metric, ...]:
        return self.nats, self.squares, self.sites, self.count

    def reset(self) -> None:
        """Forget everything."""
        for metric in self._metrics():
            metric.reset()

    def update(self, bounds: Tensor, num_sites: Tensor) -> None:
        """Count molecules.

        Arguments:
            bounds: Bounds of their log-probabilities, in nats, ``(B,)``.
            num_sites: Their numbers of sites, ``(B,)``.
        """
        nats = -bounds.double()
        self.nats.update(nats)
        self.squares.update(nats.square())
        self.sites.update(num_sites.double())
        self.count.update(torch.ones_like(nats))

    def compute(self) -> dict[str, Tensor]:
        """``nats``, ``nats_error``, ``bits_per_site`` and ``count``."""
        mean, squares, sites, count = (metric.compute() for metric in self._metrics())
        error = ((squares - mean.square()).clamp(min=0) / count).sqrt()
        bits = mean / sites / math.log(2)
        return {"nats": mean, "nats_error": error, "bits_per_site": bits, "count": count}
