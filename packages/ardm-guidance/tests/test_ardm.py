from itertools import permutations, product

import pytest
import torch
from torch import nn

from ardm_guidance.models.ardm import (
    OrderAgnosticARDM,
    bound,
    categorical,
    hide,
    log_prob,
    sample,
    steps,
)
from ardm_guidance.models.orders import uniform
from ardm_guidance.sites.constraints import Constraint
from ardm_guidance.sites.graphs import MASK, PAD

DIMENSION, CLASSES = 3, 2


class Table(nn.Module):
    """Arbitrary conditionals, one row of logits for each partial object: not consistent."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(
            (CLASSES + 1) ** DIMENSION, DIMENSION, CLASSES, generator=generator
        ).double()

    def forward(self, sites):
        code = ((sites + 1).clamp(min=0) * (CLASSES + 1) ** torch.arange(DIMENSION)).sum(-1)
        return self.logits[code]


class NoTwoOnes(Constraint):
    """A second 1 is not allowed."""

    def forward(self, sites, positions):
        used = (sites == 1).any(-1)[:, None].expand(positions.shape)
        return torch.stack([torch.ones_like(used), ~used], -1)

    def holds(self, sites):
        return (sites == 1).sum(-1) <= 1


OBJECTS = torch.tensor(list(product(range(CLASSES), repeat=DIMENSION)))
ORDERS = torch.tensor(list(permutations(range(DIMENSION))))


@pytest.fixture(params=[[], [NoTwoOnes()]], ids=["free", "constrained"])
def ardm(request):
    return OrderAgnosticARDM(Table(), request.param)


def exact(ardm, order):
    return log_prob(ardm, OBJECTS, order.expand(len(OBJECTS), -1))


def test_objects_sum_to_one_in_every_order(ardm):
    for order in ORDERS:
        total = exact(ardm, order).exp().sum()
        torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)


def test_the_bound_is_unbiased_for_the_mean_over_orders(ardm):
    allowed = OBJECTS.sum(-1) <= 1
    x = OBJECTS[allowed]
    draws = [
        bound(ardm, x, order.expand(len(x), -1), torch.full((len(x),), t))
        for order in ORDERS
        for t in range(DIMENSION)
    ]
    expected = torch.stack([exact(ardm, order)[allowed] for order in ORDERS]).mean(0)
    torch.testing.assert_close(torch.stack(draws).mean(0), expected, rtol=1e-12, atol=0)


def test_samples_follow_the_law_of_their_order(ardm):
    number = 40_000
    generator = torch.Generator().manual_seed(1)
    for order in ORDERS[[0, 3, 5]]:
        empty = torch.full((number, DIMENSION), MASK)
        noise = torch.rand(number, DIMENSION, generator=generator, dtype=torch.float64)
        drawn, value = sample(ardm, empty, order.expand(number, -1), noise)
        torch.testing.assert_close(value, log_prob(ardm, drawn, order.expand(number, -1)))
        share = (drawn[:, None] == OBJECTS).all(-1).double().mean(0)
        p = exact(ardm, order).exp()
        assert ((share - p).abs() <= 4.5 * (p * (1 - p) / number).sqrt()).all()


def test_sites_that_are_shown_stay():
    ardm = OrderAgnosticARDM(Table())
    partial = torch.tensor([[1, MASK, 0], [MASK, 1, PAD]]).repeat(50, 1)
    generator = torch.Generator().manual_seed(2)
    order = uniform(partial, generator=generator)
    noise = torch.rand(partial.shape, generator=generator, dtype=torch.float64)
    drawn, _ = sample(ardm, partial, order, noise)
    shown = partial != MASK
    assert torch.equal(drawn[shown], partial[shown])
    assert set(drawn[~shown].tolist()) == {0, 1}


def test_padding_adds_nothing():
    ardm = OrderAgnosticARDM(Table())
    x = torch.tensor([[1, 0, PAD]])
    parts = [bound(ardm, x, torch.tensor([[1, 0, 2]]), torch.tensor([t])) for t in range(2)]
    other = [bound(ardm, x, torch.tensor([[0, 1, 2]]), torch.tensor([t])) for t in range(2)]
    orders = [log_prob(ardm, x, torch.tensor([order])) for order in ([1, 0, 2], [0, 1, 2])]
    mean = torch.stack([*parts, *other]).mean(0)
    torch.testing.assert_close(mean, torch.stack(orders).mean(0), rtol=1e-12, atol=0)


def test_hiding_shows_the_first_sites_of_the_order():
    x = torch.tensor([[5, 6, 7, PAD]])
    order = torch.tensor([[2, 0, 1, 3]])
    shown = [hide(x, order, torch.tensor([t])).tolist()[0] for t in range(3)]
    assert shown == [[MASK, MASK, MASK, PAD], [MASK, MASK, 7, PAD], [5, MASK, 7, PAD]]


def test_steps_are_uniform_below_the_dimension():
    sites = torch.tensor([[0, 0, 0, PAD], [0, PAD, PAD, PAD]])
    noise = torch.linspace(0, 1, 3001, dtype=torch.float64)
    drawn = steps(sites.expand(3001, 2, 4), noise[:, None].expand(3001, 2))
    assert torch.bincount(drawn[:, 0]).tolist() == [1000, 1000, 1001]
    assert (drawn[:, 1] == 0).all()


def test_impossible_classes_are_never_drawn():
    log_probs = torch.tensor([-torch.inf, 0.0, -torch.inf, -1e-9, -torch.inf]).log_softmax(-1)
    noise = torch.cat([torch.linspace(0, 1, 1000).double(), torch.tensor([1 - 2.0**-53])])
    drawn = categorical(log_probs.expand(1001, 5), noise.clamp(max=1 - 2.0**-53))
    assert set(drawn.tolist()) == {1, 3}
