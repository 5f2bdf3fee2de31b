r"""Comparison of runs: evidences, marginals, warnings, in one report.

Two runs of one target agree in a coordinate when their weighted means differ by little
against the posterior's standard deviation, :math:`|m_1-m_2|/s`, and :math:`s_1/s_2`
is near 1.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffsmc.results.diagnostics import compare, diagnose
from diffsmc.results.inference_data import to_record
from diffsmc.smc.estimators import Evidence, evidence

__all__ = ["build_report", "evidence_of", "marginal_gap", "write_report"]


def evidence_of(data: Any) -> Evidence:
    """Give the combined evidence of a result that was read."""
    return evidence(to_record(data).log_normalizers)


def _moments(data: Any) -> tuple[Any, Any]:
    weighted = data["weighted_posterior"]
    x = np.asarray(weighted["x"])
    log_weight = torch.as_tensor(np.asarray(weighted["log_weight"]))
    log_z = to_record(data).log_normalizers
    # an island counts by its evidence, as the islands' common estimate does
    weights = (log_weight.softmax(-1) * log_z.softmax(0)[:, None]).numpy()[..., None]
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


def build_report(runs: Mapping[str, Any], truth: float | None = None) -> dict[str, Any]:
    """Compare results of one target.

    Arguments:
        runs: Results that were read, by name.
        truth: The log-normaliser, where it is known.

    Returns:
        Plain numbers and strings, without NaN.
    """
    combined = {name: evidence_of(data) for name, data in runs.items()}
    first = next(iter(runs))
    gaps = {
        f"{first} / {name}": marginal_gap(runs[first], data)
        for name, data in runs.items()
        if name != first
    }
    report: dict[str, Any] = {
        "runs": {name: _describe(data) for name, data in runs.items()},
        "marginals": gaps,
        "disagreements": compare(combined),
    }
    if truth is not None:
        report["truth"] = {"log_evidence": truth}
        report["disagreements"] += [
            f"{name} misses the true log Z by {one.log_normalizer - truth:.3f}"
            for name, one in combined.items()
            if not abs(one.log_normalizer - truth) <= 3 * one.standard_error
        ]
    return report


def without_nan(node: Any) -> Any:
    """Replace numbers that JSON cannot hold by null."""
    if isinstance(node, dict):
        return {key: without_nan(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_nan(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def write_report(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a report as JSON, whole or not at all."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    partial.write_text(json.dumps(without_nan(dict(report)), indent=2, allow_nan=False) + "\n")
    os.replace(partial, file)
