r"""Losses of a forecast against the truth, over the interior, weighted as published.

With :math:`\sigma_v` the standard deviation of a variable's one-step changes in standardised
units, divided by the root of its weight :math:`w_v`, a variable's error counts in units of its
usual change, and :math:`w_v` times as much (Oskarsson et al. 2023):

.. math:: \ell = \sum_v \frac{1}{|G|} \sum_{g \in G}
    \frac{w_v (\hat x_{gv} - x_{gv})^2}{\sigma_{\Delta, v}^2} .

The likelihood and the CRPS take the standard deviation that a model predicts in its place.
All take fields ``(..., G, V)``, a spread that broadcasts with them and the weights of the grid
nodes, zero where nothing counts, and give ``(...,)``: a mean over the grid, a sum over variables.

Errors grow along a rollout, so that a plain mean over its steps is the last step's loss. Where
the root of a loss grows as :math:`k^{p/2}` with the step :math:`k`, weights :math:`\propto k^{-p}`
make every lead time count alike.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = [
    "Crps",
    "LeadWeighted",
    "Likelihood",
    "Loss",
    "WeightedAbsolute",
    "WeightedSquare",
    "change_spread",
    "gaussian_crps_error",
    "gaussian_likelihood_error",
    "interior_mean",
    "scaled_square_error",
    "weighted_absolute_error",
    "weighted_square_error",
]


def interior_mean(field: Tensor, weights: Tensor) -> Tensor:
    """Mean over grid nodes with given weights, ``(..., G, V)`` and ``(G,)`` to ``(..., V)``."""
    return (field * weights[:, None]).sum(-2) / weights.sum()


def change_spread(difference_std: Tensor, feature_weights: Tensor) -> Tensor:
    r"""The spread :math:`\sigma_{\Delta,v} / \sqrt{w_v}` that weights an error, ``(V,)``."""
    return difference_std / feature_weights.sqrt()


def weighted_square_error(forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
    r""":math:`\sum_v` mean :math:`(\hat x - x)^2 / \sigma^2`."""
    return interior_mean(((forecast - truth) / spread).square(), nodes).sum(-1)


def weighted_absolute_error(
    forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor
) -> Tensor:
    r""":math:`\sum_v` mean :math:`|\hat x - x| / \sigma`."""
    return interior_mean(((forecast - truth) / spread).abs(), nodes).sum(-1)


def gaussian_likelihood_error(
    forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor
) -> Tensor:
    r""":math:`\sum_v` mean :math:`\tfrac12 z^2 + \ln \sigma + \tfrac12 \ln 2\pi`."""
    z = (truth - forecast) / spread
    density = 0.5 * z.square() + spread.log() + 0.5 * math.log(2 * math.pi)
    return interior_mean(density, nodes).sum(-1)


def gaussian_crps_error(forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
    r""":math:`\sum_v` mean :math:`\sigma [z (2\Phi(z) - 1) + 2\varphi(z) - \pi^{-1/2}]`.

    References:
        Gneiting & Raftery (2007), equation 21.
    """
    z = (truth - forecast) / spread
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    score = spread * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return interior_mean(score, nodes).sum(-1)


class Loss(ABC):
    """A loss of a rollout, for the configuration of a training."""

    @abstractmethod
    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window, ``(..., G, V)`` to ``(...,)``."""


class WeightedSquare(Loss):
    """`weighted_square_error`."""

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window."""
        return weighted_square_error(forecast, truth, spread, nodes)


class WeightedAbsolute(Loss):
    """`weighted_absolute_error`."""

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window."""
        return weighted_absolute_error(forecast, truth, spread, nodes)


class Likelihood(Loss):
    """`gaussian_likelihood_error`, with the usual one-step change as its spread."""

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window."""
        return gaussian_likelihood_error(forecast, truth, spread, nodes)


class Crps(Loss):
    """`gaussian_crps_error`, with the usual one-step change as its spread."""

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window."""
        return gaussian_crps_error(forecast, truth, spread, nodes)


class LeadWeighted(Loss):
    r"""Another loss, its lead times weighted by :math:`k^{-p}`, on average one.

    Arguments:
        loss: Of each time.
        exponent: :math:`p`; 2 where errors grow in proportion to the lead time.
    """

    def __init__(self, loss: Loss, exponent: float = 2.0) -> None:
        self.loss, self.exponent = loss, exponent

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window, ``(..., T, G, V)`` to ``(..., T)``."""
        found = self.loss(forecast, truth, spread, nodes)
        weights = torch.arange(1, found.shape[-1] + 1).to(found) ** -self.exponent
        return found * (weights / weights.mean())


def scaled_square_error(forecast: Tensor, truth: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    r"""Mean of :math:`(\hat x - x)^2 / \sigma_\Delta^2` over everything.

    Arguments:
        forecast: ``(B, T, G, V)``.
        truth: Likewise.
        weights: Of the grid nodes, zero on the boundary, ``(G,)``.
        scale: Standard deviation of one-step changes, ``(V,)``.
    """
    return interior_mean(((forecast - truth) / scale).square(), weights).mean()
