"""Strata: their masses, and how they are joined into islands."""

import torch
from torch import Tensor

from diffsmc.methods.resume import SavedPass
from diffsmc.paths.bridge import join_strata
from diffsmc.references.mixture import Mixture
from diffsmc.results.result import Result
from diffsmc.smc.adaptation import MassEstimator
from diffsmc.smc.density import Mass
from diffsmc.smc.engine import total_log_normalizer
from diffsmc.smc.path import StepInfo

__all__ = ["component_masses", "join_result", "particle_spread"]


def component_masses(mixture: Mixture) -> MassEstimator:
    """Give an estimator that takes each stratum's own component for its mass."""

    def estimate(particles: Tensor, log_weights: Tensor) -> Mass:
        repeat = len(particles) // len(mixture.weights)
        return Mass(mixture.means.repeat(repeat, 1), mixture.factors.repeat(repeat, 1, 1))

    return estimate


def particle_spread(run: Result, mixture: Mixture) -> float:
    """Give the variance of particles in the coordinates of their own components."""
    strata = len(mixture.weights)
    x = run.particles.reshape(len(run.particles), strata, -1, run.particles.shape[-1])
    unit = torch.linalg.solve_triangular(
        mixture.factors, (x - mixture.means[:, None]).mT, upper=False
    )
    weights = run.log_weights.softmax(-1).reshape(*x.shape[:-1])
    return float((weights * unit.square().mean(-2)).sum((1, 2)).mean())


def join_result(
    passes: list[SavedPass], mixture: Mixture, unbiased: bool, num_evaluations: int, path: str
) -> Result:
    r"""Join strata into islands: :math:`Z = \sum_k w_k Z_k` and particles by their share."""
    state, history = passes[-1]
    num_strata, num = len(mixture.weights), state.log_weights.shape[-1]
    strata = total_log_normalizer(state).reshape(-1, num_strata) + mixture.weights.log()
    inner = state.log_weights.log_softmax(-1).reshape(-1, num_strata, num)
    offset = num * torch.arange(num_strata, dtype=state.eves.dtype, device=state.eves.device)
    eves = state.eves.reshape(-1, num_strata, num) + offset[:, None]
    return Result(
        join_strata(state.cloud.particles, num_strata),
        (strata[..., None] + inner).flatten(1),
        strata.logsumexp(-1),
        eves.flatten(1),
        state.num_resampled.reshape(-1, num_strata).amax(-1),
        [_join_info(info, mixture.weights.log()) for info in history],
        unbiased,
        num_evaluations,
        path,
        strata=torch.arange(num_strata, device=strata.device).repeat_interleave(num),
    )


def _join_info(info: StepInfo, log_weights: Tensor) -> StepInfo:
    """Join strata of weights ``(K,)``: sum what counts particles, average the rest."""
    num_strata = len(log_weights)

    def split(values: Tensor) -> Tensor:
        return values.reshape(-1, num_strata)

    return info._replace(
        ess=split(info.ess).sum(-1),
        conditional_ess=split(info.conditional_ess).mean(-1),
        acceptance=split(info.acceptance).mean(-1),
        renewal=split(info.renewal).mean(-1),
        resampled=split(info.resampled).any(-1),
        families=split(info.families).sum(-1),
        log_normalizer=(split(info.log_normalizer) + log_weights).logsumexp(-1),
        step_size=split(info.step_size).mean(-1),
        invalid=split(info.invalid).sum(-1),
    )
