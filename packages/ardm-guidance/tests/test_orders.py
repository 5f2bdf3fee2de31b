from itertools import permutations

import torch

from ardm_guidance.models.orders import by_keys, left_to_right, nodes_first, ranks, uniform
from ardm_guidance.sites.graphs import PAD, masked_graphs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_orders_visit_every_site_once_and_padding_last():
    sites = masked_graphs(torch.tensor([0, 1, 3, 4]), 4)
    for order in (uniform(sites, generator=generator()), nodes_first(sites, generator=generator())):
        assert torch.equal(order.sort(-1).values, torch.arange(10).expand(4, 10))
        padded = sites.gather(-1, order) == PAD
        assert (padded[:, 1:] >= padded[:, :-1]).all()


def test_nodes_come_first():
    sites = masked_graphs(torch.tensor([4, 3]), 4)
    order = nodes_first(sites, generator=generator())
    assert (order[0, :4] < 4).all()
    assert (order[1, :3] < 3).all()


def test_every_order_is_equally_likely():
    draws = 60_000
    order = uniform(torch.zeros(draws, 4), generator=generator())
    code = order @ torch.tensor([64, 16, 4, 1])
    share = torch.tensor(
        [(code == 64 * a + 16 * b + 4 * c + d).sum() for a, b, c, d in permutations(range(4))]
    )
    expected = draws / 24
    chi_square = ((share - expected) ** 2 / expected).sum()
    assert chi_square < 23 + 4 * (2 * 23) ** 0.5  # mean and deviation of chi-square with 23


def test_left_to_right_is_the_identity_with_padding_moved():
    sites = torch.tensor([[0, PAD, 0], [0, 0, 0]])
    assert left_to_right(sites).tolist() == [[0, 2, 1], [0, 1, 2]]


def test_ranks_invert_orders():
    keys = torch.rand(5, 7, generator=generator())
    order = by_keys(torch.zeros(5, 7), keys)
    assert torch.equal(ranks(order).gather(-1, order), torch.arange(7).expand(5, 7))
