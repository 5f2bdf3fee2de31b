"""Guards of a training run."""

from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor

from ardm_guidance.shell.showing import in_a_line

__all__ = ["NonFiniteError", "NonFiniteGuard"]


class NonFiniteError(RuntimeError):
    """Training met a gradient that isn't finite; the weights are those before it."""

    one_line = True


class NonFiniteGuard(lightning.Callback):
    """Stops before a non-finite gradient reaches the weights.

    Lightning ends such a run quietly, with NaN weights in its last checkpoint. The gradient
    is looked at after its reduction over the ranks, so that all of them stop together.

    Arguments:
        every_n_steps: Steps between two looks at an accelerator, each of which waits for
            it. The CPU is looked at in every step. No checkpoint is written unlooked.
    """

    __str__ = in_a_line

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._finite: Tensor | None = None

    def on_before_optimizer_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Note whether the gradient is finite."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if not gradients:
            return
        finite = torch.isfinite(torch.nn.utils.get_total_norm(gradients))
        self._finite = finite if self._finite is None else self._finite & finite
        if finite.is_cpu or trainer.global_step % self.every_n_steps == 0:
            self._look(trainer)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Refuse to write weights that a non-finite gradient has reached."""
        self._look(trainer)

    def _look(self, trainer: lightning.Trainer) -> None:
        finite, self._finite = self._finite, None
        if finite is not None and not bool(finite):
            callback = trainer.checkpoint_callback
            last = getattr(callback, "last_model_path", "") or getattr(
                callback, "best_model_path", ""
            )
            raise NonFiniteError(
                f"the gradient is not finite at step {trainer.global_step}"
                f" (epoch {trainer.current_epoch}); last good checkpoint: {last or 'none yet'}."
                " A lower learning rate, gradient clipping or a look at the data may help."
            )
