import pytest
import torch

from neural_lam.graphs.connectivity import connected, containing_triangle, k_nearest, within_radius
from neural_lam.graphs.mesh import icosahedral_levels, triangular_levels


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


def barycentric(corners, point):
    """Weights of the corners that give the point, up to a factor, by solving for them."""
    columns = corners if corners.shape[1] == 3 else torch.cat((corners, torch.ones(3, 1)), 1)
    right = point if len(point) == 3 else torch.cat((point, torch.ones(1)))
    return torch.linalg.solve(columns.T, right)


@pytest.mark.parametrize("sphere", [False, True])
def test_a_receiver_hears_the_triangle_it_lies_in(sphere):
    generator = torch.Generator().manual_seed(0)
    if sphere:
        level = icosahedral_levels(3)[0]
        receivers = torch.randn(300, 3, generator=generator).double()
        receivers = receivers / receivers.norm(dim=1, keepdim=True)
    else:
        receivers = torch.rand(300, 2, generator=generator).double()
        level = triangular_levels(receivers, 0.11)[0]
    edges = containing_triangle(level.positions, level.triangles, receivers)
    corners, of = edges.reshape(2, -1, 3)
    assert torch.equal(of, torch.arange(300)[:, None].expand(-1, 3))
    known = {tuple(sorted(t)) for t in level.triangles.tolist()}
    for nodes, receiver in zip(corners, receivers, strict=True):
        assert tuple(nodes.tolist()) in known
        weights = barycentric(level.positions[nodes], receiver)
        assert float(weights.min()) > -1e-9


def test_a_receiver_outside_all_triangles_is_an_error():
    receivers = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)).double()
    level = triangular_levels(receivers, 0.2)[0]
    far = torch.cat((receivers, torch.tensor([[3.0, 3.0]]).double()))
    with pytest.raises(ValueError, match="1 of 21 receiver nodes lie outside the mesh"):
        containing_triangle(level.positions, level.triangles, far)


def test_a_vertex_lies_in_its_triangle():
    level = icosahedral_levels(2)[0]
    edges = containing_triangle(level.positions, level.triangles, level.positions)
    own = (edges[0] == edges[1]).reshape(-1, 3).any(1)
    assert bool(own.all())
