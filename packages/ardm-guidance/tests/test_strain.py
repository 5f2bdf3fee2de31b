"""Triple bonds stay out of small rings, on every partial graph."""

import pytest
import torch
from rdkit import Chem

from ardm_guidance import GraphTransformer, MoleculeAlphabet, MoleculeARDM, Unstrained
from ardm_guidance.models.ardm import OrderAgnosticARDM, sample
from ardm_guidance.scores.evaluation import is_strained
from ardm_guidance.sites.graphs import MASK, PAD, masked_graphs, site_count
from ardm_guidance.sites.molecules import read_smiles
from ardm_guidance.sites.strain import in_small_ring

ALPHABET = MoleculeAlphabet(max_atoms=9)


def encoded(*smiles):
    return torch.stack([ALPHABET.encode(read_smiles(text)) for text in smiles])


@pytest.mark.parametrize(
    ("smiles", "fine"),
    [
        ("C1C#C1", False), ("C1CC#C1", False), ("C1CC#CC1", False), ("C1CC#CCC1", False),
        ("C1CCC#CCC1", True), ("C1CCCC#CCC1", True), ("CC#CC", True), ("C1CC1C#N", True),
        ("C#CC1CC1C#C", True), ("C1C2CC#CC12", False), ("C=C1CCC1", True),
    ],
)  # fmt: skip
def test_rings_are_told_apart(smiles, fine):
    assert bool(Unstrained(8).holds(encoded(smiles))[0]) is fine
    molecule = Chem.MolFromSmiles(smiles)
    assert is_strained(molecule) is not fine


def random_graphs(number, size, seed, hidden):
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([0.55, 0.25, 0.1, 0.1])
    pairs = torch.multinomial(shares, number * size * (size - 1) // 2, True, generator=generator)
    pairs = pairs.view(number, -1)
    masked = torch.rand(pairs.shape, generator=generator) < hidden
    nodes = torch.zeros(number, size, dtype=torch.long)
    return torch.cat([nodes, pairs.masked_fill(masked, MASK)], 1)


def way_round(orders, u, v):
    """Length of the shortest way from u to v without their own bond, by breadth first search."""
    seen, frontier, length = {u}, {u}, 0
    while frontier:
        length += 1
        following = set()
        for one in frontier:
            for other in range(len(orders)):
                if orders[one][other] > 0 and {one, other} != {u, v}:
                    following.add(other)
        if v in following:
            return length
        frontier = following - seen
        seen |= following
    return 99


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_ways_round_are_those_of_a_search(size):
    sites = random_graphs(60, size, size, 0.3)
    orders = torch.zeros(60, size, size, dtype=torch.long)
    u, v = torch.triu_indices(size, size, 1)
    orders[:, u, v] = orders[:, v, u] = sites[:, size:].clamp(min=0)
    found = in_small_ring(orders)
    for graph, row in zip(orders.tolist(), found.tolist(), strict=True):
        ends = zip(u.tolist(), v.tolist(), strict=True)
        assert row == [way_round(graph, *pair) <= 5 for pair in ends]


def test_each_class_is_allowed_where_it_leaves_no_strain():
    constraint = Unstrained(8)
    sites = random_graphs(50, 6, 1, 0.5)
    sites = sites[constraint.holds(sites)]
    every = torch.arange(sites.shape[-1]).expand(sites.shape)
    allowed = constraint(sites, every)
    assert allowed.shape == (*sites.shape, 8)
    for position in range(sites.shape[-1]):
        for label in range(4):
            after = sites.clone()
            after[:, position] = label
            expected = constraint.holds(after) if position >= 6 else torch.ones(len(sites)).bool()
            assert torch.equal(allowed[:, position, label], expected)
    assert bool(allowed[..., 0].all())


def test_samples_are_connected_valid_and_unstrained():
    """A network that wants triple bonds everywhere doesn't get strain."""
    torch.manual_seed(0)
    network = GraphTransformer(8, 4, 9, width=8, pair_width=8, num_layers=1, num_heads=1)
    with torch.no_grad():
        network.edge_logits[1].bias.copy_(torch.tensor([0.0, 1.0, 0.0, 2.0]))
        network.node_logits[1].bias[0] = 4.0
    with pytest.warns(UserWarning, match="network"):
        free, bound = (MoleculeARDM(network, unstrained=flag) for flag in (False, True))
    shares = []
    for model in (free, bound):
        model.size_counts[5:10] = 1
        model.average.load_state_dict(network.state_dict())
        with torch.no_grad():
            drawn = model.draw(torch.arange(150), 0).sites
        smiles = [model.alphabet.smiles(graph) for graph in drawn]
        molecules = [Chem.MolFromSmiles(text) for text in smiles]
        assert all(molecule is not None and "." not in text
                   for molecule, text in zip(molecules, smiles, strict=True))  # fmt: skip
        shares.append(sum(map(is_strained, molecules)) / len(molecules))
    assert shares[0] > 0.2
    assert shares[1] == 0


def test_padding_and_empty_batches():
    constraint = Unstrained(8)
    sites = masked_graphs(torch.tensor([2, 4]), 5)
    assert bool(constraint.holds(sites).all())
    assert (sites == PAD).sum() > 0
    positions = torch.tensor([[0, 6], [5, 9]])
    assert bool(constraint(sites, positions).all())
    none = torch.zeros(0, site_count(5), dtype=torch.long)
    assert constraint.holds(none).shape == (0,)
    assert constraint(none, none).shape == (0, site_count(5), 8)


def test_a_model_with_the_constraint_alone_samples():
    network = GraphTransformer(8, 4, 6, width=8, pair_width=8, num_layers=1, num_heads=1)
    model = OrderAgnosticARDM(network, [Unstrained(8)])
    sites = masked_graphs(torch.full((20,), 6), 6)
    noise = torch.rand(sites.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = sample(model, sites, torch.arange(sites.shape[-1]).expand(sites.shape), noise)
    assert bool(Unstrained(8).holds(drawn.sites).all())
    assert bool(drawn.log_prob.isfinite().all())
