"""Scores in words and numbers: the table of a report, and what it depends on."""

import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from neural_lam import __version__
from neural_lam.predictors.series import Array
from neural_lam.shell.writing import whole

__all__ = ["environment", "skill", "write_json"]


def skill(table: xr.Dataset) -> dict[str, Any]:
    """RMSE by feature, forecast and lead time, and the model's in parts of each simple one's.

    References:
        Murphy (1988), Skill scores based on the mean square error and their relationships to the
        correlation coefficient, Monthly Weather Review 116.
    """
    hours = [f"{h:g}h" for h in table["prediction_timedelta"].values / np.timedelta64(1, "h")]
    answer: dict[str, Any] = {}
    for feature in table["feature"].values:
        rmse = table["rmse"].sel(feature=feature)
        model = rmse.sel(forecast="model").values
        names = [str(name) for name in table["forecast"].values]
        of = {name: rmse.sel(forecast=name).values for name in names}
        answer[str(feature)] = {
            "rmse": {name: _by(hours, values) for name, values in of.items()},
            "model_over": {
                name: _by(hours, model / np.maximum(of[name], 1e-30)) for name in names[1:]
            },
        }
    return answer


def _by(hours: list[str], values: Array) -> dict[str, float | None]:
    """Rounded; a number that isn't finite is no number."""
    return {
        hour: float(f"{value:.6g}") if np.isfinite(value) else None
        for hour, value in zip(hours, values, strict=True)
    }


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "neural-lam": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON, whole or not at all; a number that isn't finite is an error."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
