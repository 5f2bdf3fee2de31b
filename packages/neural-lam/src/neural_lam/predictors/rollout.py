"""Forecasts of several steps, each made from the one before."""

import torch
from torch import Tensor

from neural_lam.predictors.step import StepPredictor

__all__ = ["rollout"]


def rollout(predictor: StepPredictor, initial: Tensor, forcing: Tensor, boundary: Tensor) -> Tensor:
    """States at the lead times, one step after another.

    Arguments:
        predictor: Of one step.
        initial: States up to the analysis time, of which two are read, ``(B, 2 or more, G, V)``.
        forcing: Window of the forcing at each lead time, ``(B, T, G, F)``.
        boundary: States at the lead times, read on the boundary alone, ``(B, T, G, V)``.

    Returns:
        ``(B, T, G, V)``.

    References:
        Keisler (2022), Forecasting global weather with graph neural networks, arXiv:2202.07575.
    """
    prepared = predictor.prepare()
    previous, state = initial[:, -2:].transpose(0, 2).unbind(1)
    states = []
    for step in range(boundary.shape[1]):
        following = predictor(
            state,
            previous,
            forcing[:, step].transpose(0, 1),
            boundary[:, step].transpose(0, 1),
            prepared,
        )
        previous, state = state, following
        states.append(state)
    return torch.stack(states).permute(2, 0, 1, 3)
