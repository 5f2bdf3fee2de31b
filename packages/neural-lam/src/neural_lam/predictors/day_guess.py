r"""A linear guess of every lead time within a day, from the same hour of the day before.

In `neural_lam.predictors.direct` a network corrects it.

The guess :math:`g_l` of the change since yesterday, :math:`D_s = X_s - X_{s-P}` with :math:`P`
states a day, has two stages, both ridge regressions of each lead time. The first
maps principal components of :math:`D` in the interior and on the boundary to those of the
interior. The second is a stencil, the same everywhere: it weighs the first stage's field,
:math:`D_t, D_{t-1}` in squares of 3 x 3 points and, where that helps left-out times, the state's
own last change and yesterday's changes. Over the training period the guess is
cross-fitted: each block of times gets weights that were fitted without it, so that what the
network :math:`f` learns to correct there has the size it has on unseen data.

References:
    Hoerl & Kennard (1970), Ridge regression, doi.org/10.1080/00401706.1970.10488634; Stone (1974),
    Cross-validatory choice and assessment of statistical predictions,
    doi.org/10.1111/j.2517-6161.1974.tb00994.x.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.shell.errors import InputError

__all__ = [
    "DayGuess",
    "Predictors",
    "apply_guess",
    "fit_day_guess",
    "guess_features",
]

_SIDE = 3


class DayGuess(NamedTuple):
    r"""The linear guess of :math:`D_{t+l}`, in units of the spread of :math:`D`.

    Arguments:
        scale: Standard deviation of ``D`` in the interior, ``(V,)``.
        interior_basis: Principal components of the interior, ``(G V, K)``, zero on the boundary.
        boundary_basis: Those of the boundary, ``(G V, K)``, zero in the interior.
        target_basis: Components that the first stage forecasts, ``(G V, K')``.
        maps: First stage, ``(blocks + 1, P, features, K')``; the last is fitted on all.
        stencils: Second stage, ``(blocks + 1, P, 22 V, V)``.
        blocks: First analysis time of each block, and one past the last's, ``(blocks + 1,)``.
        residual: Root mean square of what the guess leaves, ``(P, V)``.
        shape: Rows and columns of the grid.
        sees_boundary: Whether the future boundary is given.
    """

    scale: Tensor
    interior_basis: Tensor
    boundary_basis: Tensor
    target_basis: Tensor
    maps: Tensor
    stencils: Tensor
    blocks: Tensor
    residual: Tensor
    shape: tuple[int, int]
    sees_boundary: bool

    @property
    def period(self) -> int:
        """States a day."""
        return self.maps.shape[1]


class Predictors(NamedTuple):
    """What a guess sees of one lead time, in units of the spread of ``D``: ``(N, G, V)`` each.

    Arguments:
        now: ``D`` at the analysis time.
        before: One step before.
        future: At the lead time, read on the boundary alone.
        earlier: One step before the lead time, read on the boundary alone.
        cycle: Yesterday's change over the same hours.
        step: The last change of the state.
        following: Yesterday's change over the step after the lead time.
    """

    now: Tensor
    before: Tensor
    future: Tensor
    earlier: Tensor
    cycle: Tensor
    step: Tensor
    following: Tensor


def _basis(changes: Tensor, mask: Tensor, size: int) -> Tensor:
    """Leading principal components of masked fields ``(N, G, V)``, ``(G V, size)``."""
    rows = (changes * mask[:, None]).flatten(1)
    basis: Tensor = torch.linalg.svd(rows, full_matrices=False)[2][:size].T.contiguous()
    return basis


def guess_features(seen: Predictors, guess: DayGuess) -> Tensor:
    """Components that the first stage maps, ``(N, features)``."""
    parts = [field.flatten(1) @ guess.interior_basis for field in (seen.now, seen.before)]
    if guess.sees_boundary:
        fields = (seen.now, seen.future, seen.earlier)
        parts += [field.flatten(1) @ guess.boundary_basis for field in fields]
    return torch.cat(parts, dim=1)


def _squares(field: Tensor, shape: tuple[int, int]) -> Tensor:
    """Values in the square around each node, ``(N, G, V)`` to ``(N, G, 9 V)``."""
    grid = field.transpose(1, 2).reshape(len(field), -1, *shape)
    return F.unfold(grid, _SIDE, padding=_SIDE // 2).transpose(1, 2)


def _local(field: Tensor, seen: Predictors, shape: tuple[int, int]) -> Tensor:
    """What the second stage weighs at each node, ``(N, G, 22 V)``; the last three are optional."""
    around = (_squares(seen.now, shape), _squares(seen.before, shape))
    return torch.cat((field, *around, seen.cycle, seen.step, seen.following), dim=-1)


def apply_guess(seen: Predictors, guess: DayGuess, block: Tensor, lead: Tensor) -> Tensor:
    """The guess of ``D`` at the lead times in units of its spread, ``(N, G, V)``.

    Arguments:
        seen: What it is made from.
        guess: Weights.
        block: Which weights, ``(N,)``.
        lead: Lead time in steps minus one, ``(N,)``.
    """
    features = guess_features(seen, guess)
    components = torch.einsum("nf,nfk->nk", features, guess.maps[block, lead])
    field = (components @ guess.target_basis.T).reshape(seen.now.shape)
    local = _local(field, seen, guess.shape)
    return torch.einsum("ngf,nfv->ngv", local, guess.stencils[block, lead])


def _ridge(gram: Tensor, moment: Tensor, strength: float) -> Tensor:
    """Solves a ridge regression whose strength is relative to each feature's own power.

    References:
        Hoerl & Kennard (1970), Ridge regression, doi.org/10.1080/00401706.1970.10488634.
    """
    power = gram.diagonal()
    damped = gram + torch.diag(strength * power + 1e-9 * power.max())
    weights: Tensor = torch.linalg.solve(damped, moment)
    return weights


class _Blocks(NamedTuple):
    """Parts of the training times, and the times that are far enough from each."""

    parts: list[slice]
    without: list[Tensor]


def _blocks(count: int, num_blocks: int, gap: int) -> _Blocks:
    edges = [count * block // num_blocks for block in range(num_blocks + 1)]
    position = torch.arange(count)
    parts = [slice(*pair) for pair in pairwise(edges)]
    without = [
        position[(position < part.start - gap) | (position >= part.stop + gap)] for part in parts
    ]
    return _Blocks(parts, without)


def _first_stage(
    features: Tensor, target: Tensor, blocks: _Blocks, strengths: Sequence[float]
) -> tuple[list[Tensor], Tensor]:
    """Maps by block and on all times; what the left-out times are given, ``(N, K')``.

    References:
        Stone (1974), Cross-validatory choice and assessment of statistical predictions,
        doi.org/10.1111/j.2517-6161.1974.tb00994.x.
    """

    def fit(kept: Tensor, strength: float) -> Tensor:
        x, y = features[kept], target[kept]
        return _ridge(x.T @ x, x.T @ y, strength)

    tried = {s: [fit(kept, s) for kept in blocks.without] for s in strengths}
    crossed = {
        s: torch.cat([features[part] @ m for part, m in zip(blocks.parts, maps, strict=True)])
        for s, maps in tried.items()
    }
    # The basis is orthonormal: an error in components is the error of the field.
    best = min(crossed, key=lambda s: float((crossed[s] - target).square().sum()))
    return [*tried[best], fit(torch.arange(len(target)), best)], crossed[best]


class _Normal(NamedTuple):
    """Normal equations of each time: ``(N, F, F)``, ``(N, F, V)`` and ``(N, V)``."""

    gram: Tensor
    moment: Tensor
    power: Tensor

    def solve(self, kept: Tensor, strength: float) -> Tensor:
        """Weights fitted on some times, ``(F, V)``."""
        return _ridge(self.gram[kept].sum(0), self.moment[kept].sum(0), strength)

    def error(self, part: slice, weights: Tensor) -> Tensor:
        """Sum of squared errors of weights over a part of the times, ``(V,)``."""
        gram, moment = self.gram[part].sum(0), self.moment[part].sum(0)
        explained = (weights * (2 * moment - gram @ weights)).sum(0)
        return self.power[part].sum(0) - explained


def _normal_equations(
    fields: Tensor, seen: Predictors, inside: Tensor, shape: tuple[int, int]
) -> _Normal:
    parts = []
    # In pieces, since the features are 22 times the fields.
    for rows in torch.split(torch.arange(len(fields)), 64):
        piece = Predictors(*(part[rows] for part in seen))
        x = _local(fields[rows], piece, shape)[:, inside]
        y = piece.future[:, inside]
        parts.append((x.mT @ x, x.mT @ y, y.square().sum(1)))
    return _Normal(*(torch.cat(part) for part in zip(*parts, strict=True)))


class _Stencils(NamedTuple):
    """Second stage: weights by block and on all times, and its squared error, ``(V,)`` each."""

    weights: list[Tensor]
    left_out: Tensor
    later: Tensor


def _second_stage(
    normal: _Normal, later: _Normal, blocks: _Blocks, used: int, strength: float = 1e-3
) -> _Stencils:
    """Stencils of the first ``used`` features; the other weights are zero."""
    size = normal.moment.shape[1]
    cut = _Normal(normal.gram[:, :used, :used], normal.moment[:, :used], normal.power)
    weights = [cut.solve(kept, strength) for kept in blocks.without]
    weights.append(cut.solve(torch.arange(len(normal.gram)), strength))
    weights = [F.pad(w, (0, 0, 0, size - used)) for w in weights]
    errors = [normal.error(part, w) for part, w in zip(blocks.parts, weights, strict=False)]
    return _Stencils(weights, torch.stack(errors).sum(0), later.error(slice(None), weights[-1]))


def _choose(normal: _Normal, later: _Normal, blocks: _Blocks) -> _Stencils:
    """With or without the state's own changes (cycle, step, following).

    They help at short lead times and may mislead at long ones, where the cycle grows with the
    season: what comes after the fitted times decides, if anything does.
    """
    size, num_variables = normal.moment.shape[1:]
    candidates = [
        _second_stage(normal, later, blocks, used) for used in (size, size - 3 * num_variables)
    ]
    if len(later.gram):
        return min(candidates, key=lambda found: float(found.later.sum()))
    return min(candidates, key=lambda found: float(found.left_out.sum()))


def _seen(states: Tensor, changes: Tensor, lead: int, now: Tensor, period: int) -> Predictors:
    """Predictors of analysis times ``now``; the future isn't masked."""
    yesterday = now + lead - period
    after = yesterday if lead < period else now - period
    # Changes begin a day after the states.
    return Predictors(
        changes[now - period],
        changes[now - period - 1],
        changes[yesterday],
        changes[yesterday - 1],
        states[yesterday] - states[now - period],
        states[now] - states[now - 1],
        states[after + 1] - states[after],
    )


def _in_units_of_change(
    states: Tensor, inside: Tensor, period: int, num_fitted: int
) -> tuple[Tensor, Tensor]:
    """States less their mean, in units of the usual change in a day, ``(V,)``, and that."""
    differences = states[period:num_fitted] - states[: num_fitted - period]
    scale = differences[:, inside].square().mean((0, 1)).sqrt()
    # Only differences are read: the mean just costs digits.
    return (states - states[:num_fitted].mean(0)) / scale, scale


def _first_fields(seen: Predictors, guess: DayGuess, weights: Tensor) -> Tensor:
    """What the first stage makes of what is seen, as fields."""
    fields = guess_features(seen, guess) @ weights @ guess.target_basis.T
    return fields.reshape(seen.now.shape)


def fit_day_guess(
    states: Tensor,
    interior: Tensor,
    shape: tuple[int, int],
    *,
    period: int,
    num_components: int = 5,
    num_blocks: int = 4,
    future: FutureBoundary = FutureBoundary.GIVEN,
    num_fitted: int | None = None,
    strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0),
) -> DayGuess:
    """Fit the guess of every lead time up to a day.

    The strength of the first stage's ridge is the one that forecasts left-out blocks best. The
    features of the second stage are chosen likewise, or on the states after the fitted ones.

    Arguments:
        states: Of the training period, and maybe of what follows, ``(T, G, V)``.
        interior: 1 where forecasts are made, ``(G,)``.
        shape: Rows and columns of the grid.
        period: States a day.
        num_components: Principal components that the first stage sees.
        num_blocks: Parts of the period for cross-fitting.
        future: Whether the future boundary is given.
        num_fitted: States that are fitted; by default all.
        strengths: Ridges to choose from, relative to the power of each feature.

    Raises:
        InputError: The period is too short.

    References:
        Wolpert (1992), Stacked generalization, doi.org/10.1016/S0893-6080(05)80023-1.
    """
    num_fitted = len(states) if num_fitted is None else num_fitted
    least = 3 * period + num_blocks * (period + 2)
    if num_fitted < least:
        raise InputError(f"a guess from the day before needs {least} states, got {num_fitted}")
    inside = interior > 0
    states, scale = _in_units_of_change(states.double(), inside, period, num_fitted)
    changes = states[period:] - states[:-period]
    # The same analysis times for every lead time: blocks then mean the same.
    times = torch.arange(period + 1, num_fitted - period)
    after = torch.arange(num_fitted, max(num_fitted, len(states) - period))
    count, known = len(times), changes[: num_fitted - period]
    blocks = _blocks(count, num_blocks, period)
    nothing = torch.zeros(num_blocks + 1, period, 1, 1)
    guess = DayGuess(
        scale,
        _basis(known, interior.double(), num_components),
        _basis(known, 1 - interior.double(), num_components),
        _basis(known, interior.double(), 8 * num_components),
        nothing,
        nothing,
        torch.tensor([*(part.start for part in blocks.parts), count]) + period + 1,
        torch.zeros(period, 1),
        shape,
        future is FutureBoundary.GIVEN,
    )
    data = _Times(inside, states, changes, times, after)
    leads = [_fit_lead(data, guess, blocks, lead, strengths) for lead in range(1, period + 1)]
    maps, stencils, left_out = zip(*leads, strict=True)
    return _single(
        guess._replace(
            maps=torch.stack(maps, 1),
            stencils=torch.stack(stencils, 1),
            residual=(torch.stack(left_out) / (count * inside.sum())).sqrt(),
        )
    )


class _Times(NamedTuple):
    """States, their changes within a day, and the analysis times that are fitted or choose."""

    inside: Tensor
    states: Tensor
    changes: Tensor
    fitted: Tensor
    after: Tensor


def _fit_lead(
    data: _Times, guess: DayGuess, blocks: _Blocks, lead: int, strengths: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """First and second stage of a lead time, and the squared error of left-out times, ``(V,)``."""
    seen = _seen(data.states, data.changes, lead, data.fitted, guess.period)
    features, target = guess_features(seen, guess), seen.future.flatten(1) @ guess.target_basis
    first, crossed = _first_stage(features, target, blocks, strengths)
    # The second stage weighs first-stage fields of unseen times, here and in forecasts.
    fields = (crossed @ guess.target_basis.T).reshape(seen.now.shape)
    normal = _normal_equations(fields, seen, data.inside, guess.shape)
    later = _Normal(*(part[:0] for part in normal))
    if len(data.after):
        then = _seen(data.states, data.changes, lead, data.after, guess.period)
        shown = _first_fields(then, guess, first[-1])
        later = _normal_equations(shown, then, data.inside, guess.shape)
    weights, left_out, _ = _choose(normal, later, blocks)
    return torch.stack(first), torch.stack(weights), left_out


def _single(guess: DayGuess) -> DayGuess:
    """The guess in single precision."""
    tensors = {n: value for n, value in guess._asdict().items() if isinstance(value, Tensor)}
    parts: dict[str, Any] = {n: t.float() for n, t in tensors.items() if t.is_floating_point()}
    return guess._replace(**parts)
