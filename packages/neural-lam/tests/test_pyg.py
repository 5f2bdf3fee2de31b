import sys

import pytest
import torch

from neural_lam.graphs.construction import Grid, Rectangular
from neural_lam.graphs.graph import Graph
from neural_lam.graphs.pyg import from_pyg, to_pyg


@pytest.fixture(params=[False, True])
def graph(request):
    y, x = torch.meshgrid(torch.arange(18), torch.arange(20), indexing="ij")
    grid = Grid(torch.stack((x, y), -1).reshape(-1, 2).double(), (18, 20))
    return Rectangular(hierarchical=request.param).build(grid)


def all_edges(graph):
    return (graph.g2m, *graph.m2m, *graph.up, *graph.down, graph.m2g)


def test_a_graph_goes_to_pytorch_geometric_and_back(graph):
    pytest.importorskip("torch_geometric")
    data = to_pyg(graph)
    assert data.validate()
    assert data.num_edges == sum(len(edges.senders) for edges in all_edges(graph))
    assert data["grid"].num_nodes == 360
    again = from_pyg(data)
    assert type(again) is Graph
    for one, other in zip(all_edges(again), all_edges(graph), strict=True):
        assert torch.equal(one.edge_index, other.edge_index)
        torch.testing.assert_close(one.edge_features, other.edge_features, rtol=0, atol=2e-6)
        assert one[4:] == other[4:]
    del data["grid", "g2m", "mesh_0"]
    with pytest.raises(ValueError, match="needs nodes or edges of type"):
        from_pyg(data)


def test_without_pytorch_geometric_it_says_what_is_missing(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(ValueError, match=r"install neural-lam\[pyg\]"):
        to_pyg(graph)
