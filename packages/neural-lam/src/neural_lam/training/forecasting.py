"""The verb ``forecast``."""

import hashlib
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning

from neural_lam.data.domain import domain_from_dict
from neural_lam.shell.checkpoints import CheckpointError, read_checkpoint
from neural_lam.training.callbacks import ForecastWriter

__all__ = ["ForecastTrainer"]


class ForecastTrainer(lightning.Trainer):
    """A trainer that can also write forecasts."""

    def forecast(
        self,
        model: lightning.LightningModule,
        datamodule: lightning.LightningDataModule,
        output: str,
        ckpt_path: str,
    ) -> None:
        """Write forecasts of the test period as zarr with the dimensions of WeatherBench2.

        Arguments:
            model: What forecasts.
            datamodule: What it forecasts from.
            output: zarr store to write.
            ckpt_path: Checkpoint of the model.
        """
        content = read_checkpoint(ckpt_path)
        if "domain" not in content:
            raise CheckpointError(ckpt_path, "not a checkpoint of a forecaster: it has no 'domain'")
        self.callbacks.append(ForecastWriter(output, _training_attributes(ckpt_path, content)))  # type: ignore[attr-defined]
        # Standardised, meshed and guessed as in the training, whatever the data say now.
        model.adopt(domain_from_dict(content["domain"]))  # type: ignore[operator]
        self.predict(model, datamodule=datamodule, ckpt_path=ckpt_path, return_predictions=False)


def _training_attributes(path: str, content: dict[str, Any]) -> dict[str, str | int | float]:
    weights = [
        value
        for name, value in content["state_dict"].items()
        if name.endswith((".weight", ".bias"))
    ]
    attributes: dict[str, str | int | float] = {
        "checkpoint": path,
        "checkpoint_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "training_steps": int(content["global_step"]),
        "num_weights": sum(value.numel() for value in weights),
    }
    for name, state in content.get("callbacks", {}).items():
        if name.startswith("RunTimer"):
            attributes["training_seconds"] = round(float(state["time_elapsed"]["train"]), 1)
    return attributes
