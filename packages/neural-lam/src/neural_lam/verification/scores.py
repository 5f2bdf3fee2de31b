r"""Scores of forecasts by variable and lead time.

With area weights :math:`w_g` over the interior and :math:`N` forecasts,

.. math::
    \mathrm{RMSE} = \Big(\tfrac1N \sum_n \sum_g w_g (\hat x_{ng} - x_{ng})^2\Big)^{1/2}, \quad
    \mathrm{ACC} = \frac1N \sum_n \frac{\sum_g w\, \hat a\, a}
        {(\sum_g w\, \hat a^2 \sum_g w\, a^2)^{1/2}},

with anomalies :math:`a` from the climatology, as WeatherBench 2 averages them (Rasp et al. 2024).
Scores are kept as one row of sums a forecast, so that they add up over files and devices, and
forecasts can be resampled: neighbouring analysis times depend on each other, so intervals come from
a circular block bootstrap (Politis & Romano 1992).

Spectra of a limited area come from the discrete cosine transform, which asks for no periodic
edges (Denis, Cote & Laprise 2002): the variance of the element :math:`(i, j)` of a field of
:math:`N_y \times N_x` points belongs to the normalised wavenumber
:math:`\alpha = (i^2/N_y^2 + j^2/N_x^2)^{1/2}`, whose wavelength is :math:`2 \Delta / \alpha`.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.fft import dctn

__all__ = [
    "Sums",
    "bootstrap_ratio",
    "bootstrap_rmse",
    "gathered",
    "radial_spectrum",
    "scores",
    "sums",
]

Array = NDArray[np.float64]


class Sums(NamedTuple):
    """Weighted means over the interior, one row a forecast: ``(N, T, V)`` each."""

    square: Array
    absolute: Array
    error: Array
    product: Array
    forecast_power: Array
    truth_power: Array


def radial_spectrum(fields: Array) -> tuple[Array, Array]:
    """Variance by wavenumber; it adds up to the variance of each field.

    Arguments:
        fields: ``(..., y, x)``.

    Returns:
        Normalised wavenumbers at the middle of each ring, ``(K,)``, and the variance in it,
        ``(..., K)``.

    References:
        Errico (1985), Spectra computed from a limited area grid, Monthly Weather Review 113.
    """
    rows, columns = fields.shape[-2:]
    power = dctn(fields, axes=(-2, -1), norm="ortho") ** 2 / (rows * columns)
    j, i = np.meshgrid(np.arange(columns) / columns, np.arange(rows) / rows)
    count = min(rows, columns)
    # The mean isn't variance; what lies in the corner beyond 1 belongs to the last ring.
    ring = np.clip(np.ceil(np.hypot(i, j) * count - 0.5), 1, count).astype(int)
    power[..., 0, 0] = 0
    members = (ring.ravel()[:, None] == np.arange(1, count + 1)).astype(float)
    return np.arange(1, count + 1) / count, power.reshape(*power.shape[:-2], -1) @ members


def gathered(rows: dict[str, Sums], numbers: NDArray[np.int64]) -> dict[str, Sums]:
    """All ranks' rows in the order of their numbers; every rank gets them.

    Arguments:
        rows: Of this rank, by kind of forecast.
        numbers: Which forecasts they are, ``(N,)``.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts: list[tuple[dict[str, Sums], NDArray[np.int64]]] = [({}, numbers)] * dist.get_world_size()
    dist.all_gather_object(parts, (rows, numbers))
    order = np.argsort(np.concatenate([part[1] for part in parts]))
    held = [part[0] for part in parts]

    def column(name: str, field: int) -> Array:
        joined: Array = np.concatenate([part[name][field] for part in held])[order]
        return joined

    return {name: Sums(*(column(name, field) for field in range(6))) for name in rows}


def sums(forecast: Array, truth: Array, climatology: Array, weights: Array) -> Sums:
    """Sums of forecasts.

    Arguments:
        forecast: ``(..., V, y, x)``.
        truth: Likewise.
        climatology: Likewise.
        weights: Of the grid points, zero where nothing is scored, ``(y, x)``, or of each
            variable's, ``(V, y, x)``.

    Raises:
        ValueError: A value that counts is not finite.
    """
    w = weights / weights.sum((-2, -1), keepdims=True)
    w = np.broadcast_to(w, truth.shape[-3:])
    inside = w > 0

    def mean(field: Array) -> Array:
        total: Array = np.einsum("...vyx,vyx->...v", field, w)
        return total

    error = np.where(inside, forecast - truth, 0.0)
    if not np.isfinite(error).all():
        raise ValueError("a forecast or its truth holds a missing or infinite value")
    anomaly, true_anomaly = forecast - climatology, truth - climatology
    return Sums(
        mean(error**2),
        mean(np.abs(error)),
        mean(error),
        mean(np.where(inside, anomaly * true_anomaly, 0.0)),
        mean(np.where(inside, anomaly**2, 0.0)),
        mean(np.where(inside, true_anomaly**2, 0.0)),
    )


def bootstrap_rmse(
    square: Array, *, block: int, num_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[Array, Array]:
    """Interval of the RMSE by circular blocks of forecasts.

    Arguments:
        square: Mean squared error of each forecast in the order of time, ``(N, ...)``.
        block: Forecasts in a block; longer than their errors remember.
        num_resamples: Bootstrap samples.
        seed: Of the resampling.
        level: Probability of the interval.

    Returns:
        Lower and upper end, ``(...)``.

    References:
        Künsch (1989), The jackknife and the bootstrap for general stationary observations,
        doi.org/10.1214/aos/1176347265.
    """
    index = _circular_blocks(len(square), block, num_resamples, seed)
    return _interval(np.stack([np.sqrt(square[row].mean(0)) for row in index]), level)


def bootstrap_ratio(
    square: Array,
    reference: Array,
    *,
    block: int,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Array, Array]:
    """Interval of the RMSE in parts of another forecast's, by circular blocks of pairs.

    What the weather makes hard for both cancels, so that it is narrower than two intervals of
    their own tell.

    Arguments:
        square: Mean squared error of each forecast in the order of time, ``(N, ...)``.
        reference: The other's, of the same analysis times.
        block: Forecasts in a block; longer than their errors remember.
        num_resamples: Bootstrap samples.
        seed: Of the resampling.
        level: Probability of the interval.

    Returns:
        Lower and upper end, ``(...)``.

    References:
        Wilks (1997), Resampling hypothesis tests for autocorrelated fields, Journal of Climate 10.
    """
    index = _circular_blocks(len(square), block, num_resamples, seed)
    ratios = [np.sqrt(square[row].mean(0) / reference[row].mean(0)) for row in index]
    return _interval(np.stack(ratios), level)


def _circular_blocks(count: int, block: int, num_resamples: int, seed: int) -> NDArray[np.int64]:
    """Numbers of the forecasts in each resample, ``(num_resamples, count)``.

    References:
        Politis & Romano (1992), A circular block-resampling procedure for stationary data, in
        Exploring the limits of bootstrap.
    """
    block = max(1, min(block, count))
    starts = np.random.default_rng(seed).integers(0, count, (num_resamples, -(-count // block)))
    index = starts[:, :, None] + np.arange(block)
    found: NDArray[np.int64] = index.reshape(num_resamples, -1)[:, :count] % count
    return found


def _interval(resampled: Array, level: float) -> tuple[Array, Array]:
    lower, upper = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper


def _correlation(row: Sums) -> Array:
    """Anomaly correlation of each forecast, averaged over forecasts, ``(T, V)``.

    References:
        Murphy & Epstein (1989), Skill scores and correlation coefficients in model verification,
        Monthly Weather Review 117.
    """
    power = row.forecast_power * row.truth_power
    # A forecast of no anomaly (climatology) has no correlation: that is missing, not zero.
    usable = row.forecast_power > 1e-12 * row.truth_power
    correlation = row.product / np.sqrt(np.where(usable & (power > 0), power, np.nan))
    mean: Array = correlation.mean(0)
    return mean


def scores(
    rows: dict[str, Sums], features: list[str], lead_times: NDArray[np.timedelta64], *, block: int
) -> xr.Dataset:
    """RMSE with interval, MAE, bias and ACC by forecast, lead time and feature.

    The mean square error of each analysis time is there too, for comparisons in pairs.

    Arguments:
        rows: Sums of each kind of forecast, each ``(N, T, V)``.
        features: Names, ``(V,)``.
        lead_times: ``(T,)``.
        block: Of the bootstrap, in forecasts.

    References:
        Rasp et al. (2024), WeatherBench 2: a benchmark for the next generation of data-driven
        global weather models, arXiv:2308.15560.
    """
    tables: dict[str, list[Array]] = {
        key: [] for key in ("rmse", "rmse_lower", "rmse_upper", "mae", "bias", "acc")
    }
    for row in rows.values():
        lower, upper = bootstrap_rmse(row.square, block=block)
        values = (
            np.sqrt(row.square.mean(0)),
            lower,
            upper,
            row.absolute.mean(0),
            row.error.mean(0),
            _correlation(row),
        )
        for table, value in zip(tables.values(), values, strict=True):
            table.append(value)
    dims = ("forecast", "prediction_timedelta", "feature")
    coordinates = {
        "forecast": list(rows),
        "prediction_timedelta": lead_times.astype("timedelta64[ns]"),
        "feature": features,
    }
    data = xr.Dataset({key: (dims, np.stack(table)) for key, table in tables.items()}, coordinates)
    data["square"] = (("forecast", "time", *dims[1:]), np.stack([r.square for r in rows.values()]))
    data.attrs["num_forecasts"] = len(next(iter(rows.values())).square)
    return data
