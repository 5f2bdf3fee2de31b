import pytest
import torch

from ardm_guidance.data.files import read_molecules
from ardm_guidance.models.networks import GraphTransformer, pair_features
from ardm_guidance.sites.graphs import MASK, PAD, Graphs, pairs, to_dense, to_sites
from ardm_guidance.sites.molecules import MoleculeAlphabet


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GraphTransformer(8, 4, 9, width=16, pair_width=8, num_layers=2, num_heads=2)


@pytest.fixture(scope="module")
def partial():
    sites = read_molecules("qm9-sample", MoleculeAlphabet()).sites[:60].long()
    hidden = torch.rand(sites.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    return sites.masked_fill(hidden & (sites != PAD), MASK)


def permute(sites, order):
    nodes, edges = to_dense(sites)
    return to_sites(Graphs(nodes[:, order], edges[:, order][:, :, order]))


def test_logits_do_not_depend_on_the_numbering_of_nodes(network, partial):
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    logits = network(partial)
    nodes = logits[:, order]
    i, j = pairs(9)
    table = torch.zeros(len(partial), 9, 9, 8)
    table[:, i, j] = table[:, j, i] = logits[:, 9:].nan_to_num(neginf=-1e9)
    expected = torch.cat([nodes[:, :9], table[:, order][:, :, order][:, i, j]], 1)
    moved = network(permute(partial, order)).nan_to_num(neginf=-1e9)
    present = (permute(partial, order) != PAD)[..., None]
    torch.testing.assert_close(
        torch.where(present, moved, 0), torch.where(present, expected, 0), rtol=0, atol=1e-10
    )


def test_single_precision_keeps_the_numbering_out_to_1e5(partial):
    """At the size of the demonstration."""
    torch.manual_seed(0)
    network = GraphTransformer(8, 4, 9, width=64, pair_width=32, num_layers=4).float()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    inverse = order.argsort()
    moved = network(permute(partial, order))[:, :9][:, inverse]
    present = (partial[:, :9] != PAD)[..., None]
    assert moved.dtype == torch.float32
    difference = torch.where(present, moved - network(partial)[:, :9], 0)
    assert difference.abs().max() <= 1e-5


def test_padding_changes_nothing(network):
    small = torch.tensor([[0, 2, MASK, 1, MASK, 0]])
    nodes, edges = to_dense(small)
    padded = Graphs(
        torch.nn.functional.pad(nodes, (0, 3), value=PAD),
        torch.nn.functional.pad(edges, (0, 3, 0, 3), value=PAD),
    )
    logits, wide = network(small), network(to_sites(padded))
    torch.testing.assert_close(wide[:, :3], logits[:, :3], rtol=0, atol=1e-12)
    j = pairs(6)[1]
    inside = (j < 3).nonzero()[:, 0] + 6
    torch.testing.assert_close(wide[:, inside], logits[:, 3:], rtol=0, atol=1e-12)


def test_classes_that_a_site_lacks_are_impossible(network, partial):
    logits = network(partial)
    assert (logits[:, 9:, 4:] == -torch.inf).all()
    assert logits[:, :9].isfinite().all()


@pytest.mark.parametrize("num_layers", [1, 3])
def test_one_site_gets_the_logits_that_all_would_give_it(partial, num_layers):
    torch.manual_seed(0)
    network = GraphTransformer(8, 4, 9, width=16, pair_width=8, num_layers=num_layers, num_heads=2)
    logits = network(partial)
    for site in range(45):
        at = torch.full((len(partial),), site)
        one = network.at(partial, at)
        assert torch.equal(one.isinf(), logits[:, site].isinf())
        torch.testing.assert_close(one, logits[:, site], rtol=0, atol=1e-12)


def test_gradients_of_one_site_are_those_among_all(network, partial):
    at = (partial == MASK).long().argmax(-1)
    rows = torch.arange(len(partial))
    both = []
    for values in (network.at(partial, at), network(partial)[rows, at]):
        network.zero_grad()
        values.masked_fill(values.isinf(), 0.0).sum().backward()
        both.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for one, every in zip(*both, strict=True):
        torch.testing.assert_close(one, every, rtol=0, atol=1e-11)


def test_walks_count_rings():
    square = torch.tensor([[0, 0, 0, 0, 1, 0, 1, 1, 0, 1]])
    features = pair_features(square)[0].exp() - 1
    opposite, side = features[1], features[0]
    assert opposite[0].round() == 2  # two paths of two bonds
    assert side[1].round() == 4  # walks of three bonds
    assert (features[:, -1] > 0).all()


def test_a_hidden_site_reaches_every_logit(network):
    empty = torch.full((1, 10), MASK)
    shown = empty.clone()
    shown[0, 0] = 3
    assert ((network(empty) - network(shown)).nan_to_num().abs().sum(-1) > 0).all()


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="num_heads must divide width, got 3 and 16"):
        GraphTransformer(8, 4, 9, width=16, num_heads=3)
