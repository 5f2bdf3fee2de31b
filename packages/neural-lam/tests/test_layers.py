import pytest
import torch

from neural_lam.graph import edge_set
from neural_lam.layers import MLP, Edges, InteractionNet

D = 5


@pytest.fixture
def edges():
    generator = torch.Generator().manual_seed(1)
    senders, receivers = (torch.randint(0, 4, (n, 2), generator=generator).double() for n in (7, 6))
    index = torch.stack(
        (
            torch.randint(0, 7, (20,), generator=generator),
            torch.randint(0, 6, (20,), generator=generator),
        )
    )
    return Edges(edge_set(senders, receivers, index, 3.0))


def states(count, *, seed, batch=3):
    return torch.randn(
        count, batch, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def by_definition(net, senders, receivers, edge_state):
    """The equations of the docstring with concatenations, one edge at a time."""
    total = torch.zeros_like(receivers)
    new_edges = []
    for number, (s, r) in enumerate(
        zip(net.edges.senders.tolist(), net.edges.receivers.tolist(), strict=True)
    ):
        message = net.edge_mlp(torch.cat((edge_state[number], senders[s], receivers[r]), -1))
        total[r] += message
        new_edges.append(edge_state[number] + message)
    return receivers + net.node_mlp(torch.cat((receivers, total), -1)), torch.stack(new_edges)


def test_an_interaction_network_is_its_definition(edges):
    net = InteractionNet(edges, D).double()
    args = states(7, seed=0), states(6, seed=1), states(20, seed=2)
    for found, expected in zip(net(*args), by_definition(net, *args), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_static_rows_give_what_whole_edges_give(edges):
    net = InteractionNet(edges, D).double()
    table = states(len(edges.features), seed=3)[:, 0]
    whole = table[edges.row].unsqueeze(1).expand(-1, 3, -1)
    nodes = states(7, seed=0), states(6, seed=1)
    for found, expected in zip(net(*nodes, table), net(*nodes, whole), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_order_of_senders_does_not_matter(edges):
    net = InteractionNet(edges, D).double()
    args = states(7, seed=0), states(6, seed=1), states(20, seed=2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    expected, _ = net(*args)
    edges.senders = torch.argsort(order)[edges.senders]
    found, _ = net(args[0][order], *args[1:])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_receiver_without_edges_still_gets_its_update():
    lonely = Edges(
        edge_set(
            torch.zeros(1, 2).double(), torch.zeros(3, 2).double(), torch.tensor([[0], [1]]), 1.0
        )
    )
    net = InteractionNet(lonely, D, update_edges=False).double()
    receivers = states(3, seed=1)
    found, _ = net(states(1, seed=0), receivers, states(1, seed=2))
    expected = receivers[2] + net.node_mlp(
        torch.cat((receivers[2], torch.zeros_like(receivers[2])), -1)
    )
    torch.testing.assert_close(found[2], expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences(edges):
    net = InteractionNet(edges, D).double()
    args = tuple(states(n, seed=n, batch=1).requires_grad_() for n in (7, 6, 20))
    assert torch.autograd.gradcheck(lambda *a: net(*a), args)


def test_an_mlp_ends_normalised():
    output = MLP(4, 8, 16).double()(
        torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    torch.testing.assert_close(
        output.mean(-1), torch.zeros(10, dtype=torch.float64), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        output.var(-1, unbiased=False), torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-3
    )
