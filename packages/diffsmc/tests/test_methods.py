import pytest
import torch

from diffsmc import LinearRegression, LogDensity, Target
from diffsmc.methods.denoising import Diffusion
from diffsmc.methods.tempering import Tempering
from diffsmc.potentials.monte_carlo import MonteCarloPotential
from diffsmc.results.result import merge_islands
from diffsmc.smc.adaptation import dense_mass
from diffsmc.smc.estimators import evidence, lee_whiteley_variance
from diffsmc.smc.moves import HMC


class Counted(Target):
    """Counts the points it is asked for."""

    def __init__(self, inner):
        super().__init__(inner.dim, scale=inner.scale)
        self.inner, self.count = inner, 0

    def log_prob(self, x):
        self.count += x[..., 0].numel()
        return self.inner.log_prob(x)

    def log_prob_and_grad(self, x):
        self.count += x[..., 0].numel()
        return self.inner.log_prob_and_grad(x)


@pytest.fixture(scope="module")
def regression():
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(30, generator=generator, dtype=torch.float64)
    responses = features @ torch.tensor([1.0, -0.5, 0.0, 2.0]).double() + 0.7 * noise
    return LinearRegression(features.tolist(), responses.tolist(), 0.7, 1.5)


METHODS = {
    "tempered": Tempering(0.7, move=HMC(5)),
    "waste-free": Tempering(0.7, move=HMC(5), chain_length=10),
    "diffusion, laplace": Diffusion(MonteCarloPotential(16), 16, num_moves=0, adapt_islands=None),
    "diffusion, pilot": Diffusion(
        MonteCarloPotential(16), 12, pilot=Tempering(0.5, adapt_islands=None), pilot_particles=400
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_conjugate_evidence_is_found(name, regression, generator):
    result = METHODS[name].run(regression, 50, 200, generator=generator)
    one = evidence(result.log_normalizers)
    assert result.unbiased
    assert abs(one.log_normalizer - regression.log_normalizer) < 3.5 * one.standard_error
    assert one.standard_error < 0.05


@pytest.mark.parametrize("name", METHODS)
def test_conjugate_posterior_is_found(name, regression, generator):
    precision = regression.design.T @ regression.design / 0.49 + torch.eye(4) / 1.5**2
    exact = torch.linalg.solve(precision, regression.design.T @ regression.responses / 0.49)
    result = METHODS[name].run(regression, 40, 200, generator=generator)
    weights = result.log_weights.softmax(-1)[..., None]
    means = (weights * result.particles).sum(1)
    error = means.std(0) / 40**0.5
    assert ((means.mean(0) - exact) / error).abs().max() < 4


@pytest.mark.parametrize("name", METHODS)
def test_evaluations_are_counted(name, regression, generator):
    counted = Counted(regression)
    result = METHODS[name].run(counted, 3, 20, generator=generator)
    laplace = name == "diffusion, laplace"  # its few Newton steps aren't particles
    assert counted.count == pytest.approx(result.num_evaluations, rel=0.05 if laplace else 1e-9)


def test_intervals_cover_the_truth(regression, generator):
    """200 runs of eight islands: between 90 and 98 % of 95 % intervals hold log Z."""
    result = METHODS["tempered"].run(regression, 1600, 64, generator=generator)
    runs = [evidence(row) for row in result.log_normalizers.reshape(200, 8)]
    covered = sum(one.lower <= regression.log_normalizer <= one.upper for one in runs)
    assert 180 <= covered <= 196


def test_an_adapted_run_does_not_claim_to_be_unbiased(regression, generator):
    assert not Tempering(adapt_islands=None).run(regression, 2, 50, generator=generator).unbiased


def test_the_single_run_variance_matches_the_islands(regression, generator):
    from diffsmc.smc.resampling import multinomial

    method = Tempering(0.7, move=HMC(5), resample=multinomial)
    result = method.run(regression, 100, 300, generator=generator)
    single = lee_whiteley_variance(result.log_weights, result.eves, result.num_resampled).mean()
    between = torch.exp(result.log_normalizers - regression.log_normalizer).var()
    assert 0.7 < single / between < 1.4


def test_merged_islands_are_the_islands(regression, generator):
    method = Diffusion(MonteCarloPotential(4), 6, num_moves=0, adapt_islands=None)
    runs = [method.run(regression, n, 30, generator=generator) for n in (1, 2)]
    merged = merge_islands(runs)
    assert torch.equal(merged.log_normalizers, torch.cat([r.log_normalizers for r in runs]))
    assert merged.history[2].ess.shape == (3,)
    assert merged.num_evaluations == sum(r.num_evaluations for r in runs)


def test_both_paths_agree_on_a_skewed_posterior(generator):
    # Poisson counts with log-rate x and prior N(0, 1): no closed form, but a quadrature
    counts, rate = 3.0, torch.linspace(-10, 10, 20_001, dtype=torch.float64)

    def density(x):
        x = x[..., 0]
        return counts * x - x.exp() - 0.5 * x.square() - 0.918938533204673

    target = LogDensity(density, 1)
    truth = float(density(rate[:, None]).exp().sum().mul(1e-3).log())
    for method in METHODS.values():
        one = evidence(method.run(target, 50, 100, generator=generator).log_normalizers)
        assert abs(one.log_normalizer - truth) < 3.5 * one.standard_error


@pytest.mark.parametrize(
    ("num", "islands", "dense"), [(15, None, False), (16, None, True), (10, 2, True)]
)
def test_a_dense_mass_needs_many_particles_or_to_be_frozen(
    num, islands, dense, regression, generator
):
    """Four dimensions; in the run itself sixteen particles."""
    result = Tempering(0.5, move=HMC(2), num_moves=1, adapt_islands=islands).run(
        regression, 2, num, generator=generator
    )
    assert result.history[-1].mass.factor.dim() == (3 if dense else 2)


def test_few_particles_in_many_dimensions_are_not_biased_by_their_mass(generator):
    """Forty dimensions, 200 particles that adapt in the run: the dense mass is off by far more."""
    features = torch.randn(120, 40, generator=generator, dtype=torch.float64)
    responses = features[:, 0] + torch.randn(120, generator=generator, dtype=torch.float64)
    target = LinearRegression(features.tolist(), responses.tolist())
    errors = {}
    for name, mass in (("default", None), ("dense", dense_mass)):
        method = Tempering(move=HMC(5), num_moves=1, mass=mass, adapt_islands=None)
        result = method.run(target, 8, 200, generator=generator)
        errors[name] = float((result.log_normalizers - target.log_normalizer).mean())
    assert abs(errors["default"]) < 0.5 * abs(errors["dense"])
