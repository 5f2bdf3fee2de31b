"""Predictors in physical units, built for a domain."""

from collections.abc import Callable

from torch import Tensor

from neural_lam.data.domain import Domain
from neural_lam.graphs.graph import Graph
from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.direct import DirectPredictor
from neural_lam.predictors.step import (
    BoundaryForced,
    Clamped,
    LinearGuess,
    Residual,
    Standardised,
    StepPredictor,
)
from neural_lam.shell.errors import InputError

__all__ = ["build_direct_predictor", "build_predictor"]


def build_predictor(
    domain: Domain,
    network: Callable[[Graph, int, int], GridNetwork],
    *,
    look_ahead: bool = False,
    show_change: bool = False,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> StepPredictor:
    """A step predictor in physical units on a domain.

    Arguments:
        domain: Graph, static fields and statistics.
        network: Makes the network from the graph and the numbers of inputs and outputs.
        look_ahead: Whether the network sees the boundary of the next time.
        show_change: Whether it sees the last change instead of the state before.
        bounds: Least and largest value of each variable, infinite where there is none, which the
            forecast keeps smoothly, see `neural_lam.predictors.step.Clamped`.
    """
    mean, std, difference_mean, difference_std = domain.statistics
    num_states = len(mean)
    guess = domain.guess
    num_inputs = (
        (2 + look_ahead + (guess is not None)) * num_states
        + len(domain.forcing_mean)
        + domain.static.shape[1]
    )
    residual = Residual(
        network(domain.graph, num_inputs, num_states),
        domain.static,
        domain.interior,
        difference_mean / std,
        difference_std / std,
        look_ahead=look_ahead,
        show_change=show_change,
        guess=None if guess is None else LinearGuess(*guess[:3], guess.shape),
        guess_std=None if guess is None else guess.std,
    )
    inner: StepPredictor = residual
    if bounds is not None:
        # As published, the soft edge is as wide as the standardised variable's unit.
        inner = Clamped(residual, *((bound - mean) / std for bound in bounds))
    physical = Standardised(inner, mean, std, domain.forcing_mean, domain.forcing_std)
    return BoundaryForced(physical, domain.interior)


def build_direct_predictor(
    domain: Domain,
    network: Callable[[Graph, int, int], GridNetwork],
    *,
    held_boundary: bool = False,
) -> DirectPredictor:
    """A predictor of every lead time within a day, in physical units, on a domain.

    Raises:
        InputError: The domain has no guess from the day before, or one of another boundary.
    """
    guess = domain.day_guess
    if guess is None:
        raise InputError("a direct forecaster needs data with day_components of at least 1")
    if guess.sees_boundary == held_boundary:
        raise InputError("model and data must agree on held_boundary")
    num_states = len(domain.statistics.mean)
    num_inputs = DirectPredictor.num_inputs(
        num_states, len(domain.forcing_mean), domain.static.shape[1]
    )
    return DirectPredictor(
        network(domain.graph, num_inputs, num_states),
        guess,
        domain.static,
        domain.interior,
        domain.forcing_mean,
        domain.forcing_std,
    )
