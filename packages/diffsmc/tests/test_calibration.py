"""Simulation-based calibration: data sets drawn from the prior, one island each.

The rank of a true parameter among posterior draws is uniform, whatever the model (Talts,
Betancourt, Simpson, Vehtari & Gelman 2018). All data sets are sampled as one tensor.
"""

import pytest
import torch
from scipy import stats
from torch.distributions import HalfCauchy, Normal, constraints

from diffsmc import Parameter, Posterior
from diffsmc.methods.tempering import Tempering
from diffsmc.smc.moves import HMC
from diffsmc.smc.resampling import systematic

NUM_SETS, NUM_DRAWS, NUM_BINS = 640, 63, 16
ERRORS = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]).double()


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def eight_schools(generator):
    uniform = torch.rand(NUM_SETS, 1, generator=generator, dtype=torch.float64)
    mu, tau = 5 * normal(generator, NUM_SETS, 1), 5 * torch.tan(torch.pi / 2 * uniform)
    theta = normal(generator, NUM_SETS, 1, 8)
    data = mu[..., None] + tau[..., None] * theta + ERRORS * normal(generator, NUM_SETS, 1, 8)

    def prior(p):
        effects = Normal(0.0, 1.0).log_prob(p["theta"]).sum(-1)
        return effects + Normal(0.0, 5.0).log_prob(p["mu"]) + HalfCauchy(5.0).log_prob(p["tau"])

    def likelihood(p):
        mean = p["mu"][..., None] + p["tau"][..., None] * p["theta"]
        return Normal(mean, ERRORS).log_prob(data).sum(-1)

    space = {
        "theta": Parameter(shape=(8,)), "mu": Parameter(), "tau": Parameter(constraints.positive)
    }  # fmt: skip
    return Posterior(space, prior, likelihood, scale=3.0), {"theta": theta, "mu": mu, "tau": tau}


def logistic_regression(generator):
    features = normal(generator, NUM_SETS, 1, 40, 3)
    truth = normal(generator, NUM_SETS, 1, 3)
    chance = (features @ truth[..., None])[..., 0].sigmoid()
    labels = torch.rand(chance.shape, generator=generator, dtype=torch.float64) < chance
    labels = labels.double()

    def prior(p):
        return Normal(0.0, 1.0).log_prob(p["beta"]).sum(-1)

    def likelihood(p):
        logits = torch.einsum("rond,rpd->rpn", features, p["beta"])
        return (labels * logits - torch.nn.functional.softplus(logits)).sum(-1)

    return Posterior({"beta": Parameter(shape=(3,))}, prior, likelihood, 1.0), {"beta": truth}


def ranks(target, truth, generator):
    method = Tempering(0.7, move=HMC(8), num_moves=5, adapt_islands=None)
    # With half as many particles the ranks of tau show the 1/N of self-normalised weights.
    result = method.sample(target, NUM_SETS, 4 * (NUM_DRAWS + 1), generator=generator)
    chosen = systematic(result.log_weights, generator=generator)
    order = torch.rand(chosen.shape, generator=generator).argsort(-1)[:, :NUM_DRAWS]
    chosen = chosen.gather(1, order)[..., None].expand(-1, -1, target.dim)
    drawn = target.parameters_at(result.particles.gather(1, chosen))
    return {name: (drawn[name] < value).sum(1) for name, value in truth.items()}


def chi_square(rank):
    counts = (rank * NUM_BINS // (NUM_DRAWS + 1)).bincount(minlength=NUM_BINS)
    return stats.chisquare(counts.numpy()).pvalue


@pytest.mark.slow
@pytest.mark.parametrize("model", [eight_schools, logistic_regression])
def test_ranks_of_the_truth_are_uniform(model, generator):
    # Two runs pooled: twice the data, at the level of .01 for each coordinate.
    runs = [ranks(*model(generator), generator) for _ in range(2)]
    for name in runs[0]:
        pooled = torch.cat([run[name].reshape(NUM_SETS, -1) for run in runs])
        for place, column in enumerate(pooled.T):
            assert chi_square(column) > 0.01, (name, place)


def test_the_statistic_finds_a_posterior_that_is_too_narrow():
    """Draws with seven tenths of the posterior's width fail."""
    generator = torch.Generator().manual_seed(1)
    truth, noise = normal(generator, NUM_SETS, 1), normal(generator, NUM_SETS, 1)
    data = truth + noise
    good = data / 2 + 0.5**0.5 * normal(generator, NUM_SETS, NUM_DRAWS)
    narrow = data / 2 + 0.7 * 0.5**0.5 * normal(generator, NUM_SETS, NUM_DRAWS)
    assert chi_square((good < truth).sum(1)) > 0.01
    assert chi_square((narrow < truth).sum(1)) < 1e-4
