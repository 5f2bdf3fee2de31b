r"""Pictures of a run: schedule, marginals, log-evidence, weights, modes and the path."""

import os
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from diffsmc.results.densities import adaptive_density
from diffsmc.results.evaluation import particle_weights
from diffsmc.shell.writing import whole
from diffsmc.smc.estimators import Evidence, pareto_shape

__all__ = [
    "IMPORTANCE",
    "draw_evidence",
    "draw_importance",
    "draw_marginals",
    "draw_modes",
    "draw_schedule",
    "draw_snapshots",
    "draw_weights",
    "save",
]

IMPORTANCE = "importance sampling"
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
    with whole(path) as partial:
        figure.savefig(partial, format=Path(path).suffix[1:])


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
        for column, (name, data), colour in zip(axes.T, runs.items(), cycle(COLOURS), strict=False):
            schedule = data["schedule"]
            num = data["weighted_posterior"].sizes["draw"]
            step = np.arange(1, schedule.sizes["step"] + 1)
            column[0].plot(step, schedule["level"], ".-", color=colour, markersize=4)
            column[0].set(title=_titled(name, data), ylim=(0, 1.03))
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


def _titled(name: str, data: Any) -> str:
    """Give a run's name with what it cost."""
    return f"{name}\n{float(data.attrs['num_evaluations']):.2g} evaluations"


def columns(data: Any) -> dict[str, Any]:
    """Give the weighted draws of every scalar that has a name, ``(N,)`` each.

    They are the model's parameters, or the coordinates where there are none.
    """
    group = data["weighted_posterior"]
    names = [str(name) for name in group if name not in {"x", "log_weight"}]
    if not names:
        x = np.asarray(group["x"])
        return {str(n): x[..., k].ravel() for k, n in enumerate(group["coordinate"].values)}
    found = {}
    for name in names:
        values = np.asarray(group[name])
        for place in np.ndindex(values.shape[2:]):
            shown = f"{name}[{', '.join(map(str, place))}]" if place else name
            found[shown] = values[(..., *place)].ravel()
    return found


def draw_marginals(runs: Mapping[str, Any], num: int = 12) -> Figure:
    """Draw weighted marginal densities of parameters, those farthest from zero if they are many.

    Arguments:
        runs: Results of one target as InferenceData, by method.
        num: Number of parameters.
    """
    samples = {name: columns(data) for name, data in runs.items()}
    weights = {name: particle_weights(data).ravel() for name, data in runs.items()}
    first = next(iter(samples))
    names = list(samples[first])

    def strength(name: str) -> float:
        x, w = samples[first][name], weights[first]
        mean = float(w @ x)
        return -abs(mean) / max(float(np.sqrt(w @ (x - mean) ** 2)), 1e-300)

    chosen = names if len(names) <= num else sorted(names, key=strength)[:num]
    with matplotlib.rc_context(STYLE):
        rows = -(-len(chosen) // 4)
        figure, axes = _figure(rows, min(4, len(chosen)), 9.6, 1.9 * rows + 0.6)
        for axis in axes.flat[len(chosen) :]:
            axis.set_axis_off()
        for axis, name in zip(axes.flat, chosen, strict=False):
            for (run, values), colour in zip(samples.items(), cycle(COLOURS), strict=False):
                grid, density = adaptive_density(values[name], weights[run])
                axis.plot(grid, density, color=colour, label=run)
                axis.fill_between(grid, density, color=colour, alpha=0.10, linewidth=0)
            axis.set(yticks=[], ylim=(0, None), xlabel=name)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(runs))
        figure.supylabel("posterior density", fontsize=9)
    return figure


def draw_evidence(
    islands: Mapping[str, torch.Tensor],
    combined: Mapping[str, Evidence],
    truth: float | None = None,
    costs: Mapping[str, int] | None = None,
) -> Figure:
    """Draw the log-evidence of each island, and the combined one with its 95 % interval.

    Arguments:
        islands: Log-normalisers by method, ``(R,)``.
        combined: Evidence by method.
        truth: The true value, where it is known.
        costs: Evaluations by method.
    """
    with matplotlib.rc_context(STYLE):
        figure, ((axis,),) = _figure(1, 1, 6.4, 0.75 * len(islands) + 1.5)
        for row, (name, colour) in enumerate(zip(islands, cycle(COLOURS), strict=False)):
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
        cost = costs or {}
        labels = [
            f"{name}\n{cost[name]:.2g} evaluations" if name in cost else name for name in islands
        ]
        axis.set_yticks(range(len(islands)), labels)
        axis.set(xlabel="log-evidence (nats); dots: islands, diamond and bar: mean of Ẑ, 95 %")
        axis.set_ylim(len(islands) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
    return figure


def _shape(data: Any) -> str:
    """Say Pareto's k of weights that were never resampled; others have none."""
    if bool(np.asarray(data["schedule"]["resampled"]).any()):
        return "resampled"
    values = torch.as_tensor(np.asarray(data["weighted_posterior"]["log_weight"])).flatten()
    shape = pareto_shape(values)
    return "equal weights" if shape == -np.inf else f"Pareto k = {shape:.2f}"


def draw_weights(runs: Mapping[str, Any]) -> Figure:
    """Draw histograms of the final log-weights, with Pareto's k where they have one.

    Arguments:
        runs: Results as InferenceData, by method.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(1, len(runs), 3.4 * len(runs) + 0.6, 2.9)
        for axis, (name, data), colour in zip(axes[0], runs.items(), cycle(COLOURS), strict=False):
            _draw_histogram(axis, data, colour)
            axis.set(title=f"{name}\n{_shape(data)}")
        axes[0, 0].set_ylabel("particles")
    return figure


def _draw_histogram(axis: Any, data: Any, colour: str) -> None:
    log_weights = torch.as_tensor(np.asarray(data["weighted_posterior"]["log_weight"]))
    relative = log_weights.log_softmax(-1) + np.log(log_weights.shape[-1])
    values = relative[relative > -torch.inf].flatten().numpy()
    low = max(float(values.min()), float(values.max()) - 30)
    spread = max(float(values.max()) - low, 0.2)
    edges = np.linspace(low - 0.05 * spread, float(values.max()) + 0.05 * spread, 50)
    axis.hist(values, edges, color=colour, alpha=0.8)
    axis.set(yscale="log", xlabel="log of weight over mean weight")


def draw_importance(data: Any, truth: float | None = None) -> Figure:
    """Draw importance sampling: draws by weight, weights, and log Z as draws come in.

    Arguments:
        data: A result of importance sampling.
        truth: The true log-evidence, where it is known.
    """
    group = data["weighted_posterior"]
    x = np.asarray(group["x"]).reshape(-1, group.sizes["coordinate"])
    weights = particle_weights(data).ravel() * len(x)
    names = [str(name) for name in group["coordinate"].values]
    with matplotlib.rc_context(STYLE):
        figure, ((plane, weight, rising),) = _figure(1, 3, 10.5, 3.1)
        some = np.linspace(0, len(x) - 1, min(3000, len(x))).astype(int)
        y = x[some, 1] if x.shape[1] > 1 else np.log10(weights[some] + 1e-6)
        size = 1 + 6 * np.sqrt(np.minimum(weights[some], 9))
        plane.scatter(x[some, 0], y, s=size, color=COLOURS[0], alpha=0.35, linewidths=0)
        plane.set(xlabel=names[0], ylabel=names[1] if x.shape[1] > 1 else "log10 of weight")
        plane.set_title("draws, area by weight", fontsize=8.5)
        _draw_histogram(weight, data, COLOURS[0])
        weight.set_title(_shape(data), fontsize=8.5)
        weight.set_ylabel("draws")
        _draw_rising(rising, data, truth)
    return figure


def _draw_rising(axis: Any, data: Any, truth: float | None) -> None:
    """Draw log Z of each island by the number of its draws, in random order."""
    log_weights = torch.as_tensor(np.asarray(data["weighted_posterior"]["log_weight"]))
    log_z = np.asarray(data["evidence"]["log_normalizer"])
    ratio = log_weights.log_softmax(-1) + np.log(log_weights.shape[-1])
    order = np.random.default_rng(0).permutation(log_weights.shape[-1])
    number = np.arange(1, len(order) + 1)
    start = min(10, len(order) - 1)
    for row, value in zip(ratio, log_z, strict=True):
        curve = value + torch.logcumsumexp(row[order], 0).numpy() - np.log(number)
        axis.plot(number[start:], curve[start:], color=COLOURS[0], alpha=0.5, linewidth=0.9)
    if truth is not None:
        axis.axhline(truth, color="black", linewidth=1, label="truth")
        axis.legend()
    axis.set(xscale="log", xlabel="draws of an island", ylabel="log-evidence so far")


def draw_modes(runs: Mapping[str, Any], num: int = 40) -> Figure:
    """Draw masses of modes by island, with the truth where it is known; of strata otherwise.

    Arguments:
        runs: Results as InferenceData, by method, whose evidence has masses of modes or strata.
        num: Most modes that are shown, the heaviest.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(len(runs), 1, 7.2, 2.5 * len(runs) + 0.4)
        for axis, (name, data), colour in zip(
            axes[:, 0], runs.items(), cycle(COLOURS), strict=False
        ):
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
            axis.set_xlabel("mode" if known else "stratum of the reference (not a mode)")
            axis.set_xticks(place, order, fontsize=6.5)
            axis.grid(axis="x", visible=False)
        figure.align_ylabels()
    return figure


def draw_snapshots(data: Any, num: int = 6) -> Figure:
    """Draw the particles of some steps in the plane of the first two coordinates, by weight.

    Particles are drawn anew in proportion to their weights, so that the picture shows the density
    of each level.

    Arguments:
        data: A result with snapshots.
        num: Steps that are shown, spread over the path.
    """
    group = data["snapshots"]
    points, levels = np.asarray(group["x"]), np.asarray(group["level"])
    names = [str(name) for name in group["coordinate"].values]
    log_weights = np.asarray(group["log_weight"])
    shown = [resample_points(x, w) for x, w in zip(points, log_weights, strict=True)]
    steps = np.unique(np.linspace(0, len(levels) - 1, num).round().astype(int))
    flat = np.concatenate(shown)
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(1, len(steps), 2.2 * len(steps) + 0.5, 2.6)
        for axis, step in zip(axes[0], steps, strict=True):
            x = shown[step]
            y = x[:, 1] if x.shape[1] > 1 else np.linspace(0, 1, len(x))
            axis.plot(x[:, 0], y, ".", color=COLOURS[0], markersize=2.5, alpha=0.5, mew=0)
            axis.set_title(f"step {step + 1}, level {levels[step]:.3g}", fontsize=8)
            for limits, column in ((axis.set_xlim, 0), (axis.set_ylim, 1)):
                if column < flat.shape[1]:
                    low, high = np.quantile(flat[:, column], [0.001, 0.999])
                    limits(low - 0.08 * (high - low), high + 0.08 * (high - low))
        figure.supxlabel(names[0], fontsize=9)
        axes[0, 0].set_ylabel(names[1] if flat.shape[1] > 1 else "")
    return figure


def resample_points(x: Any, log_weights: Any) -> Any:
    """Give as many points, ``(N, D)``, drawn by weight with one uniform for all."""
    weights = np.exp(log_weights - log_weights.max())
    cdf = np.cumsum(weights) / weights.sum()
    places = (np.arange(len(x)) + 0.5) / len(x)
    return x[np.minimum(np.searchsorted(cdf, places), len(x) - 1)]
