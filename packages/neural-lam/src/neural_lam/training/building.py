"""Predictors in physical units, built for a domain."""

from collections.abc import Callable

from torch import Tensor

from neural_lam.data.domain import Domain, Guess
from neural_lam.fields.areas import frame_width
from neural_lam.graphs.graph import Graph
from neural_lam.graphs.sides import Sides
from neural_lam.networks.grid_network import GridNetwork, start_at_zero
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.derived import Derived, DerivedScales
from neural_lam.predictors.direct import DirectPredictor, DirectResidual
from neural_lam.predictors.heads import Head, HeadParts, Increment
from neural_lam.predictors.stencil import LinearGuess
from neural_lam.predictors.step import (
    NEITHER,
    BoundaryForced,
    Clamped,
    Masked,
    Residual,
    Sight,
    Standardised,
    StepPredictor,
)
from neural_lam.shell.errors import InputError

__all__ = ["build_direct_predictor", "build_predictor"]


def build_predictor(
    domain: Domain,
    network: Callable[[Graph, int, int], GridNetwork],
    *,
    sight: Sight = NEITHER,
    head: Head | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> StepPredictor:
    """A step predictor in physical units on a domain.

    Arguments:
        domain: Graph, static fields and statistics.
        network: Makes the network from the graph and the numbers of inputs and outputs.
        sight: What the network sees beside the state.
        head: How the network's output is read; by default as an increment.
        bounds: Least and largest value of each variable, infinite where there is none, which the
            forecast keeps smoothly, see `neural_lam.predictors.step.Clamped`.
    """
    mean, std, difference_mean, difference_std = domain.statistics
    num_states = len(mean)
    guess, derived = domain.guess, _derived(domain)
    num_inputs = (
        (2 + sight.look_ahead + (guess is not None)) * num_states
        + len(domain.forcing_mean)
        + domain.static.shape[1]
        + (0 if derived is None else derived.num_features)
    )
    made = network(domain.graph, num_inputs, num_states)
    if guess is not None:
        start_at_zero(made)
    residual = Residual(
        made,
        domain.static,
        domain.interior,
        difference_mean / std,
        difference_std / std,
        sight=sight,
        guess=None if guess is None else _linear_guess(guess, domain.graph),
        head=(Increment() if head is None else head).build(_head_parts(domain)),
        derived=derived,
    )
    return _wrapped(residual, domain, bounds)


def _wrapped(
    inner: StepPredictor, domain: Domain, bounds: tuple[Tensor, Tensor] | None
) -> StepPredictor:
    """A predictor of standardised states in physical units, with boundary, bounds and masks."""
    mean, std = domain.statistics[:2]
    if bounds is not None:
        # As published, the soft edge is as wide as the standardised variable's unit.
        inner = Clamped(inner, *((bound - mean) / std for bound in bounds))
    physical = Standardised(inner, mean, std, domain.forcing_mean, domain.forcing_std)
    predictor: StepPredictor = BoundaryForced(physical, domain.interior)
    return predictor if domain.mask is None else Masked(predictor, domain.mask, mean)


def _linear_guess(guess: Guess, graph: Graph) -> LinearGuess:
    parts = guess.kernel, guess.previous, guess.mean
    return LinearGuess(*parts, guess.shape, Sides(graph.wraps))


def _derived(domain: Domain) -> Derived | None:
    """What is derived from standardised states, if anything."""
    if not domain.derived:
        return None
    shape, std = domain.graph.shape, domain.statistics.std
    assert shape is not None
    scales = {
        name: DerivedScales(found.std / std, found.change_std / std)
        for name, found in domain.derived.items()
    }
    return Derived(scales, shape, Sides(domain.graph.wraps))


def _head_parts(domain: Domain) -> HeadParts:
    _, std, _, difference_std = domain.statistics
    return HeadParts(
        domain.graph.shape,
        frame_width(domain.interior, domain.graph.shape),
        std,
        difference_std / std if domain.guess is None else domain.guess.std,
        None if domain.laplacian_std is None else domain.laplacian_std / std,
    )


def build_direct_predictor(
    domain: Domain,
    network: Callable[[Graph, int, int], GridNetwork],
    future: FutureBoundary = FutureBoundary.GIVEN,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> DirectPredictor:
    """A predictor of every lead time within a day, in physical units, on a domain.

    Raises:
        InputError: The domain has no guess from the day before, or one of another boundary.
    """
    guess = domain.day_guess
    if guess is None:
        raise InputError("a direct forecaster needs data with day_components of at least 1")
    if guess.sees_boundary != (future is FutureBoundary.GIVEN):
        raise InputError("model and data must agree on held_boundary")
    num_inputs = DirectResidual.num_inputs(
        len(domain.statistics.mean), len(domain.forcing_mean), domain.static.shape[1]
    )
    residual = DirectResidual(
        network(domain.graph, num_inputs, len(domain.statistics.mean)),
        guess._replace(scale=guess.scale / domain.statistics.std),
        domain.static,
        domain.interior,
    )
    return DirectPredictor(_wrapped(residual, domain, bounds))
