"""AdamW with warm-up and half a cosine.

References:
    Loshchilov & Hutter (2019), Decoupled weight decay regularization, arXiv:1711.05101;
    Loshchilov & Hutter (2017), SGDR: stochastic gradient descent with warm restarts,
    arXiv:1608.03983.
"""

import math
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn

__all__ = ["Schedule", "total_steps", "warmup_cosine"]


def warmup_cosine(step: int, *, warmup: int, total: int) -> float:
    """Factor of the learning rate: rises over ``warmup`` steps, then falls as half a cosine.

    References:
        Loshchilov & Hutter (2017), SGDR: stochastic gradient descent with warm restarts,
        arXiv:1608.03983.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def total_steps(trainer: lightning.Trainer) -> int:
    """Steps of the whole training."""
    # Not trainer.estimated_stepping_batches: it sets the loaders up before a resumed run has
    # restored their position, which is then lost.
    if trainer.max_steps > 0:
        return trainer.max_steps
    per_epoch = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    epochs = trainer.max_epochs if trainer.max_epochs is not None else 1000
    return epochs * per_epoch // trainer.accumulate_grad_batches


class Schedule:
    """How weights are trained.

    Arguments:
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Weight decay of AdamW.

    References:
        Loshchilov & Hutter (2019), Decoupled weight decay regularization, arXiv:1711.05101.
    """

    def __init__(self, learning_rate: float, warmup_steps: int, weight_decay: float) -> None:
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.weight_decay = weight_decay

    def optimizers(self, module: nn.Module, trainer: lightning.Trainer) -> dict[str, Any]:
        """What Lightning's ``configure_optimizers`` returns."""
        optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            betas=(0.9, 0.95),
            fused=True,
        )
        warmup, total = self.warmup_steps, total_steps(trainer)
        factors = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup=warmup, total=total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factors, "interval": "step"}}
