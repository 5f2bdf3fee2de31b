r"""Training of molecule ARDMs.

The loss is the negative bound of :mod:`ardm_guidance.models.ardm` per site; its noise is keyed by
(seed, step, molecule), so that it is the same on one device and on many.  Scores are of
the average of the weights over the last steps (exponential, with a horizon that grows
to the one asked for), and in nats per molecule with the size included:

.. math:: -\log p(x) \le -\log p(n) - E_\sigma \log p_\theta(x \mid n, \sigma).

Both training and validation use the valence alone; testing and sampling look ahead
to connectivity as well, which can only raise the bound of a connected molecule.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from ardm_guidance.data.modules import Batch, MoleculeData
from ardm_guidance.models.ardm import OrderAgnosticARDM, Samples, bound, sample, steps
from ardm_guidance.models.networks import check_network
from ardm_guidance.models.orders import by_keys
from ardm_guidance.shell.checkpoints import keep_plain
from ardm_guidance.shell.checks import counts, not_negative, positive
from ardm_guidance.shell.randomness import keyed_uniform
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.constraints import Connectivity, Constraint, Valence
from ardm_guidance.sites.graphs import PAD, masked_graphs, site_count, sizes
from ardm_guidance.sites.molecules import QM9_ATOM_TYPES, MoleculeAlphabet
from ardm_guidance.sites.strain import Unstrained
from ardm_guidance.training.bound_scores import BoundScores
from ardm_guidance.training.schedule import num_steps, rise_and_fall

__all__ = ["MoleculeARDM", "Start"]

# Counters of keyed noise that no optimisation step reaches.
_EVALUATION, _SAMPLING = -1, -2
_SHOWN = ("nats",)  # by the progress bar


class Start(NamedTuple):
    """Empty molecules with all that their generation draws, each ``(B, D)``."""

    sites: Tensor
    order: Tensor
    noise: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def _starts(size_counts: Tensor, index: Tensor, seed: int) -> Start:
    """Starts of samples, their sizes drawn from a histogram over 0 to the largest."""
    max_atoms = len(size_counts) - 1
    num_sites = site_count(max_atoms)
    noise = keyed_uniform(seed, _SAMPLING, index, (2 * num_sites + 1,), torch.float64)
    shares = size_counts.double().cumsum(0)
    num_nodes = (shares <= noise[:, :1] * shares[-1]).sum(-1)
    sites = masked_graphs(num_nodes, max_atoms)
    order = by_keys(sites, noise[:, 1 : num_sites + 1])
    return Start(sites, order, noise[:, num_sites + 1 :])


class MoleculeARDM(lightning.LightningModule):
    r"""An order-agnostic ARDM of molecules.

    Arguments:
        network: Maps sites to logits, such as a
            :class:`~ardm_guidance.GraphTransformer`.
        atom_types: Atom classes, as element and charge: ``C``, ``N+``, ``O-``.
        max_atoms: Heavy atoms of the largest molecule.
        learning_rate: Largest step size of AdamW; it rises linearly and then falls
            linearly to zero where the number of steps is known.
        warmup_steps: Steps of the rise.
        weight_decay: Of AdamW.
        average_horizon: Steps over which weights are averaged.
        connected: Look ahead to connected molecules in tests and samples.
        seed: Seed of all noise.
        aromatic: The encoding of published models, without any constraint; see
            :class:`~ardm_guidance.sites.molecules.MoleculeAlphabet`.
        masked_loss: Train the conditionals with their valence mask. Without, the loss has
            :math:`-\log P(\text{classes that fit})` besides, so that the network learns valences
            too and can also be sampled without any mask, as published models are.
        unstrained: Keep triple bonds out of rings of three to six atoms in tests and samples.

    References:
        Hoogeboom et al. (2022), Autoregressive diffusion models, arXiv:2110.02037.
    """

    size_counts: Tensor
    num_averaged: Tensor

    __str__ = in_a_line

    def __init__(
        self,
        network: nn.Module,
        atom_types: list[str] = list(QM9_ATOM_TYPES),  # noqa: B006 - never changed
        max_atoms: int = 9,
        learning_rate: float = 2e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        average_horizon: int = 200,
        connected: bool = True,
        seed: int = 0,
        aromatic: bool = False,
        masked_loss: bool = True,
        unstrained: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        positive(learning_rate=learning_rate)
        not_negative(weight_decay=weight_decay)
        counts(average_horizon=average_horizon)
        self.masked_loss = masked_loss
        self.alphabet = MoleculeAlphabet(tuple(atom_types), max_atoms, aromatic)
        check_network(network, self.alphabet)
        self.scores = BoundScores()
        self.network, self.average = network, copy.deepcopy(network).requires_grad_(False)
        self.learning_rate, self.warmup_steps, self.seed = learning_rate, warmup_steps, seed
        self.weight_decay, self.average_horizon = weight_decay, average_horizon
        capacities = self.alphabet.capacities
        # Valences of aromatic bonds depend on the whole ring: no partial graph can be checked.
        checks: list[Constraint] = [] if aromatic else [Valence(capacities)]
        whole: list[Constraint] = [Connectivity(capacities)] if connected and checks else checks
        whole = [*whole, Unstrained(len(capacities))] if unstrained and checks else whole
        self.valence: Sequence[Constraint] = nn.ModuleList(checks)  # type: ignore[assignment]
        self.look_ahead: Sequence[Constraint] = nn.ModuleList(whole)  # type: ignore[assignment]
        self.register_buffer("size_counts", torch.zeros(max_atoms + 1, dtype=torch.long))
        self.register_buffer("num_averaged", torch.zeros((), dtype=torch.long))

    def setup(self, stage: str) -> None:
        """Take the histogram of sizes from the training molecules."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, MoleculeData):
            self.size_counts.copy_(data.size_counts())

    def _draw_bound(self, ardm: OrderAgnosticARDM, batch: Batch, counter: int) -> Tensor:
        keys = keyed_uniform(self.seed, counter, batch.rows, (batch.sites.shape[-1] + 1,))
        order = by_keys(batch.sites, keys[:, 1:])
        return bound(ardm, batch.sites, order, steps(batch.sites, keys[:, 0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean negative bound, divided by the sites of the largest molecule."""
        ardm = OrderAgnosticARDM(self.network, self.valence if self.masked_loss else ())
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
        """Bounds of the log-probability of molecules with their sizes, in nats, ``(B,)``."""
        ardm = self.ardm() if look_ahead else OrderAgnosticARDM(self.average, self.valence)
        log_share = (self.size_counts / self.size_counts.sum()).log()
        return self._draw_bound(ardm, batch, _EVALUATION) + log_share[sizes(batch.sites)]

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
        """Scores over all molecules of all ranks."""
        self._log_scores("val")

    on_test_epoch_start = on_validation_epoch_start

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Add up negative bounds of the model that is sampled."""
        bounds = self.log_prob_bounds(batch, look_ahead=True)
        self._count(bounds, batch)
        return {"rows": batch.rows, "bounds": bounds}

    def on_test_epoch_end(self) -> None:
        """Scores over all molecules of all ranks."""
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
        return _starts(self.size_counts, index, seed)

    def draw(self, index: Tensor, seed: int) -> Samples:
        """Generate the molecules of :meth:`start`."""
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
