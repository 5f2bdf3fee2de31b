"""Training of a step predictor by its rollout."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from neural_lam.data.domain import Domain
from neural_lam.data.windows import Batch
from neural_lam.graphs.graph import Graph
from neural_lam.graphs.sides import Sides
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.heads import Head
from neural_lam.predictors.losses import Loss, LossGrid, WeightedSquare, change_spread
from neural_lam.predictors.rollout import rollout
from neural_lam.predictors.step import Sight, StepPredictor, correcting, keep_correction
from neural_lam.shell.errors import InputError
from neural_lam.training.building import build_predictor
from neural_lam.training.gridded import GriddedForecaster

__all__ = ["Forecaster", "rollout_length"]


def rollout_length(step: int, curriculum: dict[int, int]) -> int:
    """Steps that training rolls out: the entry with the last start at or before ``step``.

    References:
        Keisler (2022), Forecasting global weather with graph neural networks, arXiv:2202.07575.
    """
    return curriculum[max(start for start in curriculum if start <= step)]


class Forecaster(GriddedForecaster):
    """A graph network trained to forecast by rolling out.

    Arguments:
        network: Makes the network from a graph and its numbers of inputs and outputs.
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Weight decay of AdamW.
        curriculum: Steps to roll out, by the training step from which they hold.
        look_ahead: Whether the network sees the boundary of the next time.
        show_change: Whether it sees the last change instead of the state before.
        held_boundary: Whether the boundary stays as it was at the analysis time.
        loss: Of the rollout; by default the weighted squared error.
        feature_weights: Of the state features in the loss, by name; by default all alike.
        head: How the network's output is read: an increment (the default), or the source of an
            elliptic equation.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """

    def __init__(
        self,
        network: Callable[[Graph, int, int], GridNetwork],
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
        weight_decay: float = 0.01,
        curriculum: dict[int, int] | None = None,
        look_ahead: bool = False,
        show_change: bool = False,
        held_boundary: bool = False,
        loss: Loss | None = None,
        feature_weights: dict[str, float] | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(learning_rate, warmup_steps, weight_decay, held_boundary)
        self.save_hyperparameters()
        self.curriculum = {int(k): int(v) for k, v in (curriculum or {0: 1}).items()}
        if 0 not in self.curriculum or min(self.curriculum.values()) < 1:
            raise ValueError(
                f"curriculum must start at 0 with at least 1 step, got {self.curriculum}"
            )
        self.network, self.look_ahead, self.show_change = network, look_ahead, show_change
        self.loss = WeightedSquare() if loss is None else loss
        self.feature_weights, self.head = feature_weights, head

    def build(self, domain: Domain) -> StepPredictor:
        """The step predictor for a domain."""
        std = domain.statistics.std
        self.loss = self.loss.on_grid(
            LossGrid(
                domain.graph.shape,
                Sides(domain.graph.wraps),
                domain.statistics.difference_std / std,
                None if domain.laplacian_std is None else domain.laplacian_std / std,
            )
        )
        return build_predictor(
            domain,
            self.network,
            sight=Sight(self.look_ahead, self.show_change),
            head=self.head,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Forecast in physical units, ``(B, T, G, V)``."""
        return rollout(self.predictor, batch.initial, batch.forcing, self.boundary(batch))  # type: ignore[arg-type]

    def score_scale(self, num_steps: int) -> Tensor:
        """One-step changes, ``(V,)``."""
        return self.loss_scale

    def training_loss(self, batch: Batch) -> Tensor:
        """Loss of a rollout, errors in units of one-step changes."""
        length = rollout_length(self.global_step, self.curriculum)
        if length > batch.target.shape[1]:
            raise ValueError(
                f"the curriculum asks for {length} steps,"
                f" but data.rollout_steps is {batch.target.shape[1]}"
            )
        short = batch._replace(target=batch.target[:, :length], forcing=batch.forcing[:, :length])
        scale = self.loss_scale
        weights = self._weights(scale)
        # In standardised units, as the published weights are.
        std = cast(Domain, self.domain).statistics.std.to(scale)
        spread = change_spread(scale / std, weights)
        return self.loss(self(short) / std, short.target / std, spread, self.loss_weights).mean()

    def _weights(self, scale: Tensor) -> Tensor:
        """Weight of each feature in the loss, ``(V,)``."""
        if self.feature_weights is None:
            return torch.full_like(scale, 1 / len(scale))
        names, given = cast(Domain, self.domain).features, self.feature_weights
        if set(given) != set(names):
            raise InputError(
                f"feature_weights: expected {', '.join(names)}, got {', '.join(given)}"
            )
        return scale.new_tensor([given[name] for name in names])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the squared errors of a batch, and those of the first guess alone."""
        with correcting(self.predictor, 1):
            squares = self._squares(batch)
        if not self._guessed:
            self._add(squares)
            return
        with correcting(self.predictor, 0):
            self._add(torch.stack((squares, self._squares(batch)), dim=1))

    @property
    def _guessed(self) -> bool:
        return cast(Domain, self.domain).guess is not None

    def on_validation_epoch_end(self) -> None:
        """Scores over all windows of all ranks; the correction is kept only where it helps."""
        total = self.means.compute()
        if not self._guessed:
            self._report("val", total)
            return
        network, guess = total.reshape(2, -1, len(self.loss_scale))
        # A comparison with NaN is false: what blew up isn't kept.
        kept = bool((network / guess).mean() < 1)
        if not self.trainer.sanity_checking:
            keep_correction(self.predictor, float(kept))
        self.log("val/correction", float(kept), rank_zero_only=True)
        for name, square in (("network", network), ("guess", guess)):
            rmse = (square.sqrt() / self.loss_scale).square().mean()
            self.log(f"val/{name}_loss", rmse, rank_zero_only=True)
        self._report("val", network if kept else guess)
