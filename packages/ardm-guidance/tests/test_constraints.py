from itertools import product

import pytest
import torch

from ardm_guidance.data.files import read_molecules
from ardm_guidance.sites.constraints import Connectivity, Valence, _bridges, closure, completable
from ardm_guidance.sites.graphs import MASK, PAD, masked_graphs, to_dense
from ardm_guidance.sites.molecules import MoleculeAlphabet

CAPACITIES = (3, 1)
NODES = 4


@pytest.fixture(scope="module")
def complete():
    """Every graph of four nodes with two node and three edge classes within the valences."""
    grids = [range(2)] * NODES + [range(3)] * 6
    sites = torch.tensor(list(product(*grids)))
    nodes, edges = to_dense(sites)
    fits = edges.clamp(min=0).sum(-1) <= torch.tensor(CAPACITIES)[nodes]
    return sites[fits.all(-1)]


@pytest.fixture(scope="module")
def partial(complete):
    """Parts of such graphs."""
    generator = torch.Generator().manual_seed(0)
    rows = complete[torch.randint(len(complete), (400,), generator=generator)]
    shown = torch.rand(400, 1, generator=generator)
    hidden = torch.rand(rows.shape, generator=generator) > shown
    return rows.masked_fill(hidden, MASK)


def completions(partial, complete):
    """Which complete graphs agree with each partial one, ``(B, M)``."""
    return ((partial[:, None] == complete) | (partial[:, None] == MASK)).all(-1)


def every(sites):
    return torch.arange(sites.shape[-1]).expand(sites.shape)


def classes_with(agrees, complete, num_classes=3):
    """Classes that some agreeing graph has at each site, ``(B, D, K)``."""
    one_hot = torch.nn.functional.one_hot(complete, num_classes).float()
    return torch.einsum("bm,mdk->bdk", agrees.float(), one_hot) > 0


def test_valence_keeps_exactly_the_classes_with_a_completion(partial, complete):
    allowed = Valence(CAPACITIES, 3)(partial, every(partial))
    expected = classes_with(completions(partial, complete), complete)
    hidden = partial == MASK
    assert hidden.sum() > 1000
    assert torch.equal(allowed[hidden], expected[hidden])


def connected(complete):
    return closure(to_dense(complete).edges > 0).bool().all(-1).all(-1)


def test_connectivity_never_excludes_a_class_with_a_connected_completion(partial, complete):
    allowed = Connectivity(CAPACITIES, 3)(partial, every(partial))
    whole = complete[connected(complete)]
    expected = classes_with(completions(partial, whole), whole)
    hidden = partial == MASK
    assert expected[hidden].any()
    assert allowed[hidden][expected[hidden]].all()


def test_look_ahead_finds_nearly_every_dead_end(partial, complete):
    possible = completions(partial, complete[connected(complete)]).any(-1)
    found = completable(partial, torch.tensor(CAPACITIES))
    assert (found | ~possible).all()
    assert (~possible).sum() > 50
    assert (found == possible).float().mean() > 0.99


def test_connectivity_asks_for_each_class_that_fits(partial):
    """The answer is that of the definition, class by class, without any of the shortcuts."""
    check = Connectivity(CAPACITIES, 3)
    hidden = (partial == MASK).nonzero()[:300]
    rows, at = partial[hidden[:, 0]], hidden[:, 1:]
    fits = check.valence(rows, at)
    possible = torch.zeros_like(fits)
    for c in range(fits.shape[-1]):
        tried = rows.scatter(-1, at, c)
        fine = fits[:, 0, c]
        possible[fine, 0, c] = completable(tried[fine], torch.tensor(CAPACITIES))
    expected = torch.where(possible.any(-1, keepdim=True), possible, fits)
    assert torch.equal(check(rows, at), expected)


def test_no_graphs_are_no_answers():
    assert completable(torch.zeros(0, 10, dtype=torch.long), torch.tensor(CAPACITIES)).shape == (0,)


def test_where_nothing_connects_the_valence_decides():
    sites = torch.tensor([[1, 1, 1, 1, MASK, MASK]])  # three fluorines, two of them bound
    at = torch.tensor([[4]])
    assert torch.equal(Connectivity((4, 1))(sites, at), Valence((4, 1))(sites, at))


def test_the_last_link_must_be_a_bond():
    sites = torch.tensor([[0, 0, 0, 1, 0, MASK]])
    assert Connectivity((4,))(sites, torch.tensor([[5]])).tolist() == [[[False, True, True, True]]]


def test_positions_select_from_all_sites():
    sites = masked_graphs(torch.tensor([4, 3]), 4)
    for constraint in (Valence((4, 2)), Connectivity((4, 2))):
        whole = constraint(sites, every(sites))
        some = torch.tensor([[0, 7], [5, 1]])
        expected = torch.stack([whole[b, some[b]] for b in range(2)])
        assert torch.equal(constraint(sites, some), expected)


def test_bridges_are_the_edges_whose_removal_disconnects():
    generator = torch.Generator().manual_seed(1)
    n = 7
    graph = (torch.rand(300, n, n, generator=generator) < 0.3).triu(1)
    graph = graph | graph.transpose(-1, -2)
    graph = graph[closure(graph).bool().all(-1).all(-1)]
    found = _bridges(graph, torch.ones(len(graph), n, dtype=torch.bool))
    assert len(graph) > 50
    for i in range(n):
        for j in range(i):
            without = graph.clone()
            without[:, i, j] = without[:, j, i] = False
            cut = ~closure(without).bool().all(-1).all(-1) & graph[:, i, j]
            assert torch.equal(found[:, i, j], cut)


def test_every_state_on_the_way_to_a_molecule_is_allowed():
    alphabet = MoleculeAlphabet()
    source = read_molecules("qm9-sample", alphabet).sites[::50].long()
    generator = torch.Generator().manual_seed(2)
    hidden = torch.rand(source.shape, generator=generator) > torch.rand(
        len(source), 1, generator=generator
    )
    partial = source.masked_fill(hidden & (source != PAD), MASK)
    allowed = Connectivity(alphabet.capacities)(partial, every(partial))
    own = allowed.gather(-1, source.clamp(min=0)[..., None])[..., 0]
    assert own[partial == MASK].all()


def test_atom_classes_of_one_capacity_share_their_answer(partial):
    doubled = Connectivity((3, 1, 3, 1), 3)
    single = Connectivity(CAPACITIES, 3)
    allowed, expected = doubled(partial, every(partial)), single(partial, every(partial))
    assert torch.equal(allowed[:, :NODES, :2], expected[:, :NODES, :2])
    assert torch.equal(allowed[:, :NODES, 2:], expected[:, :NODES, :2])
    assert torch.equal(allowed[:, NODES:, :3], expected[:, NODES:])


@pytest.mark.parametrize(
    "capacities", [[1, 1, 1], [2, 1, 1, 1], [2, 2, 1, 1, 1, 1], [1, 1, 1, 3, 1, 1]]
)
def test_too_little_room_for_the_bonds_that_join_the_pieces_is_seen(capacities):
    """All pairs are open, so that only counting tells: m pieces need 2 (m - 1) ends of bonds."""
    table = torch.tensor([1, 2, 3])
    nodes = torch.tensor([capacities]) - 1
    number = len(capacities)
    sites = torch.cat([nodes, torch.full((1, number * (number - 1) // 2), MASK)], 1)
    assert sum(capacities) < 2 * (number - 1)
    assert not completable(sites, table)
    # One more place at the first atom is enough, as a tree with these degrees exists.
    short = 2 * (number - 1) - sum(capacities)
    roomy = torch.tensor([1, 2, 3, capacities[0] + short])
    assert completable(sites.index_fill(1, torch.tensor([0]), 3), roomy)
