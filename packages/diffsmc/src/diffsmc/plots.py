r"""Pictures of a run: schedule and ESS, marginals, log-evidence by island."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

from .estimators import Evidence

__all__ = ["draw_evidence", "draw_marginals", "draw_schedule", "save"]

STYLE: Any = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.titlelocation": "left",
}
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5fd3", "#e0a526")
Samples = np.ndarray[Any, np.dtype[np.float64]]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture, whole or not at all."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    figure.savefig(partial, format=file.suffix[1:])
    os.replace(partial, file)


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_schedule(runs: Mapping[str, Any]) -> Figure:
    """Draw level, ESS and acceptance by step, a column for each method.

    Arguments:
        runs: Results as InferenceData, by method.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(3, len(runs), 3.6 * len(runs) + 0.6, 6.2)
        for column, (name, data), colour in zip(axes.T, runs.items(), COLOURS, strict=False):
            schedule = data["schedule"]
            num = data["weighted_posterior"].sizes["draw"]
            step = np.arange(1, schedule.sizes["step"] + 1)
            column[0].plot(step, schedule["level"], ".-", color=colour, markersize=4)
            column[0].set(title=name, ylim=(0, 1.03))
            column[1].plot(step, schedule["ess"] / num, color=colour, alpha=0.45, linewidth=0.8)
            column[1].plot(step, schedule["ess"].mean("chain") / num, color=colour, linewidth=2)
            column[1].set(ylim=(0, 1.03))
            column[2].plot(step, schedule["acceptance"], color=colour, alpha=0.45, linewidth=0.8)
            column[2].plot(step, schedule["acceptance"].mean("chain"), color=colour, linewidth=2)
            column[2].set(xlabel="step", ylim=(0, 1.03), xlim=column[0].get_xlim())
            if not np.isfinite(schedule["acceptance"]).any():
                centre = {"ha": "center", "va": "center", "transform": column[2].transAxes}
                column[2].text(0.5, 0.5, "no moves", color="0.4", **centre)
        axes[0, 0].set_ylabel("level (0 base, 1 target)")
        axes[1, 0].set_ylabel("ESS / N before resampling")
        axes[2, 0].set_ylabel("acceptance of moves")
        figure.align_ylabels()
    return figure


def draw_marginals(runs: Mapping[str, Any], num: int = 12) -> Figure:
    """Draw the marginal densities of the coordinates that are farthest from zero.

    Arguments:
        runs: Results as InferenceData, by method.
        num: Number of coordinates.
    """
    samples = {name: np.asarray(data["posterior"]["x"]) for name, data in runs.items()}
    first = next(iter(runs.values()))["posterior"]
    names = [str(n) for n in first["coordinate"].values]
    pooled = next(iter(samples.values())).reshape(-1, len(names))
    strength = np.abs(pooled.mean(0)) / pooled.std(0)
    chosen = np.argsort(-strength, kind="stable")[: min(num, len(names))]
    with matplotlib.rc_context(STYLE):
        rows = -(-len(chosen) // 4)
        figure, axes = _figure(rows, min(4, len(chosen)), 9.6, 1.75 * rows + 0.5)
        for axis in axes.flat[len(chosen) :]:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, chosen, strict=False):
            _draw_marginal(axis, {k: v[..., index].ravel() for k, v in samples.items()})
            axis.set_title(names[index], fontsize=8.5)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(runs))
        figure.supxlabel("coefficient (standardised features)", fontsize=9)
        figure.supylabel("posterior density", fontsize=9)
    return figure


def _draw_marginal(axis: Any, samples: Mapping[str, Samples]) -> None:
    low = min(np.quantile(x, 0.001) for x in samples.values())
    high = max(np.quantile(x, 0.999) for x in samples.values())
    grid = np.linspace(low, high, 200)
    for (name, x), colour in zip(samples.items(), COLOURS, strict=False):
        density = stats.gaussian_kde(x)(grid)
        axis.plot(grid, density, color=colour, label=name)
        axis.fill_between(grid, density, color=colour, alpha=0.10, linewidth=0)
    axis.axvline(0, color="0.4", linewidth=0.7, linestyle=":")
    axis.set(yticks=[], ylim=(0, None))


def draw_evidence(
    islands: Mapping[str, torch.Tensor],
    combined: Mapping[str, Evidence],
    truth: float | None = None,
) -> Figure:
    """Draw the log-evidence of each island, and the combined one with its 95 % interval.

    Arguments:
        islands: Log-normalisers by method, ``(R,)``.
        combined: Evidence by method.
        truth: The true value, where it is known.
    """
    with matplotlib.rc_context(STYLE):
        figure, ((axis,),) = _figure(1, 1, 6.4, 0.75 * len(islands) + 1.5)
        for row, (name, colour) in enumerate(zip(islands, COLOURS, strict=False)):
            values = islands[name].numpy()
            # islands spread sideways, so that equal values stay visible
            spread = row + np.linspace(-0.22, 0.22, len(values))
            axis.plot(values, spread, "o", color=colour, alpha=0.55, markersize=4.5, mew=0)
            one = combined[name]
            axis.plot([one.lower, one.upper], [row, row], color=colour, linewidth=3)
            axis.plot(one.log_normalizer, row, "D", color=colour, mec="white", markersize=8)
        if truth is not None:
            axis.axvline(truth, color="black", linewidth=1, label="truth")
            axis.legend()
        axis.set_yticks(range(len(islands)), list(islands))
        axis.set(xlabel="log-evidence (nats); dots: islands, diamond and bar: mean of Ẑ, 95 %")
        axis.set_ylim(len(islands) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
    return figure
