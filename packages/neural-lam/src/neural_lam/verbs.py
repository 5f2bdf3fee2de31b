"""Verbs of the command line that need no model."""

import sys
import time
from pathlib import Path
from typing import Literal

import lightning.pytorch as lightning
import numpy as np
import torch
import xarray as xr
import yaml

from neural_lam.data.example_data import ERA5_UK, fetch, from_file, two_layer_window, write_store
from neural_lam.data.module import GriddedData
from neural_lam.data.statistics import write_statistics
from neural_lam.data.upstream import UpstreamData, output_bounds
from neural_lam.graphs.graph import write_graph
from neural_lam.known_answers.two_layer import TwoLayerFlow
from neural_lam.shell.checks import positive
from neural_lam.shell.errors import InputError
from neural_lam.shell.writing import claim, whole
from neural_lam.training.upstream import UpstreamForecaster
from neural_lam.upstream.graphs import write_upstream_graph
from neural_lam.upstream.weights import forcing_steps, read_upstream_checkpoint
from neural_lam.verification.plots import (
    draw_graph,
    draw_maps,
    draw_scores,
    save_animation,
    save_figure,
)
from neural_lam.verification.reports import environment, skill, write_json
from neural_lam.verification.store import Verification, verify_store

__all__ = ["convert", "example_data", "graph", "statistics", "verify"]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def graph(
    data: lightning.LightningDataModule,
    output: str,
    picture: str | None = None,
    upstream: str | None = None,
) -> None:
    """Build the graph of a domain and write it to a file.

    Arguments:
        data: The data whose grid it is for, and how to mesh it.
        output: File to write.
        picture: PNG of the graph.
        upstream: Folder to write it to as well, in the format of upstream and
            weather-model-graphs.
    """
    claim(*[path for path in (output, picture, upstream) if path is not None])
    start = time.perf_counter()
    built = _gridded(data).build_graph()
    seconds = time.perf_counter() - start
    write_graph(built, output)
    if upstream is not None:
        write_upstream_graph(built, upstream)
    if picture is not None:
        save_figure(draw_graph(built), picture)
    _say(f"{built}; {seconds:.2f} s")


def statistics(data: lightning.LightningDataModule, output: str) -> None:
    """Write the means and standard deviations of the training period.

    Arguments:
        data: The data.
        output: NetCDF file to write.
    """
    claim(output)
    source = _gridded(data)
    found, store = source.state_statistics, source.store
    write_statistics(found, store, output)
    for number, feature in enumerate(store.features):
        mean, std, _, change = (float(field[number]) for field in found)
        spread = f"standard deviation {std:.6g}, of one-step changes {change:.6g}"
        _say(f"{feature.name}: mean {mean:.6g}, {spread} {feature.units}")


def _gridded(data: lightning.LightningDataModule) -> GriddedData | UpstreamData:
    """The data modules that have a store and a graph.

    Raises:
        InputError: It is another one.
    """
    if not isinstance(data, GriddedData | UpstreamData):
        raise InputError(
            f"data: expected neural_lam.GriddedData or neural_lam.UpstreamData, got"
            f" {type(data).__name__}"
        )
    return data


def example_data(
    name: Literal["two-layer-qg", "era5-uk"],
    output: str,
    source: str | None = None,
    days: float = 90.0,
    interval_hours: float = 3.0,
    precision: Literal["single", "double"] = "double",
    seed: int = 0,
) -> None:
    """Make or fetch an example data set.

    Arguments:
        name: two-layer-qg is simulated; era5-uk, hourly 2 m temperature over the British
            Isles in March 2019, is fetched from pydata/xarray-data, or taken from a file.
        output: zarr store to write.
        source: For era5-uk, a NetCDF or GRIB file to take it from.
        days: Length of the simulated data.
        interval_hours: Between its states.
        precision: Of its integration; single takes half the time.
        seed: Of its initial state.
    """
    claim(output)
    positive(days=days, interval_hours=interval_hours)
    if name == "era5-uk":
        if source is None:
            source = f"{output.rstrip('/')}.grib"
            Path(source).parent.mkdir(parents=True, exist_ok=True)
            fetch(ERA5_UK, source)
        write_store(from_file(source), output)
    else:
        flow = TwoLayerFlow()
        window = two_layer_window(
            flow,
            days=days,
            interval=3600 * interval_hours,
            seed=seed,
            dtype={"single": torch.float32, "double": torch.float64}[precision],
        )
        write_store(window, output)


def _pictures(result: Verification, folder: Path) -> list[str]:
    """What will be drawn."""
    names = [feature.name for feature in result.features]
    maps = [str(folder / f"maps_{name}.png") for name in names]
    moving = [str(folder / f"animation_{name}.gif") for name in names]
    return [str(folder / "scores.png"), *maps, *moving]


def _draw(result: Verification, folder: Path, lead_hours: list[float] | None) -> list[str]:
    store, table = result.store, result.scores
    units = [feature.units for feature in result.features]
    titles = [feature.title for feature in result.features]
    save_figure(draw_scores(table, units, titles), str(folder / "scores.png"))
    # The forecast in the middle of the test, not the best one.
    number = int(result.numbers[len(result.numbers) // 2])
    forecast = result.forecasts.read(number, result.features)
    truth = result.truth(number)
    leads = table["prediction_timedelta"].values
    hours = leads / np.timedelta64(1, "h")
    shown = lead_hours or [hours[0], hours[len(hours) // 2], hours[-1]]
    wanted = sorted({int(np.argmin(np.abs(hours - hour))) for hour in shown})
    when = store.calendar.label(result.forecasts.times[number])
    for column, feature in enumerate(result.features):
        pair = [_image(result, fields[:, column], leads, column) for fields in (truth, forecast)]
        options = {
            "width": result.width,
            "title": f"{feature.title}, from {when} UTC",
            "unit": feature.units,
        }
        maps = draw_maps(pair[0][wanted], pair[1][wanted], **options)  # type: ignore[arg-type]
        save_figure(maps, str(folder / f"maps_{feature.name}.png"))
        moving = str(folder / f"animation_{feature.name}.gif")
        save_animation(pair[0], pair[1], moving, **options)  # type: ignore[arg-type]
    return _pictures(result, folder)


def _image(
    result: Verification, fields: np.ndarray, leads: np.ndarray, column: int
) -> xr.DataArray:
    """Fields of a feature on the store's grid, missing where it doesn't exist."""
    store = result.store
    number = store.features.index(result.features[column])
    exists = store.availability.mask[:, number].reshape(store.shape).numpy()
    fields = np.where(exists, fields, np.nan)
    coordinates: dict[str, object] = {"prediction_timedelta": ("prediction_timedelta", leads)}
    if len(store.dims) == 2:
        coordinates |= dict(zip(store.dims, (store.rows, store.columns), strict=True))
        return xr.DataArray(fields, coordinates, ("prediction_timedelta", *store.dims))
    coordinates |= {"latitude": ("cell", store.latitude), "longitude": ("cell", store.longitude)}
    return xr.DataArray(fields[..., 0], coordinates, ("prediction_timedelta", "cell"))


def verify(
    forecast: str,
    output: str,
    truth: str | None = None,
    report: str | None = None,
    lead_hours: list[float] | None = None,
    rename: dict[str, str] | None = None,
    uniform: bool = False,
) -> None:
    """Score a forecast store, draw its scores and maps.

    Arguments:
        forecast: Store that ``neural-lam forecast`` wrote, or another one with the dimensions of
            WeatherBench2.
        output: Folder for scores.nc and the pictures.
        truth: Store of the truth; by default the one the forecast was made from.
        report: JSON file with the scores and settings.
        lead_hours: Lead times of the maps; by default three from the first to the last.
        rename: New names of the forecasts' variables and coordinates, by the store's.
        uniform: Count grid points alike instead of by their area, as on projected grids.
    """
    start = time.perf_counter()
    folder = Path(output)
    earlier = (*folder.glob("maps_*.png"), *folder.glob("animation_*.gif"))
    claim(folder / "scores.nc", folder / "scores.png", *sorted(earlier))
    if report is not None:
        claim(report)
    result = verify_store(forecast, truth, rename=rename, uniform=uniform)
    table = result.scores
    with whole(folder / "scores.nc") as partial:
        table.to_netcdf(partial, engine="h5netcdf")
    pictures = _draw(result, folder, lead_hours)
    comparison = skill(table)
    _print_table(comparison)
    if report is not None:
        attributes = {str(k): _plain(v) for k, v in result.forecasts.attributes.items()}
        seconds = round(time.perf_counter() - start, 2)
        content = {
            "scores": comparison,
            "num_forecasts": int(table.attrs["num_forecasts"]),
            "num_left_out": int(table.attrs["num_left_out"]),
            "settings": attributes,
            "pictures": pictures,
            "verify_seconds": seconds,
            "versions": environment(),
        }
        write_json(content, Path(report))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _print_table(comparison: dict[str, dict[str, dict[str, dict[str, float | None]]]]) -> None:
    for feature, rows in comparison.items():
        hours = list(rows["rmse"]["model"])
        shown = [hours[i] for i in sorted({0, *range(3, len(hours), 4), len(hours) - 1})]
        _say(f"{feature}, RMSE\n{'':>20}" + "".join(f"{hour:>10}" for hour in shown))
        for name, values in rows["rmse"].items():
            _say(f"{name:>20}" + "".join(_cell(values[hour]) for hour in shown))


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:>10.4g}"


def convert(
    upstream: str,
    checkpoint: str,
    output: str,
    graph: str | None = None,
    boundary_width: int = 30,
    lead_steps: int = 8,
) -> None:
    """Make a checkpoint and a configuration of ours from those of neural-lam 0.7.

    Arguments:
        upstream: Its config.yaml, which is left as it is.
        checkpoint: Its checkpoint.
        output: Folder for model.ckpt and forecast.yaml.
        graph: Folder that its create_graph wrote.
        boundary_width: Grid points at the edge that are boundary, where its datastore doesn't say.
        lead_steps: Steps of the forecasts.
    """
    folder = Path(output)
    claim(folder / "model.ckpt", folder / "forecast.yaml")
    settings: dict[str, object] = {
        "config": str(Path(upstream).resolve()),
        "graph": None if graph is None else str(Path(graph).resolve()),
        "boundary_width": boundary_width,
        "lead_steps": lead_steps,
        **forcing_steps(read_upstream_checkpoint(checkpoint)),
    }
    data = UpstreamData(**settings)  # type: ignore[arg-type]
    bounds = output_bounds(upstream, [feature.name for feature in data.store.features])
    lower, upper = bounds or (None, None)
    forecaster = UpstreamForecaster(str(Path(checkpoint).resolve()), lower, upper)
    forecaster.adopt(data.domain)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(forecaster)
    with whole(folder / "model.ckpt") as partial:
        trainer.save_checkpoint(partial)
    content = {
        "trainer": {"logger": False, "enable_model_summary": False},
        "model": {
            "class_path": "neural_lam.UpstreamForecaster",
            "init_args": {"checkpoint": forecaster.checkpoint, "lower": lower, "upper": upper},
        },
        "data": {"class_path": "neural_lam.UpstreamData", "init_args": settings},
    }
    with whole(folder / "forecast.yaml") as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    weights = sum(weight.numel() for weight in forecaster.parameters())
    _say(f"{folder / 'model.ckpt'}: {weights} weights, {len(data.store.features)} features")
    _say(
        f"neural-lam forecast --config {folder / 'forecast.yaml'}"
        f" --ckpt_path {folder / 'model.ckpt'} --output forecast.zarr"
    )
