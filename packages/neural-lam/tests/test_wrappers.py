import math

import numpy as np
import pytest
import torch

from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.heads import IncrementHead
from neural_lam.predictors.rollout import rollout
from neural_lam.predictors.stencil import LinearGuess, fit_stencil, roll_stencil
from neural_lam.predictors.step import (
    BoundaryForced,
    Clamped,
    Masked,
    Residual,
    Sight,
    Standardised,
    StepPredictor,
    correcting,
    correction_used,
    keep_correction,
)

G, B, V, F = 6, 2, 3, 4
INTERIOR = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)


class Constant(GridNetwork):
    """Gives what it was made with, and keeps what it saw."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def embed(self):
        return "embedded"

    def forward(self, features, embedded):
        assert embedded == "embedded"
        self.seen = features
        return torch.full((*features.shape[:2], V), self.value, dtype=features.dtype)


class Linear(StepPredictor):
    """2 state - previous + first forcing."""

    def prepare(self):
        return None

    def forward(self, state, previous, forcing, boundary, prepared):
        return 2 * state - previous + forcing[..., :1]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def arguments():
    return draw(G, B, V), draw(G, B, V, seed=1), draw(G, B, F, seed=2), draw(G, B, V, seed=3)


def test_a_residual_adds_the_scaled_change(arguments):
    mean, std = draw(V, seed=4), draw(V, seed=5).abs()
    predictor = Residual(Constant(0.5), draw(G, 2), INTERIOR, mean, std)
    found = predictor(*arguments, predictor.prepare())
    torch.testing.assert_close(found, arguments[0] + 0.5 * std + mean)
    assert predictor.network.seen.shape[-1] == 2 * V + F + 2


def test_looking_ahead_shows_the_boundary_alone(arguments):
    std = draw(V, seed=5).abs()
    predictor = Residual(
        Constant(0.5), draw(G, 2), INTERIOR, draw(V), std, sight=Sight(look_ahead=True)
    )
    predictor(*arguments, predictor.prepare())
    ahead = predictor.network.seen[..., -V:]
    torch.testing.assert_close(ahead[0], (arguments[3][0] - arguments[0][0]) / std)
    assert torch.equal(ahead[1:-1], torch.zeros(G - 2, B, V, dtype=torch.float64))


def test_the_boundary_is_given_and_the_interior_is_not(arguments):
    state, previous, forcing, boundary = arguments
    boundary[1:-1] = torch.nan
    found = BoundaryForced(Linear(), INTERIOR)(state, previous, forcing, boundary, None)
    assert torch.equal(found[0], boundary[0])
    torch.testing.assert_close(found[1:-1], Linear()(*arguments, None)[1:-1])


def test_standardising_keeps_physical_units_outside(arguments):
    mean, std = 100 * draw(V, seed=6), draw(V, seed=7).abs() + 0.5
    predictor = Standardised(Linear(), mean, std, torch.zeros(F).double(), torch.ones(F).double())
    state, previous, forcing, boundary = arguments
    found = predictor(state * std + mean, previous * std + mean, forcing, boundary, None)
    torch.testing.assert_close(found, Linear()(*arguments, None) * std + mean)


def test_a_rollout_feeds_its_own_states_back():
    initial, forcing, boundary = (
        draw(B, 2, G, V),
        draw(B, 5, G, F, seed=1),
        draw(B, 5, G, V, seed=2),
    )
    found = rollout(BoundaryForced(Linear(), INTERIOR), initial, forcing, boundary)
    previous, state = initial[:, 0], initial[:, 1]
    for step in range(5):
        following = 2 * state - previous + forcing[:, step, :, :1]
        following = torch.where(INTERIOR[:, None] > 0, following, boundary[:, step])
        torch.testing.assert_close(found[:, step], following)
        previous, state = state, following


def test_a_shorter_rollout_is_the_beginning_of_a_longer():
    initial, forcing, boundary = (
        draw(B, 2, G, V),
        draw(B, 5, G, F, seed=1),
        draw(B, 5, G, V, seed=2),
    )
    predictor = BoundaryForced(Linear(), INTERIOR)
    long, short = (rollout(predictor, initial, forcing[:, :n], boundary[:, :n]) for n in (5, 2))
    assert torch.equal(long[:, :2], short)


def test_a_linear_guess_is_the_stencil_of_the_baselines():
    rng = np.random.default_rng(0)
    anomalies = rng.standard_normal((60, V, 12, 15))
    stencil = fit_stencil(anomalies, 3, 2, num_steps=3)
    kernel = torch.from_numpy(stencil.weights[: V * 25].T.copy()).unflatten(1, (V, 5, 5))
    previous = torch.from_numpy(stencil.weights[V * 25 :].T.copy())
    mean = draw(180, V)
    guess = LinearGuess(kernel, previous, mean, (12, 15))
    before, now = (
        torch.from_numpy(anomalies[t]).reshape(V, 180).T.unsqueeze(1) + mean.unsqueeze(1)
        for t in (20, 21)
    )
    found = (guess(now, before) - mean.unsqueeze(1))[:, 0].T.reshape(V, 12, 15)
    expected = roll_stencil(stencil, anomalies[20:22], anomalies[22:23])[0]
    torch.testing.assert_close(found[:, 3:-3, 3:-3], torch.from_numpy(expected)[:, 3:-3, 3:-3])


def test_a_network_corrects_the_first_guess(arguments):
    guess = LinearGuess(
        torch.eye(V, dtype=torch.float64)[:, :, None, None] * 2,
        -torch.eye(V, dtype=torch.float64),
        draw(G, V, seed=8),
        (2, 3),
    )
    std = draw(V, seed=5).abs()
    predictor = Residual(
        Constant(0.5), draw(G, 2), INTERIOR, draw(V), draw(V), guess=guess, head=IncrementHead(std)
    )
    found = predictor(*arguments, predictor.prepare())
    guessed = 2 * arguments[0] - arguments[1]
    torch.testing.assert_close(found, guessed + 0.5 * std)
    keep_correction(predictor, 0)
    torch.testing.assert_close(
        predictor.train()(*arguments, predictor.prepare()), guessed + 0.5 * std
    )
    torch.testing.assert_close(predictor.eval()(*arguments, predictor.prepare()), guessed)
    with correcting(predictor, 1):
        assert correction_used(predictor)
        found = predictor(*arguments, predictor.prepare())
        torch.testing.assert_close(found, guessed + 0.5 * std)
    assert not correction_used(predictor)


class Shift(StepPredictor):
    """The state and a given change."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def prepare(self):
        return None

    def forward(self, state, previous, forcing, boundary, prepared):
        return state + self.change


INFINITE = float("inf")


def test_bounded_variables_move_on_the_mapped_line():
    lower = torch.tensor([-1.0, 0.5, -INFINITE, -INFINITE], dtype=torch.float64)
    upper = torch.tensor([2.0, INFINITE, 3.0, INFINITE], dtype=torch.float64)
    state = torch.tensor([[[0.3, 0.9, 2.2, 7.0]]], dtype=torch.float64)
    change = torch.tensor([0.7, -0.4, 1.1, -2.0], dtype=torch.float64)
    found = Clamped(Shift(change), lower, upper)(state, *[state] * 3, None)[0, 0].tolist()
    logit = math.log((0.3 + 1) / 3 / (1 - (0.3 + 1) / 3))
    assert found[0] == pytest.approx(-1 + 3 / (1 + math.exp(-logit - 0.7)), rel=1e-12)
    above = math.log(math.exp(0.9 - 0.5) - 1)
    assert found[1] == pytest.approx(0.5 + math.log(1 + math.exp(above - 0.4)), rel=1e-12)
    below = -math.log(math.exp(3 - 2.2) - 1)
    assert found[2] == pytest.approx(3 - math.log(1 + math.exp(-below - 1.1)), rel=1e-12)
    assert found[3] == 5.0


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_no_change_leaves_the_bounds_or_is_infinite(size):
    lower = torch.tensor([0.0, 0.0, -INFINITE], dtype=torch.float64)
    upper = torch.tensor([1.0, INFINITE, 1.0], dtype=torch.float64)
    state = torch.rand(G, B, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state[0], state[1] = 0.0, 1.0
    change = (size * draw(G, B, 3)).requires_grad_()
    found = Clamped(Shift(change), lower, upper)(state, *[state] * 3, None)
    assert bool(((found >= lower) & (found <= upper)).all())
    found.sum().backward()
    assert bool(change.grad.isfinite().all())
    kept = Clamped(Shift(0.0), lower, upper)(state, *[state] * 3, None)
    torch.testing.assert_close(kept, state, rtol=0, atol=2e-6)


def test_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="lower bounds must be below the upper ones"):
        Clamped(Shift(0.0), torch.tensor([1.0]), torch.tensor([1.0]))


def test_what_does_not_exist_is_filled_before_a_step_and_after_it(arguments):
    mask, fill = draw(G, V, seed=6) > 0, draw(V, seed=7)
    predictor = Masked(Linear(), mask, fill)
    state, previous, forcing, boundary = arguments
    where = mask.unsqueeze(1)
    expected = torch.where(where, 2 * state - previous + forcing[..., :1], fill)
    # What doesn't exist is NaN in the data.
    hidden = [torch.where(where, field, torch.nan) for field in (state, previous, boundary)]
    found = predictor(hidden[0], hidden[1], forcing, hidden[2], None)
    torch.testing.assert_close(found, expected)
    assert not mask.all()
    seen = []
    predictor.predictor.register_forward_pre_hook(lambda _, given: seen.extend(given[:4]))
    # Many earlier states at once have the same mask.
    history = torch.stack((hidden[1], hidden[1]))
    predictor(hidden[0], history, forcing, hidden[2], None)
    assert all(torch.isfinite(field).all() for field in seen)
