r"""Modes by climbing from starts at several scales, and Laplace's Gaussian at each.

Many points climb together by the BFGS method, in the coordinates of the start: with
:math:`H` the inverse of the curvature seen so far, :math:`x' = x + t H\nabla\log\gamma` with
:math:`t` halved twice at a time until the density has risen. A mode is what climbs ended in: the
highest end leads, the ends within one of its own standard deviations join it. Its curvature comes
from differences of gradients, over steps of its own widths.

This costs a few thousand gradients where short chains take a hundred thousand, and tells of every
basin how many starts led to it. It sees peaks, not mass: what is made of it must be judged.

References:
    Nocedal & Wright, Numerical Optimization, 2006, chapter 6.
    Zhang, Carpenter, Gelman & Vehtari, Pathfinder: parallel quasi-Newton variational inference,
    JMLR 2022.
"""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.methods.summits import find_summit
from diffsmc.references.mixture import Mixture
from diffsmc.shell.showing import in_a_line
from diffsmc.targets.target import Target

__all__ = ["Hills", "climb", "find_hills", "follow_up", "scaled_starts"]

SCALES = ((2.0, 0.1), (1.0, 0.45), (0.5, 0.25), (0.2, 0.2))  # of the start, and their shares
RISE = 1e-4  # of the linear prediction, that a step must bring
SMALLEST = 1e-14  # step, in widths of the start
LOST = 0.5  # of the climbs: so many lost ones have met coordinates, and not a ridge
Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


class Hills(NamedTuple):
    """Modes ``(K, D)``, Laplace's factors ``(K, D, D)``, heights ``(K,)``, starts that found each.

    ``lost`` counts the starts that ended on no mode; ``looks`` ``(N, D)`` are points at which the
    density was asked alone.
    """

    modes: Tensor
    factors: Tensor
    heights: Tensor
    found: Tensor
    starts: Tensor
    lost: int
    num_evaluations: int
    looks: Tensor

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples

    def mixture(self) -> Mixture:
        r"""Give Laplace's mixture, masses being :math:`\gamma(m_k)\,|2\pi\Sigma_k|^{1/2}`."""
        volume = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return Mixture((self.heights + volume).softmax(0), self.modes, self.factors)


def scaled_starts(target: Target, num: int, *, generator: torch.Generator) -> Tensor:
    """Draw starting points, ``(num, D)``, from Gaussians of several scales about the start's mean.

    Where the start is too wide its smaller scales see what a narrow mode would hide from, and
    where it is too narrow its larger one.
    """
    mean, factor = target.start_mean, target.start_factor
    shape = (num, target.dim)
    noise = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
    ends = [round(num * total) for total in accumulate(share for _, share in SCALES)]
    scale = torch.ones_like(noise[:, :1])
    begin = 0
    for (size, _), end in zip(SCALES, ends, strict=True):
        scale[begin:end] = size
        begin = end
    order = torch.randperm(num, generator=generator, device=mean.device)
    return mean + (scale * (noise @ factor.mT))[order]


class _Climb(NamedTuple):
    """Points ``(C, D)`` in the start's coordinates, values, gradients and inverse curvatures."""

    z: Tensor
    value: Tensor
    grad: Tensor
    inverse: Tensor
    length: Tensor


def climb(
    target: Target,
    starts: Tensor,
    *,
    num_rounds: int = 80,
    tolerance: float = 1e-3,
    most: float = math.inf,
    widths: Tensor | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Climb from points, ``(C, D)``.

    Arguments:
        target: The target.
        starts: Where climbs begin.
        num_rounds: Most evaluations of one climb.
        tolerance: A climb ends where its predicted gain is below.
        most: Evaluations of all climbs, after which they stop where they are.
        widths: Cholesky factor of the coordinates, ``(D, D)``, instead of the start's.

    Returns:
        Ends ``(C, D)``, which climbs have ended ``(C,)``, and the number of evaluations.

    References:
        Zhang et al. (2022), Pathfinder: parallel quasi-Newton variational inference, JMLR 23,
        arXiv:2108.03782.
    """
    mean = target.start_mean
    factor = target.start_factor if widths is None else widths

    def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = target.log_prob_and_grad(mean + z @ factor.mT)
        bad = ~value.isfinite() | ~grad.isfinite().all(-1)
        return value.masked_fill(bad, -torch.inf), (grad @ factor).masked_fill(bad[:, None], 0.0)

    z = torch.linalg.solve_triangular(factor, (starts - mean).mT, upper=False).mT
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    state = _Climb(z, *evaluate(z), eye.repeat(len(z), 1, 1), torch.zeros_like(z[:, 0]))
    ended = state.value == -torch.inf
    spent, first = len(z), torch.ones_like(ended)
    for _ in range(num_rounds):
        rows = (~ended).nonzero()[:, 0]
        if not len(rows) or spent + len(rows) > most:
            break
        part = _Climb(*(values[rows] for values in state))
        part, done, first_part = _round(part, first[rows], evaluate, tolerance)
        spent += len(rows)
        state = _Climb(
            *(old.index_copy(0, rows, new) for old, new in zip(state, part, strict=True))
        )
        ended, first = ended.index_copy(0, rows, done), first.index_copy(0, rows, first_part)
    ended = ended & state.value.isfinite()
    return mean + state.z @ factor.mT, ended, spent


def _round(
    state: _Climb, first: Tensor, evaluate: Evaluate, tolerance: float
) -> tuple[_Climb, Tensor, Tensor]:
    """Try one step of every climb; tell which have ended, and which never moved."""
    z, value, grad, inverse, length = state
    step = torch.einsum("cde,ce->cd", inverse, grad)
    slope = (step * grad).sum(-1)
    uphill = slope > 0
    step = torch.where(uphill[:, None], step, grad)
    # at first the length of the gradient means nothing: a step of one start's width at most
    size = step.norm(dim=-1).clamp(min=1e-300)
    cap = torch.where(first, (1 / size).clamp(max=1.0), (10 / size).clamp(max=1.0))
    length = torch.where(length > 0, length, cap)
    slope = (step * grad).sum(-1)
    moved = z + length[:, None] * step
    new_value, new_grad = evaluate(moved)
    risen = new_value >= value + RISE * length * slope
    s, y = moved - z, grad - new_grad
    better = _update(inverse, s, y, first & risen)
    done = (0.5 * slope.abs() < tolerance) & ~first | (length * size < SMALLEST)
    keep = risen[:, None]
    new = _Climb(
        torch.where(keep, moved, z),
        torch.where(risen, new_value, value),
        torch.where(keep, new_grad, grad),
        torch.where(keep[..., None], better, inverse),
        torch.where(risen, 0.0, 0.25 * length),
    )
    return new, done, first & ~risen


def _update(inverse: Tensor, s: Tensor, y: Tensor, first: Tensor) -> Tensor:
    """Update inverse curvatures by steps and changes of the gradient, ``(C, D)``."""
    product = (s * y).sum(-1)
    usable = product > 1e-10 * s.norm(dim=-1) * y.norm(dim=-1)
    rho = 1 / torch.where(usable, product, 1.0)
    scale = product / y.square().sum(-1).clamp(min=1e-300)
    base = torch.where((first & usable)[:, None, None], scale[:, None, None] * inverse, inverse)
    hy = torch.einsum("cde,ce->cd", base, y)
    cross = torch.einsum("cd,ce->cde", s, hy)
    factor = (1 + rho * (y * hy).sum(-1)) * rho
    updated = (
        base
        - rho[:, None, None] * (cross + cross.mT)
        + factor[:, None, None] * torch.einsum("cd,ce->cde", s, s)
    )
    return torch.where(usable[:, None, None], updated, inverse)


def find_hills(
    target: Target,
    *,
    generator: torch.Generator,
    num_starts: int = 128,
    most_starts: int = 1024,
    most_modes: int = 64,
    most: float = math.inf,
) -> Hills:
    """Climb from more and more starts until those that found something new are rare.

    Arguments:
        target: The target.
        generator: Source of the starts.
        num_starts: First number of starts, doubled while more than one of 200 was alone in its
            basin.
        most_starts: Most starts.
        most_modes: With more modes than this the search ends.
        most: Most evaluations.

    References:
        Rinnooy Kan & Timmer (1987), Stochastic global optimization methods, Mathematical
        Programming 39.
    """
    hills = _empty(target)
    while True:
        starts = scaled_starts(target, num_starts, generator=generator)
        left = most - hills.num_evaluations
        ends, ended, spent = climb(target, starts, most=0.7 * left)
        hills, lost = _gather(target, hills, starts, ends[ended], most_modes, left - spent)
        hills = hills._replace(num_evaluations=hills.num_evaluations + spent)
        astray = torch.cat([ends[ended][lost], ends[~ended]])
        if len(astray) > LOST * num_starts and len(hills.modes) == 1:
            hills, num_lost = _again(target, hills, astray, most_modes, most)
        else:
            num_lost = len(astray)
        hills = hills._replace(lost=hills.lost + num_lost)
        alone = int((hills.found == 1).sum())
        total = len(hills.starts)
        # one mode is no evidence for one: in many dimensions a second is seen by few starts
        single = len(hills.modes) == 1 and not target.log_concave
        wanted = 0 if target.log_concave else min(most_starts, 512 if single else 128)
        rare = bool((hills.found < 4).any()) and 2 * total <= 512
        few = (
            200 * alone <= total
            and not rare
            and total >= wanted
            and hills.found.sum() >= 0.5 * total
        )
        gone = hills.lost > LOST * total
        # as many starts again take about as much again
        dear = 2 * hills.num_evaluations > most or 2 * total > most_starts
        if gone or bool(few) or dear or len(hills.modes) > most_modes:
            return hills
        num_starts = total


def _again(
    target: Target, hills: Hills, points: Tensor, most_modes: int, most: float
) -> tuple[Hills, int]:
    """Climb from where most climbs lost their way, in the coordinates of the one mode found.

    Coordinates that are strongly correlated, or far from the start's scale, let the curvature
    that a climb has seen stop it on a slope. Several modes among lost climbs are rather places on
    a ridge. Gives the hills, and how many climbs are lost still.
    """
    widths = hills.factors[0]
    left = 0.5 * (most - hills.num_evaluations)
    if left < 2 * len(points):
        return hills, len(points)
    ends, ended, spent = climb(target, points, most=left, widths=widths)
    hills = hills._replace(num_evaluations=hills.num_evaluations + spent)
    left = most - hills.num_evaluations
    more, lost = _gather(target, hills, hills.starts[:0], ends[ended], most_modes, left)
    return more, int(lost.sum()) + int((~ended).sum())


def follow_up(target: Target, hills: Hills, points: Tensor, most: float = math.inf) -> Hills:
    """Climb from points of high density that the hills don't account for.

    Arguments:
        target: The target.
        hills: What was found before.
        points: Where to climb from, ``(C, D)``.
        most: Most evaluations.
    """
    ends, ended, spent = climb(target, points, most=0.7 * most)
    known = len(hills.modes)
    more, _ = _gather(target, hills, points, ends[ended], known + len(points), most - spent)
    # these points were chosen: what they found says nothing of the basins of random starts
    found = torch.cat([hills.found, more.found[known:].clamp(min=2)])
    return more._replace(
        found=found, starts=hills.starts, num_evaluations=more.num_evaluations + spent
    )


def _empty(target: Target) -> Hills:
    mean, factor = target.start_mean, target.start_factor
    none = mean.new_zeros(0)
    return Hills(
        mean.new_zeros(0, target.dim), factor.new_zeros(0, *factor.shape), none, none,
        mean.new_zeros(0, target.dim), 0, 0, mean.new_zeros(0, target.dim),
    )  # fmt: skip


def _gather(
    target: Target, hills: Hills, starts: Tensor, ends: Tensor, most_modes: int, most: float
) -> tuple[Hills, Tensor]:
    """Put ends to the modes that they belong to, the highest first, within some evaluations.

    Also gives which ends, ``(C,)``, belong to none.
    """
    values = target.log_prob(ends) if len(ends) else ends.new_zeros(0)
    modes, factors = list(hills.modes), list(hills.factors)
    heights, found = list(hills.heights), hills.found.tolist()
    spent, lost = len(ends), torch.zeros_like(values, dtype=torch.bool)
    left = torch.ones_like(values, dtype=torch.bool)
    for mode, factor, index in zip(modes, factors, range(len(modes)), strict=True):
        mine = left & _within(ends, mode, factor)
        found[index] += int(mine.sum())
        left = left & ~mine
    while bool(left.any()) and len(modes) <= most_modes:
        top = int(torch.where(left, values, -torch.inf).argmax())
        mode, factor, cost = find_summit(target, ends[top], most - spent)
        spent += cost
        if factor is None:
            left[top], lost[top] = False, True
            continue
        same = [k for k, f in enumerate(factors) if bool(_within(mode[None], modes[k], f))]
        if same:
            # the climb had stopped short of a mode that is known
            found[same[0]] += 1
            left[top] = False
            continue
        mine = left & _within(ends, mode, factor)
        mine[top] = True
        modes.append(mode)
        factors.append(factor)
        heights.append(target.log_prob(mode[None])[0])
        spent += 1
        found.append(float(mine.sum()))
        left = left & ~mine
    like = target.start_mean
    found_hills = Hills(
        torch.stack(modes) if modes else hills.modes,
        torch.stack(factors) if modes else hills.factors,
        torch.stack(heights) if modes else hills.heights,
        torch.tensor(found, dtype=like.dtype, device=like.device),
        torch.cat([hills.starts, starts]),
        hills.lost,
        hills.num_evaluations + spent,
        hills.looks,
    )
    return found_hills, lost | left


def _within(ends: Tensor, mode: Tensor, factor: Tensor) -> Tensor:
    unit = torch.linalg.solve_triangular(factor, (ends - mode).mT, upper=False)
    inside: Tensor = unit.square().sum(-2) < 1
    return inside
