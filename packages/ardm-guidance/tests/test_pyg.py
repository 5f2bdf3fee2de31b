import pytest
import torch

from ardm_guidance.data.files import read_molecules
from ardm_guidance.data.pyg import from_pyg, to_pyg
from ardm_guidance.sites.graphs import MASK, PAD, sizes
from ardm_guidance.sites.molecules import MoleculeAlphabet

pytest.importorskip("torch_geometric")


@pytest.fixture(scope="module")
def partial():
    sites = read_molecules("qm9-sample", MoleculeAlphabet()).sites[:40].long()
    hidden = torch.rand(sites.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    return sites.masked_fill(hidden & (sites != PAD), MASK)


def test_partial_graphs_make_the_round_trip(partial):
    assert torch.equal(from_pyg(to_pyg(partial), 9), partial)


def test_every_pair_is_an_edge_in_both_directions(partial):
    batch = to_pyg(partial)
    counts = sizes(partial)
    assert batch.num_graphs == 40
    assert torch.equal(batch.ptr.diff(), counts)
    assert batch.num_edges == int((counts * (counts - 1)).sum())
    assert batch.is_undirected()
    assert (batch.edge_attr == MASK).any()


def test_a_message_layer_reads_the_batch(partial):
    from torch_geometric.nn import GINEConv

    batch = to_pyg(partial)
    layer = GINEConv(torch.nn.Linear(4, 4), edge_dim=4)
    node, edge = torch.nn.Embedding(10, 4), torch.nn.Embedding(6, 4)
    out = layer(node(batch.x - PAD), batch.edge_index, edge(batch.edge_attr - PAD))
    assert out.shape == (int(sizes(partial).sum()), 4)
