"""The matrix: every resampling, move, path and potential has an unbiased evidence.

Each cell is the z-score of mean(Z_hat / Z) - 1 over 1000 independent runs of 64 particles
with a frozen plan. A cell of the whole matrix passes at |z| < 3 or, failing that, at |z| < 3
over 10 000 other runs: with some 400 cells one exceeds 3 by chance alone, and where Z_hat has a
heavy right tail (skewness of 5 and more on the learned path) the mean of 1000 isn't normal yet.
"""

import itertools

import pytest
import torch

from diffsmc import resampling
from diffsmc.diffusion import DiffusionPath
from diffsmc.kernels import HMC, MALA, PCN, RWM, ULA
from diffsmc.networks import LearnedPotential, VectorNetwork
from diffsmc.potentials import MonteCarloPotential
from diffsmc.reference import GaussianReference, Whitened
from diffsmc.schedules import cosine_variances, geometric_levels
from diffsmc.smc import FixedSchedule, Settings, freeze, smc, total_log_normalizer
from diffsmc.targets import (
    Gaussian,
    GaussianMixture,
    SkewedGaussian,
    StudentMixture,
    correlated_gaussian,
)
from diffsmc.tempering import TemperedPath

# target, and the factor of a Gaussian whose tails are heavier: with lighter ones the weights'
# variance is infinite and no z-score means anything
TARGETS = {
    "gaussian": (Gaussian([0.3, -0.2], [[0.6, 0.0], [0.0, 0.8]], 0.4), [[1.2, 0.0], [0.0, 1.2]]),
    "correlated": (correlated_gaussian(2), [[0.65, 0.0], [1.04, 0.78]]),
    "mixture": (GaussianMixture([[-1.0], [1.2]], [0.5, 0.4], [0.3, 0.7]), [[1.7]]),
    "student": (StudentMixture([[0.2]], [0.6], [1.0], freedom=6.0), [[1.5]]),
    "skewed": (SkewedGaussian(1, 1.5), [[1.4]]),
}
SCHEMES = ["multinomial", "stratified", "systematic", "residual", "ssp"]
MOVES = {"hmc": HMC(2), "mala": MALA(), "ula": ULA(), "rwm": RWM(), "pcn": PCN()}


def reference(factor):
    factor = torch.tensor(factor, dtype=torch.float64)
    return GaussianReference(torch.zeros_like(factor[0]), factor)


def tempered(target, factor):
    return TemperedPath(target, reference(factor)), geometric_levels(5, 0.05).tolist()


def diffusion(potential, target, factor):
    white = Whitened(target, reference(factor))
    bound = potential.bind(white, generator=torch.Generator().manual_seed(3))
    return DiffusionPath(bound, target.dim, white.mean), (1 - cosine_variances(12)).tolist()


def learned(target, factor):
    torch.manual_seed(0)
    network = VectorNetwork(target.dim, 8).requires_grad_(False)
    torch.nn.init.normal_(network.layers[-1].weight, std=0.02)
    return diffusion(LearnedPotential(network), target, factor)


def monte_carlo(target, factor):
    return diffusion(MonteCarloPotential(8), target, factor)


PATHS = {"tempered": tempered, "monte carlo": monte_carlo, "learned": learned}


def score(target, path, levels, settings, seed, num_runs=1000):
    def last(islands, plan, seed):
        generator = torch.Generator().manual_seed(seed)
        schedule = FixedSchedule(levels)
        return list(smc(path, schedule, settings, islands, 64, plan=plan, generator=generator))

    plan = freeze([info for _, info in last(30, None, seed)])
    state = last(num_runs, plan, seed + 1)[-1][0]
    ratio = torch.exp(total_log_normalizer(state) - target.log_normalizer)
    return float((ratio.mean() - 1) / (ratio.std() / num_runs**0.5))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("path", PATHS)
def test_the_whole_matrix_is_unbiased(path, name):
    target, factor = TARGETS[name]
    built, levels = PATHS[path](target, factor)
    failed = {}
    for scheme, move in itertools.product(SCHEMES, MOVES):
        settings = Settings(MOVES[move], resample=getattr(resampling, scheme), ess_threshold=0.7)
        z = score(target, built, levels, settings, 10)
        if abs(z) >= 3:
            again = score(target, built, levels, settings, 20, num_runs=10_000)
            if abs(again) >= 3:
                failed[scheme, move] = (z, again)
    assert failed == {}
