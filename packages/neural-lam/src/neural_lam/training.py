"""Training of a forecaster: rollout loss, schedules, exact scores over all devices."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from neural_lam.configuration import InputError
from neural_lam.data.domain import Domain, domain_from_dict, domain_to_dict
from neural_lam.data.windows import Batch
from neural_lam.direct import DirectPredictor, damping_factors
from neural_lam.graph import Graph
from neural_lam.losses import (
    Loss,
    WeightedSquare,
    change_spread,
    interior_mean,
    scaled_square_error,
)
from neural_lam.predictors import GridNetwork
from neural_lam.randomness import keyed_generator
from neural_lam.rollout import rollout
from neural_lam.upstream import read_upstream_checkpoint, upstream_network
from neural_lam.wrappers import (
    BoundaryForced,
    Clamped,
    LinearGuess,
    Residual,
    Standardised,
    StepPredictor,
)

__all__ = [
    "DirectForecaster",
    "Forecaster",
    "GriddedForecaster",
    "UpstreamForecaster",
    "build_direct_predictor",
    "build_predictor",
    "rollout_length",
    "warmup_cosine",
]


def build_predictor(
    domain: Domain,
    network: Callable[[Graph, int, int], GridNetwork],
    *,
    look_ahead: bool = False,
    show_change: bool = False,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> StepPredictor:
    """A step predictor in physical units on a domain.

    Arguments:
        domain: Graph, static fields and statistics.
        network: Makes the network from the graph and the numbers of inputs and outputs.
        look_ahead: Whether the network sees the boundary of the next time.
        show_change: Whether it sees the last change instead of the state before.
        bounds: Least and largest value of each variable, infinite where there is none, which the
            forecast keeps smoothly, see `neural_lam.wrappers.Clamped`.
    """
    mean, std, difference_mean, difference_std = domain.statistics
    num_states = len(mean)
    guess = domain.guess
    num_inputs = (
        (2 + look_ahead + (guess is not None)) * num_states
        + len(domain.forcing_mean)
        + domain.static.shape[1]
    )
    residual = Residual(
        network(domain.graph, num_inputs, num_states),
        domain.static,
        domain.interior,
        difference_mean / std,
        difference_std / std,
        look_ahead=look_ahead,
        show_change=show_change,
        guess=None if guess is None else LinearGuess(*guess[:3], guess.shape),
        guess_std=None if guess is None else guess.std,
    )
    inner: StepPredictor = residual
    if bounds is not None:
        # As published, the soft edge is as wide as the standardised variable's unit.
        inner = Clamped(residual, *((bound - mean) / std for bound in bounds))
    physical = Standardised(inner, mean, std, domain.forcing_mean, domain.forcing_std)
    return BoundaryForced(physical, domain.interior)


def build_direct_predictor(
    domain: Domain,
    network: Callable[[Graph, int, int], GridNetwork],
    *,
    held_boundary: bool = False,
) -> DirectPredictor:
    """A predictor of every lead time within a day, in physical units, on a domain.

    Raises:
        InputError: The domain has no guess from the day before, or one of another boundary.
    """
    guess = domain.day_guess
    if guess is None:
        raise InputError("a direct forecaster needs data with day_components of at least 1")
    if guess.sees_boundary == held_boundary:
        raise InputError("model and data must agree on held_boundary")
    num_states = len(domain.statistics.mean)
    num_inputs = DirectPredictor.num_inputs(
        num_states, len(domain.forcing_mean), domain.static.shape[1]
    )
    return DirectPredictor(
        network(domain.graph, num_inputs, num_states),
        guess,
        domain.static,
        domain.interior,
        domain.forcing_mean,
        domain.forcing_std,
    )


def warmup_cosine(step: int, *, warmup: int, total: int) -> float:
    """Factor of the learning rate: rises over ``warmup`` steps, then falls as half a cosine."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def rollout_length(step: int, curriculum: dict[int, int]) -> int:
    """Steps that training rolls out: the entry with the last start at or before ``step``."""
    return curriculum[max(start for start in curriculum if start <= step)]


class GriddedForecaster(lightning.LightningModule, ABC):
    """What forecasters share: the domain, exact scores, optimiser and schedule.

    Arguments:
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Of AdamW.
        held_boundary: Whether the boundary stays as it was at the analysis time, instead of
            following the truth.
    """

    loss_weights: Tensor
    loss_scale: Tensor
    predictor: nn.Module

    def __init__(
        self, learning_rate: float, warmup_steps: int, weight_decay: float, held_boundary: bool
    ) -> None:
        super().__init__()
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.held_boundary = warmup_steps, held_boundary
        self.domain: Domain | None = None
        self._sums = torch.zeros(0)

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
        self.register_buffer("loss_weights", domain.area * domain.interior)
        self.register_buffer("loss_scale", domain.statistics.difference_std)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the domain, so that a checkpoint is complete."""
        assert self.domain is not None
        checkpoint["domain"] = domain_to_dict(self.domain)
        # The command line keeps a network as its class path; a function would need pickled code.
        hyperparameters = checkpoint.get("hyper_parameters", {})
        for name in ("network", "loss"):
            if callable(hyperparameters.get(name)):
                del hyperparameters[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the predictor when there is no data to build it for."""
        if self.domain is None:
            self.adopt(domain_from_dict(checkpoint["domain"]))

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

    def _start_sums(self) -> None:
        self._sums = torch.zeros(0, device=self.device, dtype=torch.float64)

    def _squares(self, batch: Batch) -> Tensor:
        squares: Tensor = (self(batch) - batch.target).double().square()
        return squares

    def _add(self, fields: Tensor) -> None:
        """Add fields, ``(B, ..., G, V)``, to the sums over windows."""
        # Sums, not means: ranks hold different numbers of windows.
        total = interior_mean(fields, self.loss_weights.double()).sum(0)
        count = total.new_full((1,), len(fields))
        entry = torch.cat((count, total.flatten()))
        self._sums = entry if not len(self._sums) else self._sums + entry

    def _total(self) -> Tensor:
        """Mean over all windows of all ranks."""
        total = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        return total[1:] / total[0]

    def _report(self, split: str, square: Tensor) -> None:
        rmse = square.reshape(-1, len(self.loss_scale)).sqrt()
        scaled = (rmse / self.score_scale(rmse.shape[0])).square().mean()
        self.log(f"{split}/loss", scaled, prog_bar=True, rank_zero_only=True)
        for feature, name in enumerate(self._names()):
            for lead in (0, rmse.shape[0] - 1):
                self.log(
                    f"{split}/rmse_{name}_step_{lead + 1}", rmse[lead, feature], rank_zero_only=True
                )

    def _names(self) -> list[str]:
        return [feature.name for feature in self.trainer.datamodule.store.features]  # type: ignore[attr-defined]

    def on_validation_epoch_start(self) -> None:
        """Empty sums."""
        self._start_sums()

    def on_test_epoch_start(self) -> None:
        """Empty sums."""
        self._start_sums()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the squared errors of a batch."""
        self._add(self._squares(batch))

    def on_test_epoch_end(self) -> None:
        """Scores over all windows of all ranks."""
        self._report("test", self._total())

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Analysis indices ``(B,)`` and forecasts ``(B, T, G, V)``."""
        return batch.sample, self(batch)

    def _total_steps(self) -> int:
        # Not trainer.estimated_stepping_batches: it sets the loaders up before a resumed run has
        # restored their position, which is then lost.
        if self.trainer.max_steps > 0:
            return self.trainer.max_steps
        per_epoch = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        epochs = self.trainer.max_epochs if self.trainer.max_epochs is not None else 1000
        return epochs * per_epoch // self.trainer.accumulate_grad_batches

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and half a cosine over the whole training."""
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            betas=(0.9, 0.95),
            fused=True,
        )
        total = self._total_steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup=self.warmup_steps, total=total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Forecaster(GriddedForecaster):
    """A graph network trained to forecast by rolling out.

    Arguments:
        network: Makes the network from a graph and its numbers of inputs and outputs.
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Of AdamW.
        curriculum: Steps to roll out, by the training step from which they hold.
        look_ahead: Whether the network sees the boundary of the next time.
        show_change: Whether it sees the last change instead of the state before.
        held_boundary: Whether the boundary stays as it was at the analysis time.
        loss: Of the rollout; by default the weighted squared error.
        feature_weights: Of the state features in the loss; by default all alike.
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
        feature_weights: list[float] | None = None,
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
        self.feature_weights = feature_weights

    def build(self, domain: Domain) -> StepPredictor:
        """The step predictor for a domain."""
        return build_predictor(
            domain, self.network, look_ahead=self.look_ahead, show_change=self.show_change
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
        weights = torch.full_like(scale, 1 / len(scale))
        if self.feature_weights is not None:
            if len(self.feature_weights) != len(scale):
                raise InputError(
                    f"feature_weights: expected {len(scale)}, one for each feature,"
                    f" got {len(self.feature_weights)}"
                )
            weights = scale.new_tensor(self.feature_weights)
        # In standardised units, as the published weights are.
        std = cast(Domain, self.domain).statistics.std.to(scale)
        spread = change_spread(scale / std, weights)
        return self.loss(self(short) / std, short.target / std, spread, self.loss_weights).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the squared errors of a batch."""
        self._add(self._squares(batch))

    def on_validation_epoch_end(self) -> None:
        """Scores over all windows of all ranks."""
        self._report("val", self._total())


class DirectForecaster(GriddedForecaster):
    """A graph network trained to forecast each lead time within a day at once.

    The data need `day_components`, see `neural_lam.direct`.

    Arguments:
        network: Makes the network from a graph and its numbers of inputs and outputs.
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Of AdamW.
        num_leads: Lead times that a training step draws.
        held_boundary: Whether to do without the future boundary; the data's guess too.
        seed: Of the lead times drawn.
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
        return build_direct_predictor(domain, self.network, held_boundary=self.held_boundary)

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
        guess = cast(DirectPredictor, self.predictor).guess
        return guess.residual[:num_steps] * guess.scale

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
        self._add(torch.stack(products, dim=1))

    def on_validation_epoch_end(self) -> None:
        """Damp the correction as suits all windows of all ranks, and report its scores."""
        left, product, power = self._total().reshape(3, -1, len(self.loss_scale))
        factor = damping_factors(product, power)
        cast(DirectPredictor, self.predictor).damping[: len(factor)] = factor
        self._report("val", left - 2 * factor * product + factor.square() * power)


class UpstreamForecaster(GriddedForecaster):
    """A model of neural-lam 0.7 with its weights, for `neural_lam.data.upstream.UpstreamData`.

    Arguments:
        checkpoint: Upstream's.
        lower: Least value of each variable, ``-inf`` where there is none.
        upper: Largest value of each variable, ``inf`` where there is none.
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Of AdamW.
        held_boundary: Whether the boundary stays as it was at the analysis time.
    """

    def __init__(
        self,
        checkpoint: str,
        lower: list[float] | None = None,
        upper: list[float] | None = None,
        learning_rate: float = 1e-3,
        warmup_steps: int = 0,
        weight_decay: float = 0.01,
        held_boundary: bool = False,
    ) -> None:
        super().__init__(learning_rate, warmup_steps, weight_decay, held_boundary)
        self.checkpoint, self.lower, self.upper = checkpoint, lower, upper

    def build(self, domain: Domain) -> StepPredictor:
        """The step predictor with upstream's weights."""
        found = read_upstream_checkpoint(self.checkpoint)

        def network(graph: Graph, num_inputs: int, num_outputs: int) -> GridNetwork:
            built = upstream_network(found, graph)
            width = found.weights["grid_embedder.0.weight"].shape[1]
            if width != num_inputs:
                raise InputError(
                    f"{self.checkpoint}: it takes {width} features of a grid node,"
                    f" but the data have {num_inputs}"
                )
            return built

        bounds = None
        if self.lower is not None and self.upper is not None:
            bounds = torch.tensor(self.lower), torch.tensor(self.upper)
        return build_predictor(domain, network, bounds=bounds)

    def forward(self, batch: Batch) -> Tensor:
        """Forecast in physical units, ``(B, T, G, V)``."""
        return rollout(self.predictor, batch.initial, batch.forcing, self.boundary(batch))  # type: ignore[arg-type]

    def score_scale(self, num_steps: int) -> Tensor:
        """One-step changes, ``(V,)``."""
        return self.loss_scale

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean squared error of the rollout, in units of one-step changes."""
        return scaled_square_error(self(batch), batch.target, self.loss_weights, self.loss_scale)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the squared errors of a batch."""
        self._add(self._squares(batch))

    def on_validation_epoch_end(self) -> None:
        """Scores over all windows of all ranks."""
        self._report("val", self._total())
