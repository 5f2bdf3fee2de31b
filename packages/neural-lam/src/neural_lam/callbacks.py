"""What a run writes: forecasts, chunk by chunk, from any number of devices."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import BasePredictionWriter, Timer
from torch import Tensor

from neural_lam.data.windows import Windows
from neural_lam.forecasts import create_forecasts, finish_forecasts, write_forecast

__all__ = ["ForecastWriter", "RunTimer"]


class RunTimer(Timer):
    """Measures the time of a training; it is kept in the checkpoint."""

    def __init__(self) -> None:
        super().__init__(verbose=False)


class ForecastWriter(BasePredictionWriter):
    """Writes forecasts as they are made.

    Arguments:
        output: zarr store.
        attributes: Of the store.
    """

    def __init__(self, output: str, attributes: dict[str, str | int | float] | None = None) -> None:
        super().__init__("batch")
        self.output, self.attributes = output, attributes or {}
        self._position: dict[int, int] = {}

    def _windows(self, trainer: lightning.Trainer) -> Windows:
        loaders: Any = trainer.predict_dataloaders
        windows: Windows = loaders.dataset
        return windows

    def on_predict_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Create the store."""
        windows = self._windows(trainer)
        analysis = windows.analysis.tolist()
        self._position = {index: position for position, index in enumerate(analysis)}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        attributes = {
            "data": data.path,
            "boundary_width": data.boundary_width,
            "training_stop": data.period(0)[1],
            "held_boundary": int(getattr(pl_module, "held_boundary", False)),
            **self.attributes,
        }
        if trainer.is_global_zero:
            times = windows.store.times[analysis]
            create_forecasts(self.output, windows.store, times, windows.num_steps, attributes)
        trainer.strategy.barrier()

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: tuple[Tensor, Tensor],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the forecasts of a batch."""
        store = self._windows(trainer).store
        for index, forecast in zip(*prediction, strict=True):
            write_forecast(self.output, store, self._position[int(index)], forecast.float().cpu())

    def on_predict_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Move the finished store into place."""
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            finish_forecasts(self.output)
        trainer.strategy.barrier()
