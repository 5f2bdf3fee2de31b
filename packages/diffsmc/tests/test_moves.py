import torch

from diffsmc.smc.adaptation import adapt_step, dense_mass, diagonal_mass, pool_masses
from diffsmc.smc.density import Mass
from diffsmc.smc.moves import HMC


def test_masses_are_the_weighted_moments(generator):
    factor = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    x = torch.randn(1, 20_000, 2, generator=generator, dtype=torch.float64) @ factor.T + 3
    weights = torch.zeros(1, 20_000, dtype=torch.float64)
    mass = dense_mass(x, weights)
    torch.testing.assert_close(mass.factor[0], factor, rtol=0.03, atol=0.03)
    torch.testing.assert_close(mass.mean[0], torch.full((2,), 3.0).double(), rtol=0.02, atol=0)
    scale = diagonal_mass(x, weights).factor[0]
    torch.testing.assert_close(scale, factor.square().sum(-1).sqrt(), rtol=0.02, atol=0)


def test_a_collapsed_island_still_has_a_factor():
    mass = dense_mass(torch.ones(2, 5, 3).double(), torch.zeros(2, 5).double())
    assert mass.factor.isfinite().all()


def test_steps_follow_the_acceptance():
    acceptance = torch.tensor([[0.9, 0.9], [0.1, 0.1], [0.65, 0.65]])
    step = adapt_step(torch.ones(3), acceptance, HMC())
    assert step[0] > 1 > step[1]
    torch.testing.assert_close(step[2], torch.tensor(1.0))


def test_pooled_masses_average_covariances():
    factor = torch.stack([torch.eye(2), 3 * torch.eye(2)]).double()
    pooled = pool_masses(Mass(torch.tensor([[0.0, 0.0], [2.0, 4.0]]).double(), factor))
    torch.testing.assert_close(pooled.factor[0], 5**0.5 * torch.eye(2).double())
    torch.testing.assert_close(pooled.mean[0], torch.tensor([1.0, 2.0]).double())
