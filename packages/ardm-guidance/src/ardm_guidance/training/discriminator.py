"""Training of discriminators on real and generated molecules.

Noise is keyed by (seed, step, molecule).  After each validation the temperature is fitted to
the held-out logits, so that every checkpoint is calibrated; scores are of the tempered
logits.
"""

from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import pyarrow.parquet
import torch
from torch import Tensor, nn

from ardm_guidance.data.gathering import Row, gather_rows
from ardm_guidance.data.modules import read_split
from ardm_guidance.data.splits import Split
from ardm_guidance.guidance.calibration import cross_entropy, inverse_temperature, reliability
from ardm_guidance.guidance.discriminator import Discriminator, losses
from ardm_guidance.models.ardm import hide
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.models.orders import by_keys
from ardm_guidance.models.trunks import Trunk
from ardm_guidance.scores.plots import reliability_plot
from ardm_guidance.shell.checkpoints import CheckpointError, keep_plain, read_checkpoint
from ardm_guidance.shell.checks import counts, not_negative, positive
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.loading import EvaluationLoader, TrainingLoader
from ardm_guidance.shell.randomness import keyed_uniform
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.graphs import PAD
from ardm_guidance.sites.molecules import QM9_ATOM_TYPES, MoleculeAlphabet

__all__ = ["DiscriminatorData", "Judged", "MoleculeDiscriminator", "load_discriminator"]

_EVALUATION = -1


class Judged(NamedTuple):
    """Molecules with labels.

    Attributes:
        sites: ``(B, D)``.
        real: 1 for real molecules, 0 for generated ones, ``(B,)``.
        rows: Their numbers, ``(B,)``.
    """

    sites: Tensor
    real: Tensor
    rows: Tensor

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class JudgedDataset:
    """As many real as generated molecules.

    Arguments:
        real: Sites, ``(N, D)``.
        generated: Sites, ``(M, D)``.
    """

    def __init__(self, real: Tensor, generated: Tensor) -> None:
        number = min(len(real), len(generated))
        if number == 0:
            raise InputError("no pairs of real and generated molecules to judge")
        # Real and generated ones alternate, so that every share of the ranks is balanced. The
        # larger set is thinned evenly: sources are often ordered by size.
        both = [part[torch.arange(number) * len(part) // number] for part in (real, generated)]
        self.sites = torch.stack(both, 1).flatten(0, 1)

    def __len__(self) -> int:
        return len(self.sites)

    def __getitem__(self, index: Tensor) -> Judged:
        return Judged(self.sites[index].long(), 1 - index % 2, index)


def read_generated(path: str, num_sites: int) -> Tensor:
    """Sites of the Parquet file of ``negatives``, ``(M, D)``.

    Raises:
        InputError: The file is missing or holds no such sites.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; the verb negatives writes it")
    try:
        rows = pyarrow.parquet.read_table(path, columns=["sites"])["sites"].to_pylist()
        sites = torch.tensor(rows, dtype=torch.int8)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: no column of sites ({error})") from error
    if sites.dim() != 2 or sites.shape[1] != num_sites:
        raise InputError(f"{path}: expected {num_sites} sites a row, got {list(sites.shape)[1:]}")
    return sites


class DiscriminatorData(lightning.LightningDataModule):
    """Real molecules in a named random split, and generated ones in the same shares.

    Arguments:
        negatives: Parquet file of the verb ``negatives``.
        source: As for :class:`~ardm_guidance.MoleculeData`, like all that follow.
        column: Column of the SMILES in tables.
        batch_size: Molecules per device, real and generated together.
        val: Share of the validation part.
        test: Share of the test part.
        split_seed: Seed of the split.
        seed: Seed of the order of training molecules.
    """

    __str__ = in_a_line

    def __init__(
        self,
        negatives: str = "out/ardm-guidance/negatives.parquet",
        source: str = "qm9-sample",
        column: str = "SMILES",
        batch_size: int = 64,
        val: float = 0.05,
        test: float = 0.1,
        split_seed: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts(batch_size=batch_size)
        self.negatives, self.source, self.column = negatives, source, column
        self.batch_size, self.seed = batch_size, seed
        self.split = Split(val, test, split_seed).check()
        self.sets: dict[str, JudgedDataset] = {}

    def prepare_data(self) -> None:
        """Read both sets on one device of a machine; the others find a large source kept."""
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Read both sets, once."""
        if self.sets or self.trainer is None:
            return
        alphabet: Any = self.trainer.lightning_module.alphabet
        molecules, parts = read_split(self.source, alphabet, self.column, self.split, self.trainer)
        generated = read_generated(self.negatives, molecules.sites.shape[1])
        others = self.split.indices(len(generated))
        self.sets = {
            name: JudgedDataset(molecules.sites[index], generated[others[name]])
            for name, index in parts.items()
        }

    def train_dataloader(self) -> TrainingLoader:
        """Shuffled, resumable."""
        return TrainingLoader(self.sets["train"], self.batch_size, self.seed)

    def val_dataloader(self) -> EvaluationLoader:
        """Every validation molecule once."""
        return EvaluationLoader(self.sets["val"], self.batch_size)

    def test_dataloader(self) -> EvaluationLoader:
        """Every test molecule once."""
        return EvaluationLoader(self.sets["test"], self.batch_size)


class MoleculeDiscriminator(lightning.LightningModule):
    """A discriminator of partial molecules.

    Arguments:
        network: The trunk.
        generator: Checkpoint of the generator, whose averaged weights the trunk starts from.
        atom_types: As of the generator.
        max_atoms: As of the generator.
        learning_rate: Of AdamW, constant.
        weight_decay: Of AdamW.
        seed: Seed of all noise.
        aromatic: As of the generator.
        freeze_trunk: Train the heads alone, on the generator's own states, so that a guided step
            is one call of one network; needs ``generator``.
        head_width: Features of two layers under the heads; none, and the heads are linear.
    """

    __str__ = in_a_line

    def __init__(
        self,
        network: nn.Module,
        generator: str | None = None,
        atom_types: list[str] = list(QM9_ATOM_TYPES),  # noqa: B006 - never changed
        max_atoms: int = 9,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.05,
        seed: int = 0,
        aromatic: bool = False,
        freeze_trunk: bool = False,
        head_width: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        positive(learning_rate=learning_rate)
        not_negative(weight_decay=weight_decay)
        counts(head_width=1 if head_width is None else head_width)
        if freeze_trunk and generator is None:
            raise ValueError("freeze_trunk needs generator: the checkpoint whose states are read")
        if not isinstance(network, Trunk):
            raise ValueError(
                f"network must be a trunk such as GraphTransformer, got {type(network).__name__}"
            )
        if generator is not None:
            _load(network, generator, "average.")
        self.alphabet = MoleculeAlphabet(tuple(atom_types), max_atoms, aromatic)
        if freeze_trunk:
            network.requires_grad_(False)
        self.discriminator = Discriminator(network, head_width)
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, seed
        self.rows: list[Row] = []

    def _hide(self, batch: Judged, counter: int) -> Tensor:
        """Mask as many sites as a uniform number on 0..D says."""
        keys = keyed_uniform(self.seed, counter, batch.rows, (batch.sites.shape[-1] + 1,))
        dimension = (batch.sites != PAD).sum(-1)
        shown = (keys[:, 0] * (dimension + 1)).long().minimum(dimension)
        return hide(batch.sites, by_keys(batch.sites, keys[:, 1:]), shown)

    def training_step(self, batch: Judged, batch_idx: int) -> Tensor:
        """Cross-entropies of the value and of the look-ahead."""
        partial = self._hide(batch, self.global_step)
        both = losses(self.discriminator, batch.sites, partial, batch.real).mean(0)
        self.log("train/cross_entropy", both[0].detach(), prog_bar=True)
        return both.sum()

    def _collect(self, batch: Judged) -> None:
        logits, _ = self.discriminator.logits(self._hide(batch, _EVALUATION))
        columns = zip(batch.rows.tolist(), logits.tolist(), batch.real.tolist(), strict=True)
        self.rows += [{"index": row, "logit": d, "real": y} for row, d, y in columns]

    def _gathered(self) -> tuple[Tensor, Tensor]:
        rows, self.rows = gather_rows(self.rows), []
        logits = torch.tensor([row["logit"] for row in rows], dtype=torch.float64)
        return logits, torch.tensor([row["real"] for row in rows])

    def validation_step(self, batch: Judged, batch_idx: int) -> None:
        """Collect logits."""
        self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        """Fit the temperature to all logits of all ranks."""
        logits, real = self._gathered()
        # Logits that are worse than nothing get a temperature that turns them off.
        beta = max(inverse_temperature(logits, real), 1e-3)
        self.discriminator.temperature.fill_(1 / beta)
        entropy = cross_entropy(beta * logits, real).float()
        self.log("val/cross_entropy", entropy, prog_bar=True, rank_zero_only=True)
        self.log("val/temperature", 1 / beta, rank_zero_only=True)

    def test_step(self, batch: Judged, batch_idx: int) -> None:
        """Collect logits."""
        self._collect(batch)

    def on_test_epoch_end(self) -> None:
        """Score and draw all tempered logits of all ranks."""
        logits, real = self._gathered()
        logits = logits / self.discriminator.temperature.double().cpu()
        bins = reliability(logits, real, min(10, len(real)))
        scores = {
            "cross_entropy": float(cross_entropy(logits, real)),
            "accuracy": float(((logits > 0) == (real > 0)).double().mean()),
            "calibration_error": bins.error,
            "count": float(len(real)),
        }
        self.log_dict({f"test/{k}": v for k, v in scores.items()}, rank_zero_only=True)
        if self.trainer.is_global_zero:
            path = Path(self.trainer.default_root_dir) / "reliability.png"
            reliability_plot(bins, path, count=len(real))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint readable, and buildable without a configuration."""
        keep_plain(checkpoint)
        trunk = self.discriminator.trunk
        # A trunk of one's own comes with the configuration that names it.
        if isinstance(trunk, GraphTransformer):
            checkpoint["trunk"] = trunk.arguments
            checkpoint["head_width"] = self.discriminator.head_width

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(
            [weight for weight in self.parameters() if weight.requires_grad],
            self.learning_rate,
            weight_decay=self.weight_decay,
            fused=True,
        )


def _load(module: nn.Module, path: str, prefix: str) -> None:
    """Load the part of a checkpoint whose names begin with ``prefix``."""
    state = read_checkpoint(path)["state_dict"]
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(part)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(path, f"of another network: {reason}") from None


def load_discriminator(path: str) -> Discriminator:
    """The discriminator of a checkpoint, ready to guide.

    Raises:
        CheckpointError: The file is none of a discriminator.
    """
    content = read_checkpoint(path)
    if "trunk" not in content:
        raise CheckpointError(path, "not a checkpoint of a discriminator")
    trunk = GraphTransformer(**content["trunk"])
    discriminator = Discriminator(trunk, content.get("head_width"))
    _load(discriminator, path, "discriminator.")
    return discriminator.eval().requires_grad_(False)
