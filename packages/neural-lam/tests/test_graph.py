import pytest
import torch

from neural_lam.graph import edge_set, read_graph, rectangular_graph, write_graph


def lattice(rows, columns):
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), -1).reshape(-1, 2).double()


@pytest.mark.parametrize("shape", [(27, 27), (33, 49), (20, 31)])
def test_every_grid_node_is_encoded_and_decoded(shape):
    graph = rectangular_graph(lattice(*shape), shape)
    nodes = torch.arange(shape[0] * shape[1])
    assert torch.equal(graph.g2m.senders.unique(), nodes)
    assert torch.equal(graph.m2g.receivers.unique(), nodes)
    for edges in (graph.g2m, graph.m2m, graph.m2g):
        assert torch.equal(edges.receivers, edges.receivers.sort().values)


def test_distinct_rows_give_back_the_features_of_every_edge():
    graph = rectangular_graph(lattice(27, 33), (27, 33))
    longest = (graph.mesh[graph.m2m.senders] - graph.mesh[graph.m2m.receivers]).norm(dim=1).max()
    for edges, senders, receivers in (
        (graph.g2m, graph.grid, graph.mesh),
        (graph.m2m, graph.mesh, graph.mesh),
        (graph.m2g, graph.mesh, graph.grid),
    ):
        difference = (senders[edges.senders] - receivers[edges.receivers]) / longest
        expected = torch.cat((difference.norm(dim=1, keepdim=True), difference), 1).float()
        torch.testing.assert_close(edges.features[edges.row], expected, rtol=0, atol=2e-6)
        assert len(edges.features) < len(edges.senders) / 10


def test_the_order_of_edges_does_not_matter():
    points = lattice(4, 4)
    edges = torch.tensor([[0, 5, 3, 9], [2, 1, 2, 0]])
    a, b = (edge_set(points, points, e, 1.0) for e in (edges, edges[:, [1, 3, 0, 2]]))
    assert torch.equal(a.receivers, b.receivers)
    assert torch.equal(a.features[a.row], b.features[b.row])


def test_a_radius_that_leaves_grid_nodes_out_is_refused():
    with pytest.raises(ValueError, match="sender nodes have no edge"):
        rectangular_graph(lattice(27, 27), (27, 27), radius=0.4)


def test_a_graph_survives_its_file(tmp_path):
    graph = rectangular_graph(lattice(18, 18), (18, 18))
    write_graph(graph, tmp_path / "graph.pt")
    again = read_graph(tmp_path / "graph.pt")
    assert torch.equal(again.m2g.features, graph.m2g.features)
    assert again.g2m.num_receivers == graph.g2m.num_receivers
    assert [file.name for file in tmp_path.iterdir()] == ["graph.pt"]


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "graph.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"graph\.pt: (no such|not a) graph file"):
        read_graph(path)
