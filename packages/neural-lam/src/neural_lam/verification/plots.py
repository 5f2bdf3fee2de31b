"""Pictures of forecasts: maps side by side, scores by lead time, the graph on the map."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from neural_lam.graphs.graph import EdgeSet, Graph
from neural_lam.shell.writing import whole

__all__ = ["draw_graph", "draw_maps", "draw_scores", "save_animation", "save_figure"]

_STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "figure.dpi": 160,
    "legend.frameon": False,
}
# Model first; the colours of Okabe & Ito (2008) can be told apart by everyone.
_COLOURS = [
    "#0072B2",
    "#E69F00",
    "#F0E442",
    "#D55E00",
    "#CC79A7",
    "#999999",
    "#009E73",
    "#56B4E9",
]


def save_figure(figure: Figure, path: str) -> None:
    """Write a PNG, whole or not at all."""
    with whole(path) as partial:
        figure.savefig(partial, format="png", bbox_inches="tight")


def _pretty(name: str) -> str:
    return name.replace("_", " ")


def _hours(lead_times: NDArray[np.timedelta64]) -> NDArray[np.float64]:
    hours: NDArray[np.float64] = lead_times / np.timedelta64(1, "h")
    return hours


def _highest_of_interest(rmse: xr.DataArray) -> float:
    """Largest error of the model and of those forecasts that don't blow up.

    An unstable linear forecast grows without bound and would flatten every other curve: one
    whose largest error is above three times the median of all is left to run off the picture.
    """
    largest = rmse.max("prediction_timedelta")
    steady = largest.where(largest <= 3 * largest.median())
    return float(max(largest[0], steady.max()))


def _score_panel(axes: Axes, scores: xr.Dataset, feature: str, unit: str, title: str) -> None:
    hours = _hours(scores["prediction_timedelta"].values)
    for colour, name in zip(_COLOURS, scores["forecast"].values, strict=False):
        row = scores.sel(forecast=name, feature=feature)
        model = colour == _COLOURS[0]
        axes.fill_between(
            hours, row["rmse_lower"], row["rmse_upper"], color=colour, alpha=0.15, lw=0
        )
        emphasis = {"lw": 2.2, "marker": "o", "zorder": 3} if model else {"lw": 1.5}
        axes.plot(hours, row["rmse"], color=colour, label=_pretty(str(name)), ms=3.5, **emphasis)
    axes.set_title(title)
    axes.set_xlabel("lead time (h)")
    axes.set_ylabel(f"RMSE ({unit})")
    axes.set_xlim(0, hours[-1] * 1.02)
    axes.set_ylim(0, 1.15 * _highest_of_interest(scores["rmse"].sel(feature=feature)))
    axes.grid(axis="y", color="0.9", lw=0.8)
    axes.set_axisbelow(True)


def draw_scores(scores: xr.Dataset, units: list[str], titles: list[str] | None = None) -> Figure:
    """RMSE against lead time with bootstrap intervals, a panel a feature.

    Arguments:
        scores: What `verification.scores` gives; the first forecast is the model.
        units: Of each feature.
        titles: What each feature is, levels with their units; by default its name.
    """
    features = [str(name) for name in scores["feature"].values]
    titles = [_pretty(name) for name in features] if titles is None else titles
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6 * len(features) + 0.6, 3.9), layout="constrained")
        panels = figure.subplots(1, len(features), squeeze=False)[0]
        for axes, *panel in zip(panels, features, units, titles, strict=True):
            _score_panel(axes, scores, *panel)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        count = scores.attrs.get("num_forecasts", "?")
        figure.suptitle(
            f"Error by lead time, {count} test forecasts, 95 % block-bootstrap intervals"
        )
    return figure


def _aspect(latitude: NDArray[np.float64]) -> float:
    """A degree of longitude is shorter than one of latitude; projected metres are alike."""
    degrees = np.abs(latitude).max() <= 90
    return 1 / float(np.cos(np.deg2rad(latitude.mean()))) if degrees else 1.0


def _map(
    axes: Axes,
    field: NDArray[np.float64],
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    width: int,
    **style: Any,
) -> Any:
    if field.ndim == 1:
        image: Any = axes.scatter(longitude, latitude, c=field, s=6, rasterized=True, **style)
    else:
        image = axes.pcolormesh(
            longitude, latitude, field, shading="nearest", rasterized=True, **style
        )
    if width:
        half_y, half_x = (np.diff(c)[0] / 2 for c in (latitude, longitude))
        corner = (longitude[width] - half_x, latitude[width] - half_y)
        extent = (
            longitude[-width - 1] - longitude[width] + 2 * half_x,
            latitude[-width - 1] - latitude[width] + 2 * half_y,
        )
        axes.add_patch(Rectangle(corner, *extent, fill=False, ec="k", lw=1.0, ls=(0, (4, 2))))
    axes.set_aspect(_aspect(latitude))
    axes.set_xlim(longitude.min(), longitude.max())
    axes.set_ylim(latitude.min(), latitude.max())
    return image


def _decorate(axes: Axes, *outer: str) -> None:
    """Label the sides of a map that are the outermost: ``left``, ``bottom``."""
    axes.tick_params(labelleft="left" in outer, labelbottom="bottom" in outer, length=2.5)
    for spine in axes.spines.values():
        spine.set_visible(True)
    if "left" in outer:
        axes.set_ylabel("latitude (°)")
    if "bottom" in outer:
        axes.set_xlabel("longitude (°)")


def _places(fields: xr.DataArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of rows and columns, or of points."""
    names = fields.dims[-2:] if fields.ndim == 3 else ("latitude", "longitude")
    latitude, longitude = (fields[name].values.astype(float) for name in names)
    return latitude, longitude


def _limits(truth: xr.DataArray, forecast: xr.DataArray) -> tuple[NDArray[np.float64], float]:
    """Ends of the fields' colours, and the largest error of interest."""
    limits: NDArray[np.float64] = np.nanquantile(truth.values, [0.002, 0.998])
    largest = float(np.nanquantile(np.abs(forecast.values - truth.values), 0.999))
    return limits, max(largest, 1e-12)


def draw_maps(
    truth: xr.DataArray, forecast: xr.DataArray, *, width: int, title: str, unit: str
) -> Figure:
    """Analysis, forecast and error, a row a lead time, with shared colour scales.

    Arguments:
        truth: ``(prediction_timedelta, latitude, longitude)``.
        forecast: Likewise.
        width: Of the boundary, which is drawn as a dashed frame.
        title: Over the figure.
        unit: Of the field.
    """
    latitude, longitude = _places(truth)
    hours = _hours(truth["prediction_timedelta"].values)
    error = forecast.values - truth.values
    limits, largest = _limits(truth, forecast)
    contours = mpl.ticker.MaxNLocator(12).tick_values(*limits)
    field_style = {"cmap": "YlGnBu_r", "vmin": limits[0], "vmax": limits[1]}
    error_style = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    ratio = float(np.ptp(latitude) / np.ptp(longitude)) * _aspect(latitude)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.4, 0.9 + 2.75 * ratio * len(hours)), layout="constrained")
        grid = figure.subplots(len(hours), 3, squeeze=False)
        for row, hour in enumerate(hours):
            fields = (truth.values[row], forecast.values[row], error[row])
            for column, (axes, field) in enumerate(zip(grid[row], fields, strict=True)):
                style = error_style if column == 2 else field_style
                image = _map(axes, field, latitude, longitude, width, **style)
                shown = fields[min(column, 1)]
                if shown.ndim == 2:
                    lines: Any = {"colors": "k", "linewidths": 0.45, "alpha": 0.55}
                    axes.contour(longitude, latitude, shown, contours, **lines)
                _decorate(axes, *["left"] * (column == 0), *["bottom"] * (row == len(hours) - 1))
                if column == 1:
                    middle = image
            box = {"fc": "w", "ec": "none", "alpha": 0.85, "pad": 1.5}
            where = {"xy": (0.03, 0.95), "xycoords": "axes fraction", "va": "top"}
            grid[row, 0].annotate(f"+{hour:g} h", weight="bold", bbox=box, **where)
        for axes, name in zip(
            grid[0], ("analysis", "forecast", "forecast minus analysis"), strict=True
        ):
            axes.set_title(name)
        figure.colorbar(
            middle,
            ax=grid[:, :2],
            location="bottom",
            aspect=45,
            shrink=0.8,
            label=unit,
            extend="both",
        )
        figure.colorbar(
            image,
            ax=grid[:, 2],
            location="bottom",
            aspect=22,
            shrink=0.9,
            label=f"error ({unit})",
            extend="both",
        )
        figure.suptitle(title)
    return figure


def save_animation(
    truth: xr.DataArray, forecast: xr.DataArray, path: str, *, width: int, title: str, unit: str
) -> None:
    """Write a GIF of analysis, forecast and error over all lead times, whole or not at all.

    Arguments:
        truth: ``(prediction_timedelta, latitude, longitude)``.
        forecast: Likewise.
        path: Of the GIF.
        width: Of the boundary, which is drawn as a dashed frame.
        title: Over the figure.
        unit: Of the field.
    """
    latitude, longitude = _places(truth)
    error = forecast.values - truth.values
    limits, largest = (
        np.nanquantile(truth.values, [0.002, 0.998]),
        max(float(np.nanquantile(np.abs(error), 0.999)), 1e-12),
    )
    styles = [{"cmap": "YlGnBu_r", "vmin": limits[0], "vmax": limits[1]}] * 2
    styles.append({"cmap": "RdBu_r", "vmin": -largest, "vmax": largest})
    names = ("analysis", "forecast", "forecast minus analysis")
    ratio = float(np.ptp(latitude) / np.ptp(longitude)) * _aspect(latitude)
    with mpl.rc_context({**_STYLE, "figure.dpi": 90}):
        figure = Figure(figsize=(9.4, 1.5 + 2.9 * ratio), layout="constrained")
        panels = figure.subplots(1, 3)
        images = []
        for column, (axes, name, style) in enumerate(zip(panels, names, styles, strict=True)):
            field = (truth.values, forecast.values, error)[column][0]
            images.append(_map(axes, field, latitude, longitude, width, **style))
            _decorate(axes, *["left"] * (column == 0), "bottom")
            axes.set_title(name)
        figure.colorbar(images[1], ax=panels[:2], location="bottom", aspect=45, label=unit)
        figure.colorbar(images[2], ax=panels[2], location="bottom", label=f"error ({unit})")
        heading = figure.suptitle(title)

        def show(step: int) -> list[Any]:
            hour = _hours(truth["prediction_timedelta"].values)[step]
            heading.set_text(f"{title}, +{hour:g} h")
            for image, fields in zip(images, (truth.values, forecast.values, error), strict=True):
                image.set_array(fields[step])
            return images

        moving = FuncAnimation(figure, show, frames=len(error), cache_frame_data=False)
        with whole(path) as partial:
            moving.save(str(partial), writer=PillowWriter(fps=4), dpi=90)


def _segments(
    a: NDArray[np.float64], b: NDArray[np.float64], edges: tuple[Any, Any]
) -> LineCollection:
    lines = np.stack((a[edges[0]], b[edges[1]]), axis=1)
    return LineCollection(list(lines))


def _on_map(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions of the plane as they are, unit vectors as longitude and latitude in degrees."""
    if positions.shape[1] == 2:
        return positions
    x, y, z = positions.T
    degrees: NDArray[np.float64] = np.rad2deg(
        np.stack((np.arctan2(y, x), np.arcsin(np.clip(z, -1, 1))), axis=1)
    )
    return degrees


def _panels(graph: Graph) -> list[tuple[str, Any, Any, EdgeSet, str]]:
    """Title, positions of senders and receivers, edges and colour of each set but ``down``."""
    grid = _on_map(graph.grid.numpy())
    mesh = [_on_map(positions.numpy()) for positions in graph.mesh]
    within = [
        (f"within level {level + 1}" if len(mesh) > 1 else "within the mesh", at, at, edges)
        for level, (at, edges) in enumerate(zip(mesh, graph.m2m, strict=True))
    ]
    up = [
        (f"level {level + 1} to {level + 2}", mesh[level], mesh[level + 1], edges)
        for level, edges in enumerate(graph.up)
    ]
    return [
        ("grid to mesh", grid, mesh[0], graph.g2m, "#009E73"),
        *[(*panel, "#0072B2") for panel in within],
        *[(*panel, "#CC79A7") for panel in up],
        ("mesh to grid", mesh[0], grid, graph.m2g, "#D55E00"),
    ]


def _draw_edges(axes: Axes, panel: tuple[str, Any, Any, EdgeSet, str], grid: Any) -> None:
    """One set of edges over the grid, larger dots where they end."""
    name, a, b, edges, colour = panel
    ends = edges.senders.numpy(), edges.receivers.numpy()
    # Edges across the date line would cross the map.
    near = np.abs(a[ends[0], 0] - b[ends[1], 0]) < 180 if np.ptp(grid[:, 0]) > 180 else slice(None)
    lines = _segments(a, b, (ends[0][near], ends[1][near]))
    lines.set(color=colour, linewidth=0.5, alpha=0.7)
    axes.add_collection(lines)
    axes.plot(*grid.T, ".", ms=0.8, color="0.6")
    for nodes, size in ((a, 1.6), (b, 2.6)):
        if nodes is not grid:
            axes.plot(*nodes.T, "o", ms=size, color="k", mew=0)
    axes.set_title(f"{name}: {len(edges.senders):,} edges, {len(edges.features)} distinct")
    axes.set_aspect("equal")


def draw_graph(graph: Graph) -> Figure:
    """Grid, mesh and the edges of each kind on the map; those down are those up reversed.

    A planar graph is drawn in its own coordinates, one on the sphere by longitude and
    latitude, without the edges across the date line.
    """
    panels = _panels(graph)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    spherical = graph.grid.shape[1] == 3
    grid = panels[0][1]
    everything = np.concatenate((grid, *[panel[2] for panel in panels]))
    width, height = np.ptp(everything, axis=0)
    tall = min(max(3.5 * height / width, 1.5), 7.0) + 0.9
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.8 * columns, tall * rows), layout="constrained")
        all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in all_axes[len(panels) :]:
            axes.remove()
        for axes, panel in zip(all_axes, panels, strict=False):
            _draw_edges(axes, panel, grid)
            axes.set_xlabel("longitude (°)" if spherical else "x")
            axes.set_ylabel("latitude (°)" if spherical else "y")
        nodes = " + ".join(f"{len(positions):,}" for positions in graph.mesh)
        figure.suptitle(f"{len(graph.grid):,} grid nodes (grey), {nodes} mesh nodes (black)")
    return figure
