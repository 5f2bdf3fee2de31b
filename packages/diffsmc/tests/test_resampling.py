import pytest
import torch

from diffsmc.smc import resampling

SCHEMES = [
    resampling.multinomial,
    resampling.stratified,
    resampling.systematic,
    resampling.residual,
    resampling.ssp,
]
FEW = [resampling.systematic, resampling.ssp]


def offspring(ancestors):
    num = ancestors.shape[-1]
    return torch.zeros(*ancestors.shape[:-1], num).scatter_add_(
        -1, ancestors, torch.ones_like(ancestors, dtype=torch.float32)
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_offspring_have_the_weights_as_means(scheme, generator):
    log_weights = torch.randn(12, generator=generator, dtype=torch.float64)
    runs = 20_000
    counts = offspring(scheme(log_weights.expand(runs, 12), generator=generator)).double()
    expected = 12 * log_weights.softmax(-1)
    error = counts.std(0) / runs**0.5 + 1e-12
    assert ((counts.mean(0) - expected) / error).abs().max() < 4.5


@pytest.mark.parametrize("scheme", FEW)
def test_offspring_are_the_rounded_weights(scheme, generator):
    log_weights = torch.randn(200, 30, generator=generator, dtype=torch.float64)
    counts = offspring(scheme(log_weights, generator=generator)).double()
    assert ((counts - 30 * log_weights.softmax(-1)).abs() < 1).all()


def test_residual_keeps_the_integer_parts(generator):
    log_weights = torch.randn(200, 30, generator=generator, dtype=torch.float64)
    counts = offspring(resampling.residual(log_weights, generator=generator)).double()
    assert (counts >= (30 * log_weights.softmax(-1)).floor()).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ancestors_are_sorted_and_impossible_ones_left_out(scheme, generator):
    log_weights = torch.randn(50, 9, generator=generator, dtype=torch.float64)
    log_weights[:, ::3] = -torch.inf
    ancestors = scheme(log_weights, generator=generator)
    assert (ancestors.diff(dim=-1) >= 0).all()
    assert (ancestors % 3 != 0).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_sure_particle_takes_all(scheme, generator):
    log_weights = torch.full((4, 7), -torch.inf, dtype=torch.float64)
    log_weights[:, 5] = -1000.0
    assert (scheme(log_weights, generator=generator) == 5).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_island_without_weight_is_treated_as_equal(scheme, generator):
    log_weights = torch.full((300, 8), -torch.inf, dtype=torch.float64)
    ancestors = scheme(log_weights, generator=generator)
    assert set(ancestors.unique().tolist()) == set(range(8))


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_equal_weights_keep_every_particle(scheme, generator):
    ancestors = scheme(torch.zeros(3, 8, dtype=torch.float64), generator=generator)
    assert torch.equal(ancestors, torch.arange(8).expand(3, 8))


def test_ssp_varies_less_than_multinomial(generator):
    log_weights = torch.randn(20, generator=generator, dtype=torch.float64)
    values = torch.randn(20, generator=generator, dtype=torch.float64)
    spread = {
        scheme: values[scheme(log_weights.expand(5000, 20), generator=generator)].mean(-1).var()
        for scheme in (resampling.ssp, resampling.multinomial)
    }
    assert spread[resampling.ssp] < 0.5 * spread[resampling.multinomial]
