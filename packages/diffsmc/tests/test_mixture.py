import math

import pytest
import torch

from diffsmc.bridge import StratifiedPath, join_strata
from diffsmc.estimators import evidence
from diffsmc.kernels import HMC, Mass
from diffsmc.methods import ReferenceMixture
from diffsmc.mixture import (
    Mixture,
    adapt_weights,
    cluster_chains,
    expectation_maximization,
    fit_mixture,
    log_joint,
    log_prob_and_grad,
    run_pilot,
    sample_component,
)
from diffsmc.smc import FixedSchedule, Settings, freeze, smc, total_log_normalizer
from diffsmc.targets import GaussianMixture, ManyWell, differentiate, two_modes


@pytest.fixture
def mixture():
    means = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    factors = torch.tensor(
        [[[1.0, 0.0], [0.5, 0.7]], [[0.5, 0.0], [0.0, 0.5]], [[0.8, 0.0], [-0.3, 1.0]]],
        dtype=torch.float64,
    )
    return Mixture(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), means, factors)


def test_the_mixture_is_the_sum_of_gaussians(mixture, generator):
    x = torch.randn(4, 5, 2, generator=generator, dtype=torch.float64)
    parts = [
        w.log() + torch.distributions.MultivariateNormal(m, scale_tril=f).log_prob(x)
        for w, m, f in zip(*mixture, strict=True)
    ]
    torch.testing.assert_close(log_joint(mixture, x), torch.stack(parts, -1))
    value, grad = log_prob_and_grad(mixture, x)
    expected = differentiate(lambda y: log_joint(mixture, y).logsumexp(-1), x)
    torch.testing.assert_close((value, grad), expected)


def test_components_are_sampled_with_their_moments(mixture, generator):
    labels = torch.arange(3)[:, None].expand(3, 40_000)
    x = sample_component(mixture, labels, generator=generator)
    torch.testing.assert_close(x.mean(1), mixture.means, rtol=0, atol=0.03)
    for k in range(3):
        covariance = mixture.factors[k] @ mixture.factors[k].T
        torch.testing.assert_close(torch.cov(x[k].T), covariance, rtol=0, atol=0.04)


def test_chains_are_clustered_by_place_and_width(generator):
    noise = torch.randn(30, 60, 2, generator=generator, dtype=torch.float64)
    # wide at 0, narrow at 0 (a different mode), narrow at 6
    centre = torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64).repeat(20)[:, None]
    width = torch.tensor([2.0, 0.1, 0.1], dtype=torch.float64).repeat(20)[:, None]
    labels = cluster_chains(centre + width * noise)
    for k in range(3):
        assert len(labels[k::3].unique()) == 1
    assert len(labels.unique()) == 3


def test_em_recovers_a_mixture(mixture, generator):
    labels = torch.multinomial(mixture.weights, 20_000, True, generator=generator)
    points = sample_component(mixture, labels, generator=generator)
    start = mixture._replace(means=mixture.means + 0.5, weights=torch.full((3,), 1 / 3).double())
    fitted = expectation_maximization(start, points, 40)
    torch.testing.assert_close(fitted.means, mixture.means, rtol=0, atol=0.06)
    torch.testing.assert_close(fitted.weights, mixture.weights, rtol=0, atol=0.02)


def test_em_keeps_a_component_without_points(mixture, generator):
    far = mixture._replace(means=mixture.means + torch.tensor([[0.0], [0.0], [90.0]]).double())
    points = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    fitted = expectation_maximization(far, points)
    torch.testing.assert_close(fitted.means[2], far.means[2])
    assert fitted.weights[2] > 0


def test_weights_are_adapted_to_the_masses(generator):
    target = GaussianMixture([[-3.0], [3.0]], [1.0, 0.5], [0.15, 0.85])
    start = Mixture(
        torch.tensor([0.9, 0.1], dtype=torch.float64),
        torch.tensor([[-3.0], [3.0]], dtype=torch.float64),
        torch.tensor([[[1.1]], [[0.55]]], dtype=torch.float64),
    )
    weights = adapt_weights(target, start, generator=generator, num_rounds=6).weights
    # a twentieth of each round goes to equal weights
    assert weights[0].item() == pytest.approx(0.15, abs=0.06)


def test_the_pilot_finds_both_modes(generator):
    states = run_pilot(two_modes(2, 0.5), generator=generator, num_chains=64)
    assert states.shape == (20, 64, 2)
    fitted = fit_mixture(states, cluster_chains(states))
    centre = 5 / math.sqrt(2)
    for sign in (-1, 1):
        distance = (fitted.means - sign * centre).norm(dim=-1).min()
        assert distance < 0.5


def test_the_stratified_evidence_is_unbiased(mixture):
    """Frozen plan, a mixture that does not fit well, 600 islands of three strata."""
    target = GaussianMixture(
        [[-2.0, 0.3], [2.2, 1.0], [0.0, 2.5]], [0.8, 0.4, 0.9], [0.5, 0.2, 0.3]
    )
    path, levels = StratifiedPath(target, mixture), FixedSchedule([0.0, 0.2, 0.5, 1.0])

    def mass(particles, log_weights):
        repeat = len(particles) // 3
        return Mass(mixture.means.repeat(repeat, 1), mixture.factors.repeat(repeat, 1, 1))

    settings = Settings(HMC(3), mass=mass)
    run = lambda rows, plan, seed: list(  # noqa: E731
        smc(path, levels, settings, rows, 32, plan=plan,
            generator=torch.Generator().manual_seed(seed))
    )  # fmt: skip
    plan = freeze([info for _, info in run(60, None, 0)], 3)
    assert plan.masses[0].factor.shape == (3, 2, 2)
    state = run(1800, plan, 1)[-1][0]
    strata = total_log_normalizer(state).reshape(600, 3) + mixture.weights.log()
    ratio = strata.logsumexp(-1).exp()
    assert abs((ratio.mean() - 1) / (ratio.std() / 600**0.5)) < 3


def test_modes_of_unequal_width_get_their_masses(generator):
    target = two_modes(2, 0.2)
    result = ReferenceMixture().run(target, 6, 300, generator=generator)
    one = evidence(result.log_normalizers)
    assert result.unbiased
    assert abs(one.log_normalizer) < 4 * one.standard_error + 0.005
    weights = (result.log_weights.softmax(-1) / 6)[..., None]
    left = (weights[..., 0] * (result.particles[..., 0] < 0)).sum()
    assert left.item() == pytest.approx(0.5, abs=0.02)
    assert result.particles.shape[:2] == result.log_weights.shape == result.eves.shape


def test_joined_histories_count_all_strata(generator):
    result = ReferenceMixture(num_chains=64).run(two_modes(2, 0.5), 3, 100, generator=generator)
    num = result.log_weights.shape[-1]
    info = result.history[-1]
    assert info.ess.shape == (3,)
    assert (info.ess <= num + 1e-9).all()
    assert (info.families <= num).all()
    torch.testing.assert_close(info.log_normalizer, result.log_normalizers)


def test_too_many_modes_for_strata_are_said(generator):
    method = ReferenceMixture(num_chains=100, adapt_islands=None, max_components=20)
    result = method.run(ManyWell(16), 2, 200, generator=generator)
    assert "tempered from one Gaussian" in result.notes[0]
    assert abs(result.log_normalizers.mean() - ManyWell(16).log_normalizer) < 1.5


def test_strata_join_in_order():
    rows = torch.arange(12).reshape(6, 2)
    assert join_strata(rows, 3).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
