import pytest
import torch

from ardm_guidance.guidance.resampling import (
    effective_sample_size,
    killing,
    multinomial,
    residual,
    stratified,
    systematic,
)

SCHEMES = [multinomial, stratified, systematic, residual, killing]
LOG_WEIGHTS = torch.tensor([0.3, -torch.inf, 2.0, -1.0, 0.3, -4.0, 0.9], dtype=torch.float64)


@pytest.fixture(params=SCHEMES, ids=lambda scheme: scheme.__name__)
def scheme(request):
    return request.param


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def offspring(ancestors, n):
    return torch.nn.functional.one_hot(ancestors, n).sum(-2).double()


def test_offspring_are_unbiased(scheme):
    runs, n = 40_000, len(LOG_WEIGHTS)
    counts = offspring(scheme(LOG_WEIGHTS.expand(runs, n), generator=generator()), n)
    expected = n * LOG_WEIGHTS.softmax(-1)
    error = counts.std(0) / runs**0.5 + 1e-12
    assert ((counts.mean(0) - expected).abs() <= 4.5 * error).all()


def test_particles_without_weight_have_no_offspring(scheme):
    log_weights = torch.full((500, 6), -torch.inf)
    log_weights[:, 2] = -700.0
    assert (scheme(log_weights, generator=generator()) == 2).all()


def test_groups_without_any_weight_still_get_ancestors(scheme):
    ancestors = scheme(torch.full((50, 4), -torch.inf), generator=generator())
    assert ((ancestors >= 0) & (ancestors < 4)).all()


def test_one_particle_is_its_own_ancestor(scheme):
    assert torch.equal(scheme(torch.randn(9, 1), generator=generator()), torch.zeros(9, 1).long())


def test_equal_weights_keep_everyone():
    for scheme in (stratified, systematic, residual, killing):
        ancestors = scheme(torch.zeros(20, 8), generator=generator())
        assert torch.equal(ancestors.sort(-1).values, torch.arange(8).expand(20, 8))


def test_rows_do_not_matter_to_the_scale_of_weights(scheme):
    log_weights = torch.randn(30, 10, generator=generator(1), dtype=torch.float64)
    first = scheme(log_weights, generator=generator())
    assert torch.equal(first, scheme(log_weights + 800, generator=generator()))


def test_systematic_offspring_are_rounded_expectations():
    log_weights = torch.randn(5000, 9, generator=generator(1), dtype=torch.float64)
    counts = offspring(systematic(log_weights, generator=generator()), 9)
    expected = 9 * log_weights.softmax(-1)
    assert ((counts - expected).abs() < 1 + 1e-9).all()


def test_residual_gives_at_least_the_whole_part():
    log_weights = torch.randn(5000, 9, generator=generator(1), dtype=torch.float64)
    counts = offspring(residual(log_weights, generator=generator()), 9)
    assert (counts >= (9 * log_weights.softmax(-1)).floor()).all()


def test_effective_sample_size_has_its_closed_forms():
    rows = torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, -torch.inf, -torch.inf, -torch.inf]])
    assert effective_sample_size(rows).tolist() == [4.0, 1.0]
    assert effective_sample_size(torch.full((1, 3), -torch.inf)).tolist() == [0.0]
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(effective_sample_size(weights.log()).item(), 36 / 14)
