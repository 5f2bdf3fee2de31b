"""Predictions of all ranks, merged by sample index into one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from latentgeom.data.observations import Samples
from latentgeom.reports.storage import codes_dataset, write_zarr
from latentgeom.shell.writing import claim, whole

__all__ = ["CodesWriter"]


class CodesWriter(BasePredictionWriter):
    """Writes ``codes.zarr`` under the trainer's root folder after ``predict``.

    Each rank leaves a shard; the first one merges them by sample index.
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def on_predict_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop before another run's codes."""
        if trainer.is_global_zero:
            claim(Path(trainer.default_root_dir) / "codes.zarr")

    def write_on_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write this rank's shard, then merge."""
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        mine = [torch.cat(column).cpu() for column in zip(*predictions, strict=True)]
        with whole(_shard(folder, trainer.global_rank), told=False) as shard:
            torch.save(mine, shard)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            _merge(folder, trainer.world_size)


def _shard(folder: Path, rank: int) -> Path:
    return folder / f"codes.{rank}.part"


def _merge(folder: Path, num_shards: int) -> None:
    shards = [_shard(folder, rank) for rank in range(num_shards)]
    columns = zip(*(torch.load(shard, weights_only=True) for shard in shards), strict=True)
    samples = Samples(*(torch.cat(column) for column in columns))
    order = samples.sample_index.argsort()
    codes, labels, index = (column[order] for column in samples)
    write_zarr(codes_dataset(codes, labels, index), folder / "codes.zarr")
    for shard in shards:
        shard.unlink()
