"""The matrix: every resampling, move, path and potential has an unbiased evidence.

Each cell is the z-score of mean(Z_hat / Z) - 1 over 1000 independent runs of 64 particles
with a frozen plan, which the schemes of a path, target and move share. A cell of the whole matrix
passes at |z| < 3 or, failing that, at |z| < 3 over 10 000 other runs: with some 750 cells two
exceed 3 by chance alone, and where Z_hat has a heavy right tail (skewness of 5 and more on the
learned path) the mean of 1000 isn't normal yet.
"""

import pytest
import torch

from diffsmc import Gaussian, GaussianMixture, SkewedGaussian, StudentMixture, correlated_gaussian
from diffsmc.methods.strata import component_masses
from diffsmc.paths.bridge import StratifiedPath
from diffsmc.paths.diffusion import DiffusionPath
from diffsmc.paths.mixture_diffusion import MixtureDiffusionPath, MonteCarloRatio, UnitRatio
from diffsmc.paths.tempered import TemperedPath
from diffsmc.potentials.learned import LearnedPotential, VectorNetwork
from diffsmc.potentials.monte_carlo import MonteCarloPotential
from diffsmc.references.gaussian import GaussianReference, Whitened
from diffsmc.references.mixture import Mixture
from diffsmc.smc import resampling
from diffsmc.smc.adaptation import dense_mass
from diffsmc.smc.engine import Settings, freeze, smc, total_log_normalizer
from diffsmc.smc.moves import HMC, MALA, PCN, RWM, ULA
from diffsmc.smc.schedules import FixedSchedule, cosine_variances, geometric_levels

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


STEPS = (1 - cosine_variances(5)).tolist()
TEMPERATURES = geometric_levels(5, 0.05).tolist()


def reference(factor):
    factor = torch.tensor(factor, dtype=torch.float64)
    return GaussianReference(torch.zeros_like(factor[0]), factor)


def two_components(factor):
    """Two overlapping components, each with tails like the Gaussian reference's."""
    _, factor = reference(factor)
    means = 0.5 * torch.stack([-factor.sum(1), factor.sum(1)])
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    return Mixture(weights, means, torch.stack([factor, 0.9 * factor]))


def tempered(target, factor):
    return TemperedPath(target, reference(factor)), TEMPERATURES


def diffusion(potential, target, factor):
    white = Whitened(target, reference(factor))
    bound = potential.bind(white, generator=torch.Generator().manual_seed(3))
    return DiffusionPath(bound, target.dim, white.mean), STEPS


def learned(target, factor):
    torch.manual_seed(0)
    network = VectorNetwork(target.dim, 8).requires_grad_(False)
    torch.nn.init.normal_(network.layers[-1].weight, std=0.02)
    return diffusion(LearnedPotential(network), target, factor)


def monte_carlo(target, factor):
    return diffusion(MonteCarloPotential(4), target, factor)


def bridge(target, factor):
    return StratifiedPath(target, two_components(factor)), TEMPERATURES


def mixture_diffusion(potential, target, factor):
    mixture = two_components(factor)
    bound = potential.bind(target, mixture, generator=torch.Generator().manual_seed(3))
    return MixtureDiffusionPath(target, mixture, bound), STEPS


PATHS = {
    "tempered": tempered,
    "monte carlo": monte_carlo,
    "learned": learned,
    "bridge": bridge,
    "mixture monte carlo": lambda t, f: mixture_diffusion(MonteCarloRatio(2), t, f),
    "mixture unit": lambda t, f: mixture_diffusion(UnitRatio(), t, f),
}


class Cell:
    """A path, target and move, with the plan that the schemes share."""

    def __init__(self, path, name, move):
        self.target, factor = TARGETS[name]
        self.path, levels = PATHS[path](self.target, factor)
        self.strata = two_components(factor) if path == "bridge" else None
        self.schedule = FixedSchedule(levels)
        self.move = MOVES[move]
        self.plan = freeze(
            [info for _, info in self.run("systematic", 30, None, 10)], self.num_strata
        )

    @property
    def num_strata(self):
        return 1 if self.strata is None else len(self.strata.weights)

    def run(self, scheme, runs, plan, seed):
        mass = dense_mass if self.strata is None else component_masses(self.strata)
        settings = Settings(
            self.move, resample=getattr(resampling, scheme), ess_threshold=0.7, mass=mass
        )
        rows, num = runs * self.num_strata, 64 // self.num_strata
        generator = torch.Generator().manual_seed(seed)
        return list(
            smc(self.path, self.schedule, settings, rows, num, plan=plan, generator=generator)
        )

    def score(self, scheme, seed, runs=1000):
        log_z = total_log_normalizer(self.run(scheme, runs, self.plan, seed)[-1][0])
        if self.strata is not None:
            log_z = (log_z.reshape(runs, -1) + self.strata.weights.log()).logsumexp(-1)
        ratio = torch.exp(log_z - self.target.log_normalizer)
        return float((ratio.mean() - 1) / (ratio.std() / runs**0.5))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("path", PATHS)
def test_the_whole_matrix_is_unbiased(path, name):
    failed = {}
    for move in MOVES:
        cell = Cell(path, name, move)
        for scheme in SCHEMES:
            z = cell.score(scheme, 11)
            if abs(z) >= 3:
                again = cell.score(scheme, 21, 10_000)
                if abs(again) >= 3:
                    failed[scheme, move] = (z, again)
    assert failed == {}
