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

    Sums are float64, and added over the ranks; a value that is no number is an error. An object
    that the model excludes has probability zero: it is counted, and the scores are of the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nats, self.squares, self.sites = (
            MeanMetric(nan_strategy="error").set_dtype(torch.float64) for _ in range(3)
        )
        self.count, self.excluded = (
            SumMetric(nan_strategy="error").set_dtype(torch.float64) for _ in range(2)
        )

    def _metrics(self) -> tuple[Metric, ...]:
        return self.nats, self.squares, self.sites, self.count, self.excluded

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
        nats, possible = -bounds.double(), (bounds != -torch.inf).double()
        # Weights of zero keep the shapes, and so the host from waiting for the device.
        finite = torch.where(possible > 0, nats, 0.0)
        self.nats.update(finite, possible)
        self.squares.update(finite.square(), possible)
        self.sites.update(num_sites.double(), possible)
        self.count.update(possible)
        self.excluded.update(1 - possible)

    def compute(self) -> dict[str, Tensor]:
        """``nats``, ``nats_error``, ``bits_per_site``, ``count`` of the possible, ``excluded``."""
        mean, squares, sites, count, excluded = (m.compute() for m in self._metrics())
        error = ((squares - mean.square()).clamp(min=0) / count).sqrt()
        bits = mean / sites / math.log(2)
        scores = {"nats": mean, "nats_error": error, "bits_per_site": bits, "count": count}
        return {**scores, "excluded": excluded}
