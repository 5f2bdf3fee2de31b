"""The step size over a run: a linear rise, then a linear fall to zero where the end is known."""

import math
from typing import Any

import lightning.pytorch as lightning
import torch
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["num_steps", "rise_and_fall"]


def num_steps(trainer: lightning.Trainer) -> float:
    """Steps of the whole run, infinite where unknown.

    ``Trainer.estimated_stepping_batches`` would load the loader before a checkpoint's
    position in it is restored, and the position would be lost.
    """
    data: Any = getattr(trainer, "datamodule", None)
    limits = [math.inf]
    if trainer.max_steps > 0:
        limits.append(trainer.max_steps)
    if data is not None and (trainer.max_epochs or 0) > 0:
        batches = len(data.train_dataloader()) // trainer.accumulate_grad_batches
        limits.append(batches * (trainer.max_epochs or 0))
    return min(limits)


def rise_and_fall(optimizer: torch.optim.Optimizer, warmup: int, total: float) -> LambdaLR:
    r"""A schedule of factors :math:`\min(1, (s + 1) / w, 1 - s / S)`.

    Arguments:
        optimizer: Whose step size it is.
        warmup: Steps of the rise, :math:`w`.
        total: Steps of the run, :math:`S`.
    """

    def share(step: int) -> float:
        return min(1.0, (step + 1) / max(1, warmup), max(0.0, 1 - step / total))

    return LambdaLR(optimizer, share)
