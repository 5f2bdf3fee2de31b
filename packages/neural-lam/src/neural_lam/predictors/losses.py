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
from typing import NamedTuple

import torch
from torch import Tensor

from neural_lam.graphs.sides import Sides
from neural_lam.predictors.derived import laplacian
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "Crps",
    "LeadWeighted",
    "Likelihood",
    "Loss",
    "LossGrid",
    "ScaleBalanced",
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
    """Mean over grid nodes with given weights, ``(..., G, V)`` to ``(..., V)``.

    Arguments:
        field: ``(..., G, V)``.
        weights: Of the nodes, ``(G,)``, or of each feature's, ``(G, V)``.
    """
    weights = weights[:, None] if weights.dim() == 1 else weights
    return (field * weights).sum(-2) / weights.sum(0)


def change_spread(difference_std: Tensor, feature_weights: Tensor) -> Tensor:
    r"""The spread :math:`\sigma_{\Delta,v} / \sqrt{w_v}` that weights an error, ``(V,)``.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """
    return difference_std / feature_weights.sqrt()


def weighted_square_error(forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
    r""":math:`\sum_v` mean :math:`(\hat x - x)^2 / \sigma^2`.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """
    return interior_mean(((forecast - truth) / spread).square(), nodes).sum(-1)


def weighted_absolute_error(
    forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor
) -> Tensor:
    r""":math:`\sum_v` mean :math:`|\hat x - x| / \sigma`."""
    return interior_mean(((forecast - truth) / spread).abs(), nodes).sum(-1)


def gaussian_likelihood_error(
    forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor
) -> Tensor:
    r""":math:`\sum_v` mean :math:`\tfrac12 z^2 + \ln \sigma + \tfrac12 \ln 2\pi`.

    References:
        Nix & Weigend (1994), Estimating the mean and variance of the target probability
        distribution, doi.org/10.1109/ICNN.1994.374138.
    """
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


class LossGrid(NamedTuple):
    """What a loss may know of the domain, in standardised units.

    Arguments:
        shape: Rows and columns of the grid, if it has them.
        sides: Whether the last column is followed by the first.
        difference_std: Of one-step changes, ``(V,)``.
        laplacian_std: Of their Laplacians, ``(V,)``, if the grid is regular.
    """

    shape: tuple[int, int] | None
    sides: Sides
    difference_std: Tensor
    laplacian_std: Tensor | None


class Loss(ABC):
    """A loss of a rollout, for the configuration of a training."""

    __str__ = in_a_line

    def on_grid(self, grid: LossGrid) -> "Loss":
        """The loss for a domain; most are the same on all."""
        return self

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
    """`gaussian_crps_error`, with the usual one-step change as its spread.

    References:
        Gneiting & Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
        doi.org/10.1198/016214506000001437.
    """

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

    def on_grid(self, grid: LossGrid) -> "LeadWeighted":
        """The loss for a domain."""
        return LeadWeighted(self.loss.on_grid(grid), self.exponent)

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window, ``(..., T, G, V)`` to ``(..., T)``."""
        found = self.loss(forecast, truth, spread, nodes)
        weights = torch.arange(1, found.shape[-1] + 1).to(found) ** -self.exponent
        return found * (weights / weights.mean())


class ScaleBalanced(Loss):
    r"""Another loss of the fields and of their Laplacians, so that small scales count too.

    The error of a field is that of its large scales; those that a network has to get right for the
    next steps are small. A Laplacian's error counts in units of the usual Laplacian of a change,

    .. math:: \ell(\hat x, x; \sigma) + w\, \ell(\nabla^2 \hat x, \nabla^2 x;
        \sigma\, \sigma_{\nabla^2 \Delta} / \sigma_\Delta).

    Arguments:
        loss: Of fields.
        weight: Of their Laplacians, :math:`w`.

    References:
        Subich et al. (2025), Fixing the double penalty in data-driven weather forecasting through a
        modified spherical harmonic loss function, arXiv:2501.19374.
    """

    def __init__(self, loss: Loss, weight: float = 0.5) -> None:
        if not weight >= 0:
            raise InputError(f"weight must be at least 0, got {weight}")
        self.loss, self.weight = loss, weight
        self.grid: LossGrid | None = None

    def on_grid(self, grid: LossGrid) -> "ScaleBalanced":
        """The loss for a domain."""
        if grid.shape is None or grid.laplacian_std is None:
            raise InputError("a loss balanced over scales needs a grid of rows and columns")
        placed = ScaleBalanced(self.loss.on_grid(grid), self.weight)
        placed.grid = grid
        return placed

    def _laplacian(self, fields: Tensor) -> Tensor:
        assert self.grid is not None
        assert self.grid.shape is not None
        image = fields.transpose(-1, -2).reshape(-1, fields.shape[-1], *self.grid.shape)
        derived = laplacian(image, self.grid.sides).flatten(2).transpose(1, 2)
        return derived.reshape(fields.shape)

    def __call__(self, forecast: Tensor, truth: Tensor, spread: Tensor, nodes: Tensor) -> Tensor:
        """Loss of each time of each window."""
        if self.grid is None or self.grid.laplacian_std is None:
            raise InputError("a loss balanced over scales must be placed on a grid first")
        ratio = self.grid.laplacian_std.to(spread) / self.grid.difference_std.to(spread)
        small = self.loss(self._laplacian(forecast), self._laplacian(truth), spread * ratio, nodes)
        return self.loss(forecast, truth, spread, nodes) + self.weight * small


def scaled_square_error(forecast: Tensor, truth: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    r"""Mean of :math:`(\hat x - x)^2 / \sigma_\Delta^2` over everything.

    Arguments:
        forecast: ``(B, T, G, V)``.
        truth: Likewise.
        weights: Of the grid nodes, zero on the boundary, ``(G,)``.
        scale: Standard deviation of one-step changes, ``(V,)``.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
    """
    return interior_mean(((forecast - truth) / scale).square(), weights).mean()
