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
from torch import Tensor, nn
from torchmetrics import MeanMetric

from latentgeom.data.observations import Samples
from latentgeom.data.partners import Pairs
from latentgeom.metrics.metric import Metric
from latentgeom.models.latent_model import Learnt
from latentgeom.models.losses import isometry_loss
from latentgeom.models.objective import isometric_objective, isometry_at, reconstruction_of
from latentgeom.shell.checkpoints import keep_plain
from latentgeom.shell.checks import positive
from latentgeom.shell.randomness import keyed_uniform
from latentgeom.shell.showing import in_a_line

__all__ = ["IsometricAutoencoder"]


_BEYOND = 0.2  # how far behind a code the geodesic to its partner is extended


class IsometricAutoencoder(lightning.LightningModule):
    """Reconstruction plus isometry, on any number of devices.

    Arguments:
        autoencoder: Networks and the chosen metric, for instance an ``Autoencoder``.
        isometry_weight: Weight ``w`` of the isometry loss; zero trains a plain autoencoder.
        learning_rate: Largest step size of Adam; it follows a cosine to zero.
        seed: Seed of the times along geodesics.
        penalty: Function of relative metrics and scale in the place of the isometry loss, for
            instance a ``RelaxedPenalty``.

    References:
        Kingma & Ba (2015), Adam: A Method for Stochastic Optimization, arXiv:1412.6980;
        Loshchilov & Hutter (2017), SGDR, arXiv:1608.03983, for the cosine.
    """

    __str__ = in_a_line

    def __init__(
        self,
        autoencoder: Learnt,
        isometry_weight: float = 1.0,
        learning_rate: float = 2e-3,
        seed: int = 0,
        penalty: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= isometry_weight < math.inf:
            raise ValueError(f"isometry_weight must be at least 0, got {isometry_weight}")
        positive(learning_rate=learning_rate)
        self.save_hyperparameters()
        self.autoencoder = autoencoder
        self.isometry_weight, self.learning_rate = isometry_weight, learning_rate
        self.seed, self.penalty = seed, penalty
        # Sums of all ranks in float64; a score that is no number is an error.
        self.reconstruction, self.isometry = (
            MeanMetric(nan_strategy="error").set_dtype(torch.float64) for _ in range(2)
        )

    @property
    def metric(self) -> Metric:
        """The chosen metric."""
        return self.autoencoder.metric

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates of observations, ``(..., d)``."""
        return self.autoencoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Observations at coordinates."""
        return self.autoencoder.decode(z)

    def configure_model(self) -> None:
        """Networks as wide as the data."""
        size = getattr(self.autoencoder, "size", None)
        data = getattr(self.trainer, "datamodule", None)
        if size is not None and data is not None:
            size(data.num_features)

    def _times(self, pairs: Pairs) -> Tensor:
        x, index = pairs.first.x, pairs.first.sample_index
        u = keyed_uniform(self.seed, self.global_step, index, (1,), x.dtype)
        return (1 + _BEYOND) * u.square() - _BEYOND

    def training_step(self, batch: Pairs, batch_idx: int) -> Tensor:
        """Reconstruction plus weighted isometry."""
        x, partner = batch.first.x, batch.second.x
        if not self.isometry_weight:
            loss = reconstruction_of(self.autoencoder, x, self.encode(x)).mean()
            self.log("train/reconstruction", loss, prog_bar=True)
            return loss
        penalty = self.penalty or isometry_loss
        times = self._times(batch)
        parts = isometric_objective(self.autoencoder, x, partner, times, penalty)
        self.log("train/reconstruction", parts.reconstruction, prog_bar=True)
        self.log("train/isometry", parts.isometry, prog_bar=True)
        return parts.reconstruction + self.isometry_weight * parts.isometry

    def _reset(self) -> None:
        self.reconstruction.reset()
        self.isometry.reset()

    def _add(self, batch: Samples) -> None:
        z, model = self.encode(batch.x), self.autoencoder
        self.reconstruction.update(reconstruction_of(model, batch.x, z))
        self.isometry.update(isometry_at(model, z))

    def _log_means(self, stage: str) -> None:
        means = {"reconstruction": self.reconstruction, "isometry": self.isometry}
        for name, mean in means.items():
            self.log(f"{stage}/{name}", mean.compute(), prog_bar=True, rank_zero_only=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the means."""
        self._reset()

    def validation_step(self, batch: Samples, batch_idx: int) -> None:
        """Add up the losses at the codes."""
        self._add(batch)

    def on_validation_epoch_end(self) -> None:
        """Means over all samples of all ranks."""
        self._log_means("val")

    def on_test_epoch_start(self) -> None:
        """Forget the means."""
        self._reset()

    def test_step(self, batch: Samples, batch_idx: int) -> None:
        """Add up the losses at the codes."""
        self._add(batch)

    def on_test_epoch_end(self) -> None:
        """Means over all samples of all ranks."""
        self._log_means("test")

    def predict_step(self, batch: Samples, batch_idx: int) -> Samples:
        """Codes in the place of the observations."""
        return batch._replace(x=self.encode(batch.x))

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
