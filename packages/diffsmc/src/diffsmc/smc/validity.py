"""Points whose log-density is no number, and steps after which too few particles matter."""

import torch
from torch import Tensor

from diffsmc.smc.density import Cloud
from diffsmc.targets.errors import FailedRunError, NonFiniteLogDensityError

__all__ = ["INVALID_SHARE", "LEAST_ESS", "WANDERING", "check_ess", "check_finite", "reject_invalid"]


LEAST_ESS = 0.01  # conditional: what fewer particles say is no answer
# shares of NaN proposals from which it is no exception: at the target, and before, where moves
# whose steps aren't adapted yet wander far
INVALID_SHARE = 0.1
WANDERING = 0.5
LARGEST = 1e77  # its fourth power is finite: beyond, an overflow isn't the target's fault


def check_finite(cloud: Cloud, index: int) -> None:
    """Refuse NaN and ``+inf`` log-densities at sane points.

    Raises:
        NonFiniteLogDensityError: Naming the first such particle.
    """
    values = cloud.base + cloud.tilt
    bad = ~(values < torch.inf)  # which NaN isn't either
    if bool(bad.any()):
        _refuse(cloud, bad & (cloud.particles.abs() < LARGEST).all(-1), index)


def reject_invalid(
    cloud: Cloud, index: int, most: float = INVALID_SHARE, near: Tensor | None = None
) -> tuple[Cloud, Tensor]:
    """Give proposed points with density zero where it is NaN, and count those by island.

    Points where trajectories diverged don't count: an overflow isn't the target's fault.

    Arguments:
        cloud: Proposed points.
        index: Step of the sampler, for the error.
        most: Share of NaN from which it is no exception.
        near: Particles ``(R, N, D)``; points that are farther from all of them than half their
            spread come from unstable trajectories, and don't count for the share.

    Raises:
        NonFiniteLogDensityError: A log-density is ``+inf``, or many are NaN.
    """
    values = cloud.base + cloud.tilt
    bad = ~(values < torch.inf)
    none = torch.zeros_like(values[:, 0], dtype=torch.int32)
    if not bool(bad.any()):
        return cloud, none
    sane = (cloud.particles.abs() < LARGEST).all(-1)
    _refuse(cloud, (values == torch.inf) & sane, index)
    invalid = values.isnan() & sane
    close = invalid if near is None else invalid & _about(cloud.particles, near)
    if int(close.sum()) > max(most * invalid.numel(), 3):
        _refuse(cloud, close, index)
    return _without(cloud, bad), invalid.sum(-1, dtype=torch.int32)


def _about(x: Tensor, near: Tensor) -> Tensor:
    """Tell which points lie in a box twice as large as that of some particles."""
    low, high = near.amin((0, 1)), near.amax((0, 1))
    margin = 0.5 * (high - low)
    return ((x >= low - margin) & (x <= high + margin)).all(-1)


def _without(cloud: Cloud, bad: Tensor) -> Cloud:
    """Give a cloud whose bad points have density zero and no gradient."""
    base = cloud.base.where(~cloud.base.isnan(), -torch.inf)
    return Cloud(
        cloud.particles,
        base,
        cloud.tilt.where(~bad, -torch.inf),
        cloud.base_grad.where(~bad[..., None], 0.0),
        cloud.tilt_grad.where(~bad[..., None], 0.0),
    )


def _refuse(cloud: Cloud, bad: Tensor, index: int) -> None:
    if bool(bad.any()):
        island, particle = bad.nonzero()[0].tolist()
        value = float((cloud.base + cloud.tilt)[island, particle])
        point = cloud.particles[island, particle]
        raise NonFiniteLogDensityError(index, island, particle, value, point)


def check_ess(cess: Tensor, level: float, new_level: float, least: float) -> None:
    """Refuse a step whose conditional ESS, ``(R,)``, is on average below the least.

    Raises:
        FailedRunError: It is.
    """
    mean = float(cess.mean()) if least > 0 else 1.0
    if mean < least:
        raise FailedRunError(
            f"the step from level {level:.3g} to {new_level:.3g} has a conditional ESS of "
            f"{mean:.2%}: the start is far from the target; give its scale, location or starts"
        )
