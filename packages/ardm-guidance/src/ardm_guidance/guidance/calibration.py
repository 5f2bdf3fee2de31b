r"""Calibration of a discriminator.

With logits :math:`d` and labels :math:`y` of held-out objects the temperature minimises
the cross-entropy of :math:`d / \tau`, which is convex in :math:`1/\tau`:

.. math:: \min_{\beta \ge 0} \sum_i \log\big(1 + \exp(\beta d_i)\big) - y_i \beta d_i.

References:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ardm_guidance.shell.showing import in_a_line

__all__ = ["Reliability", "cross_entropy", "inverse_temperature", "reliability"]

_ROUNDS = 60


class Reliability(NamedTuple):
    """Predicted and observed shares of real objects in equally filled bins.

    Attributes:
        predicted: Mean probability in each bin, ``(bins,)``.
        observed: Share of real objects in it.
        error: Mean distance of the two: the expected calibration error.
    """

    predicted: Tensor
    observed: Tensor
    error: float

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def cross_entropy(logits: Tensor, real: Tensor) -> Tensor:
    """Mean cross-entropy in nats; log 2 for a discriminator that knows nothing."""
    return functional.binary_cross_entropy_with_logits(logits, real.to(logits.dtype))


def inverse_temperature(logits: Tensor, real: Tensor, largest: float = 10.0) -> float:
    """The inverse temperature of least cross-entropy, by bisection of its slope.

    Arguments:
        logits: Of held-out objects, ``(M,)``.
        real: 1 for real ones, 0 for generated ones.
        largest: Where to stop when more would still be better.

    Returns:
        0 where the logits are worse than nothing.

    References:
        Guo et al. (2017), On calibration of modern neural networks, arXiv:1706.04599.
    """
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("logits must be finite")
    d, y = logits.double(), real.double()

    def slope(beta: float) -> float:
        return float(((torch.sigmoid(beta * d) - y) * d).mean())

    low, high = 0.0, largest
    if slope(low) >= 0:
        return low
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def reliability(logits: Tensor, real: Tensor, num_bins: int = 10) -> Reliability:
    """Compare predicted probabilities with what was observed.

    Arguments:
        logits: ``(M,)``.
        real: ``(M,)``.
        num_bins: Bins of equal numbers of objects.
    """
    if len(logits) < num_bins:
        raise ValueError(f"num_bins must be at most the {len(logits)} objects, got {num_bins}")
    order = logits.argsort()
    probability = torch.sigmoid(logits[order].double()).tensor_split(num_bins)
    label = real[order].double().tensor_split(num_bins)
    predicted = torch.stack([values.mean() for values in probability])
    observed = torch.stack([values.mean() for values in label])
    sizes = torch.tensor([len(values) for values in label], dtype=torch.float64)
    error = float(((predicted - observed).abs() * sizes).sum() / sizes.sum())
    return Reliability(predicted, observed, error)
