r"""Losses of a forecast against the truth, over the interior.

A variable's error counts in units of its one-step change, so that variables that change
little weigh as much as those that change a lot (Oskarsson et al. 2023).
"""

from torch import Tensor

__all__ = ["interior_mean", "scaled_square_error"]


def interior_mean(field: Tensor, weights: Tensor) -> Tensor:
    """Mean over grid nodes with given weights, ``(..., G, V)`` and ``(G,)`` to ``(..., V)``."""
    return (field * weights[:, None]).sum(-2) / weights.sum()


def scaled_square_error(forecast: Tensor, truth: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    r"""Mean of :math:`(\hat x - x)^2 / \sigma_\Delta^2` over everything.

    Arguments:
        forecast: ``(B, T, G, V)``.
        truth: Likewise.
        weights: Of the grid nodes, zero on the boundary, ``(G,)``.
        scale: Standard deviation of one-step changes, ``(V,)``.
    """
    return interior_mean(((forecast - truth) / scale).square(), weights).mean()
