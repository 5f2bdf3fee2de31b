import math

import torch

from diffsmc.smc.estimators import (
    conditional_ess,
    effective_sample_size,
    evidence,
    lee_whiteley_variance,
    log_mean_exp,
    weighted_moments,
)


def test_ess_of_equal_and_of_degenerate_weights():
    equal = torch.full((3, 10), -700.0, dtype=torch.float64)
    torch.testing.assert_close(effective_sample_size(equal), torch.full((3,), 10.0).double())
    one = torch.tensor([[0.0, -torch.inf, -torch.inf]], dtype=torch.float64)
    assert effective_sample_size(one).item() == 1
    assert effective_sample_size(torch.full((1, 4), -torch.inf)).item() == 0


def test_conditional_ess_equals_ess_for_equal_weights(generator):
    increments = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    expected = effective_sample_size(increments) / 40
    torch.testing.assert_close(conditional_ess(torch.zeros_like(increments), increments), expected)


def test_conditional_ess_is_one_for_a_constant_increment(generator):
    weights = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    full = torch.full_like(weights, 3.0)
    torch.testing.assert_close(conditional_ess(weights, full), torch.ones(5).double())


def test_log_mean_exp_survives_zero_mass():
    values = torch.tensor([[-torch.inf, -torch.inf], [-torch.inf, 0.0]], dtype=torch.float64)
    assert log_mean_exp(values).tolist() == [-math.inf, -math.log(2)]


def test_evidence_intervals_cover(generator):
    # log-normal islands of mean one, as an SMC estimate nearly is
    spread = 0.3
    noise = torch.randn(2000, 8, generator=generator, dtype=torch.float64)
    intervals = [evidence(row) for row in spread * noise - spread**2 / 2]
    covered = sum(one.lower <= 0 <= one.upper for one in intervals) / 2000
    assert 0.93 < covered < 0.97


def test_one_island_has_no_interval():
    one = evidence(torch.tensor([2.0]))
    assert one.log_normalizer == 2
    assert math.isnan(one.standard_error)


def test_lee_whiteley_is_the_sample_variance_without_resampling(generator):
    # With n = 0 and each particle its own ancestor, V is the unbiased variance of a mean.
    log_weights = torch.randn(1, 50, generator=generator, dtype=torch.float64)
    eves = torch.arange(50).expand(1, 50)
    weights = log_weights.exp()
    expected = weights.var() / 50 / weights.mean() ** 2
    got = lee_whiteley_variance(log_weights, eves, torch.zeros(1))
    torch.testing.assert_close(got, expected[None])


def test_lee_whiteley_says_one_when_a_single_family_is_left():
    eves = torch.zeros(1, 20, dtype=torch.int64)
    variance = lee_whiteley_variance(torch.zeros(1, 20).double(), eves, torch.ones(1).double())
    torch.testing.assert_close(variance, torch.ones(1).double())


def test_weighted_moments_match_repeated_points(generator):
    points = torch.randn(1, 3, 2, generator=generator, dtype=torch.float64)
    counts = torch.tensor([1, 2, 3])
    repeated = points[0].repeat_interleave(counts, 0)
    mean, covariance = weighted_moments(points, counts.double().log()[None])
    torch.testing.assert_close(mean[0], repeated.mean(0))
    torch.testing.assert_close(covariance[0], torch.cov(repeated.T, correction=0))
