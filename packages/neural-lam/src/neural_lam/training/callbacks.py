"""What a run writes: forecasts, chunk by chunk, from any number of devices."""

import json
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import BasePredictionWriter, Timer
from torch import Tensor

from neural_lam.predictors.step import correction_used
from neural_lam.shell.showing import in_a_line
from neural_lam.verification.forecasts import (
    claim_forecasts,
    discard_empty,
    finish_forecasts,
    resume_forecasts,
    write_forecast,
    written_forecasts,
)

__all__ = ["ForecastWriter", "RunTimer"]


class RunTimer(Timer):
    """Measures the time of a training; it is kept in the checkpoint."""

    __str__ = in_a_line

    def __init__(self) -> None:
        super().__init__(verbose=False)


def _data_options(data: Any) -> str:
    """How the data were opened, to open them again for the truth."""
    found = {name: getattr(data, name, None) for name in ("rename", "select")}
    return json.dumps({name: value for name, value in found.items() if value})


class ForecastWriter(BasePredictionWriter):
    """Writes forecasts as they are made; a run that was killed goes on where it stopped.

    Arguments:
        output: zarr store.
        attributes: Of the store.
    """

    __str__ = in_a_line

    def __init__(self, output: str, attributes: dict[str, str | int | float] | None = None) -> None:
        super().__init__("batch")
        self.output, self.attributes = output, attributes or {}
        self._position: dict[int, int] = {}

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Create the store, or find out what is still to be written to it."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        windows = data.predict_dataloader().dataset
        analysis = windows.analysis.tolist()
        self._position = {index: position for position, index in enumerate(analysis)}
        attributes = {
            "data": data.path if isinstance(data.path, str) else json.dumps(data.path),
            "data_options": _data_options(data),
            "boundary_width": data.boundary_width,
            "training_stop": data.period(0)[1],
            "held_boundary": int(getattr(pl_module, "held_boundary", False)),
            "network_used": int(correction_used(pl_module)),
            **self.attributes,
        }
        if trainer.is_global_zero:
            claim_forecasts(self.output)
            times = windows.store.times[analysis]
            resume_forecasts(self.output, windows.store, times, windows.num_steps, attributes)
        trainer.strategy.barrier()
        data.forecast_done = {analysis[position] for position in written_forecasts(self.output)}
        # Nobody writes before everybody has read what is written.
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
        store = trainer.datamodule.store  # type: ignore[attr-defined]
        for index, forecast in zip(*prediction, strict=True):
            write_forecast(self.output, store, self._position[int(index)], forecast.float().cpu())

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Leave nothing behind where nothing was written; what was written is gone on with."""
        if trainer.is_global_zero:
            discard_empty(self.output)

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Move the store into place, if it is finished."""
        trainer.strategy.barrier()
        if trainer.is_global_zero and len(written_forecasts(self.output)) == len(self._position):
            finish_forecasts(self.output)
        trainer.strategy.barrier()
