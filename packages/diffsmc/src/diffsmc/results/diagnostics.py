r"""Diagnostics: did the run work? Warnings name the cure.

No statistic sees a mode that no particle found, nor a diverged run whose particles
agree: a large ESS proves nothing by itself. What can be seen: weights with heavy tails
(Pareto shape k > 0.7), few surviving first ancestors, islands that disagree by more than
their weights explain, moves that renew little of the log-density's variance, and methods that
disagree with each other.

References:
    Betancourt, Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo, 2016,
    for the variance of a log-density that moves renew;
    Vehtari, Simpson, Gelman, Yao & Gabry, Pareto smoothed importance sampling, JMLR 2024.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from diffsmc.smc.estimators import Evidence, effective_sample_size, pareto_shape
from diffsmc.targets.mixtures import GaussianMixture, StudentMixture
from diffsmc.targets.shapes import ManyWell
from diffsmc.targets.target import Target

__all__ = [
    "Record",
    "compare",
    "diagnose",
    "mode_masses",
]

WARNING = "warning: "
SMALLEST_STEP = 1e-3  # of the first
LITTLE_RENEWAL = 0.35  # see bench/renewal_study.py: failures up to 0.31, most others from 0.39


class Record(NamedTuple):
    """What diagnosis looks at.

    ``log_weights`` ``(R, N)``, ``log_normalizers`` ``(R,)``, ``conditional_ess`` ``(T, R)``,
    and after the last step ``families`` and ``acceptance``, ``(R,)``; ``step_sizes`` and
    ``renewal`` ``(T, R)``.
    Of the ``notes`` of the run those count that begin with "warning: ".
    """

    log_weights: Tensor
    log_normalizers: Tensor
    conditional_ess: Tensor
    families: Tensor
    acceptance: Tensor
    unbiased: bool
    step_sizes: Tensor
    renewal: Tensor
    notes: tuple[str, ...] = ()


def diagnose(record: Record) -> list[str]:
    """List what is suspicious about a run, each with its cure."""
    noted = [note.removeprefix(WARNING) for note in record.notes if note.startswith(WARNING)]
    warnings = [
        *noted, *_weights(record), *_genealogy(record), *_islands(record), *_moves(record)
    ]  # fmt: skip
    shrunk = float((record.step_sizes / record.step_sizes[0]).min())
    if shrunk < SMALLEST_STEP:
        warnings.append(
            f"step sizes fell to {shrunk:.1g} of the first: the target has parts much narrower "
            "than the mass, or isn't smooth; use a reference mixture, other parameters, or RWM"
        )
    last = float(record.acceptance.min())
    if last < 0.05:
        warnings.append(f"moves are stuck at the last level (acceptance {last:.1%}): smaller steps")
    if not record.unbiased:
        warnings.append(
            "levels or moves were adapted in the run itself: log Z is consistent, not unbiased; "
            "set adapt_islands"
        )
    return warnings


def _weights(record: Record) -> list[str]:
    num = record.log_weights.shape[-1]
    warnings = []
    shape = max(pareto_shape(row) for row in record.log_weights)
    if shape > 0.7:
        warnings.append(
            f"the weights have a heavy tail (Pareto k = {shape:.2f} > 0.7): inflate the "
            "reference, or take more steps or draws"
        )
    ess = float(effective_sample_size(record.log_weights).min()) / num
    if ess < 0.1:
        warnings.append(f"final ESS is {ess:.1%} of the particles: more steps or moves")
    lowest = float(record.conditional_ess.min())
    if lowest < 0.3:
        warnings.append(
            f"a step had a conditional ESS of {lowest:.1%}: more levels, or a higher target_ess"
        )
    return warnings


def _genealogy(record: Record) -> list[str]:
    families, num = float(record.families.min()), record.log_weights.shape[-1]
    if families >= 0.01 * num:
        return []
    return [
        f"{families:.0f} of {num} first ancestors are left: the single-run variance says little; "
        "trust the islands, or use more particles"
    ]


def _moves(record: Record) -> list[str]:
    """Islands agree on a wrong log Z where particles lag behind the levels."""
    renewal = record.renewal.nanmean(-1)
    seen = renewal[~renewal.isnan()]
    if not len(seen) or float(seen.min()) >= LITTLE_RENEWAL:
        return []
    return [
        f"at one level the moves renewed {float(seen.min()):.0%} of the log-density's variance "
        f"(below {LITTLE_RENEWAL:.0%}): particles may lag behind the levels, and log Z be off "
        "though islands agree: more num_moves or leapfrog steps, a higher target_acceptance, or "
        "chain_length"
    ]


def _islands(record: Record) -> list[str]:
    if len(record.log_normalizers) < 2:
        return ["one island gives no interval: use at least 4"]
    spread = float(record.log_normalizers.std())
    if spread <= 1:
        return []
    return [
        f"islands disagree: log Z has a standard deviation of {spread:.2f} over them; its "
        "interval is too short: more particles, steps or moves"
    ]


def compare(evidences: Mapping[str, Evidence]) -> list[str]:
    """List pairs of methods whose evidences differ by more than 3 standard errors."""
    names: Sequence[str] = list(evidences)
    warnings = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            gap = evidences[a].log_normalizer - evidences[b].log_normalizer
            error = math.hypot(evidences[a].standard_error, evidences[b].standard_error)
            if not abs(gap) <= 3 * error:
                warnings.append(
                    f"{a} and {b} disagree on log Z by {gap:.3f}, {abs(gap) / error:.1f} standard "
                    "errors: at least one of them failed"
                )
    return warnings


def mode_masses(target: Target, particles: Tensor, log_weights: Tensor) -> Tensor | None:
    """Estimate the masses of a target's modes by island, ``(R, K)``, where its modes are known.

    A mixture's are those of its components; of many wells, the share of each one's right side.

    Arguments:
        target: The target.
        particles: ``(R, N, D)``.
        log_weights: ``(R, N)``.
    """
    weights = log_weights.softmax(-1)[:, None]
    if isinstance(target, GaussianMixture | StudentMixture):
        return (weights @ target.log_joint(particles).softmax(-1))[:, 0]
    if isinstance(target, ManyWell):
        return (weights @ (particles[..., 0::2] > 0).to(weights.dtype))[:, 0]
    return None
