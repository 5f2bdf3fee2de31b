r"""Training of ARDMs of any domain.

The loss is the negative bound of :mod:`ardm_guidance.models.ardm` per site; its noise is keyed by
(seed, step, object), so that it is the same on one device and on many.  Scores are of
the average of the weights over the last steps (exponential, with a horizon that grows
to the one asked for), and in nats per object with the size included:

.. math:: -\log p(x) \le -\log p(n) - E_\sigma \log p_\theta(x \mid n, \sigma).

Both training and validation use the constraints of the domain; testing and sampling look ahead as
well, which can only raise the bound of an object that keeps to it.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from ardm_guidance.data.modules import Batch
from ardm_guidance.models.ardm import OrderAgnosticARDM, Samples, bound, sample, steps
from ardm_guidance.models.domains import Domain
from ardm_guidance.models.orders import by_keys
from ardm_guidance.shell.checkpoints import keep_plain
from ardm_guidance.shell.checks import counts, not_negative, positive
from ardm_guidance.shell.randomness import keyed_uniform
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.constraints import Constraint
from ardm_guidance.sites.graphs import PAD
from ardm_guidance.training.bound_scores import BoundScores
from ardm_guidance.training.schedule import num_steps, rise_and_fall

__all__ = ["DiscreteARDM", "Start"]

# Counters of keyed noise that no optimisation step reaches.
_EVALUATION, _SAMPLING = -1, -2
_SHOWN = ("nats",)  # by the progress bar


@runtime_checkable
class Sized(Protocol):
    """Data that count their sizes."""

    def size_counts(self) -> Tensor:
        """How many training objects have size 0, 1, ... up to the largest."""
        ...


class Start(NamedTuple):
    """Empty objects with all that their generation draws, each ``(B, D)``."""

    sites: Tensor
    order: Tensor
    noise: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def _starts(domain: Domain, size_counts: Tensor, index: Tensor, seed: int) -> Start:
    """Starts of samples, their sizes drawn from a histogram over 0 to the largest."""
    num_sites = domain.num_sites
    noise = keyed_uniform(seed, _SAMPLING, index, (2 * num_sites + 1,), torch.float64)
    shares = size_counts.double().cumsum(0)
    sites = domain.empty((shares <= noise[:, :1] * shares[-1]).sum(-1))
    order = by_keys(sites, noise[:, 1 : num_sites + 1])
    return Start(sites, order, noise[:, num_sites + 1 :])


class DiscreteARDM(lightning.LightningModule):
    r"""An order-agnostic ARDM of the objects of a domain.

    Arguments:
        domain: What kind of objects, such as :class:`~ardm_guidance.MoleculeGraphs`.
        network: Maps sites to logits.
        learning_rate: Largest step size of AdamW; it rises linearly and then falls
            linearly to zero where the number of steps is known.
        warmup_steps: Steps of the rise.
        weight_decay: Weight decay of AdamW.
        average_horizon: Steps over which weights are averaged.
        seed: Seed of all noise.
        masked_loss: Train the conditionals with the constraints of the domain. Without, the loss
            has :math:`-\log P(\text{classes that fit})` besides, so that the network learns them
            too and can also be sampled without any mask.

    References:
        Hoogeboom et al. (2022), Autoregressive diffusion models, arXiv:2110.02037.
    """

    size_counts: Tensor
    num_averaged: Tensor

    __str__ = in_a_line

    def __init__(
        self,
        domain: Domain,
        network: nn.Module,
        learning_rate: float = 2e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        average_horizon: int = 200,
        seed: int = 0,
        masked_loss: bool = True,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        not_negative(weight_decay=weight_decay)
        counts(average_horizon=average_horizon)
        domain.check(network)
        self.domain, self.masked_loss = domain, masked_loss
        self.scores = BoundScores()
        self.network, self.average = network, copy.deepcopy(network).requires_grad_(False)
        self.learning_rate, self.warmup_steps, self.seed = learning_rate, warmup_steps, seed
        self.weight_decay, self.average_horizon = weight_decay, average_horizon
        self.constraints: Sequence[Constraint] = nn.ModuleList(domain.constraints())  # type: ignore[assignment]
        self.look_ahead: Sequence[Constraint] = nn.ModuleList(domain.look_ahead())  # type: ignore[assignment]
        self.register_buffer("size_counts", torch.zeros(domain.max_size + 1, dtype=torch.long))
        self.register_buffer("num_averaged", torch.zeros((), dtype=torch.long))

    def setup(self, stage: str) -> None:
        """Take the histogram of sizes from the training objects."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, Sized):
            self.size_counts.copy_(data.size_counts())

    def _draw_bound(self, ardm: OrderAgnosticARDM, batch: Batch, counter: int) -> Tensor:
        keys = keyed_uniform(self.seed, counter, batch.rows, (batch.sites.shape[-1] + 1,))
        order = by_keys(batch.sites, keys[:, 1:])
        return bound(ardm, batch.sites, order, steps(batch.sites, keys[:, 0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean negative bound, divided by the sites of the largest object."""
        ardm = OrderAgnosticARDM(self.network, self.constraints if self.masked_loss else ())
        nats = -self._draw_bound(ardm, batch, self.global_step).mean()
        self.log("train/nats", nats.detach(), prog_bar=True)
        return nats / batch.sites.shape[-1]

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, and move the average towards the weights before any checkpoint is written."""
        super().optimizer_step(*arguments, **options)
        self.num_averaged += 1
        share = 1 / self.num_averaged.clamp(max=self.average_horizon)
        with torch.no_grad():
            for mean, weight in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                mean.lerp_(weight, share.to(weight.dtype))

    def log_prob_bounds(self, batch: Batch, *, look_ahead: bool) -> Tensor:
        """Bounds of the log-probability of objects with their sizes, in nats, ``(B,)``."""
        ardm = self.ardm() if look_ahead else OrderAgnosticARDM(self.average, self.constraints)
        log_share = (self.size_counts / self.size_counts.sum()).log()
        return (
            self._draw_bound(ardm, batch, _EVALUATION) + log_share[self.domain.sizes(batch.sites)]
        )

    def ardm(self) -> OrderAgnosticARDM:
        """The averaged model with all its constraints."""
        return OrderAgnosticARDM(self.average, self.look_ahead)

    def _count(self, bounds: Tensor, batch: Batch) -> None:
        self.scores.update(bounds, (batch.sites != PAD).sum(-1))

    def _log_scores(self, name: str) -> None:
        for key, value in self.scores.compute().items():
            shown = key in _SHOWN
            self.log(f"{name}/{key}", value.float(), prog_bar=shown, rank_zero_only=True)

    def on_validation_epoch_start(self) -> None:
        """Empty sums."""
        self.scores.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up negative bounds."""
        self._count(self.log_prob_bounds(batch, look_ahead=False), batch)

    def on_validation_epoch_end(self) -> None:
        """Scores over all objects of all ranks."""
        self._log_scores("val")

    on_test_epoch_start = on_validation_epoch_start

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Add up negative bounds of the model that is sampled."""
        bounds = self.log_prob_bounds(batch, look_ahead=True)
        self._count(bounds, batch)
        return {"rows": batch.rows, "bounds": bounds}

    def on_test_epoch_end(self) -> None:
        """Scores over all objects of all ranks."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Row and bound of each molecule."""
        return batch.rows, self.log_prob_bounds(batch, look_ahead=True)

    def start(self, index: Tensor, seed: int) -> Start:
        """Sizes, orders and noise of samples; each depends on the seed and its index alone.

        Arguments:
            index: Numbers of the samples, ``(B,)``.
            seed: Seed of sizes, orders and classes.
        """
        return _starts(self.domain, self.size_counts, index, seed)

    def draw(self, index: Tensor, seed: int) -> Samples:
        """Generate the objects of :meth:`start`."""
        return sample(self.ardm(), *self.start(index, seed))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint readable without executing anything."""
        keep_plain(checkpoint)

    def configure_optimizers(self) -> Any:
        """AdamW with its schedule."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            self.learning_rate,
            weight_decay=self.weight_decay,
            fused=True,
        )
        schedule = rise_and_fall(optimizer, self.warmup_steps, num_steps(self.trainer))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
