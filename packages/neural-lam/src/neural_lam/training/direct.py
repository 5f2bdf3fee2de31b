"""Training of a direct forecaster of every lead time within a day."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from neural_lam.data.domain import Domain
from neural_lam.data.windows import Batch
from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.direct import DirectPredictor, damping_factors
from neural_lam.predictors.losses import scaled_square_error
from neural_lam.shell.randomness import keyed_generator
from neural_lam.training.building import build_direct_predictor
from neural_lam.training.gridded import GriddedForecaster

__all__ = ["DirectForecaster"]


class DirectForecaster(GriddedForecaster):
    """A graph network trained to forecast each lead time within a day at once.

    The data need `day_components`, see `neural_lam.predictors.direct`.

    Arguments:
        network: Makes the network from a graph and its numbers of inputs and outputs.
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Weight decay of AdamW.
        num_leads: Lead times that a training step draws.
        held_boundary: Whether to do without the future boundary; the data's guess too.
        seed: Of the lead times drawn.

    References:
        Chevillon (2007), Direct multi-step estimation and forecasting,
        doi.org/10.1111/j.1467-6419.2007.00518.x.
    """

    def __init__(
        self,
        network: Callable[[Graph, int, int], GridNetwork],
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
        weight_decay: float = 0.01,
        num_leads: int = 4,
        held_boundary: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(learning_rate, warmup_steps, weight_decay, held_boundary)
        self.save_hyperparameters()
        self.network, self.num_leads, self.seed = network, num_leads, seed

    def build(self, domain: Domain) -> DirectPredictor:
        """The predictor for a domain.

        Raises:
            InputError: The domain has no guess from the day before, or one of another boundary.
        """
        return build_direct_predictor(domain, self.network, FutureBoundary(self.held_boundary))

    def _forecast(self, batch: Batch, leads: Tensor) -> Tensor:
        found: Tensor = self.predictor(
            batch.initial, batch.forcing, self.boundary(batch), batch.sample, leads
        )
        return found

    def forward(self, batch: Batch) -> Tensor:
        """Forecast in physical units, ``(B, T, G, V)``."""
        return self._forecast(batch, torch.arange(batch.target.shape[1], device=self.device))

    def score_scale(self, num_steps: int) -> Tensor:
        """What the linear guess leaves at each lead time, ``(T, V)``."""
        guess = cast(Domain, self.domain).day_guess
        assert guess is not None
        return (guess.residual[:num_steps] * guess.scale).to(self.device)

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean squared error of drawn lead times, in units of what the linear guess leaves."""
        generator = keyed_generator(self.seed, self.global_step)
        order = torch.randperm(batch.target.shape[1], generator=generator)
        leads = order[: self.num_leads].to(self.device)
        scale = self.score_scale(batch.target.shape[1])[leads][:, None]
        forecast, truth = self._forecast(batch, leads) / scale, batch.target[:, leads] / scale
        unit = torch.ones_like(self.loss_scale)
        return scaled_square_error(forecast, truth, self.loss_weights, unit)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add what the linear guess leaves, the correction, and their product."""
        leads = torch.arange(batch.target.shape[1], device=self.device)
        linear, correction = cast(DirectPredictor, self.predictor).parts(
            batch.initial, batch.forcing, self.boundary(batch), batch.sample, leads
        )
        left, correction = (batch.target - linear).double(), correction.double()
        products = (left.square(), left * correction, correction.square())
        # Two halves of alternate blocks of windows, whose forecasts don't overlap.
        half = batch.sample // len(leads) % 2
        fields = torch.stack(products, dim=1)
        mine = (half[:, None] == torch.arange(2, device=half.device)).to(fields)
        self._add(torch.einsum("bh,b...->bh...", mine, fields))

    def on_validation_epoch_end(self) -> None:
        """Damp the correction as suits all windows of all ranks, and report its scores.

        Each half of the windows is scored with the factors that the other half gives: factors
        fitted on the windows that they are scored on would flatter.
        """
        halves = self.means.compute().reshape(2, 3, -1, len(self.loss_scale))
        _, product, power = halves.sum(0)
        factor = damping_factors(product, power)
        cast(DirectPredictor, self.predictor).correction[: len(factor)] = factor
        left, product, power = halves.unbind(1)
        others = torch.stack([damping_factors(product[h], power[h]) for h in (1, 0)])
        score = left - 2 * others * product + others.square() * power
        self._report("val", score.sum(0))
