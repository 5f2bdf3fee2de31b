"""Verification of a forecast store against its truth and the simple forecasts."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from neural_lam import __version__
from neural_lam.data.domain import frame_interior, grid_areas
from neural_lam.data.fields import Datastore, open_store
from neural_lam.data.readers import open_datastore
from neural_lam.predictors.baselines import (
    Climatology,
    ComponentForecast,
    LinearStencil,
    climatology,
    fit_components,
    fit_stencil,
    forecast_components,
    roll_stencil,
    same_hour_yesterday,
)
from neural_lam.shell.errors import InputError
from neural_lam.verification.scores import Sums, gathered, radial_spectrum, scores, sums

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
    store: Datastore
    forecasts: xr.Dataset
    width: int


def _stack(data: xr.Dataset, names: list[str], dims: tuple[str, str]) -> Array:
    """Variables and levels as one axis, ``(T, V, y, x)``."""
    parts = []
    for name in names:
        array = data[name].transpose("prediction_timedelta", ..., *dims).values
        parts.append(array[:, None] if array.ndim == 3 else array)
    return np.concatenate(parts, axis=1).astype(np.float64)


def _fields(store: Datastore, start: int, stop: int) -> Array:
    states = store.states(start, stop).numpy().astype(np.float64)
    return states.transpose(0, 2, 1).reshape(stop - start, -1, *store.shape)


class _Reference(NamedTuple):
    climatology: Climatology
    stencil: LinearStencil
    cross: LinearStencil
    components: ComponentForecast | None
    weights: Array
    width: int
    sees_boundary: bool


class _Settings(NamedTuple):
    """What a forecast store says about how it was made."""

    width: int
    training_stop: int
    test_start: int
    num_steps: int
    held_boundary: bool


def _settings(data: xr.Dataset, path: str, first: int) -> _Settings:
    for name in ("data", "boundary_width", "training_stop"):
        if name not in data.attrs:
            raise InputError(f"{path}: no attribute {name!r}; was it written by forecast?")
    return _Settings(
        int(data.attrs["boundary_width"]),
        int(data.attrs["training_stop"]),
        first,
        data.sizes["prediction_timedelta"],
        bool(data.attrs.get("held_boundary", 0)),
    )


def _period(store: Datastore) -> int | None:
    day = np.timedelta64(1, "D")
    return int(day // store.step) if day % store.step == np.timedelta64(0, "ns") else None


def _reference(store: Datastore, settings: _Settings, *, uniform: bool) -> _Reference:
    """Simple forecasts fitted on the training period, chosen on what follows until the test."""
    states, times = _fields(store, 0, settings.test_start), store.times[: settings.test_start]
    stop, width = settings.training_stop, settings.width
    mean = climatology(states[:stop], times[:stop])
    anomalies = states - mean.at(times)
    reach, steps = min(width, _REACH), min(8, settings.num_steps)
    period, sees = _period(store), not settings.held_boundary
    enough = period is not None and len(anomalies) - stop > settings.num_steps
    area = grid_areas(store).numpy().reshape(store.shape)
    inside = frame_interior(store.shape, width).double().reshape(store.shape).numpy()
    return _Reference(
        mean,
        fit_stencil(anomalies[:stop], width, reach, num_steps=steps),
        fit_stencil(
            anomalies[:stop], width, 1, num_times=1000, num_steps=1, ridges=(1e-6,), cross=True
        ),
        fit_components(
            anomalies,
            width,
            settings.num_steps,
            period=period,
            chosen_from=stop,
            sees_boundary=sees,
        )
        if enough and period is not None
        else None,
        inside if uniform else area * inside,
        width,
        sees,
    )


def _compare(
    reference: _Reference, states: Array, times: NDArray[np.datetime64], forecast: Array
) -> dict[str, Sums]:
    """Sums of the model and the simple forecasts for one analysis time.

    Arguments:
        reference: Fitted simple forecasts.
        states: Up to the analysis and at the lead times.
        times: Of the states.
        forecast: ``(T, V, y, x)``.
    """
    now = len(states) - len(forecast) - 1
    truth, mean = states[now + 1 :], reference.climatology.at(times)
    anomalies = states - mean
    frame = anomalies[now + 1 :]
    if not reference.sees_boundary:
        frame = np.broadcast_to(anomalies[now], frame.shape)
    past, mean = anomalies[: now + 1], mean[now + 1 :]
    candidates = {
        "model": forecast,
        "linear_stencil": roll_stencil(reference.stencil, past[-2:], frame) + mean,
        "five_point_stencil": roll_stencil(reference.cross, past[-2:], frame) + mean,
    }
    if reference.components is not None:
        candidates["principal_components"] = (
            forecast_components(reference.components, past, frame) + mean
        )
    if now > 1:
        candidates["same_hour_yesterday"] = same_hour_yesterday(states[: now + 1], len(truth))
    candidates["persistence"] = np.broadcast_to(states[now], truth.shape)
    candidates["climatology"] = mean
    return {name: sums(field, truth, mean, reference.weights) for name, field in candidates.items()}


def _spectra(reference: _Reference, truth: Array, forecast: Array) -> dict[str, Array]:
    w = reference.width
    inside = (..., slice(w, truth.shape[-2] - w), slice(w, truth.shape[-1] - w))
    return {
        "model": radial_spectrum(forecast[inside])[1],
        "truth": radial_spectrum(truth[inside])[1],
    }


def _share(count: int) -> NDArray[np.int64]:
    """Numbers of the forecasts that this rank scores."""
    if dist.is_available() and dist.is_initialized():
        if count < dist.get_world_size():
            raise InputError(f"{dist.get_world_size()} ranks for {count} forecasts")
        return np.arange(dist.get_rank(), count, dist.get_world_size())
    return np.arange(count)


def verify_store(
    forecast: str, truth: str | None = None, *, uniform: bool = False, progress: bool = True
) -> Verification:
    """Score every forecast of a store and the simple forecasts from the same analyses.

    Under torch.distributed each rank scores its share, and all get the scores of all.

    Arguments:
        forecast: Store that ``neural-lam forecast`` wrote.
        truth: Store of the truth; by default the one the forecast was made from.
        uniform: Whether grid points count alike instead of by their area, as those of a projected
            grid always do.
        progress: Whether to show a bar.

    Raises:
        ValueError: The stores don't fit together.
    """
    data = open_store(forecast)
    names = [str(name) for name in data.data_vars]
    if "data" not in data.attrs and truth is None:
        raise InputError(f"{forecast}: it doesn't say where its truth is; name it with --truth")
    store = open_datastore(truth or str(data.attrs["data"]), names)
    _same_grid(store, data, forecast)
    first = _position(store, data["time"].values[0], 1)
    settings = _settings(data, forecast, first)
    reference = _reference(store, settings, uniform=uniform)
    period = _period(store)
    history = 1 + (period if period is not None and first >= period else 1)
    rows: dict[str, list[Sums]] = {}
    spectra: list[dict[str, Array]] = []
    share = _share(data.sizes["time"])
    for number in tqdm(share, desc="verify", disable=not progress):
        now = _position(store, data["time"].values[number], settings.num_steps)
        window = slice(now + 1 - history, now + 1 + settings.num_steps)
        states = _fields(store, window.start, window.stop)
        field = _stack(data.isel(time=number), names, store.dims)
        if not np.isfinite(field).all():
            when = np.datetime_as_string(data["time"].values[number], unit="m")
            raise InputError(f"{forecast}: the forecast from {when} has missing values")
        found = _compare(reference, states, store.times[window], field)
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
        spectra.append(_spectra(reference, states[history:], field))
    stacked = {name: Sums(*map(np.stack, zip(*row, strict=True))) for name, row in rows.items()}
    total = gathered(stacked, share)
    features = [feature.name for feature in store.features]
    table = scores(
        total, features, data["prediction_timedelta"].values, block=_block(data["time"].values)
    ).assign_coords(time=data["time"].values)
    alike = len(np.unique(reference.weights[reference.weights > 0])) == 1
    table.attrs["weights"] = "uniform" if alike else "area"
    return Verification(
        _with_spectra(table, spectra, data.sizes["time"]), store, data, settings.width
    )


def _with_spectra(table: xr.Dataset, spectra: list[dict[str, Array]], count: int) -> xr.Dataset:
    """The mean spectrum of the model and the truth over all ranks."""
    kinds = ("model", "truth")
    total = torch.from_numpy(np.stack([sum(row[kind] for row in spectra) for kind in kinds]))
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    mean = total.numpy() / count
    size = mean.shape[-1]
    dims = ("source", "prediction_timedelta", "feature", "wavenumber")
    wavenumber = np.arange(1, size + 1) / size
    return table.assign(spectrum=(dims, mean)).assign_coords(
        source=list(kinds), wavenumber=wavenumber
    )


def _same_grid(store: Datastore, data: xr.Dataset, path: str) -> None:
    if any(name not in data.sizes for name in store.dims):
        raise InputError(f"{store.path}: its dimensions {store.dims} are not those of {path}")
    shape = tuple(data.sizes[name] for name in store.dims)
    if store.shape != shape:
        raise InputError(f"{store.path}: its grid {store.shape} is not that of {path}, {shape}")
    for name, values in zip(store.dims, (store.rows, store.columns), strict=True):
        apart = float(np.abs(values - data[name].values).max())
        if apart > 1e-4 * max(1.0, float(np.abs(values).max()) / 1e3):
            raise InputError(f"{store.path}: its {name} is up to {apart:g} from that of {path}")


def _position(store: Datastore, analysis: np.datetime64, num_steps: int) -> int:
    """Index of an analysis time in the truth, which has to reach over the lead times."""
    position = int(np.searchsorted(store.times, analysis))
    if position + num_steps >= len(store.times) or store.times[position] != analysis:
        raise InputError(f"{store.path}: no truth for the forecast from {analysis}")
    return position


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
