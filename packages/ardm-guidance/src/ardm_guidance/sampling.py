"""The verb ``sample``, the rows that ``predict`` writes, and the scores that ``test`` writes."""

import json
import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pyarrow
import pyarrow.parquet
import torch
import torch.distributed as dist
from torch import Tensor

from ardm_guidance import __version__
from ardm_guidance.checkpoints import CheckpointError, read_checkpoint
from ardm_guidance.graphs import sizes
from ardm_guidance.loading import EvaluationLoader
from ardm_guidance.training import MoleculeARDM

__all__ = ["SamplingTrainer", "WriteResults", "gather_rows", "write_parquet"]

Row = dict[str, Any]


def write_parquet(rows: list[Row], path: Path, notes: dict[str, Any]) -> None:
    """Write rows with notes as JSON in the metadata, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    metadata = {**(table.schema.metadata or {}), b"ardm_guidance": json.dumps(notes).encode()}
    partial = path.with_name(path.name + ".part")
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), partial)
    os.replace(partial, path)


def gather_rows(rows: list[Row]) -> list[Row]:
    """Rows of all ranks in the order of their index, on every rank."""
    parts = [rows]
    if dist.is_available() and dist.is_initialized():
        parts = [rows] * dist.get_world_size()
        dist.all_gather_object(parts, rows)
    return sorted((row for part in parts for row in part), key=lambda row: row["index"])


class _Numbers:
    """The numbers of the samples."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Tensor) -> Tensor:
        return index


class _Sampler(lightning.LightningModule):
    """Draws from a model, a batch of sample numbers at a time."""

    def __init__(self, model: MoleculeARDM, num_samples: int, seed: int, output: Path) -> None:
        super().__init__()
        self.model, self.num_samples = model, num_samples
        self.draw_seed, self.output = seed, output
        self.rows: list[Row] = []

    def on_predict_start(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def predict_step(self, index: Tensor, batch_idx: int) -> None:
        """Draw and keep one batch."""
        sites, log_prob = self.model.draw(index, self.draw_seed)
        for number, graph, value in zip(
            index.tolist(), sites.cpu(), log_prob.tolist(), strict=True
        ):
            smiles = self.model.alphabet.smiles(graph)
            atoms = int(sizes(graph))
            self.rows.append(
                {"index": number, "smiles": smiles, "log_prob": value, "num_atoms": atoms}
            )

    def on_predict_end(self) -> None:
        """Write the samples of all ranks."""
        rows = gather_rows(self.rows)
        if self.trainer.is_global_zero:
            write_parquet(rows, self.output, self._notes())

    def _notes(self) -> dict[str, Any]:
        return {
            "num_samples": self.num_samples,
            "seed": self.draw_seed,
            "seconds": time.perf_counter() - self.start,
            "devices": self.trainer.world_size,
            "threads": torch.get_num_threads(),
            "training_steps": int(self.model.num_averaged),
            "parameters": sum(weight.numel() for weight in self.model.network.parameters()),
            "versions": {"ardm-guidance": __version__, "torch": torch.__version__},
        }


def _restore(model: MoleculeARDM, path: Path) -> None:
    try:
        model.load_state_dict(read_checkpoint(path)["state_dict"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(path, f"of another model than the configuration: {reason}") from None


class SamplingTrainer(lightning.Trainer):
    """A Trainer that can also sample."""

    def sample(
        self,
        model: MoleculeARDM,
        datamodule: lightning.LightningDataModule | None = None,
        ckpt_path: str | None = None,
        num_samples: int = 1000,
        batch_size: int = 250,
        seed: int = 0,
        output: str | None = None,
    ) -> None:
        """Generate molecules and write them as Parquet.

        The columns are ``index``, ``smiles`` (canonical; of the unchecked structure where
        RDKit finds it invalid), ``log_prob`` (nats, given size and order) and ``num_atoms``.
        Each sample depends on the seed and its index alone, not on batches or devices.

        Arguments:
            model: The model.
            datamodule: Not used; the sizes come from the checkpoint.
            ckpt_path: Checkpoint with the weights.
            num_samples: How many.
            batch_size: Molecules at once on each device.
            seed: Seed of the samples.
            output: Parquet file to write; by default ``samples.parquet`` in the run's folder.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if ckpt_path is None:
            raise ValueError("ckpt_path: sampling needs a checkpoint")
        _restore(model, Path(ckpt_path))
        path = Path(output) if output else Path(self.default_root_dir) / "samples.parquet"
        loader = EvaluationLoader(_Numbers(num_samples), batch_size)
        self.predict(_Sampler(model, num_samples, seed, path), loader)


class WriteResults(lightning.Callback):
    """Writes ``test.json`` and ``predictions.parquet`` to the run's folder."""

    def on_test_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the scores."""
        names = {"nats", "nats_error", "bits_per_site", "count"}
        values = {
            key.removeprefix("test/"): float(value)
            for key, value in trainer.callback_metrics.items()
            if key.removeprefix("test/") in names
        }
        if trainer.is_global_zero and values:
            path = Path(trainer.default_root_dir) / "test.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".part")
            partial.write_text(json.dumps(values, indent=2) + "\n")
            os.replace(partial, path)

    def on_predict_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Forget the rows of an earlier run."""
        self.rows: list[Row] = []

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
            smiles = trainer.datamodule.molecules.smiles  # type: ignore[attr-defined]
            self.rows += [
                {"index": row, "smiles": smiles[row], "log_prob_bound": value}
                for row, value in zip(index, bounds, strict=True)
            ]

    def on_predict_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the bounds of all molecules beside their SMILES."""
        rows = gather_rows(self.rows)
        if trainer.is_global_zero and rows:
            write_parquet(rows, Path(trainer.default_root_dir) / "predictions.parquet", {})
