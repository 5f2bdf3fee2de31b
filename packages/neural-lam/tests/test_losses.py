import pytest
import torch

from neural_lam.predictors.losses import (
    Crps,
    LeadWeighted,
    Likelihood,
    WeightedAbsolute,
    WeightedSquare,
    change_spread,
    gaussian_crps_error,
    gaussian_likelihood_error,
    interior_mean,
    scaled_square_error,
    weighted_absolute_error,
    weighted_square_error,
)


def test_the_mean_leaves_the_boundary_out():
    field = torch.tensor([[9.0], [1.0], [3.0], [9.0]]).double()
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0]).double()
    torch.testing.assert_close(interior_mean(field, weights), torch.tensor([2.5]).double())


def test_errors_of_one_change_count_one_in_every_variable():
    truth = torch.zeros(2, 3, 4, 2).double()
    scale = torch.tensor([10.0, 0.1]).double()
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0]).double()
    loss = scaled_square_error(truth + scale, truth, weights, scale)
    torch.testing.assert_close(loss, torch.tensor(1.0).double())


@pytest.fixture
def fields():
    generator = torch.Generator().manual_seed(0)
    forecast, truth = torch.randn(2, 3, 4, 7, 2, generator=generator, dtype=torch.float64)
    spread = torch.rand(2, generator=generator, dtype=torch.float64) + 0.3
    nodes = torch.tensor([0, 1, 1, 0, 1, 1, 1], dtype=torch.float64)
    return forecast, truth, spread, nodes


def test_losses_are_means_over_the_interior_and_sums_over_variables(fields):
    forecast, truth, spread, nodes = fields
    inside = nodes > 0
    a, b = forecast[..., inside, :], truth[..., inside, :]
    normal = torch.distributions.Normal(a, spread)
    expected = {
        weighted_square_error: ((a - b) / spread) ** 2,
        weighted_absolute_error: ((a - b) / spread).abs(),
        gaussian_likelihood_error: -normal.log_prob(b),
    }
    for loss, entries in expected.items():
        torch.testing.assert_close(loss(*fields), entries.mean(-2).sum(-1))


def test_the_crps_is_the_integral_it_stands_for():
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    below = torch.distributions.Normal(0.7, 1.3).cdf(x)
    integral = torch.trapezoid((below - (x >= -0.4).double()).square(), x)
    one = torch.ones(1, dtype=torch.float64)
    found = gaussian_crps_error(*(v * one[:, None] for v in (0.7, -0.4, 1.3)), one)
    torch.testing.assert_close(found, integral, atol=2e-4, rtol=0)


def test_a_weight_counts_as_often_as_it_says(fields):
    forecast, truth, spread, nodes = fields
    plain = [
        weighted_square_error(forecast[..., [v]], truth[..., [v]], spread[[v]], nodes)
        for v in range(2)
    ]
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    found = weighted_square_error(forecast, truth, change_spread(spread, weights), nodes)
    torch.testing.assert_close(found, 3 * plain[0] + 0.5 * plain[1])


def test_lead_times_count_by_a_power_and_on_average_once(fields):
    forecast, truth, spread, nodes = fields
    plain = weighted_square_error(forecast, truth, spread, nodes)
    loss = LeadWeighted(WeightedSquare(), exponent=2.0)
    found = loss(forecast, truth, spread, nodes)
    powers = torch.tensor([1, 1 / 4, 1 / 9, 1 / 16], dtype=torch.float64)
    torch.testing.assert_close(found, plain * powers / powers.mean())
    same = torch.ones(2, 3, 5, 2, dtype=torch.float64)
    every = LeadWeighted(WeightedSquare())(same, 0 * same, spread, torch.ones(5).double())
    torch.testing.assert_close(every.mean(), (1 / spread**2).sum())


def test_errors_that_grow_with_the_lead_time_count_alike():
    grown = torch.arange(1, 9, dtype=torch.float64)[None, :, None, None].expand(1, 8, 4, 1)
    one = torch.ones(1, dtype=torch.float64)
    loss = LeadWeighted(WeightedSquare(), exponent=2.0)(
        grown, 0 * grown, one, torch.ones(4).double()
    )
    torch.testing.assert_close(loss, loss[..., :1].expand_as(loss))


def test_every_loss_trains(fields):
    forecast, truth, spread, nodes = fields
    for loss in (
        WeightedSquare(),
        WeightedAbsolute(),
        Likelihood(),
        Crps(),
        LeadWeighted(WeightedSquare()),
    ):
        given = forecast.clone().requires_grad_()
        loss(given, truth, spread, nodes).sum().backward()
        assert given.grad is not None
        assert (given.grad[..., nodes == 0, :] == 0).all()
        assert (given.grad[..., nodes > 0, :] != 0).all()
