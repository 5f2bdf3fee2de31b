import pytest
import torch

from neural_lam.connectivity import connected, k_nearest, within_radius


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(60, 2, generator=generator).double(), torch.rand(
        25, 2, generator=generator
    ).double()


def pairs(edges):
    return {tuple(edge) for edge in edges.T.tolist()}


def test_edges_within_a_radius_are_those_of_brute_force(points):
    senders, receivers = points
    expected = (torch.cdist(senders, receivers) <= 0.2).nonzero().T
    edges = within_radius(senders, receivers, 0.2)
    assert pairs(edges) == pairs(expected)
    assert torch.equal(edges[1], edges[1].sort().values)


def test_nearest_senders_are_those_of_brute_force(points):
    senders, receivers = points
    edges = k_nearest(senders, receivers, 4)
    expected = torch.cdist(receivers, senders).topk(4, largest=False).indices
    assert torch.equal(edges[0].reshape(25, 4), expected.sort(1).values)
    assert torch.equal(edges[1].reshape(25, 4)[:, 0], torch.arange(25))


def test_a_node_left_out_is_an_error(points):
    senders, receivers = points
    edges = within_radius(senders, receivers, 0.05)
    with pytest.raises(ValueError, match="of 60 sender nodes have no edge"):
        connected(edges, 60, 25)
    whole = within_radius(senders, receivers, 2.0)
    assert connected(whole, 60, 25) is whole


@pytest.mark.parametrize("k", [0, 61])
def test_an_impossible_number_of_neighbours_is_refused(points, k):
    with pytest.raises(ValueError, match="k must be between 1 and the 60 senders"):
        k_nearest(*points, k)
