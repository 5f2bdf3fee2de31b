import pytest
import torch

from neural_lam.graph import rectangular_graph
from neural_lam.predictors import GraphLAM

SHAPE = (12, 18)


def lattice(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2).double()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GraphLAM(
        rectangular_graph(lattice(*SHAPE), SHAPE), 3, 2, hidden_size=8, num_layers=2
    ).double()


def features(batch):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE[0] * SHAPE[1], batch, 3, generator=generator, dtype=torch.float64)


def test_members_of_a_batch_do_not_see_each_other(network):
    whole = features(4)
    expected = network(whole[:, 2:3], network.embed())
    torch.testing.assert_close(
        network(whole, network.embed())[:, 2:3], expected, rtol=1e-12, atol=1e-12
    )


def test_information_travels_no_further_than_the_edges_carry_it():
    graph = rectangular_graph(lattice(6, 60), (6, 60), num_levels=1)
    network = GraphLAM(graph, 3, 1, hidden_size=8, num_layers=2).double()
    x = torch.zeros(360, 1, 3, dtype=torch.float64)
    changed = x.clone()
    changed[0] = 1.0
    embedded = network.embed()
    change = (network(changed, embedded) - network(x, embedded)).detach()
    difference = change.abs().reshape(6, 60)
    # Encoded within one mesh node, two layers of neighbours, decoded from the nearest four nodes.
    assert difference[:, :8].max() > 0
    assert float(difference[:, 3 * (1 + 2 + 2) :].max()) == 0


def test_every_weight_takes_part(network):
    network(features(2), network.embed()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_coarse_level_shortens_the_way():
    x = torch.zeros(60 * 60, 1, 3, dtype=torch.float64)
    changed = x.clone()
    changed[0] = 1.0
    reached = []
    for num_levels in (1, 3):
        torch.manual_seed(0)
        graph = rectangular_graph(lattice(60, 60), (60, 60), num_levels=num_levels)
        network = GraphLAM(graph, 3, 1, hidden_size=8, num_layers=3).double()
        embedded = network.embed()
        reached.append(int(((network(changed, embedded) - network(x, embedded)).abs() > 0).sum()))
    assert reached[1] > 2 * reached[0]


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        GraphLAM(rectangular_graph(lattice(*SHAPE), SHAPE), 3, 2, num_layers=0)
