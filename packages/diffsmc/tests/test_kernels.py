import pytest
import torch

from diffsmc import LogDensity, correlated_gaussian, differentiate
from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import GaussianReference, isotropic
from diffsmc.smc import moves as kernels
from diffsmc.smc.density import Density, Mass, leapfrog, log_density
from diffsmc.smc.moves import HMC, MALA, PCN, RWM, ULA

MOVES = [HMC(4), MALA(), RWM(), PCN(), ULA()]
TARGET = correlated_gaussian(3)
PATH = TemperedPath(TARGET, isotropic(3, 1.3))
STEPS = {HMC: 0.5, MALA: 0.7, RWM: 1.0, PCN: 0.5, ULA: 0.3}


def exact_cloud(num, generator):
    covariance = torch.linalg.inv(TARGET.precision)
    noise = torch.randn(1, num, 3, generator=generator, dtype=torch.float64)
    x = TARGET.mean + noise @ torch.linalg.cholesky(covariance).T
    return PATH.evaluate(x)


def masses():
    full = torch.tensor([[[1.0, 0, 0], [0.3, 0.8, 0], [-0.2, 0.1, 0.6]]], dtype=torch.float64)
    mean = torch.tensor([[0.2, -0.1, 0.0]], dtype=torch.float64)
    return {
        "dense": Mass(mean, full),
        "diagonal": Mass(mean, torch.tensor([[1.0, 0.5, 0.7]]).double()),
    }


@pytest.mark.parametrize("move", MOVES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("kind", ["dense", "diagonal"])
def test_moves_keep_the_target(move, kind, generator):
    """Exact samples stay exact: weighted first and second moments, z-tested."""
    num = 40_000
    cloud = exact_cloud(num, generator)
    density = Density(PATH.evaluate, 1.0)
    log_weights = torch.zeros(1, num, dtype=torch.float64)
    step = torch.tensor([STEPS[type(move)]], dtype=torch.float64)
    for _ in range(3):
        cloud, info = move.step(cloud, density, masses()[kind], step, generator=generator)
        log_weights = log_weights + info.log_weights
    weights = log_weights[0].exp()
    centred = cloud.particles[0] - TARGET.mean
    second = torch.einsum("nd,ne->nde", centred, centred) - torch.linalg.inv(TARGET.precision)
    for values in (centred, second.flatten(1), torch.ones(num, 1).double() - 1 / weights[:, None]):
        terms = weights[:, None] * values
        error = terms.std(0) / num**0.5 + 1e-12
        assert (terms.mean(0) / error).abs().max() < 4.5
    assert 0.1 < info.acceptance.mean() < 1


@pytest.mark.parametrize("move", MOVES, ids=lambda m: type(m).__name__)
def test_moves_really_move(move, generator):
    cloud = exact_cloud(200, generator)
    density = Density(PATH.evaluate, 1.0)
    step = torch.tensor([STEPS[type(move)]], dtype=torch.float64)
    moved, info = move.step(cloud, density, masses()["dense"], step, generator=generator)
    changed = (moved.particles != cloud.particles).any(-1).double().mean()
    expected = 1.0 if isinstance(move, ULA) else info.acceptance.mean().item()
    assert changed.item() == pytest.approx(expected, abs=0.12)


def test_leapfrog_is_reversible(generator):
    cloud = exact_cloud(20, generator)
    density = Density(lambda x: PATH.evaluate(x), 0.6)
    factor = masses()["dense"].factor
    p = torch.randn(1, 20, 3, generator=generator, dtype=torch.float64)
    step = torch.full((1, 20, 1), 0.3, dtype=torch.float64)
    there, q = leapfrog(cloud, p, density, factor, step, 7)
    back, r = leapfrog(there, -q, density, factor, step, 7)
    torch.testing.assert_close(back.particles, cloud.particles)
    torch.testing.assert_close(-r, p)


@pytest.mark.parametrize("kind", ["dense", "diagonal"])
def test_leapfrog_is_the_textbook_recursion_in_whitened_coordinates(kind, generator):
    cloud, b, num = exact_cloud(20, generator), 0.6, 4
    factor = masses()[kind].factor
    matrix = factor[0] if factor.dim() == 3 else torch.diag(factor[0])
    p = torch.randn(1, 20, 3, generator=generator, dtype=torch.float64)
    step = 0.2 + 0.1 * torch.rand(1, 20, 1, generator=generator, dtype=torch.float64)
    x, q = cloud.particles, p
    for _ in range(num):
        q = q + step / 2 * PATH.score(x, b) @ matrix
        x = x + step * q @ matrix.T
        q = q + step / 2 * PATH.score(x, b) @ matrix
    for score in (PATH.score, None):
        density = Density(lambda x: PATH.evaluate(x), b, score)
        end, momentum = leapfrog(cloud, p, density, factor, step, num)
        torch.testing.assert_close(end.particles, x)
        torch.testing.assert_close(momentum, q)


@pytest.mark.parametrize(
    "base",
    [
        isotropic(3, 1.3),
        GaussianReference(torch.tensor([0.1, 0.0, -2.0]).double(), torch.eye(3).double()),
        GaussianReference(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 2, 3])).double()),
        GaussianReference(torch.ones(3).double(), masses()["dense"].factor[0]),
    ],
)
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_scores_of_the_tempered_path_are_gradients_of_its_density(base, level, generator):
    path = TemperedPath(TARGET, base)
    x = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)

    def density(x):
        gaussian = torch.distributions.MultivariateNormal(base.mean, scale_tril=base.factor)
        return (1 - level) * gaussian.log_prob(x) + level * TARGET.log_prob(x)

    value, grad = differentiate(density, x)
    cloud = path.evaluate(x)
    torch.testing.assert_close(path.score(x, level), grad)
    torch.testing.assert_close(log_density(cloud, level), value)
    torch.testing.assert_close(cloud.base_grad + level * cloud.tilt_grad, grad)


def test_leapfrog_error_falls_with_the_square_of_the_step(generator):
    cloud = exact_cloud(200, generator)
    density = Density(lambda x: PATH.evaluate(x), 1.0)
    factor = masses()["dense"].factor
    p = torch.randn(1, 200, 3, generator=generator, dtype=torch.float64)
    energy = lambda c, v: log_density(c, 1.0) - 0.5 * v.square().sum(-1)  # noqa: E731
    errors = []
    for num in (8, 16):
        step = torch.full((1, 200, 1), 0.4 / num, dtype=torch.float64)
        errors.append(energy(*leapfrog(cloud, p, density, factor, step, num)) - energy(cloud, p))
    ratio = errors[0].abs().mean() / errors[1].abs().mean()
    assert 3.6 < ratio < 4.4


def test_an_infinite_tilt_counts_only_above_the_base(generator):
    cloud = exact_cloud(2, generator)._replace(tilt=torch.full((1, 2), -torch.inf).double())
    assert log_density(cloud, 0.0).isfinite().all()
    assert (log_density(cloud, 0.1) == -torch.inf).all()


def test_a_diverged_proposal_is_rejected(generator):
    cloud = exact_cloud(50, generator)
    density = Density(lambda x: PATH.evaluate(x), 1.0)
    step = torch.tensor([1e60], dtype=torch.float64)
    moved, info = HMC(20).step(cloud, density, masses()["dense"], step, generator=generator)
    assert torch.equal(moved.particles, cloud.particles)
    assert info.acceptance.max() == 0


def test_steps_are_spread_by_the_ratio_that_was_asked_for(generator):
    flat = LogDensity(lambda x: 0.0 * x.sum(-1), 1)
    path = TemperedPath(flat, isotropic(1, 1e6))
    cloud = path.evaluate(torch.zeros(1, 10_000, 1).double())
    seen = []

    def watch(x, r, step, covariance, temperature, num_steps):
        seen.append(step)
        return x, r

    density = path.density(1.0)._replace(inner=watch)
    unit = Mass(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    step = torch.tensor([0.3], dtype=torch.float64)
    HMC(2, spread=3.0).step(cloud, density, unit, step, generator=generator)
    ratio = (seen[0] / 0.3).log()
    assert ratio.amax() - ratio.amin() == pytest.approx(3.0, abs=5e-3)
    assert ratio.mean() == pytest.approx(0.0, abs=4 * 3 / 12**0.5 / 100)


@pytest.mark.parametrize("move", [HMC(3), MALA(), ULA()], ids=lambda m: type(m).__name__)
def test_blocks_change_nothing(move, monkeypatch, generator):
    cloud = exact_cloud(100, generator)
    density = PATH.density(0.7)
    step = torch.tensor([0.4], dtype=torch.float64)
    ends = []
    for block in (10**9, 50):
        monkeypatch.setattr(kernels, "BLOCK", block)
        draws = torch.Generator().manual_seed(5)
        moved, info = move.step(cloud, density, masses()["dense"], step, generator=draws)
        ends.append((*moved, info.acceptance, *info.proposal))
    for whole, blocks in zip(*ends, strict=True):
        torch.testing.assert_close(blocks, whole)
