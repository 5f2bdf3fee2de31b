r"""Direct forecasts of every lead time within a day, against the same hour of the day before.

With :math:`P` states a day, :math:`D_s = X_s - X_{s-P}` is what changed since yesterday. A
forecast of the lead time :math:`l \le P` from the analysis at :math:`t` starts from the state
at :math:`t + l - P`, which is known, and has to find :math:`D_{t+l}`:

.. math::
    \hat X_{t+l} = X_{t+l-P} + g_l(D_t, D_{t-1}, D^{\partial}_{t+l}) + \sigma_l f(\cdot, l),

where :math:`D^{\partial}` is given on the boundary alone, if at all. The diurnal cycle, its
growth through spring and the contrast of land and sea are in :math:`X_{t+l-P}` already, so
that few parameters are left to fit: that matters where the data are weeks long.

The linear guess :math:`g_l` has two stages, both ridge regressions of each lead time. The first
maps principal components of :math:`D` in the interior and on the boundary to those of the
interior. The second is a stencil, the same everywhere: it weighs the first stage's field and
:math:`D_t, D_{t-1}` in squares of 3 x 3 points. Over the training period the guess is
cross-fitted: each block of times gets weights that were fitted without it, so that what the
network :math:`f` learns to correct there has the size it has on unseen data.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neural_lam.configuration import InputError
from neural_lam.predictors import GridNetwork

__all__ = ["DayGuess", "DirectPredictor", "apply_guess", "fit_day_guess", "guess_features"]

_SIDE = 3


class DayGuess(NamedTuple):
    r"""The linear guess of :math:`D_{t+l}`, in units of the spread of :math:`D`.

    Arguments:
        scale: Standard deviation of ``D`` in the interior, ``(V,)``.
        interior_basis: Principal components of the interior, ``(G V, K)``, zero on the boundary.
        boundary_basis: Those of the boundary, ``(G V, K)``, zero in the interior.
        target_basis: Components that the first stage forecasts, ``(G V, K')``.
        maps: First stage, ``(blocks + 1, P, features, K')``; the last is fitted on all.
        stencils: Second stage, ``(blocks + 1, P, (1 + 18) V, V)``.
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


def _basis(changes: Tensor, mask: Tensor, size: int) -> Tensor:
    """Leading principal components of masked fields ``(N, G, V)``, ``(G V, size)``."""
    rows = (changes * mask[:, None]).flatten(1)
    return torch.linalg.svd(rows, full_matrices=False)[2][:size].T.contiguous()


def guess_features(
    now: Tensor, before: Tensor, future: Tensor, earlier: Tensor, guess: DayGuess
) -> Tensor:
    """Components that the first stage maps, ``(N, features)``.

    Arguments:
        now: ``D`` at the analysis time in units of its spread, ``(N, G, V)``.
        before: One step before.
        future: At the lead time, read on the boundary alone.
        earlier: One step before the lead time, read on the boundary alone.
        guess: Which components.
    """
    parts = [now.flatten(1) @ guess.interior_basis, before.flatten(1) @ guess.interior_basis]
    if guess.sees_boundary:
        parts += [field.flatten(1) @ guess.boundary_basis for field in (now, future, earlier)]
    return torch.cat(parts, dim=1)


def _squares(field: Tensor, shape: tuple[int, int]) -> Tensor:
    """Values in the square around each node, ``(N, G, V)`` to ``(N, G, 9 V)``."""
    grid = field.transpose(1, 2).reshape(len(field), -1, *shape)
    return F.unfold(grid, _SIDE, padding=_SIDE // 2).transpose(1, 2)


def apply_guess(
    features: Tensor, now: Tensor, before: Tensor, guess: DayGuess, block: Tensor, lead: Tensor
) -> Tensor:
    """The guess of ``D`` at the lead times in units of its spread, ``(N, G, V)``.

    Arguments:
        features: From `guess_features`.
        now: ``D`` at the analysis time, ``(N, G, V)``.
        before: One step before.
        guess: Weights.
        block: Which weights, ``(N,)``.
        lead: Lead time in steps minus one, ``(N,)``.
    """
    components = torch.einsum("nf,nfk->nk", features, guess.maps[block, lead])
    field = (components @ guess.target_basis.T).reshape(now.shape)
    local = torch.cat((field, _squares(now, guess.shape), _squares(before, guess.shape)), dim=-1)
    return torch.einsum("ngf,nfv->ngv", local, guess.stencils[block, lead])


def _ridge(gram: Tensor, moment: Tensor, strength: float) -> Tensor:
    """Solves a ridge regression whose strength is relative to each feature's own power."""
    power = gram.diagonal()
    return torch.linalg.solve(gram + torch.diag(strength * power + 1e-12 * power.max()), moment)


def _kept(count: int, first: int, last: int, gap: int) -> Tensor:
    """Of ``count`` times, those at least ``gap`` away from ``first`` to ``last``."""
    position = torch.arange(count)
    return position[(position < first - gap) | (position >= last + gap)]


class _Samples(NamedTuple):
    """All training samples of one lead time, as the two stages see them."""

    features: Tensor
    now: Tensor
    before: Tensor
    target: Tensor


def _samples(changes: Tensor, start: int, lead: int, guess: DayGuess) -> _Samples:
    """Samples with analysis times from ``start``; ``changes`` is ``(T, G, V)``."""
    stop = len(changes) - lead
    now, before = changes[start:stop], changes[start - 1 : stop - 1]
    future, earlier = changes[start + lead :], changes[start + lead - 1 : stop + lead - 1]
    return _Samples(guess_features(now, before, future, earlier, guess), now, before, future)


def _first_stage(samples: _Samples, kept: Tensor, basis: Tensor, strength: float) -> Tensor:
    x, y = samples.features[kept], samples.target[kept].flatten(1) @ basis
    return _ridge(x.T @ x, x.T @ y, strength)


def _second_stage(
    samples: _Samples, fields: Tensor, kept: Tensor, inside: Tensor, guess: DayGuess
) -> Tensor:
    squares = [_squares(part[kept], guess.shape) for part in (samples.now, samples.before)]
    x = torch.cat((fields[kept], *squares), dim=-1)[:, inside].flatten(0, 1)
    y = samples.target[kept][:, inside].flatten(0, 1)
    return _ridge(x.T @ x, x.T @ y, 1e-3)


def _fit_lead(
    samples: _Samples, blocks: list[tuple[int, int]], inside: Tensor, gap: int, guess: DayGuess,
    strengths: Sequence[float],
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Weights of both stages by block, those fitted on all samples last."""
    count, basis = len(samples.now), guess.target_basis
    without = [_kept(count, first, last, gap) for first, last in blocks]
    truth = samples.target.flatten(1)

    def crossed(strength: float) -> tuple[list[Tensor], Tensor]:
        maps = [_first_stage(samples, kept, basis, strength) for kept in without]
        parts = [
            samples.features[first:last] @ weights @ basis.T
            for (first, last), weights in zip(blocks, maps, strict=True)
        ]
        return maps, torch.cat(parts)

    inner = inside[:, None].expand(samples.now.shape[1:]).flatten()
    tried = {s: crossed(s) for s in strengths}
    best = min(tried, key=lambda s: float((tried[s][1] - truth)[:, inner].square().mean()))
    maps, fields = tried[best]
    fields = fields.reshape(samples.now.shape)
    every = torch.arange(count)
    # The second stage weighs first-stage fields of unseen times, here and in forecasts.
    stencils = [_second_stage(samples, fields, kept, inside, guess) for kept in (*without, every)]
    return [*maps, _first_stage(samples, every, basis, best)], stencils


def fit_day_guess(
    states: Tensor,
    interior: Tensor,
    shape: tuple[int, int],
    *,
    period: int,
    num_components: int = 5,
    num_blocks: int = 4,
    sees_boundary: bool = True,
    strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0),
) -> DayGuess:
    """Fit the guess of every lead time up to a day.

    The strength of the first stage's ridge is the one that forecasts left-out blocks best.

    Arguments:
        states: Of the training period, ``(T, G, V)``.
        interior: 1 where forecasts are made, ``(G,)``.
        shape: Rows and columns of the grid.
        period: States a day.
        num_components: Principal components that the first stage sees.
        num_blocks: Parts of the period for cross-fitting.
        sees_boundary: Whether the future boundary is given.
        strengths: Ridges to choose from, relative to the power of each feature.

    Raises:
        InputError: The period is too short.
    """
    if len(states) < 3 * period + num_blocks * (period + 2):
        raise InputError(
            f"a guess from the day before needs {3 * period + num_blocks * (period + 2)} states"
            f" to fit, got {len(states)}"
        )
    changes = states[period:].double() - states[:-period].double()
    inside = interior > 0
    scale = changes[:, inside].square().mean((0, 1)).sqrt()
    changes = changes / scale
    count = len(changes) - period - 1
    edges = [count * block // num_blocks for block in range(num_blocks + 1)]
    guess = DayGuess(
        scale,
        _basis(changes, interior.double(), num_components),
        _basis(changes, 1 - interior.double(), num_components),
        _basis(changes, interior.double(), 8 * num_components),
        torch.zeros(num_blocks + 1, period, 1, 1),
        torch.zeros(num_blocks + 1, period, 1, 1),
        torch.tensor(edges) + period + 1,
        torch.zeros(period, 1),
        shape,
        sees_boundary,
    )
    blocks = [(edges[b], edges[b + 1]) for b in range(num_blocks)]
    maps, stencils, residual = [], [], []
    for lead in range(1, period + 1):
        # The same analysis times for every lead time: blocks then mean the same.
        samples = _Samples(*(part[:count] for part in _samples(changes, 1, lead, guess)))
        first, second = _fit_lead(samples, blocks, inside, period, guess, strengths)
        maps.append(torch.stack(first))
        stencils.append(torch.stack(second))
        fitted = guess._replace(maps=maps[-1][:, None], stencils=stencils[-1][:, None])
        block = torch.searchsorted(torch.tensor(edges[1:]), torch.arange(count), right=True)
        found = apply_guess(
            samples.features, samples.now, samples.before, fitted, block, torch.zeros_like(block)
        )
        residual.append((found - samples.target)[:, inside].square().mean((0, 1)).sqrt())
    return _single(
        guess._replace(
            maps=torch.stack(maps, 1), stencils=torch.stack(stencils, 1),
            residual=torch.stack(residual),
        )
    )  # fmt: skip


def _single(guess: DayGuess) -> DayGuess:
    """The guess with floating-point tensors in single precision."""
    parts = {
        name: value.float()
        for name, value in guess._asdict().items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    return guess._replace(**parts)


class DirectPredictor(nn.Module):
    r"""Forecasts of chosen lead times by a linear guess and a network's correction.

    The network sees, in units of the spread of :math:`D`: the guess, :math:`D_t`,
    :math:`D_{t-1}`, the last change :math:`X_t - X_{t-1}`, yesterday's change over the same
    hours, the forcing around the lead time, the static fields, and the lead time.

    Arguments:
        network: The function :math:`f`, with `num_inputs` features.
        guess: The linear guess.
        static: Static fields, ``(G, S)``.
        interior: 1 where the forecast is made, ``(G,)``.
        forcing_mean: ``(F,)``.
        forcing_std: ``(F,)``.
    """

    static: Tensor
    interior: Tensor
    forcing_mean: Tensor
    forcing_std: Tensor

    def __init__(
        self,
        network: GridNetwork,
        guess: DayGuess,
        static: Tensor,
        interior: Tensor,
        forcing_mean: Tensor,
        forcing_std: Tensor,
    ) -> None:
        super().__init__()
        self.network = network
        for name, value in guess._asdict().items():
            if isinstance(value, Tensor):
                self.register_buffer(f"guess_{name}", value, persistent=False)
        self.shape, self.sees_boundary = guess.shape, guess.sees_boundary
        self.register_buffer("static", static)
        self.register_buffer("interior", interior[:, None] > 0)
        self.register_buffer("forcing_mean", forcing_mean)
        self.register_buffer("forcing_std", forcing_std)

    @staticmethod
    def num_inputs(num_states: int, num_forcings: int, num_static: int) -> int:
        """Features of a grid node that the network sees."""
        return 5 * num_states + num_forcings + num_static + 3

    @property
    def guess(self) -> DayGuess:
        """The guess, on the module's device."""
        tensors = {name: getattr(self, f"guess_{name}") for name in DayGuess._fields[:8]}
        return DayGuess(**tensors, shape=self.shape, sees_boundary=self.sees_boundary)

    def forward(
        self, history: Tensor, forcing: Tensor, boundary: Tensor, sample: Tensor, leads: Tensor
    ) -> Tensor:
        """States at the lead times, ``(B, len(leads), G, V)``.

        Arguments:
            history: The states up to the analysis time, ``(B, P + 2, G, V)``.
            forcing: Window around each lead time, ``(B, T, G, F)``.
            boundary: States at the lead times, read on the boundary alone and only if the
                guess sees it, ``(B, T, G, V)``.
            sample: Analysis times, which say what blocks of the training they lie in, ``(B,)``.
            leads: Lead times minus one, in steps.
        """
        guess, batch = self.guess, len(history)
        period = guess.period
        if history.shape[1] != period + 2 or int(leads.max()) >= period:
            raise InputError(
                f"a direct forecast needs {period + 2} states before it and at most {period}"
                f" lead times, got {history.shape[1]} and {int(leads.max()) + 1}"
            )
        lead = leads.repeat(batch)
        block = self._block(sample).repeat_interleave(len(leads))
        past = history.repeat_interleave(len(leads), dim=0)
        rows = torch.arange(len(past), device=past.device)
        now, before = past[:, -1] - past[:, 1], past[:, -2] - past[:, 0]
        yesterday, earlier = past[rows, lead + 2], past[rows, lead + 1]
        future = self._frame(boundary[:, leads].flatten(0, 1), yesterday)
        last = torch.cat((history[:, -1:], boundary), dim=1)[:, leads].flatten(0, 1)
        now, before, future = now / guess.scale, before / guess.scale, future / guess.scale
        features = guess_features(
            now, before, future, self._frame(last, earlier) / guess.scale, guess
        )
        linear = apply_guess(features, now, before, guess, block, lead)
        linear = torch.where(self.interior, linear, future)
        step = (past[:, -1] - past[:, -2]) / guess.scale
        cycle = (yesterday - past[:, 1]) / guess.scale
        inputs = self._inputs((linear, now, before, step, cycle), forcing, leads, lead)
        correction = self._network(inputs) * guess.residual[lead][:, None]
        found = yesterday + (linear + correction) * guess.scale
        edge = boundary[:, leads].flatten(0, 1) if self.sees_boundary else past[:, -1]
        return torch.where(self.interior, found, edge).unflatten(0, (batch, len(leads)))

    def _block(self, sample: Tensor) -> Tensor:
        """The block of each analysis time; beyond the training, the weights fitted on all."""
        edges = self.guess_blocks
        assert isinstance(edges, Tensor)
        block = torch.searchsorted(edges[1:].contiguous(), sample.contiguous(), right=True)
        return torch.where(sample >= edges[0], block, len(edges) - 1)

    def _frame(self, state: Tensor, yesterday: Tensor) -> Tensor:
        """Change since yesterday on the boundary, zero in the interior or where unknown."""
        if not self.sees_boundary:
            return torch.zeros_like(yesterday)
        # where, not a product with the mask: the future interior may hold anything.
        return torch.where(self.interior, 0.0, state - yesterday)

    def _inputs(
        self, fields: Sequence[Tensor], forcing: Tensor, leads: Tensor, lead: Tensor
    ) -> Tensor:
        size = len(lead)
        window = ((forcing[:, leads] - self.forcing_mean) / self.forcing_std).flatten(0, 1)
        fraction = (lead + 1)[:, None, None] / self.guess.period
        angle = torch.pi * fraction
        clock = torch.cat((fraction, angle.sin(), (lead[:, None, None] == 0).float()), dim=-1)
        nodes = window.shape[1]
        return torch.cat(
            (*fields, window, self.static.expand(size, -1, -1), clock.expand(-1, nodes, -1)), dim=-1
        )

    def _network(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.network(inputs.transpose(0, 1), self.network.embed())
        return output.transpose(0, 1)
