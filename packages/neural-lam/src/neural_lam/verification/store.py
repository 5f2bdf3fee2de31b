"""Verification of a forecast store against its truth and the simple forecasts."""

import json
import logging
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from neural_lam.data.readers import open_datastore
from neural_lam.data.series import consecutive
from neural_lam.fields.areas import grid_areas
from neural_lam.fields.calendar import Times
from neural_lam.fields.datastore import Datastore, hours
from neural_lam.fields.features import Feature
from neural_lam.predictors.series import Array
from neural_lam.shell.errors import InputError
from neural_lam.verification.forecast_file import (
    ForecastFile,
    arranged_as,
    lead_steps,
    open_forecasts,
    same_grid,
    shared_features,
    truth_options,
)
from neural_lam.verification.means import MeanField
from neural_lam.verification.references import (
    References,
    Settings,
    fit_references,
    simple_forecasts,
    states_a_day,
)
from neural_lam.verification.scores import Sums, gathered, radial_spectrum, scores, sums

__all__ = ["Verification", "verify_store"]

_log = logging.getLogger("neural_lam")


class Verification(NamedTuple):
    """Scores of a forecast store.

    Arguments:
        scores: By forecast, lead time and feature; the model is the first forecast.
        store: The truth.
        forecasts: The opened forecast store.
        features: That were scored.
        numbers: Which of the forecasts were scored.
        width: Of the boundary.
    """

    scores: xr.Dataset
    store: Datastore
    forecasts: ForecastFile
    features: list[Feature]
    numbers: NDArray[np.int64]
    width: int

    def truth(self, number: int) -> Array:
        """The truth of a forecast at its lead times, ``(T, V, y, x)``."""
        chosen = [self.store.features.index(feature) for feature in self.features]
        place = int(np.searchsorted(self.store.times, self.forecasts.times[number]))
        times = (place + lead_steps(self.store, self.forecasts)).tolist()
        return np.concatenate([_fields(self.store, chosen, t, t + 1) for t in times])

    def __repr__(self) -> str:
        names = ", ".join(feature.name for feature in self.features)
        leads = self.scores["prediction_timedelta"].values
        others = ", ".join(map(str, self.scores["forecast"].values[1:]))
        return (
            f"Verification({self.forecasts.path}: {names}; {len(self.numbers)} forecasts to"
            f" {hours(leads[-1])}, against {others})"
        )


def _fields(store: Datastore, features: list[int], start: int, stop: int) -> Array:
    """States of features as images, ``(T, V, y, x)``; NaN where they don't exist."""
    states = store.states(start, stop)[..., features].double()
    states = torch.where(store.availability.mask[:, features], states, torch.nan)
    return states.transpose(1, 2).reshape(stop - start, -1, *store.shape).numpy()


class _Starts(NamedTuple):
    """Forecasts that can be scored.

    Arguments:
        numbers: In the store of forecasts.
        places: Their analysis times in the truth.
        history: States before each that are known.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    history: int


def _starts(store: Datastore, forecasts: ForecastFile, last: int) -> _Starts:
    """Forecasts whose truth has no gap, with a day of states before them where that is usual.

    Raises:
        InputError: There are none.
    """
    broken = np.concatenate(([0], np.cumsum(~consecutive(store))))
    places = np.searchsorted(store.times, forecasts.times)
    clipped = np.minimum(places, len(store.times) - 1)
    numbers = np.arange(len(places))
    fits = (store.times[clipped] == forecasts.times) & (places + last < len(store.times))
    if not fits.any():
        first, end = (store.calendar.label(t) for t in (store.times[0], store.times[-1]))
        raise InputError(
            f"{store.path}: no truth for the forecasts from"
            f" {forecasts.calendar.label(forecasts.times[0])} on; it reaches from {first} to {end}"
        )

    def whole(before: int) -> NDArray[np.bool_]:
        start = np.maximum(clipped - before, 0)
        end = np.minimum(clipped + last, len(store.times) - 1)
        return np.asarray(fits & (places >= before) & (broken[end] == broken[start]))

    period = states_a_day(store) or 1
    for before in dict.fromkeys((period, 1, 0)):
        kept = whole(before)
        # A day before is worth a few forecasts, not most of them.
        if kept.sum() >= 0.8 * max(whole(0).sum(), 1):
            break
    if not kept.any():
        raise InputError(f"{store.path}: missing times leave no forecast to be scored")
    if not kept.all():
        _log.warning(
            "%s: %d of %d forecasts are left out: their truth is missing or incomplete",
            forecasts.path,
            int((~kept).sum()),
            len(kept),
        )
    return _Starts(numbers[kept], places[kept], before)


def _settings(forecasts: ForecastFile, steps: NDArray[np.int64], starts: _Starts) -> Settings:
    """What the store says about how it was made; without that, what can be assumed."""
    attributes, first = forecasts.attributes, int(starts.places[0])
    return Settings(
        int(attributes.get("boundary_width", 0)),
        min(int(attributes.get("training_stop", 0.8 * first)), first + 1),
        first,
        steps,
        bool(attributes.get("held_boundary", 0)),
    )


def _compare(
    references: References, store: Datastore, states: Array, times: Times, forecast: Array, now: int
) -> dict[str, Sums]:
    """Sums of the model and the simple forecasts for one analysis time.

    Arguments:
        references: Fitted simple forecasts.
        store: The truth.
        states: Up to the analysis and at every step to the last lead time.
        times: Of the states.
        forecast: ``(T, V, y, x)``.
        now: Place of the analysis time.
    """
    mean = references.mean(store, times, states.shape)
    leads = now + references.settings.lead_steps
    truth, expected = states[leads], mean[leads]
    if references.climatology is None:
        expected = np.full_like(truth, np.nan)
    candidates = {"model": forecast, **simple_forecasts(references, states, mean, now)}
    return {
        name: sums(field, truth, expected, references.weights) for name, field in candidates.items()
    }


def _spectra(references: References, truth: Array, forecast: Array) -> dict[str, Array]:
    w = references.settings.width
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


def _truth(forecasts: ForecastFile, truth: str | None) -> Datastore:
    """The store that a forecast was made from, or another one."""
    names = list(dict.fromkeys(feature.variable for feature in forecasts.features))
    if truth is not None:
        return open_datastore(truth, names)
    if "data" not in forecasts.attributes:
        raise InputError(
            f"{forecasts.path}: it doesn't say where its truth is; name it with --truth"
        )
    place = str(forecasts.attributes["data"])
    paths = json.loads(place) if place.startswith("[") else place
    return open_datastore(paths, names, **truth_options(forecasts.attributes))


def verify_store(
    forecast: str,
    truth: str | None = None,
    *,
    rename: dict[str, str] | None = None,
    uniform: bool = False,
    progress: bool = True,
) -> Verification:
    """Score every forecast of a store and the simple forecasts from the same analyses.

    Under torch.distributed each rank scores its share, and all get the scores of all.

    Arguments:
        forecast: Store that ``neural-lam forecast`` wrote, or another one in WeatherBench2's
            layout.
        truth: Store of the truth; by default the one the forecast was made from.
        rename: New names of the forecasts' variables and coordinates, by the store's.
        uniform: Whether grid points count alike instead of by their area, as those of a projected
            grid always do.
        progress: Whether to show a bar.

    Raises:
        ValueError: The stores don't fit together.

    References:
        Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
        global weather models, arXiv:2308.15560.
    """
    forecasts = open_forecasts(forecast, rename)
    store = _truth(forecasts, truth)
    forecasts = arranged_as(store, forecasts)
    same_grid(store, forecasts)
    features = shared_features(store, forecasts)
    chosen = [store.features.index(feature) for feature in features]
    steps = lead_steps(store, forecasts)
    starts = _starts(store, forecasts, int(steps[-1]))
    settings = _settings(forecasts, steps, starts)
    area = np.ones(len(store.latitude)) if uniform else grid_areas(store).numpy()
    references = fit_references(store, chosen, settings, area)
    rows: dict[str, list[Sums]] = {}
    spectra: list[dict[str, Array]] = []
    share = _share(len(starts.numbers))
    regular = len(store.dims) == 2 and bool(store.availability.mask[:, chosen].all())
    for row in tqdm(share, desc="verify", disable=not progress):
        place, number = int(starts.places[row]), int(starts.numbers[row])
        window = slice(place - starts.history, place + int(steps[-1]) + 1)
        states = _fields(store, chosen, window.start, window.stop)
        field = forecasts.read(number, features)
        _check_finite(forecasts, number, field, references.weights)
        now = starts.history
        found = _compare(references, store, states, store.times[window], field, now)
        for name, entry in found.items():
            rows.setdefault(name, []).append(entry)
        if regular and min(store.shape) > 2 * settings.width + 1:
            spectra.append(_spectra(references, states[now + steps], field))
    stacked = {name: Sums(*map(np.stack, zip(*row, strict=True))) for name, row in rows.items()}
    total = gathered(stacked, share)
    times = forecasts.times[starts.numbers]
    table = scores(
        total, [f.name for f in features], forecasts.lead_times, block=_block(times)
    ).assign_coords(time=forecasts.calendar.dates(times))
    # Weights differ by area, or not at all.
    positive = references.weights[references.weights > 0]
    alike = len(np.unique(positive)) == 1
    table.attrs["weights"] = "uniform" if alike else "area"
    table.attrs["num_left_out"] = len(forecasts.times) - len(starts.numbers)
    if spectra:
        table = _with_spectra(table, spectra)
    return Verification(table, store, forecasts, features, starts.numbers, settings.width)


def _check_finite(forecasts: ForecastFile, number: int, field: Array, weights: Array) -> None:
    missing = ~np.isfinite(field) & (weights > 0)
    if missing.any():
        lead, feature = np.argwhere(missing)[0][:2]
        when = forecasts.calendar.label(forecasts.times[number])
        raise InputError(
            f"{forecasts.path}: the forecast from {when} has missing values at"
            f" {hours(forecasts.lead_times[lead])} (feature {feature + 1})"
        )


def _with_spectra(table: xr.Dataset, spectra: list[dict[str, Array]]) -> xr.Dataset:
    """The mean spectrum of the model and the truth over all ranks."""
    kinds = ("model", "truth")
    over_ranks = MeanField()
    over_ranks.update(torch.from_numpy(np.stack([[row[k] for k in kinds] for row in spectra])))
    mean = over_ranks.compute().numpy()
    size = mean.shape[-1]
    dims = ("source", "prediction_timedelta", "feature", "wavenumber")
    wavenumber = np.arange(1, size + 1) / size
    return table.assign(spectrum=(dims, mean)).assign_coords(
        source=list(kinds), wavenumber=wavenumber
    )


def _block(times: Times) -> int:
    """Forecasts in two days, over which synoptic errors are correlated."""
    if len(times) < 2:
        return 1
    step = np.median(np.diff(np.sort(times)).astype(np.int64))
    return max(1, int(np.ceil(2 * 86400 * 1e9 / max(float(step), 1.0))))
