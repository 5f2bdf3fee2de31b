r"""Pictures of a run: schedule, marginals, log-evidence, weights, modes and the path."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

from diffsmc.smc.estimators import Evidence, pareto_shape

__all__ = [
    "draw_evidence",
    "draw_marginals",
    "draw_modes",
    "draw_schedule",
    "draw_snapshots",
    "draw_weights",
    "save",
]

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


def draw_weights(runs: Mapping[str, Any]) -> Figure:
    """Draw histograms of the final log-weights, with Pareto's k of the worst island.

    Arguments:
        runs: Results as InferenceData, by method.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(1, len(runs), 3.4 * len(runs) + 0.6, 2.9)
        for axis, (name, data), colour in zip(axes[0], runs.items(), COLOURS, strict=False):
            log_weights = torch.as_tensor(np.asarray(data["weighted_posterior"]["log_weight"]))
            shape = max(pareto_shape(row) for row in log_weights)
            relative = log_weights.log_softmax(-1) + np.log(log_weights.shape[-1])
            values = relative[relative > -torch.inf].flatten().numpy()
            low = max(float(values.min()), float(values.max()) - 30)
            spread = max(float(values.max()) - low, 0.2)
            edges = np.linspace(low - 0.05 * spread, float(values.max()) + 0.05 * spread, 50)
            axis.hist(values, edges, color=colour, alpha=0.8)
            k = "equal weights" if shape == -np.inf else f"Pareto k = {shape:.2f}"
            axis.set(title=f"{name}\n{k}", yscale="log", xlabel="log of weight over mean weight")
        axes[0, 0].set_ylabel("particles")
    return figure


def draw_modes(runs: Mapping[str, Any], num: int = 40) -> Figure:
    """Draw masses of modes by island, with the truth where it is known; of strata otherwise.

    Arguments:
        runs: Results as InferenceData, by method, whose evidence has masses of modes or strata.
        num: Most modes that are shown, the heaviest.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(len(runs), 1, 7.2, 2.3 * len(runs) + 0.4)
        for axis, (name, data), colour in zip(axes[:, 0], runs.items(), COLOURS, strict=False):
            evidence = data["evidence"]
            known = "mode_mass" in evidence
            mass = np.asarray(evidence["mode_mass" if known else "stratum_mass"])
            order = np.argsort(-mass.mean(0), kind="stable")[:num]
            place = np.arange(len(order))
            axis.bar(place, mass[:, order].mean(0), 0.75, color=colour, alpha=0.45)
            for island in mass[:, order]:
                axis.plot(place, island, ".", color=colour, markersize=3.5)
            if known:
                truth = np.asarray(evidence["true_mode_mass"])[order]
                axis.plot(place, truth, "_", color="black", markersize=11, label="truth")
                axis.legend(loc="upper right")
            # room for the legend above the bars
            axis.set(title=name, ylim=(0, 1.25 * mass[:, order].max()), ylabel="mass")
            axis.set_xticks(place, order, fontsize=6.5)
            axis.grid(axis="x", visible=False)
        axes[-1, 0].set_xlabel("mode" if known else "stratum")
        figure.align_ylabels()
    return figure


def draw_snapshots(data: Any, num: int = 6) -> Figure:
    """Draw the particles of some steps in the plane of the first two coordinates.

    Arguments:
        data: A result with snapshots.
        num: Steps that are shown, spread over the path.
    """
    points, levels = np.asarray(data["snapshots"]["x"]), np.asarray(data["snapshots"]["level"])
    steps = np.unique(np.linspace(0, len(levels) - 1, num).round().astype(int))
    flat = points.reshape(-1, points.shape[-1])
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(1, len(steps), 2.2 * len(steps) + 0.5, 2.6)
        for axis, step in zip(axes[0], steps, strict=True):
            x = points[step]
            y = x[:, 1] if x.shape[1] > 1 else np.linspace(0, 1, len(x))
            axis.plot(x[:, 0], y, ".", color=COLOURS[0], markersize=2.5, alpha=0.5, mew=0)
            axis.set_title(f"step {step + 1}, level {levels[step]:.3g}", fontsize=8)
            for limits, column in ((axis.set_xlim, 0), (axis.set_ylim, 1)):
                if column < flat.shape[1]:
                    low, high = np.quantile(flat[:, column], [0.001, 0.999])
                    limits(low - 0.08 * (high - low), high + 0.08 * (high - low))
        figure.supxlabel("first coordinate", fontsize=9)
        axes[0, 0].set_ylabel("second coordinate" if flat.shape[1] > 1 else "")
    return figure
