"""Verbs of the command line that need no model."""

import shutil
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
from neural_lam.graphs.graph import write_graph
from neural_lam.known_answers.two_layer import TwoLayerFlow
from neural_lam.upstream.graphs import write_upstream_graph
from neural_lam.verification import store as evaluation
from neural_lam.verification.plots import (
    draw_graph,
    draw_maps,
    draw_scores,
    save_animation,
    save_figure,
)

__all__ = ["convert", "example_data", "graph", "statistics", "verify"]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def graph(
    data: GriddedData, output: str, picture: str | None = None, upstream: str | None = None
) -> None:
    """Build the graph of a domain and write it to a file.

    Arguments:
        data: The data whose grid it is for, and how to mesh it.
        output: File to write.
        picture: PNG of the graph.
        upstream: Folder to write it to as well, in the format of upstream and
            weather-model-graphs.
    """
    start = time.perf_counter()
    built = data.build_graph()
    seconds = time.perf_counter() - start
    write_graph(built, output)
    if upstream is not None:
        write_upstream_graph(built, upstream)
    if picture is not None:
        save_figure(draw_graph(built), picture)
    sets = {
        "g2m": [built.g2m],
        "m2m": built.m2m,
        "up": built.up,
        "down": built.down,
        "m2g": [built.m2g],
    }
    edges = [
        f"{name} {' + '.join(str(len(edges.senders)) for edges in found)}"
        for name, found in sets.items()
        if found
    ]
    levels = " + ".join(str(len(positions)) for positions in built.mesh)
    nodes = f"{len(built.grid)} grid nodes, {levels} mesh nodes"
    _say(f"{output}: {nodes}; edges {', '.join(edges)}; {seconds:.2f} s")


def statistics(data: GriddedData, output: str) -> None:
    """Write the means and standard deviations of the training period.

    Arguments:
        data: The data.
        output: NetCDF file to write.
    """
    found = data.domain.statistics
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    write_statistics(found, [feature.name for feature in data.store.features], output)
    for number, feature in enumerate(data.store.features):
        mean, std, _, change = (float(field[number]) for field in found)
        spread = f"standard deviation {std:.6g}, of one-step changes {change:.6g}"
        _say(f"{feature.name}: mean {mean:.6g}, {spread} {feature.units}")


def example_data(
    name: Literal["two-layer-qg", "era5-uk"],
    output: str,
    source: str | None = None,
    days: float = 90.0,
    interval_hours: float = 3.0,
    precision: Literal["single", "double"] = "double",
    seed: int = 0,
    overwrite: bool = False,
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
        overwrite: Make it again when it is there.
    """
    if Path(output).exists() and not overwrite:
        _say(f"{output}: already there")
        return
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
    _say(f"{output}: written")


def _draw(result: evaluation.Verification, folder: Path, lead_hours: list[float]) -> list[str]:
    store, table = result.store, result.scores
    paths = [str(folder / "scores.png")]
    save_figure(draw_scores(table, [feature.units for feature in store.features]), paths[0])
    # The forecast in the middle of the test, not the best one.
    number = result.forecasts.sizes["time"] // 2
    chosen = result.forecasts.isel(time=number)
    leads = table["prediction_timedelta"].values
    wanted = [
        int(np.argmin(np.abs(leads / np.timedelta64(1, "h") - hours))) for hours in lead_hours
    ]
    analysis = result.forecasts["time"].values[number]
    for feature in store.features:
        forecast = chosen[feature.variable].isel(prediction_timedelta=wanted)
        if feature.level is not None:
            forecast = forecast.sel(level=feature.level)
        truth = _truth(result, feature.name, analysis, leads[wanted], forecast)
        when = np.datetime_as_string(analysis, unit="h")
        level = "" if feature.level is None else f" at {feature.level} hPa"
        title = f"{feature.long_name}{level}, from {when} UTC"
        path = folder / f"maps_{feature.name}.png"
        save_figure(
            draw_maps(truth, forecast, width=result.width, title=title, unit=feature.units),
            str(path),
        )
        paths.append(str(path))
        whole = chosen[feature.variable]
        whole = whole if feature.level is None else whole.sel(level=feature.level)
        moving = str(folder / f"animation_{feature.name}.gif")
        save_animation(
            _truth(result, feature.name, analysis, leads, whole),
            whole,
            moving,
            width=result.width,
            title=title,
            unit=feature.units,
        )
        paths.append(moving)
    return paths


def _truth(
    result: evaluation.Verification,
    name: str,
    analysis: np.datetime64,
    leads: np.ndarray,
    like: xr.DataArray,
) -> xr.DataArray:
    store = result.store
    position = [feature.name for feature in store.features].index(name)
    index = np.searchsorted(store.times, analysis + leads)
    fields = [
        store.states(int(i), int(i) + 1)[0, :, position].numpy().reshape(store.shape) for i in index
    ]
    return like.copy(data=np.stack(fields))


def verify(
    forecast: str,
    output: str,
    truth: str | None = None,
    report: str | None = None,
    lead_hours: list[float] | None = None,
    uniform: bool = False,
) -> None:
    """Score a forecast store, draw its scores and maps.

    Arguments:
        forecast: Store that ``neural-lam forecast`` wrote.
        output: Folder for scores.nc and the pictures.
        truth: Store of the truth; by default the one the forecast was made from.
        report: JSON file with the scores and settings.
        lead_hours: Lead times of the maps; by default three from the first to the last.
        uniform: Count grid points alike instead of by their area, as on projected grids.
    """
    start = time.perf_counter()
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    result = evaluation.verify_store(forecast, truth, uniform=uniform)
    table = result.scores
    partial = folder / "scores.part"
    table.to_netcdf(partial, engine="h5netcdf")
    shutil.move(partial, folder / "scores.nc")
    leads = table["prediction_timedelta"].values / np.timedelta64(1, "h")
    pictures = _draw(result, folder, lead_hours or [leads[0], leads[len(leads) // 2], leads[-1]])
    comparison = evaluation.skill(table)
    _print_table(comparison)
    if report is not None:
        attributes = {str(k): _plain(v) for k, v in result.forecasts.attrs.items()}
        seconds = round(time.perf_counter() - start, 2)
        content = {
            "scores": comparison,
            "num_forecasts": int(table.attrs["num_forecasts"]),
            "settings": attributes,
            "pictures": pictures,
            "verify_seconds": seconds,
            "versions": evaluation.environment(),
        }
        evaluation.write_json(content, Path(report))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _print_table(comparison: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    for feature, rows in comparison.items():
        hours = list(rows["rmse"]["model"])
        shown = [hours[i] for i in sorted({0, *range(3, len(hours), 4), len(hours) - 1})]
        _say(f"{feature}, RMSE\n{'':>20}" + "".join(f"{hour:>10}" for hour in shown))
        for name, values in rows["rmse"].items():
            _say(f"{name:>20}" + "".join(f"{values[hour]:>10.4g}" for hour in shown))


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
    from neural_lam.data.upstream import UpstreamData, output_bounds
    from neural_lam.training.upstream import UpstreamForecaster

    settings: dict[str, object] = {
        "config": str(Path(upstream).resolve()),
        "graph": None if graph is None else str(Path(graph).resolve()),
        "boundary_width": boundary_width,
        "lead_steps": lead_steps,
    }
    data = UpstreamData(**settings)  # type: ignore[arg-type]
    bounds = output_bounds(upstream, [feature.name for feature in data.store.features])
    lower, upper = bounds or (None, None)
    forecaster = UpstreamForecaster(str(Path(checkpoint).resolve()), lower, upper)
    forecaster.adopt(data.domain)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(forecaster)
    trainer.save_checkpoint(folder / "model.ckpt")
    content = {
        "trainer": {"logger": False, "enable_model_summary": False},
        "model": {
            "class_path": "neural_lam.UpstreamForecaster",
            "init_args": {"checkpoint": forecaster.checkpoint, "lower": lower, "upper": upper},
        },
        "data": {"class_path": "neural_lam.UpstreamData", "init_args": settings},
    }
    partial = folder / "forecast.part"
    partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    partial.replace(folder / "forecast.yaml")
    weights = sum(weight.numel() for weight in forecaster.parameters())
    _say(f"{folder / 'model.ckpt'}: {weights} weights, {len(data.store.features)} features")
    _say(
        f"neural-lam forecast --config {folder / 'forecast.yaml'}"
        f" --ckpt_path {folder / 'model.ckpt'} --output forecast.zarr"
    )
