"""What is said of a finished run: NaN proposals, and densities that seem improper."""

import math

import torch
from torch import Tensor

from diffsmc.results.result import Result
from diffsmc.smc.estimators import log_mean_exp
from diffsmc.targets.checking import check_proper
from diffsmc.targets.errors import FailedRunError, ImproperTargetError
from diffsmc.targets.target import Target

__all__ = ["check_result", "invalid_note", "pooled_weights"]

FAR_WIDER = 1e3  # times the start's: nothing that was meant to be covered by it


def pooled_weights(result: Result) -> Tensor:
    """Give the weights of all particles, ``(R, N)``, islands counting by their evidence."""
    share = result.log_normalizers.log_softmax(0)[:, None]
    return (result.log_weights.log_softmax(-1) + share).exp()


def check_result(result: Result, target: Target, num_points: int = 64) -> int:
    """Refuse results that are no answer; give the number of evaluations.

    The density is followed far out along the principal axes of the particles, along the particles
    themselves and along the least axes of the score, for an improper density is flat along one
    that no axis shows.

    Arguments:
        result: What came out.
        target: The target.
        num_points: Points whose scores are asked for, and four times the number of directions.

    Raises:
        FailedRunError: The evidence isn't finite.
        ImproperTargetError: The density's integral seems to be infinite.
    """
    log_z = float(log_mean_exp(result.log_normalizers))
    if not math.isfinite(log_z):
        raise FailedRunError(
            f"log Z came out as {log_z}: all particles have "
            "density zero; give a scale, a location or starts where the density isn't"
        )
    weights = pooled_weights(result).flatten()
    x = result.particles.flatten(0, 1).double()
    mean = weights @ x
    centred = x - mean
    covariance = torch.einsum("n,nd,ne->de", weights, centred, centred)
    scale = covariance.diagonal().clamp(min=1e-300).sqrt()
    if not bool(scale.isfinite().all()):
        raise ImproperTargetError("the particles have no finite spread: the density is improper")
    unit = covariance / scale / scale[:, None]
    axes = torch.linalg.eigh(unit.nan_to_num()).eigenvectors.T * scale
    heavy = weights.topk(min(8, len(weights))).indices
    some = x[torch.linspace(0, len(x) - 1, min(num_points, len(x)), device=x.device).long()]
    directions = torch.cat([_flattest(target, some), axes[-4:], centred[heavy], mean[None]])
    directions = directions[: num_points // 4]
    directions = directions / directions.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    # several points each: on one the density may have a ridge that is no tail
    rows = torch.linspace(0, len(x) - 1, len(directions), device=x.device).long()
    order = weights.sort(descending=True).indices
    return len(some) + check_proper(target, directions, x[order[rows // 2]])


def _flattest(target: Target, x: Tensor) -> Tensor:
    """Give the directions, ``(K, D)``, along which scores vanish: the density is flat there.

    Arguments:
        target: The target.
        x: Points, ``(N, D)``.
    """
    grad = target.log_prob_and_grad(x)[1]
    grad = grad[grad.isfinite().all(-1)]
    if len(grad) < 2:
        return x[:0]
    scale = grad.square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    axes = torch.linalg.svd(grad / scale, full_matrices=True).Vh
    flattest: Tensor = axes[-2:] / scale
    return flattest


def invalid_note(result: Result) -> tuple[str, ...]:
    """Tell of proposed points where the log-density was NaN."""
    count = sum(int(info.invalid.sum()) for info in result.history)
    if count == 0:
        return ()
    return (
        f"warning: the log-density was NaN at {count} proposed points, which were rejected: "
        "its value should be -inf where the density is zero, and finite elsewhere",
    )
