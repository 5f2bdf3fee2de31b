import pytest
import torch

from diffsmc import GaussianMixture, differentiate
from diffsmc.paths.bridge import StratifiedPath, join_strata
from diffsmc.references.mixture import Mixture
from diffsmc.smc.density import Mass, log_density
from diffsmc.smc.engine import Settings, freeze, smc, total_log_normalizer
from diffsmc.smc.moves import HMC
from diffsmc.smc.schedules import FixedSchedule


@pytest.fixture
def mixture():
    means = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    factors = torch.tensor(
        [[[1.0, 0.0], [0.5, 0.7]], [[0.5, 0.0], [0.0, 0.5]], [[0.8, 0.0], [-0.3, 1.0]]],
        dtype=torch.float64,
    )
    return Mixture(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), means, factors)


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


@pytest.mark.parametrize("level", [0.2, 1.0])
def test_scores_of_strata_are_gradients_of_their_densities(mixture, level, generator):
    target = GaussianMixture([[-2.0, 0.3], [2.2, 1.0]], [0.8, 0.4], [0.5, 0.5])
    path = StratifiedPath(target, mixture)
    cloud = path.start(6, 5, generator=generator)
    density = path.density(level)
    components = torch.distributions.MultivariateNormal(mixture.means, scale_tril=mixture.factors)

    def log_prob(x):
        joint = components.log_prob(x[..., None, :]) + mixture.weights.log()
        base = components.log_prob(x.transpose(0, 1).reshape(5, 2, 3, 2))
        base = base.reshape(5, 6).T
        return base + level * (target.log_prob(x) - joint.logsumexp(-1))

    value, grad = differentiate(log_prob, cloud.particles)
    torch.testing.assert_close(density.score(cloud.particles, level), grad)
    torch.testing.assert_close(log_density(density.evaluate(cloud.particles), level), value)


def test_strata_join_in_order():
    rows = torch.arange(12).reshape(6, 2)
    assert join_strata(rows, 3).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
