import torch

from diffsmc import SkewedGaussian
from diffsmc.potentials.learned import LearnedPotential, VectorNetwork
from diffsmc.potentials.monte_carlo import log_ratio


def trained_by_chance(generator):
    torch.manual_seed(0)
    network = VectorNetwork(3, 8)
    torch.nn.init.normal_(network.layers[-1].weight, generator=generator)
    return LearnedPotential(network).bind(SkewedGaussian(3), generator=generator)


def test_a_network_is_zero_at_the_start(generator):
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    assert VectorNetwork(3)(x, torch.full((4,), 0.5).double()).abs().max() == 0


def test_the_potential_is_exact_at_the_data(generator):
    potential = trained_by_chance(generator)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(potential.evaluate(x, 0.0)[0], log_ratio(SkewedGaussian(3), x))


def test_the_drift_is_the_gradient(generator):
    potential = trained_by_chance(generator)
    x = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    drift = potential.evaluate(x, 0.4)[1]
    width = 1e-6
    for k in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[k] = width
        up, down = potential.evaluate(x + shift, 0.4)[0], potential.evaluate(x - shift, 0.4)[0]
        torch.testing.assert_close(drift[..., k], (up - down) / (2 * width), rtol=1e-6, atol=1e-7)


def test_the_potential_joins_the_data_continuously(generator):
    potential = trained_by_chance(generator)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    near, at = potential.evaluate(x, 1e-9)[0], potential.evaluate(x, 0.0)[0]
    torch.testing.assert_close(near, at, rtol=0, atol=1e-6)
