r"""Diagnostics: did the run work? Warnings name the cure.

No statistic sees a mode that no particle found, nor a diverged run whose particles
agree: a large ESS proves nothing by itself. What can be seen: heavy tails of
weights that were never resampled (Pareto shape k > 0.7), few surviving first ancestors, islands
that disagree by more than
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

from diffsmc.smc.estimators import WIDEST_SPREAD, Evidence, effective_sample_size, pareto_shape
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
FEW_EFFECTIVE = 100  # particles, below which an island's interval and its Pareto k say little
LITTLE_RENEWAL = 0.35  # see bench/renewal_study.py: failures up to 0.31, most others from 0.39


class Record(NamedTuple):
    """What diagnosis looks at.

    ``log_weights`` ``(R, N)``, ``log_normalizers`` ``(R,)``, ``conditional_ess`` ``(T, R)``,
    and after the last step ``families`` and ``acceptance``, ``(R,)``; ``step_sizes`` and
    ``renewal`` ``(T, R)``. Of the ``notes`` of the run those count that begin with "warning: ".
    ``path`` says which path ran, and so which cures there are; ``resampled`` whether any island
    was ever resampled: then its weights are no sample of ratios, and have no Pareto tail.
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
    path: str = "tempered"
    resampled: bool = True


class Cures(NamedTuple):
    """What to do on one path: about weights, levels, moves, and few ancestors."""

    weights: str
    levels: str
    moves: str
    ancestors: str


SMC_CURES = Cures(
    "a higher target_ess, or more num_moves",
    "a higher target_ess",
    "more num_moves or leapfrog steps, a higher target_acceptance, or chain_length",
    "more num_particles, or a higher target_ess",
)
CURES = {
    "tempered": SMC_CURES,
    "stratified bridge": SMC_CURES._replace(
        moves="more num_moves or leapfrog steps, a higher target_acceptance, or more refits",
        ancestors="more num_particles, or more refits",
    ),
    "diffusion": Cures(
        "more num_steps or num_draws, or a larger inflation",
        "more num_steps or num_draws, or a larger inflation",
        "more num_moves, or HMC in place of MALA",
        "more num_particles or num_steps",
    ),
    "mixture diffusion": Cures(
        "more num_steps or num_draws, or more refits of the reference",
        "more num_steps or num_draws",
        "more num_moves",
        "more num_particles or num_steps",
    ),
    "importance sampling": Cures(
        "no importance sampling: importance_ess=1 on Automatic or ReferenceMixture",
        "no importance sampling: importance_ess=1 on Automatic or ReferenceMixture",
        "no importance sampling: importance_ess=1",
        "more num_particles",
    ),
}


def diagnose(record: Record) -> list[str]:
    """List what is suspicious about a run, each with the cure of the path that ran.

    References:
        Elvira et al. (2022), Rethinking the effective sample size, International Statistical
        Review 90, arXiv:1809.04129.
    """
    cures = CURES.get(record.path, SMC_CURES)
    noted = [note.removeprefix(WARNING) for note in record.notes if note.startswith(WARNING)]
    return [
        *noted,
        *_weights(record, cures),
        *_genealogy(record, cures),
        *_islands(record, cures),
        *_moves(record, cures),
        *_bias(record),
    ]


def _weights(record: Record, cures: Cures) -> list[str]:
    num = record.log_weights.shape[-1]
    warnings = []
    if not record.resampled:
        shape = pareto_shape(record.log_weights.flatten())
        if shape > 0.7:
            warnings.append(
                f"the weights have a heavy tail (Pareto k = {shape:.2f} > 0.7): {cures.weights}"
            )
    ess = float(effective_sample_size(record.log_weights).min())
    if ess < FEW_EFFECTIVE and not record.resampled:
        warnings.append(f"some island's final ESS is {ess:.0f} of {num} particles: {cures.weights}")
    lowest = float(record.conditional_ess.min())
    if lowest < 0.3 and record.resampled:
        warnings.append(f"a step had a conditional ESS of {lowest:.1%}: {cures.levels}")
    return warnings


def _genealogy(record: Record, cures: Cures) -> list[str]:
    families, num = float(record.families.min()), record.log_weights.shape[-1]
    if families >= 0.01 * num:
        return []
    return [
        f"{families:.0f} of {num} first ancestors are left: the single-run variance says little; "
        f"trust the islands, or use {cures.ancestors}"
    ]


def _moves(record: Record, cures: Cures) -> list[str]:
    """Islands agree on a wrong log Z where particles lag behind the levels."""
    warnings = []
    renewal = record.renewal.nanmean(-1)
    seen = renewal[~renewal.isnan()]
    if len(seen) and float(seen.min()) < LITTLE_RENEWAL:
        warnings.append(
            f"at one level the moves renewed {float(seen.min()):.0%} of the log-density's variance "
            f"(below {LITTLE_RENEWAL:.0%}): particles may lag behind the levels, and log Z be off "
            f"though islands agree: {cures.moves}"
        )
    shrunk = float((record.step_sizes / record.step_sizes[0]).min())
    if shrunk < SMALLEST_STEP:
        warnings.append(
            f"step sizes fell to {shrunk:.1g} of the first: the target has parts much narrower "
            "than the mass, or isn't smooth; use a reference mixture, other parameters, or RWM"
        )
    last = float(record.acceptance.min())
    if last < 0.05:
        warnings.append(
            f"moves are stuck at the last level (acceptance {last:.1%}): a higher "
            "target_acceptance, or RWM where the density isn't smooth"
        )
    return warnings


def _bias(record: Record) -> list[str]:
    if record.unbiased:
        return []
    return [
        "levels or moves were adapted in the run itself: log Z is consistent, not unbiased; "
        "set adapt_islands"
    ]


def _islands(record: Record, cures: Cures) -> list[str]:
    if len(record.log_normalizers) < 2:
        return ["one island gives no interval: use at least 4"]
    spread = float(record.log_normalizers.std())
    if spread <= WIDEST_SPREAD:
        return []
    return [
        f"islands disagree: log Z has a standard deviation of {spread:.2f} over them, so there is "
        f"no interval: more num_particles, or {cures.levels}"
    ]


def compare(evidences: Mapping[str, Evidence]) -> list[str]:
    """List pairs of runs of one target whose evidences differ by more than 3 standard errors."""
    names: Sequence[str] = list(evidences)
    warnings = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            gap = evidences[a].log_normalizer - evidences[b].log_normalizer
            error = math.hypot(evidences[a].standard_error, evidences[b].standard_error)
            if math.isnan(error):
                warnings.append(f"{a} and {b} can't be compared: one of them has no interval")
            elif not abs(gap) <= 3 * error:
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
