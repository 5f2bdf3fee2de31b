r"""Training of autoencoders whose decoder is an isometry of the metric chosen for them.

.. math::

    \frac1B \sum_i |D(E(x_i)) - x_i|^2 + w\, \|S(z_i) / c - I\|_F^2, \qquad
    z_i = \gamma_{E(x_i), E(x_i')}(t_i), \quad t_i = 1.2\, u_i^2 - 0.2

where :math:`\gamma` is the chosen metric's own geodesic to the code of a partner
:math:`x_i'` and :math:`u_i` is uniform, keyed by (seed, step, sample): most points lie near
codes, some a little outside them, where geodesics alone (all pass the middle) hardly come.
"""

import math
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor

from latentgeom.data.digits import Samples
from latentgeom.data.partners import Pairs
from latentgeom.models.networks import Autoencoder
from latentgeom.models.objective import isometric_objective, isometry_at
from latentgeom.shell.checkpoints import keep_plain
from latentgeom.shell.checks import positive
from latentgeom.shell.randomness import keyed_uniform

__all__ = ["IsometricAutoencoder"]


_BEYOND = 0.2  # how far behind a code the geodesic to its partner is extended


class IsometricAutoencoder(lightning.LightningModule):
    """Reconstruction plus isometry, on any number of devices.

    Arguments:
        autoencoder: Networks and the chosen metric.
        isometry_weight: Weight ``w`` of the isometry loss; zero trains a plain autoencoder.
        learning_rate: Largest step size of Adam; it follows a cosine to zero.
        seed: Seed of the times along geodesics.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        isometry_weight: float = 1.0,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= isometry_weight < math.inf:
            raise ValueError(f"isometry_weight must be at least 0, got {isometry_weight}")
        positive(learning_rate=learning_rate)
        self.save_hyperparameters()
        self.autoencoder = autoencoder
        self.isometry_weight, self.learning_rate = isometry_weight, learning_rate
        self.seed = seed
        self.sums = torch.zeros(3)

    def _reconstruction(self, x: Tensor, z: Tensor) -> Tensor:
        return (self.autoencoder.decode(z) - x).square().sum(-1)

    def _times(self, pairs: Pairs) -> Tensor:
        x, index = pairs.first.x, pairs.first.sample_index
        u = keyed_uniform(self.seed, self.global_step, index, (1,), x.dtype)
        return (1 + _BEYOND) * u.square() - _BEYOND

    def training_step(self, batch: Pairs, batch_idx: int) -> Tensor:
        """Reconstruction plus weighted isometry."""
        x, partner = batch.first.x, batch.second.x
        if not self.isometry_weight:
            loss = self._reconstruction(x, self.autoencoder.encode(x)).mean()
            self.log("train/reconstruction", loss, prog_bar=True)
            return loss
        parts = isometric_objective(self.autoencoder, x, partner, self._times(batch))
        self.log("train/reconstruction", parts.reconstruction, prog_bar=True)
        self.log("train/isometry", parts.isometry, prog_bar=True)
        return parts.reconstruction + self.isometry_weight * parts.isometry

    def _empty_sums(self) -> None:
        self.sums = torch.zeros(3, device=self.device)

    def _add(self, batch: Samples) -> None:
        z = self.autoencoder.encode(batch.x)
        scores = (
            self._reconstruction(batch.x, z),
            isometry_at(self.autoencoder, z),
            torch.ones_like(z[:, 0]),
        )
        self.sums += torch.stack([score.sum() for score in scores])

    def _log_means(self, stage: str) -> None:
        total = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
        for name, value in zip(("reconstruction", "isometry"), total[:2] / total[2], strict=True):
            self.log(f"{stage}/{name}", value, prog_bar=True, rank_zero_only=True)

    def on_validation_epoch_start(self) -> None:
        """Empty sums."""
        self._empty_sums()

    def validation_step(self, batch: Samples, batch_idx: int) -> None:
        """Add up the losses at the codes."""
        self._add(batch)

    def on_validation_epoch_end(self) -> None:
        """Means over all samples of all ranks."""
        self._log_means("val")

    def on_test_epoch_start(self) -> None:
        """Empty sums."""
        self._empty_sums()

    def test_step(self, batch: Samples, batch_idx: int) -> None:
        """Add up the losses at the codes."""
        self._add(batch)

    def on_test_epoch_end(self) -> None:
        """Means over all samples of all ranks."""
        self._log_means("test")

    def predict_step(self, batch: Samples, batch_idx: int) -> Samples:
        """Codes in the place of the observations."""
        return batch._replace(x=self.autoencoder.encode(batch.x))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint readable without executing anything."""
        keep_plain(checkpoint)

    def _cosine(self, step: int) -> float:
        # Asked for the total only once training runs: it loads the training data, and a
        # loader that exists before a checkpoint is restored doesn't get its position.
        if step == 0:
            return 1.0
        fraction = step / self.trainer.estimated_stepping_batches
        return (1 + math.cos(math.pi * min(fraction, 1.0))) / 2

    def configure_optimizers(self) -> Any:
        """Adam with a cosine to zero."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._cosine)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
