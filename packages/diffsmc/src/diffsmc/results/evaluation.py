r"""Comparison of runs: evidences, Bayes factors, marginals, warnings, in one report.

Runs of one target must agree: in log Z within their intervals, and in a coordinate when their
weighted means differ by little against the posterior's standard deviation,
:math:`|m_1-m_2|/s`, and :math:`s_1/s_2` is near 1. Runs of several targets, models of the same
data, are compared by log Bayes factors, :math:`\log Z_1 - \log Z_2`, with intervals.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from diffsmc.results.descriptions import without_nan
from diffsmc.results.diagnostics import compare, diagnose
from diffsmc.results.files import to_record
from diffsmc.shell.writing import whole
from diffsmc.smc.estimators import Evidence, evidence

__all__ = [
    "bayes_factors",
    "build_report",
    "evidence_of",
    "group_by_target",
    "marginal_gap",
    "particle_weights",
    "write_report",
]


def evidence_of(data: Any) -> Evidence:
    """Give the combined evidence of a result that was read."""
    return evidence(to_record(data).log_normalizers)


def particle_weights(data: Any) -> Any:
    """Give the weights of all particles, ``(chain, draw)``, islands counting by their evidence."""
    log_weight = torch.as_tensor(np.asarray(data["weighted_posterior"]["log_weight"]))
    log_z = to_record(data).log_normalizers
    return (log_weight.softmax(-1) * log_z.softmax(0)[:, None]).numpy()


def group_by_target(runs: Mapping[str, Any]) -> list[list[str]]:
    """Give the names of runs, those of one target together, in the order given."""
    groups: dict[str, list[str]] = {}
    for name, data in runs.items():
        groups.setdefault(str(data.attrs.get("target", "")), []).append(name)
    return list(groups.values())


def _moments(data: Any) -> tuple[Any, Any]:
    x = np.asarray(data["weighted_posterior"]["x"])
    weights = particle_weights(data)[..., None]
    mean = (weights * x).sum((0, 1))
    return mean, np.sqrt((weights * (x - mean) ** 2).sum((0, 1)))


def marginal_gap(first: Any, second: Any) -> dict[str, float]:
    """Give the largest differences of two results' weighted marginals over coordinates."""
    (mean, scale), (other_mean, other_scale) = _moments(first), _moments(second)
    ratio = np.log(scale / other_scale)
    return {
        "max_mean_difference_sd": float(np.abs((mean - other_mean) / scale).max()),
        "max_sd_ratio": float(np.exp(np.abs(ratio).max())),
    }


def _describe(data: Any) -> dict[str, Any]:
    record = to_record(data)
    combined = evidence(record.log_normalizers)
    weighted = data["weighted_posterior"]
    weights = record.log_weights.softmax(-1)
    return {
        "log_evidence": combined.log_normalizer,
        "standard_error": combined.standard_error,
        "interval_95": [combined.lower, combined.upper],
        "log_evidence_by_island": record.log_normalizers.tolist(),
        "path": data.attrs["path"],
        "reason": data.attrs["reason"],
        "unbiased": record.unbiased,
        "islands": weighted.sizes["chain"],
        "particles": weighted.sizes["draw"],
        "steps": len(record.conditional_ess),
        "final_ess_fraction": float((1 / weights.square().sum(-1)).mean() / weights.shape[-1]),
        "target_evaluations": int(data.attrs["num_evaluations"]),
        "settings": json.loads(data.attrs["settings"]),
        "notes": json.loads(data.attrs["notes"]),
        "warnings": diagnose(record),
    }


def bayes_factors(
    evidences: Mapping[str, Evidence], groups: list[list[str]]
) -> dict[str, dict[str, Any]]:
    """Give log Bayes factors of each pair of targets, by its runs of least standard error.

    Arguments:
        evidences: By run.
        groups: Runs of one target together.

    Returns:
        By "a / b" the log of a's evidence over b's, its standard error and 95 % interval.

    References:
        Kass & Raftery (1995), Bayes factors, JASA 90.
    """

    def error(name: str) -> float:
        value = evidences[name].standard_error
        return math.inf if math.isnan(value) else value

    best = [min(group, key=error) for group in groups]
    factors = {}
    for i, a in enumerate(best):
        for b in best[i + 1 :]:
            one, other = evidences[a], evidences[b]
            gap = one.log_normalizer - other.log_normalizer
            half = math.hypot(one.upper - one.log_normalizer, other.upper - other.log_normalizer)
            factors[f"{a} / {b}"] = {
                "log_bayes_factor": gap,
                "standard_error": math.hypot(one.standard_error, other.standard_error),
                "interval_95": [gap - half, gap + half],
            }
    return factors


def build_report(runs: Mapping[str, Any], truth: float | None = None) -> dict[str, Any]:
    """Compare results, those of one target by agreement, those of several by Bayes factors.

    Arguments:
        runs: Results that were read, by name.
        truth: The log-normaliser, where it is known; of one target alone.

    Returns:
        Plain numbers and strings, without NaN.
    """
    combined = {name: evidence_of(data) for name, data in runs.items()}
    groups = group_by_target(runs)
    if truth is not None and len(groups) > 1:
        raise ValueError(f"truth is the log-evidence of one target, got runs of {len(groups)}")
    report: dict[str, Any] = {
        "runs": {name: _describe(data) for name, data in runs.items()},
        "targets": groups,
        "marginals": {
            f"{group[0]} / {name}": marginal_gap(runs[group[0]], runs[name])
            for group in groups
            for name in group[1:]
        },
        "disagreements": [
            line for group in groups for line in compare({name: combined[name] for name in group})
        ],
        "bayes_factors": bayes_factors(combined, groups),
    }
    if truth is not None:
        report["truth"] = {"log_evidence": truth}
        report["disagreements"] += [
            f"{name} misses the true log Z by {one.log_normalizer - truth:.3f}"
            for name, one in combined.items()
            if not abs(one.log_normalizer - truth) <= 3 * one.standard_error
        ]
    return report


def write_report(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a report as JSON, whole or not at all."""
    text = json.dumps(without_nan(dict(report)), indent=2, allow_nan=False)
    with whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
