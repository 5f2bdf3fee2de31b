r"""Pictures of a latent plane.

The background is the log of the decoder's volume density
:math:`\tfrac12 \log\det J^\top J` in the plotted coordinates; curves are geodesics; the
Tissot indicatrices are unit circles of a metric, :math:`\{v : v^\top G v = r^2\}`, drawn for
the induced metric (divided by the scale ``c``) over those of the chosen one: they coincide
where the decoder is an isometry.

References:
    Snyder (1987), Map Projections: A Working Manual, for Tissot's indicatrix.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from latentgeom.metrics.answers import GeodesicBatch
from latentgeom.metrics.charts import poincare_ball
from latentgeom.metrics.metric import Metric
from latentgeom.models.losses import relative_metric
from latentgeom.shell.showing import in_a_line
from latentgeom.shell.writing import whole

__all__ = [
    "LatentPlane",
    "draw_distances",
    "draw_latent_plane",
    "draw_metric_plane",
    "poincare_disc",
    "save",
]

_COLOURS = "tab10"
_INDUCED, _CHOSEN, _STRAIGHT = "#d1495b", "#00798c", "#30343f"


_BELOW: dict[str, Any] = {
    "loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "fontsize": 9, "frameon": False,
}  # fmt: skip


class LatentPlane(NamedTuple):
    """What the pictures need.

    Arguments:
        decode: Map of coordinates to observations.
        metric: The chosen metric, of dimension 2.
        scale: Scale ``c`` of the induced metric.
        codes: Codes, ``(N, 2)``.
        labels: Integer labels, ``(N,)``.
    """

    decode: Callable[[Tensor], Tensor]
    metric: Metric
    scale: float
    codes: Tensor
    labels: Tensor

    def __str__(self) -> str:
        return in_a_line(self)


def _extent(codes: Tensor, margin: float = 0.08) -> tuple[Tensor, Tensor]:
    low, high = codes.amin(0), codes.amax(0)
    middle, half = (low + high) / 2, (high - low).max() * (0.5 + margin)
    return middle - half, middle + half


def _grid(plane: LatentPlane, size: int) -> tuple[Tensor, tuple[float, float, float, float]]:
    low, high = _extent(plane.codes)
    axes = [torch.linspace(float(low[k]), float(high[k]), size).to(plane.codes) for k in (0, 1)]
    points = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1)
    return points, (float(low[0]), float(high[0]), float(low[1]), float(high[1]))


def _log_volume(plane: LatentPlane, z: Tensor) -> Tensor:
    """Log of the induced volume density over that of the chosen metric, per scale."""
    relative = relative_metric(plane.decode, plane.metric, z) / plane.scale
    return torch.logdet(relative) / 2


def _heat_map(axes: Axes, plane: LatentPlane, size: int = 200) -> None:
    points, extent = _grid(plane, size)
    inside = torch.isfinite(plane.metric.log_volume(points))
    points = torch.where(inside.unsqueeze(-1), points, 0.0)
    volume = _log_volume(plane, points) + plane.metric.log_volume(points)
    volume = torch.where(inside, volume, torch.nan)
    at_codes = _log_volume(plane, plane.codes) + plane.metric.log_volume(plane.codes)
    image = axes.imshow(
        volume.numpy(), extent=extent, origin="lower", cmap="bone_r", alpha=0.6,
        aspect="equal", interpolation="bilinear",
        vmin=float(at_codes.min()), vmax=float(at_codes.max()),
    )  # fmt: skip
    label = "log volume of the decoder, per scale"
    axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, label=label)


def _scatter(axes: Axes, plane: LatentPlane) -> None:
    colours = matplotlib.colormaps[_COLOURS]
    for label in sorted(set(plane.labels.tolist())):
        chosen = plane.codes[plane.labels == label].numpy()
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=9,
            color=colours(label % 10),
            label=str(label),
            linewidths=0,
        )
    axes.set(xlabel="$z_1$", ylabel="$z_2$")


def _circles(metric_tensor: Tensor, centres: Tensor, radius: float) -> np.ndarray:
    """Unit circles of the metric around the centres, ``(M, 61, 2)``."""
    angle = torch.linspace(0, 2 * math.pi, 61, dtype=centres.dtype)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    inverse_root = torch.linalg.inv(torch.linalg.cholesky(metric_tensor)).mT
    curves = centres.unsqueeze(1) + radius * circle @ inverse_root.mT
    return np.asarray(curves.numpy())


def _spread(metric: Metric, codes: Tensor, count: int) -> tuple[Tensor, float]:
    """Codes far from each other (farthest-point sampling), and their smallest distance."""
    nearest = metric.dist(codes, codes[:1])
    chosen = [0]
    for _ in range(min(count, len(codes)) - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, metric.dist(codes, codes[chosen[-1:]]))
    return codes[chosen], float(nearest.max())


def _indicatrices(axes: Axes, plane: LatentPlane) -> None:
    centres, separation = _spread(plane.metric, plane.codes, count=48)
    radius = 0.45 * separation
    chosen = plane.metric.metric_tensor(centres)
    frame = torch.linalg.inv(plane.metric.orthonormal_frame(centres))
    relative = relative_metric(plane.decode, plane.metric, centres) / plane.scale
    induced = frame.mT @ relative @ frame
    for tensor, colour, style in ((chosen, _CHOSEN, "-"), (induced, _INDUCED, "--")):
        circles = _circles(tensor, centres, radius)
        axes.add_collection(
            LineCollection(list(circles), colors=colour, linewidths=1.3, linestyles=style)
        )
    axes.legend(
        handles=[
            Line2D([], [], color=_CHOSEN, label="chosen metric"),
            Line2D([], [], color=_INDUCED, linestyle="--", label="induced by the decoder"),
        ],
        **_BELOW,
    )


def _curves(axes: Axes, plane: LatentPlane, batch: GeodesicBatch) -> None:
    ends = batch.points[:, [0, -1]]
    t = torch.linspace(0, 1, 65, dtype=ends.dtype)
    chosen = plane.metric.geodesic(ends[:, 0], ends[:, 1], t)
    styles: tuple[tuple[Tensor, str, Literal["-", "--", ":"], str], ...] = (
        (ends, _STRAIGHT, ":", "straight line"),
        (chosen, _CHOSEN, "-", "geodesic of the chosen metric"),
        (batch.points[batch.converged], _INDUCED, "--", "geodesic of the decoder"),
    )
    for curves, colour, style, _ in styles:
        lines = list(curves.numpy())
        axes.add_collection(LineCollection(lines, colors=colour, linestyles=style, linewidths=1.3))
    dots = ends.reshape(-1, 2).numpy()
    axes.scatter(dots[:, 0], dots[:, 1], s=14, color=_STRAIGHT, zorder=3)
    handles = [Line2D([], [], color=c, linestyle=s, label=name) for _, c, s, name in styles]
    axes.legend(handles=handles, **_BELOW)


def poincare_disc(
    plane: LatentPlane, batch: GeodesicBatch, curvature: float
) -> tuple[LatentPlane, GeodesicBatch]:
    """The same in the coordinates of the Poincaré disc, where the chosen circles are round.

    Arguments:
        plane: Decoder, chosen metric and codes in tangent coordinates.
        batch: Geodesics in tangent coordinates.
        curvature: Negative curvature of the chosen metric.
    """
    disc = poincare_ball(2, curvature)
    moved = plane._replace(
        decode=lambda x: plane.decode(disc.to_inner(x)),
        metric=disc,
        codes=disc.from_inner(plane.codes),
    )
    return moved, batch._replace(points=disc.from_inner(batch.points))


@torch.no_grad()
def draw_latent_plane(plane: LatentPlane, batch: GeodesicBatch, title: str) -> Figure:
    """Codes on the log-volume heat map, geodesics, and Tissot indicatrices.

    Arguments:
        plane: Decoder, chosen metric and codes.
        batch: Geodesics of the decoder to draw.
        title: What stands above.
    """
    if plane.metric.dim != 2:
        raise ValueError(f"a latent plane has 2 coordinates, got {plane.metric.dim}")
    figure = Figure(figsize=(16, 5.8), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    _heat_map(first, plane)
    _scatter(first, plane)
    first.legend(ncols=10, markerscale=2.5, columnspacing=0.6, handletextpad=0.1, **_BELOW)
    first.set_title("Held-out codes")
    for axes in (second, third):
        axes.scatter(
            plane.codes[:, 0].numpy(), plane.codes[:, 1].numpy(), s=4, color="0.8", linewidths=0
        )
    _curves(second, plane, batch)
    second.set_title("Geodesics against straight lines")
    _indicatrices(third, plane)
    third.set_title("Tissot indicatrices")
    low, high = _extent(plane.codes)
    for axes in (first, second, third):
        axes.set(
            xlabel="$z_1$", ylabel="$z_2$", aspect="equal",
            xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])),
        )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def draw_distances(panels: dict[str, tuple[Tensor, Tensor, float]]) -> Figure:
    """Induced against chosen distances, one panel each.

    Arguments:
        panels: Title to chosen distances, induced distances and the fitted slope.
    """
    figure = Figure(figsize=(5 * len(panels), 4.6), layout="constrained")
    for axes, (title, (chosen, induced, slope)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.scatter(chosen.numpy(), induced.numpy(), s=8, color=_CHOSEN, alpha=0.6, linewidths=0)
        end = float(chosen.max()) * 1.03
        axes.plot([0, end], [0, slope * end], color=_INDUCED, linewidth=1.2, label="isometry")
        axes.set(
            xlim=(0, end), ylim=(0, float(induced.max()) * 1.05), title=title,
            xlabel="distance in the chosen metric",
            ylabel="geodesic distance of the decoder (pixel units)",
        )  # fmt: skip
        axes.legend(loc="upper left", fontsize=8)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=130, bbox_inches="tight")


@torch.no_grad()
def draw_metric_plane(metric: Metric, points: Tensor, batch: GeodesicBatch, title: str) -> Figure:
    """Points on the log volume of a metric with its geodesics and indicatrices.

    Arguments:
        metric: Metric of dimension 2.
        points: Points, ``(N, 2)``.
        batch: Geodesics to draw.
        title: What stands above.
    """
    if metric.dim != 2:
        raise ValueError(f"a plane has 2 coordinates, got {metric.dim}")
    figure = Figure(figsize=(7, 6))
    axes = figure.subplots()
    low, high = _extent(points)
    grid = [torch.linspace(float(low[k]), float(high[k]), 160).to(points) for k in (0, 1)]
    volume = metric.log_volume(torch.stack(torch.meshgrid(*grid, indexing="xy"), -1))
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    masked = torch.where(torch.isfinite(volume), volume, torch.nan).numpy()
    image = axes.imshow(masked, extent=extent, origin="lower", cmap="bone_r", alpha=0.6)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, label="log volume")
    centres, separation = _spread(metric, points, count=30)
    circles = _circles(metric.metric_tensor(centres), centres, 0.45 * separation)
    for lines, colour in ((circles, _CHOSEN), (batch.points.numpy(), _INDUCED)):
        axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=1.3))
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=9, color=_STRAIGHT, linewidths=0)
    handles = [Line2D([], [], color=_CHOSEN, label="circles of one radius"),
               Line2D([], [], color=_INDUCED, label="geodesics")]  # fmt: skip
    axes.legend(handles=handles, ncols=2, **_BELOW)
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title=title, xlim=extent[:2], ylim=extent[2:])
    return figure
