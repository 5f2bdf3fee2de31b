"""Models of upstream with their weights, to forecast with and to train further."""

import torch
from torch import Tensor

from neural_lam.data.domain import Domain
from neural_lam.data.windows import Batch
from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.losses import scaled_square_error
from neural_lam.predictors.rollout import rollout
from neural_lam.predictors.step import StepPredictor
from neural_lam.shell.errors import InputError
from neural_lam.training.building import build_predictor
from neural_lam.training.gridded import GriddedForecaster
from neural_lam.upstream.weights import read_upstream_checkpoint, upstream_network

__all__ = ["UpstreamForecaster"]


class UpstreamForecaster(GriddedForecaster):
    """A model of neural-lam 0.7 with its weights, for `neural_lam.UpstreamData`.

    Arguments:
        checkpoint: Upstream's.
        lower: Least value of each variable, ``-inf`` where there is none.
        upper: Largest value of each variable, ``inf`` where there is none.
        learning_rate: Largest step size of AdamW.
        warmup_steps: Steps over which it rises.
        weight_decay: Weight decay of AdamW.
        held_boundary: Whether the boundary stays as it was at the analysis time.

    References:
        Oskarsson et al. (2023), Graph-based neural weather prediction for limited area modeling,
        arXiv:2309.17370.
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
        self._report("val", self.means.compute())
