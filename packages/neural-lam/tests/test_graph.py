import itertools

import pytest
import torch

from neural_lam.graphs.construction import Grid, Rectangular
from neural_lam.graphs.graph import edge_set, feature_rows, read_graph, write_graph


def lattice(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2).double()


def graph_over(*shape, **options):
    return Rectangular(**options).build(Grid(lattice(*shape), shape))


def all_edges(graph):
    return (graph.g2m, *graph.m2m, *graph.up, *graph.down, graph.m2g)


def test_features_are_differences_in_units_of_the_longest_edge():
    graph = graph_over(27, 33, hierarchical=True)
    longest = max(
        (nodes[edges.senders] - nodes[edges.receivers]).norm(dim=1).max()
        for nodes, edges in zip(graph.mesh, graph.m2m, strict=True)
    )
    ends = [
        (graph.grid, graph.mesh[0]),
        *zip(graph.mesh, graph.mesh, strict=True),
        *itertools.pairwise(graph.mesh),
        *((coarse, fine) for fine, coarse in itertools.pairwise(graph.mesh)),
        (graph.mesh[0], graph.grid),
    ]
    for edges, (senders, receivers) in zip(all_edges(graph), ends, strict=True):
        difference = (senders[edges.senders] - receivers[edges.receivers]) / longest
        expected = torch.cat((difference.norm(dim=1, keepdim=True), difference), 1).float()
        torch.testing.assert_close(edges.edge_features, expected, rtol=0, atol=2e-6)
        assert (edges.num_senders, edges.num_receivers) == (len(senders), len(receivers))
        assert torch.equal(edges.receivers, edges.receivers.sort().values)


def test_on_a_regular_grid_features_repeat():
    graph = graph_over(40, 41)
    for edges in (graph.g2m, *graph.m2m, graph.m2g):
        assert len(edges.features) < len(edges.senders) / 10


def test_few_repeats_are_not_looked_up():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(50, 3, generator=generator)
    features[7] = features[3]
    distinct, row = feature_rows(features)
    assert torch.equal(distinct, features)
    assert torch.equal(row, torch.arange(50))
    twice = features.repeat(2, 1)
    distinct, row = feature_rows(twice)
    assert len(distinct) == 49
    assert torch.equal(distinct[row], twice)


def test_rows_are_distinct_however_many_parts_they_are_taken_in():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    features = values[torch.randint(300, (100_000,), generator=generator)]
    distinct, row = feature_rows(features)
    assert len(distinct) == len(torch.unique(features, dim=0)) == 300
    torch.testing.assert_close(distinct[row], features.float(), rtol=0, atol=0)


def test_edges_of_many_parts_have_the_features_of_a_few():
    grid = lattice(200, 210)
    edges = torch.stack((torch.arange(42_000), torch.arange(42_000).flip(0)))
    whole = edge_set(grid, grid, edges, 3.0)
    difference = (grid[whole.senders] - grid[whole.receivers]) / 3
    expected = torch.cat((difference.norm(dim=1, keepdim=True), difference), dim=1)
    torch.testing.assert_close(whole.edge_features, expected.float(), rtol=0, atol=1e-5)


def test_the_order_of_edges_does_not_matter():
    points = lattice(4, 4)
    edges = torch.tensor([[0, 5, 3, 9], [2, 1, 2, 0]])
    a, b = (edge_set(points, points, e, 1.0) for e in (edges, edges[:, [1, 3, 0, 2]]))
    assert torch.equal(a.receivers, b.receivers)
    assert torch.equal(a.features[a.row], b.features[b.row])


def test_a_graph_survives_its_file(tmp_path):
    graph = graph_over(18, 18, hierarchical=True)
    write_graph(graph, tmp_path / "graph.pt")
    again = read_graph(tmp_path / "graph.pt")
    assert type(again) is type(graph)
    for one, other in zip(all_edges(again), all_edges(graph), strict=True):
        assert torch.equal(one.edge_index, other.edge_index)
        assert torch.equal(one.edge_features, other.edge_features)
        assert one[4:] == other[4:]
    for one, other in zip(again.mesh_features, graph.mesh_features, strict=True):
        assert torch.equal(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.pt"]


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "graph.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"graph\.pt: (no such|not a) graph file"):
        read_graph(path)
