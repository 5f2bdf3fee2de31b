r"""Step predictors: from a state to the next, built by wrapping.

All see states ``(G, B, V)``, node first. A step predictor takes the current state, the one
before (or all that it needs, ``(H, G, B, V)``), the forcing window ``(G, B, F)``, the true state of
the next time, of which only the boundary may be read, and what `prepare` returned.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.derived import Derived
from neural_lam.predictors.heads import HeadModule, IncrementHead
from neural_lam.predictors.stencil import LinearGuess
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "BoundaryForced",
    "Clamped",
    "Correcting",
    "Masked",
    "Residual",
    "Sight",
    "Standardised",
    "StepPredictor",
    "correcting",
    "correction_used",
    "keep_correction",
]


class StepPredictor(nn.Module, ABC):
    """One step of a forecast."""

    __str__ = in_a_line

    @abstractmethod
    def prepare(self) -> Any:
        """What every step of a rollout shares."""

    @abstractmethod
    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """The next state, ``(G, B, V)``."""


class Correcting(StepPredictor):
    """A step predictor that corrects a first guess by a network.

    In evaluation `correction` says how much of the correction counts: nothing where it is zero.
    """

    correction: Tensor


@dataclass(frozen=True)
class Sight:
    """What a network sees beside the state.

    Arguments:
        look_ahead: Whether it sees the boundary of the next time.
        show_change: Whether it sees the last change in its own units instead of the state before,
            from which it would have to find small differences.
    """

    look_ahead: bool = False
    show_change: bool = False


NEITHER = Sight()


class Residual(Correcting):
    r"""Predicts the change, :math:`X_{t+1} = X_t + \sigma_\Delta f(\cdot) + \mu_\Delta`.

    With a first guess :math:`g`, it predicts what that leaves,
    :math:`X_{t+1} = g(X_t, X_{t-1}) + \sigma_g f(\cdot)`, and the network sees the guess. Another
    head than the increment may read the network's output, see `neural_lam.predictors.heads`.

    The network's features are the two states, the forcing, the static fields, at boundary nodes
    the change of the boundary towards the next time, if it may look ahead, and fields derived
    from the states. In evaluation the network's part is left out where `correction` is zero.

    Arguments:
        network: The function :math:`f`.
        static: Static fields, ``(G, S)``.
        interior: 1 where the forecast is made, 0 on the boundary, ``(G,)``.
        difference_mean: Of one-step differences in the state's units, ``(V,)``.
        difference_std: Likewise.
        sight: What the network sees beside the state.
        guess: First guess of the next state.
        head: How the network's output is read; by default as an increment in the units of
            ``difference_std``.
        derived: Fields derived from the states.

    References:
        Lam et al. (2023), GraphCast: learning skillful medium-range global weather forecasting,
        arXiv:2212.12794.
    """

    static: Tensor
    frame: Tensor
    difference_mean: Tensor
    difference_std: Tensor

    def __init__(
        self,
        network: GridNetwork,
        static: Tensor,
        interior: Tensor,
        difference_mean: Tensor,
        difference_std: Tensor,
        *,
        sight: Sight = NEITHER,
        guess: LinearGuess | None = None,
        head: HeadModule | None = None,
        derived: Derived | None = None,
    ) -> None:
        super().__init__()
        self.network, self.sight = network, sight
        self.guess, self.derived = guess, derived
        self.head = IncrementHead(difference_std) if head is None else head
        self.register_buffer("correction", torch.ones_like(difference_std[:1]))
        self.register_buffer("static", static.unsqueeze(1))
        self.register_buffer("frame", 1 - interior[:, None, None])
        self.register_buffer("difference_mean", difference_mean)
        self.register_buffer("difference_std", difference_std)

    def prepare(self) -> Any:
        """The network's embeddings."""
        return self.network.embed()

    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """The next state, ``(G, B, V)``."""
        mean, std = self.difference_mean, self.difference_std
        expected = state + mean if self.guess is None else self.guess(state, previous)
        earlier = (state - previous - mean) / std if self.sight.show_change else previous
        parts = [state, earlier, forcing, self.static.expand(-1, state.shape[1], -1)]
        if self.sight.look_ahead:
            parts.append(self.frame * (boundary - state) / std)
        if self.guess is not None:
            parts.append((expected - state) / std)
        if self.derived is not None:
            parts.append(self.derived(state, previous))
        output = self.network(torch.cat(parts, dim=-1), prepared)
        following: Tensor = self.head(output, expected, boundary)
        if self.training:
            return following
        # where, not a product: a network that isn't used may say anything.
        return torch.where(self.correction > 0, following, expected)


def keep_correction(predictor: nn.Module, used: float) -> None:
    """Ship the network's corrections (1), or the first guess alone (0)."""
    for module in predictor.modules():
        if isinstance(module, Correcting):
            module.correction.fill_(used)


def correction_used(model: nn.Module) -> bool:
    """Whether a network's corrections are used, and not the first guess alone."""
    found = [module for module in model.modules() if isinstance(module, Correcting)]
    return all(bool((module.correction > 0).any()) for module in found)


@contextmanager
def correcting(predictor: nn.Module, used: float) -> Iterator[None]:
    """Use the network's corrections (1) or the first guess alone (0) within."""
    found = [module for module in predictor.modules() if isinstance(module, Correcting)]
    before = [module.correction.clone() for module in found]
    for module in found:
        module.correction.fill_(used)
    try:
        yield
    finally:
        for module, value in zip(found, before, strict=True):
            module.correction.copy_(value)


class BoundaryForced(StepPredictor):
    """Replaces the boundary of every predicted state by the given one.

    Arguments:
        predictor: What predicts.
        interior: 1 where the forecast is made, 0 on the boundary, ``(G,)``.
    """

    interior: Tensor

    def __init__(self, predictor: StepPredictor, interior: Tensor) -> None:
        super().__init__()
        self.predictor = predictor
        self.register_buffer("interior", interior[:, None, None] > 0)

    def prepare(self) -> Any:
        """What the wrapped predictor prepares."""
        return self.predictor.prepare()

    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """The next state, ``(G, B, V)``."""
        # where, not a product with the mask: the future interior may hold anything.
        return torch.where(
            self.interior, self.predictor(state, previous, forcing, boundary, prepared), boundary
        )


class Masked(StepPredictor):
    """Fills features where they don't exist, before a step and after it.

    Arguments:
        predictor: What predicts.
        mask: Where each feature exists, ``(G, V)``.
        fill: What stands elsewhere, ``(V,)``.
    """

    mask: Tensor
    fill: Tensor

    def __init__(self, predictor: StepPredictor, mask: Tensor, fill: Tensor) -> None:
        super().__init__()
        self.predictor = predictor
        self.register_buffer("mask", mask.unsqueeze(1))
        self.register_buffer("fill", fill)

    def prepare(self) -> Any:
        """What the wrapped predictor prepares."""
        return self.predictor.prepare()

    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """The next state, ``(G, B, V)``."""
        # where, not a product with the mask: what doesn't exist is NaN.
        state, previous, boundary = (
            torch.where(self.mask, field, self.fill) for field in (state, previous, boundary)
        )
        following = self.predictor(state, previous, forcing, boundary, prepared)
        return torch.where(self.mask, following, self.fill)


class Standardised(StepPredictor):
    r"""Works on :math:`(x - \mu) / \sigma` within, on physical units without.

    Arguments:
        predictor: What predicts standardised states.
        state_mean: ``(V,)``.
        state_std: ``(V,)``.
        forcing_mean: ``(F,)``.
        forcing_std: ``(F,)``.
    """

    state_mean: Tensor
    state_std: Tensor
    forcing_mean: Tensor
    forcing_std: Tensor

    def __init__(
        self,
        predictor: StepPredictor,
        state_mean: Tensor,
        state_std: Tensor,
        forcing_mean: Tensor,
        forcing_std: Tensor,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.register_buffer("state_mean", state_mean)
        self.register_buffer("state_std", state_std)
        self.register_buffer("forcing_mean", forcing_mean)
        self.register_buffer("forcing_std", forcing_std)

    def prepare(self) -> Any:
        """What the wrapped predictor prepares."""
        return self.predictor.prepare()

    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """The next state in physical units, ``(G, B, V)``."""
        mean, std = self.state_mean, self.state_std
        following = self.predictor(
            (state - mean) / std,
            (previous - mean) / std,
            (forcing - self.forcing_mean) / self.forcing_std,
            (boundary - mean) / std,
            prepared,
        )
        scaled: Tensor = following * std + mean
        return scaled


class Clamped(StepPredictor):
    r"""Keeps variables within bounds, smoothly.

    The predicted change :math:`\delta` is added where a variable's bounded range has been
    mapped to the whole line, :math:`x \leftarrow g(g^{-1}(x) + \delta)`, with a logistic
    function between two bounds and a softplus from one:

    .. math:: g(u) = a + (b - a)/(1 + e^{-u}), \quad g(u) = a + \ln(1 + e^u), \quad
        g(u) = b - \ln(1 + e^{-u}).

    A state nearer to a bound than ``margin``, of the range between two bounds, counts as that
    far inside, where the inverse is finite.

    Arguments:
        predictor: What predicts, in the units of the bounds.
        lower: ``(V,)``, ``-inf`` where a variable has none.
        upper: ``(V,)``, ``inf`` where a variable has none.
        margin: Least distance from a bound.

    Raises:
        ValueError: A lower bound isn't below the upper one.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self, predictor: StepPredictor, lower: Tensor, upper: Tensor, *, margin: float = 1e-6
    ) -> None:
        super().__init__()
        if not bool((lower < upper).all()):
            raise InputError("lower bounds must be below the upper ones")
        self.predictor, self.margin = predictor, margin
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)

    def prepare(self) -> Any:
        """What the wrapped predictor prepares."""
        return self.predictor.prepare()

    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """The next state, ``(G, B, V)``."""
        following: Tensor = self.predictor(state, previous, forcing, boundary, prepared)
        change = following - state
        low, high = self.lower.isfinite(), self.upper.isfinite()
        bounded = (low & high, low & ~high, ~low & high)
        for which, inverse, forward in zip(bounded, _TO_LINE, _TO_RANGE, strict=True):
            a, b = self.lower[which], self.upper[which]
            on_line = inverse(state[..., which], a, b, self.margin)
            moved = forward(on_line + change[..., which], a, b)
            following = following.index_copy(-1, which.nonzero()[:, 0], moved)
        return following


def _inverse_softplus(x: Tensor, margin: float) -> Tensor:
    # log(exp(x) - 1), which for large x is x itself.
    x = x.clamp(min=margin)
    return x + torch.log(-torch.expm1(-x))


_TO_LINE: tuple[Callable[..., Tensor], ...] = (
    lambda x, a, b, margin: torch.logit((x - a) / (b - a), eps=margin),
    lambda x, a, b, margin: _inverse_softplus(x - a, margin),
    lambda x, a, b, margin: -_inverse_softplus(b - x, margin),
)
_TO_RANGE: tuple[Callable[..., Tensor], ...] = (
    lambda u, a, b: a + (b - a) * torch.sigmoid(u),
    lambda u, a, b: a + nn.functional.softplus(u),
    lambda u, a, b: b - nn.functional.softplus(-u),
)
