"""Verification of a forecast store against its truth and the simple forecasts."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from neural_lam import __version__
from neural_lam.baselines import Climatology, LinearStencil, climatology, fit_stencil, roll_stencil
from neural_lam.configuration import InputError
from neural_lam.data.domain import area_weights, frame_interior
from neural_lam.data.fields import FieldStore, open_store
from neural_lam.verification import Sums, scores, sums

__all__ = ["Verification", "skill", "verify_store", "write_json"]

Array = NDArray[np.float64]

# The linear stencil sees a square of 7 x 7 points.
_REACH = 3


class Verification(NamedTuple):
    """Scores of a forecast store.

    Arguments:
        scores: By forecast, lead time and feature; the model is the first forecast.
        store: The truth.
        forecasts: The opened forecast store.
        width: Of the boundary.
    """

    scores: xr.Dataset
    store: FieldStore
    forecasts: xr.Dataset
    width: int


def _stack(data: xr.Dataset, names: list[str]) -> Array:
    """Variables and levels as one axis, ``(T, V, y, x)``."""
    parts = []
    for name in names:
        array = data[name].transpose("prediction_timedelta", ..., "latitude", "longitude").values
        parts.append(array[:, None] if array.ndim == 3 else array)
    return np.concatenate(parts, axis=1).astype(np.float64)


def _fields(store: FieldStore, start: int, stop: int) -> Array:
    states = store.states(start, stop).numpy().astype(np.float64)
    return states.transpose(0, 2, 1).reshape(stop - start, -1, *store.shape)


class _Reference(NamedTuple):
    climatology: Climatology
    stencil: LinearStencil
    weights: Array


def _reference(store: FieldStore, stop: int, width: int, num_steps: int) -> _Reference:
    """Simple forecasts fitted on the states before ``stop``."""
    states, times = _fields(store, 0, stop), store.times[:stop]
    mean = climatology(states, times)
    stencil = fit_stencil(
        states - mean.at(times), width, min(width, _REACH), num_steps=min(8, num_steps)
    )
    area = area_weights(torch.from_numpy(store.latitude)).numpy()[:, None]
    return _Reference(
        mean, stencil, area * frame_interior(store.shape, width).reshape(store.shape).numpy()
    )


def _compare(
    reference: _Reference, states: Array, times: NDArray[np.datetime64], forecast: Array
) -> dict[str, Sums]:
    """Sums of the model and the simple forecasts for one analysis time (``states[1]``)."""
    truth, mean = states[2:], reference.climatology.at(times)
    anomalies = states - mean
    linear = roll_stencil(reference.stencil, anomalies[:2], anomalies[2:]) + mean[2:]
    candidates = {
        "model": forecast,
        "linear_stencil": linear,
        "persistence": np.broadcast_to(states[1], truth.shape),
        "climatology": mean[2:],
    }
    return {
        name: sums(field, truth, mean[2:], reference.weights) for name, field in candidates.items()
    }


def verify_store(forecast: str, truth: str | None = None, *, progress: bool = True) -> Verification:
    """Score every forecast of a store and the simple forecasts from the same analyses.

    Arguments:
        forecast: Store that ``neural-lam forecast`` wrote.
        truth: Store of the truth; by default the one the forecast was made from.
        progress: Whether to show a bar.

    Raises:
        ValueError: The stores don't fit together.
    """
    data = open_store(forecast)
    names = [str(name) for name in data.data_vars]
    store = FieldStore(truth or str(data.attrs["data"]), names)
    if store.shape != (data.sizes["latitude"], data.sizes["longitude"]):
        raise InputError(f"{store.path}: its grid {store.shape} is not that of {forecast}")
    width, stop = int(data.attrs["boundary_width"]), int(data.attrs["training_stop"])
    num_steps = data.sizes["prediction_timedelta"]
    reference = _reference(store, stop, width, num_steps)
    position = {value: number for number, value in enumerate(store.times)}
    rows: dict[str, list[Sums]] = {}
    for number, analysis in enumerate(
        tqdm(data["time"].values, desc="verify", disable=not progress)
    ):
        if analysis not in position or position[analysis] + num_steps >= len(store.times):
            raise InputError(f"{store.path}: no truth for the forecast from {analysis}")
        first = position[analysis] - 1
        window = slice(first, first + 2 + num_steps)
        states = _fields(store, window.start, window.stop)
        found = _compare(
            reference, states, store.times[window], _stack(data.isel(time=number), names)
        )
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
    stacked = {name: Sums(*map(np.stack, zip(*row, strict=True))) for name, row in rows.items()}
    block = _block(data["time"].values)
    features = [feature.name for feature in store.features]
    table = scores(stacked, features, data["prediction_timedelta"].values, block=block)
    return Verification(table, store, data, width)


def _block(times: NDArray[np.datetime64]) -> int:
    """Forecasts in two days, over which synoptic errors are correlated."""
    if len(times) < 2:
        return 1
    return max(1, int(np.ceil(np.timedelta64(2, "D") / (times[1] - times[0]))))


def skill(table: xr.Dataset) -> dict[str, Any]:
    """RMSE by feature, forecast and lead time, and the model's in parts of each simple one's."""
    hours = [f"{h:g}h" for h in table["prediction_timedelta"].values / np.timedelta64(1, "h")]
    answer: dict[str, Any] = {}
    for feature in table["feature"].values:
        rmse = table["rmse"].sel(feature=feature)
        model = rmse.sel(forecast="model").values
        names = [str(name) for name in table["forecast"].values]
        of = {name: rmse.sel(forecast=name).values for name in names}
        answer[str(feature)] = {
            "rmse": {name: _by(hours, values) for name, values in of.items()},
            "model_over": {name: _by(hours, model / of[name]) for name in names[1:]},
        }
    return answer


def _by(hours: list[str], values: Array) -> dict[str, float]:
    return {hour: round(float(value), 5) for hour, value in zip(hours, values, strict=True)}


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
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
