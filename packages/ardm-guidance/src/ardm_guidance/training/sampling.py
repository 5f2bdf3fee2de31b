"""The verb ``sample``, the rows that ``predict`` writes, and the scores that ``test`` writes."""

import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as lightning
import pyarrow
import pyarrow.parquet
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from ardm_guidance import __version__
from ardm_guidance.data.gathering import Row, gather, gather_rows
from ardm_guidance.guidance.potentials import LateStart, Potential, Tempered
from ardm_guidance.guidance.resampling import effective_sample_size, spread
from ardm_guidance.guidance.sharing import shared_trunks
from ardm_guidance.methods.corrected import Corrected
from ardm_guidance.methods.counting import evaluations
from ardm_guidance.methods.fadg import FADG
from ardm_guidance.methods.method import Method
from ardm_guidance.methods.unguided import Plain
from ardm_guidance.models.ardm import hide
from ardm_guidance.models.domains import MoleculeGraphs
from ardm_guidance.models.quick import Quick
from ardm_guidance.scores.plots import ancestry_plot, film_strip
from ardm_guidance.shell.checkpoints import CheckpointError, read_checkpoint
from ardm_guidance.shell.loading import EvaluationLoader
from ardm_guidance.shell.randomness import keyed_generator
from ardm_guidance.shell.writing import claim, whole
from ardm_guidance.sites.graphs import PAD
from ardm_guidance.training.discrete_ardm import DiscreteARDM
from ardm_guidance.training.discriminator import load_discriminator

__all__ = ["SamplingTrainer", "WriteResults", "pool", "write_parquet"]

# A counter of keyed noise beside those of training and of the methods.
_POOL = -6


def write_parquet(rows: list[Row], path: Path, notes: dict[str, Any]) -> None:
    """Write rows with notes as JSON in the metadata, whole or not at all."""
    table = pyarrow.Table.from_pylist(rows)
    metadata = {**(table.schema.metadata or {}), b"ardm_guidance": json.dumps(notes).encode()}
    with whole(path) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), partial)


class _Numbers:
    """The numbers of the samples."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Tensor) -> Tensor:
        return index


@torch.no_grad()
def draw_pictures(
    model: DiscreteARDM, folder: Path, seed: int, potential: Potential | None, method: Method
) -> None:
    """Film strip of a molecule model's first sample, and ancestry of a guided method's group."""
    if isinstance(model.domain, MoleculeGraphs):
        _draw_film(model, model.domain, folder, seed)
    if isinstance(method, Corrected):
        index = torch.zeros(1, dtype=torch.long, device=model.device)
        finished = method.groups(model, potential, index, seed)
        title = f"{type(method).__name__}, N = {method.num_particles}"
        ancestry_plot(finished, folder / "ancestry.png", title=title)


def _draw_film(model: DiscreteARDM, molecules: MoleculeGraphs, folder: Path, seed: int) -> None:
    index = torch.zeros(1, dtype=torch.long, device=model.device)
    sites, order = model.draw(index, seed).sites[0].cpu(), model.start(index, seed).order[0].cpu()
    shown = torch.linspace(0, int((sites != PAD).sum()), 7).round().long()
    # What was shown at a step is the finished object, hidden again by its order.
    frames = [hide(sites, order, number) for number in shown]
    title = "One molecule, site by site in a random order"
    film_strip(frames, molecules.alphabet, folder / "film_strip.png", title=title)


def pool(rows: list[Row], number: int, seed: int) -> tuple[list[Row], float]:
    r"""Draw from the particles of all groups by weight, so that each counts by its :math:`\hat Z`.

    Arguments:
        rows: A row for each particle, with ``log_weight``, ``log_normalizer`` and ``group``.
        number: Samples to draw, systematically.
        seed: Of the draw.

    Returns:
        The rows drawn, and the effective number of groups,
        :math:`(\sum_g \hat Z_g)^2 / \sum_g \hat Z_g^2`.
    """
    weights = torch.tensor([row["log_weight"] for row in rows], dtype=torch.float64)
    groups = {row["group"]: row["log_normalizer"] for row in rows}
    effective = effective_sample_size(torch.tensor(list(groups.values()), dtype=torch.float64))
    generator = keyed_generator(seed, _POOL)
    drawn = spread(weights, number, generator=generator)
    # Systematic draws are sorted: copies of one particle would stand side by side.
    shuffled = drawn[torch.randperm(number, generator=generator)]
    return [rows[place] for place in shuffled.tolist()], float(effective)


class _Sampler(lightning.LightningModule):
    """Draws from a model, a batch of sample numbers at a time."""

    def __init__(
        self,
        model: DiscreteARDM,
        method: Method,
        potential: Potential | None,
        seed: int,
        output: Path,
    ) -> None:
        super().__init__()
        self.model, self.method, self.potential = model, method, potential
        self.draw_seed, self.output = seed, output
        self.rows: list[Row] = []
        self.effective_groups: float | None = None

    def on_predict_start(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def predict_step(self, index: Tensor, batch_idx: int) -> None:
        """Draw and keep one batch."""
        guides = () if self.potential is None else (self.potential,)
        with evaluations(self.model.average, *guides) as count:
            drawn = self.method.draw(self.model, self.potential, index, self.draw_seed)
        columns = drawn._replace(sites=drawn.sites.cpu())._asdict()
        sites = columns.pop("sites")
        known = {name: values.tolist() for name, values in columns.items()}
        for place, graph in enumerate(sites):
            # A log-weight may be minus infinity; what isn't a number isn't known.
            row = {name: None if math.isnan(values[place]) else values[place]
                   for name, values in known.items()}  # fmt: skip
            row |= {"index": row["group"], "num_evaluations": count.rows / len(index)}
            row |= {"sites": graph.tolist()}
            self.rows.append(row)

    def on_predict_end(self) -> None:
        """Write the samples of all ranks."""
        rows = gather_rows(self.rows)
        if not self.trainer.is_global_zero:
            return
        if self.method.pooled:
            number = len({row["group"] for row in rows})
            rows, self.effective_groups = pool(rows, number, self.draw_seed)
            rank_zero_info(f"groups re-weighted: {self.effective_groups:.1f} effective of {number}")
        domain = self.model.domain
        finished = [
            {"index": number, **domain.columns(torch.tensor(row["sites"]))}
            | {name: value for name, value in row.items() if name != "index"}
            for number, row in enumerate(rows)
        ]
        write_parquet(finished, self.output, self._notes(len(finished)))

    def _notes(self, num_samples: int) -> dict[str, Any]:
        return {
            "num_samples": num_samples,
            "method": str(self.method),
            "effective_groups": self.effective_groups,
            "seed": self.draw_seed,
            "seconds": time.perf_counter() - self.start,
            "devices": self.trainer.world_size,
            "threads": torch.get_num_threads(),
            "training_steps": int(self.model.num_averaged),
            "parameters": sum(weight.numel() for weight in self.model.network.parameters()),
            "versions": {"ardm-guidance": __version__, "torch": torch.__version__},
        }


def _restore(model: DiscreteARDM, path: Path) -> None:
    try:
        model.load_state_dict(read_checkpoint(path)["state_dict"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(path, f"of another model than the configuration: {reason}") from None


def _guide(path: str, power: float, start: int) -> Potential:
    """A discriminator, tempered and started late where asked for."""
    if power < 0 or start < 0:
        raise ValueError(f"guide_power and guide_start must not be negative, got {power}, {start}")
    potential: Potential = load_discriminator(path)
    potential = potential if power == 1 else Tempered(potential, power)
    return potential if start == 0 else LateStart(potential, start)


class SamplingTrainer(lightning.Trainer):
    """A Trainer that can also sample."""

    def sample(
        self,
        model: DiscreteARDM,
        datamodule: lightning.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        num_samples: int = 1000,
        batch_size: int = 250,
        seed: int = 0,
        output: str | None = None,
        guide: str | None = None,
        method: Method | None = None,
        guide_power: float = 1.0,
        guide_start: int = 0,
        pictures: bool = True,
        bfloat16: bool = False,
        compiled: bool = False,
    ) -> None:
        """Generate objects and write them as Parquet.

        The columns are ``index``; how the domain writes it, for molecules ``smiles`` (canonical;
        of the unchecked structure where RDKit finds it invalid) and ``num_atoms``; ``group``,
        ``log_weight`` and ``log_normalizer``, the group that a sample comes from, its weight and
        the estimate of log Z; ``log_prob`` under what it was drawn from, given size and order;
        ``num_evaluations``, rows given to networks for each number, on average over the batch;
        and ``sites``. What isn't known is null. Without sequential Monte Carlo each sample depends
        on the seed and its index alone, not on batches or devices.

        Arguments:
            model: The model.
            datamodule: Not used; the sizes come from the checkpoint.
            ckpt_path: Checkpoint with the weights.
            num_samples: How many.
            batch_size: Objects at once on each device.
            seed: Seed of the samples.
            output: Parquet file to write; by default ``samples.parquet`` in the run's folder.
            guide: Checkpoint of a discriminator.
            method: How to draw: Plain, Parallel, and with a guide ARDG, BSDG, FADG, BestOf or
                Importance; by default Plain, or FADG with a guide.
            guide_power: Exponent of the guide, which tempers it; 0 is no guidance.
            guide_start: Shown sites from which on the guide counts.
            pictures: Also write ``film_strip.png``, and ``ancestry.png`` of BSDG and FADG.
            bfloat16: Let the networks compute in bfloat16: faster, and samples are others.
            compiled: Compile the networks, in bfloat16: takes a minute, then 1.5 times as fast.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if ckpt_path is None:
            raise ValueError("ckpt_path: sampling needs a checkpoint")
        _restore(model, Path(ckpt_path))
        path = Path(output) if output else Path(self.default_root_dir) / "samples.parquet"
        if self.is_global_zero:
            film = ("film_strip.png",) if isinstance(model.domain, MoleculeGraphs) else ()
            drawn = (*film, *(("ancestry.png",) if guide else ()))
            claim(path, *(path.parent / name for name in drawn if pictures))
        loader = EvaluationLoader(_Numbers(num_samples), batch_size)
        potential = _guide(guide, guide_power, guide_start) if guide else None
        way = method or (FADG() if potential else Plain())
        prepare = partial(Quick, compiled=compiled) if bfloat16 or compiled else None
        with shared_trunks(model, potential, prepare):
            self.predict(_Sampler(model, way, potential, seed, path), loader)
            if pictures and self.is_global_zero:
                model.eval()
                draw_pictures(model, path.parent, seed, potential, way)

    def negatives(
        self,
        model: DiscreteARDM,
        datamodule: lightning.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        num_samples: int = 10_000,
        batch_size: int = 500,
        seed: int = 1,
    ) -> None:
        """Generate what a discriminator is trained against: ``negatives.parquet``.

        Arguments:
            model: The model.
            datamodule: Not used.
            ckpt_path: Checkpoint with the weights.
            num_samples: How many; as many as there are real molecules is enough.
            batch_size: Objects at once on each device.
            seed: Seed of the samples; another than that of the samples to be judged.
        """
        path = str(Path(self.default_root_dir) / "negatives.parquet")
        self.sample(
            model, datamodule, ckpt_path, num_samples, batch_size, seed, path, pictures=False
        )


@runtime_checkable
class Labelled(Protocol):
    """Data of which several rows of sites are one object."""

    def log_labellings(self, row: int) -> float:
        """Logarithm of the rows of sites that are one object of the source."""
        ...


class WriteResults(lightning.Callback):
    """Writes ``test.json`` and ``predictions.parquet`` to the run's folder."""

    def on_test_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop before another run's scores."""
        self.labellings: list[float] = []
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            claim(Path(trainer.default_root_dir) / "test.json")

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the labelled graphs of the objects that have a bound."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(outputs, dict) or not isinstance(data, Labelled):
            return
        for row, bound in zip(outputs["rows"].tolist(), outputs["bounds"].tolist(), strict=True):
            if bound > -math.inf:
                self.labellings.append(data.log_labellings(row))

    def on_test_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the scores."""
        names = {"nats", "nats_error", "bits_per_site", "count", "excluded"}
        values = {
            key.removeprefix("test/"): float(value)
            for key, value in trainer.callback_metrics.items()
            if key.removeprefix("test/") in names
        }
        known = [one for part in gather(self.labellings) for one in part]
        if known and "nats" in values and not math.isnan(sum(known)):
            # Of the molecules, whatever the numbering of their atoms.
            values["log_labellings"] = math.fsum(known) / len(known)
            values["nats_unlabelled"] = values["nats"] - values["log_labellings"]
        if trainer.is_global_zero and values:
            with whole(Path(trainer.default_root_dir) / "test.json") as partial:
                partial.write_text(json.dumps(values, indent=2) + "\n")

    def on_predict_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Forget the rows of an earlier run, and stop before its file."""
        self.rows: list[Row] = []
        if trainer.is_global_zero and not isinstance(pl_module, _Sampler):
            claim(Path(trainer.default_root_dir) / "predictions.parquet")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the rows of a batch."""
        if outputs is not None:
            index, bounds = (values.tolist() for values in outputs)
            data = trainer.datamodule  # type: ignore[attr-defined]
            self.rows += [
                {"index": row, **data.columns(row), "log_prob_bound": value}
                for row, value in zip(index, bounds, strict=True)
            ]

    def on_predict_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the bounds of all molecules beside their SMILES."""
        rows = gather_rows(self.rows)
        if trainer.is_global_zero and rows:
            write_parquet(rows, Path(trainer.default_root_dir) / "predictions.parquet", {})
