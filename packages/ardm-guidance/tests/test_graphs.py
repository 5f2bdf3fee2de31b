import pytest
import torch

from ardm_guidance.sites.graphs import (
    MASK,
    PAD,
    masked_graphs,
    node_count,
    pairs,
    site_count,
    sizes,
    to_dense,
    to_sites,
)


def test_sites_and_dense_graphs_are_inverse():
    sites = torch.arange(2 * 15).reshape(2, 15)
    graphs = to_dense(sites)
    assert torch.equal(to_sites(graphs), sites)
    assert torch.equal(graphs.edges, graphs.edges.transpose(-1, -2))
    assert (graphs.edges.diagonal(dim1=-2, dim2=-1) == PAD).all()


def test_edge_sites_follow_the_upper_triangle():
    assert to_dense(torch.arange(6)).edges.tolist() == [[PAD, 3, 4], [3, PAD, 5], [4, 5, PAD]]


def test_masked_graphs_have_the_sites_of_their_size():
    number = torch.arange(6)
    sites = masked_graphs(number, 5)
    assert torch.equal(sizes(sites), number)
    assert (sites == MASK).sum(-1).tolist() == [site_count(n) for n in range(6)]
    i, j = pairs(5)
    assert torch.equal(sites[:, 5:] == MASK, j < number[:, None])
    assert (i < j).all()


def test_counts_of_sites_that_no_graph_has_are_refused():
    assert [node_count(site_count(n)) for n in range(40)] == list(range(40))
    with pytest.raises(ValueError, match="got 7"):
        node_count(7)


def test_tables_made_without_gradients_serve_training():
    pairs.cache_clear()
    with torch.inference_mode():
        to_dense(torch.zeros(28, dtype=torch.long))
        i, _ = pairs(7)
    weight = torch.ones(7, requires_grad=True)
    weight[i].square().sum().backward()
    assert torch.equal(weight.grad, 2 * torch.bincount(i, minlength=7).float())
