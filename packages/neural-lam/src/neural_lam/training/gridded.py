"""What forecasters share in training: the domain, exact scores over all devices, the schedule.

References:
    Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
    arXiv:2309.17370.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from neural_lam.data.domain import Domain, check_graph, domain_from_dict, domain_to_dict
from neural_lam.data.windows import Batch
from neural_lam.fields.units import same_units
from neural_lam.predictors.losses import interior_mean
from neural_lam.shell.checkpoints import keep_plain
from neural_lam.shell.checks import not_negative, positive
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line
from neural_lam.training.schedule import Schedule
from neural_lam.verification.means import MeanField

__all__ = ["GriddedForecaster"]


def same_fields(domain: Domain, features: Sequence[str], units: Sequence[str], where: str) -> None:
    """Refuse data whose features aren't those of a domain.

    Raises:
        InputError: A name or a unit differs.
    """
    if not domain.features:
        return
    for ours, theirs in zip_longest(domain.features, features):
        if ours != theirs:
            raise InputError(
                f"{where}: expected the features {', '.join(domain.features)},"
                f" got {', '.join(features)}"
            )
    for name, ours, theirs in zip(domain.features, domain.units, units, strict=True):
        if ours != theirs and not same_units(ours, theirs):
            raise InputError(f"{where}: {name} has the units {theirs!r}, the model {ours!r}")


class GriddedForecaster(lightning.LightningModule, ABC):
    """What forecasters share: the domain, exact scores, optimiser and schedule.

    Arguments:
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Weight decay of AdamW.
        held_boundary: Whether the boundary stays as it was at the analysis time, instead of
            following the truth.
    """

    __str__ = in_a_line

    loss_weights: Tensor
    mask: Tensor | None
    state_mean: Tensor
    loss_scale: Tensor
    predictor: nn.Module

    def __init__(
        self, learning_rate: float, warmup_steps: int, weight_decay: float, held_boundary: bool
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        not_negative(weight_decay=weight_decay, warmup_steps=warmup_steps)
        self.schedule = Schedule(learning_rate, warmup_steps, weight_decay)
        self.held_boundary = held_boundary
        self.domain: Domain | None = None
        self.means = MeanField()

    @abstractmethod
    def build(self, domain: Domain) -> nn.Module:
        """The predictor for a domain."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Forecast in physical units, ``(B, T, G, V)``."""

    @abstractmethod
    def training_loss(self, batch: Batch) -> Tensor:
        """Loss of a batch, at the current step."""

    @abstractmethod
    def score_scale(self, num_steps: int) -> Tensor:
        """What an error counts as one by, ``(T, V)`` or ``(V,)``."""

    def configure_model(self) -> None:
        """Build the predictor for the data's domain, unless a checkpoint brought one."""
        if self.domain is None and self._trainer is not None:
            # Lightning's hook makes new tensors on the accelerator; a domain is made on the CPU.
            with torch.device("cpu"):
                domain = self.trainer.datamodule.domain  # type: ignore[attr-defined]
            self.adopt(domain)

    def adopt(self, domain: Domain) -> None:
        """Build the predictor for a domain."""
        self.domain = domain
        self.predictor = self.build(domain)
        weights = domain.area * domain.interior
        mask = domain.mask
        # With masks each feature has weights of its own.
        self.register_buffer("loss_weights", weights if mask is None else weights[:, None] * mask)
        self.register_buffer("loss_scale", domain.statistics.difference_std)
        self.register_buffer("state_mean", domain.statistics.mean, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the domain, so that a checkpoint is complete."""
        assert self.domain is not None
        checkpoint["domain"] = domain_to_dict(self.domain)
        # The command line keeps a network as its class path; a function would need pickled code.
        keep_plain(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the predictor when there is no data to build it for."""
        found = domain_from_dict(checkpoint["domain"])
        if self.domain is None:
            self.adopt(found)
        same_fields(found, self.domain.features, self.domain.units, "the data")  # type: ignore[union-attr]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Fill features with their mean where they don't exist."""
        if self.mask is None:
            return batch
        initial, target = (
            torch.where(self.mask, field, self.state_mean)
            for field in (batch.initial, batch.target)
        )
        return batch._replace(initial=initial, target=target)

    def on_predict_start(self) -> None:
        """Refuse data of other fields or of another grid than the model was trained on."""
        store = self.trainer.datamodule.store  # type: ignore[attr-defined]
        domain = self.domain
        assert domain is not None
        names, units = ([getattr(f, key) for f in store.features] for key in ("name", "units"))
        same_fields(domain, names, units, store.path)
        check_graph(domain.graph, store)

    def boundary(self, batch: Batch) -> Tensor:
        """States whose boundary a forecast may read, ``(B, T, G, V)``."""
        if self.held_boundary:
            return batch.initial[:, -1:].expand_as(batch.target)
        return batch.target

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = self.training_loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _squares(self, batch: Batch) -> Tensor:
        return torch.square((self(batch) - batch.target).double())

    def _add(self, fields: Tensor) -> None:
        """Count fields, ``(B, ..., G, V)``, by their means over the grid."""
        self.means.update(interior_mean(fields, self.loss_weights.double()))

    def _report(self, split: str, square: Tensor) -> None:
        rmse = square.reshape(-1, len(self.loss_scale)).sqrt()
        scaled = (rmse / self.score_scale(rmse.shape[0])).square().mean()
        self.log(f"{split}/loss", scaled, prog_bar=True, rank_zero_only=True)
        store = self.trainer.datamodule.store  # type: ignore[attr-defined]
        for number, feature in enumerate(store.features):
            for lead in (0, len(rmse) - 1):
                name = f"{split}/rmse_{feature.name}_step_{lead + 1}"
                self.log(name, rmse[lead, number], rank_zero_only=True)

    def on_validation_epoch_start(self) -> None:
        """Forget earlier scores."""
        self.means.reset()

    def on_test_epoch_start(self) -> None:
        """Forget earlier scores."""
        self.means.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the squared errors of a batch."""
        self._add(self._squares(batch))

    def on_test_epoch_end(self) -> None:
        """Scores over all windows of all ranks."""
        self._report("test", self.means.compute())

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Analysis indices ``(B,)`` and forecasts ``(B, T, G, V)``."""
        forecast = self(batch)
        if self.mask is not None:
            forecast = torch.where(self.mask, forecast, torch.nan)
        return batch.sample, forecast

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and half a cosine over the whole training."""
        return self.schedule.optimizers(self, self.trainer)
