import math

import pytest
import torch

from ardm_guidance.data.files import read_molecules
from ardm_guidance.guidance.discriminator import Discriminator, losses
from ardm_guidance.guidance.potentials import Potential, per_class
from ardm_guidance.guidance.proposals import Guided, fully_adapted
from ardm_guidance.guidance.smc import run
from ardm_guidance.models.ardm import OrderAgnosticARDM, hide, log_prob
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.models.orders import uniform
from ardm_guidance.sites.constraints import Valence
from ardm_guidance.sites.graphs import MASK, PAD, masked_graphs, pairs, to_dense, to_sites
from ardm_guidance.sites.molecules import MoleculeAlphabet


@pytest.fixture(scope="module")
def molecules():
    return read_molecules("qm9-sample", MoleculeAlphabet()).sites[:160].long()


def every(rows, num_classes):
    return torch.ones(len(rows), num_classes, dtype=torch.bool)


def network():
    torch.manual_seed(0)
    return GraphTransformer(8, 4, 9, width=16, pair_width=8, num_layers=1, num_heads=2)


def trained():
    """A discriminator whose heads say something."""
    discriminator = Discriminator(network())
    torch.manual_seed(1)
    for head in (discriminator.value, discriminator.node_ahead, discriminator.edge_ahead):
        torch.nn.init.normal_(head.weight)
    return discriminator.double()


def partial(sites, share=0.5, seed=0):
    hidden = torch.rand(sites.shape, generator=torch.Generator().manual_seed(seed)) < share
    return sites.masked_fill(hidden & (sites != PAD), MASK)


def test_it_starts_without_any_guidance(molecules):
    discriminator = Discriminator(network())
    ardm = OrderAgnosticARDM(network(), [Valence(MoleculeAlphabet().capacities)])
    rows = partial(molecules[:20])
    at = (rows == MASK).long().argmax(-1)[:, None]
    guided = Guided(ardm, discriminator).log_probs_at(rows, at)
    torch.testing.assert_close(
        guided.exp(), ardm.log_probs_at(rows, at).double().exp(), rtol=0, atol=1e-6
    )


def test_looking_ahead_in_one_call_equals_asking_for_each_class(molecules):
    discriminator = trained()
    rows = partial(molecules[-40:])
    rows[:, 0] = MASK
    at = (rows == MASK).long().argmax(-1)
    assert (at < 9).all()
    values = discriminator.look_ahead(rows, at, every(rows, 8))
    for c in range(8):
        one = discriminator.logits(rows)[1][torch.arange(40), at, c]
        # The last layer is evaluated at one site instead of all, which rounds differently.
        torch.testing.assert_close(values[:, c], one, rtol=0, atol=1e-12)


def test_the_last_site_is_judged_on_complete_objects(molecules):
    discriminator = trained()
    rows = molecules[:40].clone()
    rows[:, 0] = MASK
    at = torch.zeros(40, dtype=torch.long)
    expected = per_class(discriminator, rows, at, every(rows, 8))
    assert torch.equal(discriminator.look_ahead(rows, at, every(rows, 8)), expected)
    mixed = torch.cat([rows[:20], partial(molecules[:20], 0.9)])
    values = discriminator.look_ahead(mixed, at, every(mixed, 8))
    torch.testing.assert_close(values[:20], expected[:20], rtol=0, atol=1e-12)
    assert not torch.equal(
        values[20:], per_class(discriminator, mixed[20:], at[20:], every(mixed[20:], 8))
    )


class Silent(Potential):
    """Must not be asked."""

    def forward(self, sites):
        raise AssertionError(sites)

    def look_ahead(self, sites, positions, allowed):
        raise AssertionError(sites)

    def at(self, sites, positions):
        raise AssertionError(sites)


def test_where_one_class_is_left_neither_network_is_asked():
    base = OrderAgnosticARDM(Silent(), [Valence(MoleculeAlphabet().capacities)])
    fluorine = MoleculeAlphabet().capacities.index(1)
    # The fluorine is bound to the second atom: no bond is left to the third one.
    sites = torch.tensor([[fluorine, 0, MASK, 1, MASK, MASK]])
    at, value = torch.tensor([[4]]), torch.tensor([0.7])
    proposal = fully_adapted(base.log_probs_at(sites, at)[:, 0], Silent(), sites, at, value)
    assert proposal.log_probs[0].exp().tolist() == [1.0] + [0.0] * 7
    assert proposal.log_adjustment.item() == proposal.log_values[0, 0].item() == value.item()
    assert Guided(base, Silent()).log_probs_at(sites, at)[0, 0, 0] == 0


def test_the_last_site_is_judged_though_one_class_is_left(molecules):
    discriminator = trained()
    base = OrderAgnosticARDM(network().double(), [Valence(MoleculeAlphabet().capacities)])
    fluorine = MoleculeAlphabet().capacities.index(1)
    sites = torch.tensor([[fluorine, 0, 0, 1, MASK, 1]])
    at, value = torch.tensor([[4]]), torch.tensor([0.7])
    log_probs = base.log_probs_at(sites, at)[:, 0]
    proposal = fully_adapted(log_probs, discriminator, sites, at, value)
    whole = sites.masked_fill(sites == MASK, 0)
    torch.testing.assert_close(proposal.log_adjustment, discriminator(whole), check_dtype=False)


def test_weights_of_a_run_are_of_the_target_whatever_the_path(molecules):
    discriminator = trained()
    ardm = OrderAgnosticARDM(network().double(), [Valence(MoleculeAlphabet().capacities)])
    generator = torch.Generator().manual_seed(0)
    sites = masked_graphs(torch.full((3, 4), 4), 4)
    order = uniform(sites, generator=generator)
    noise = torch.rand(sites.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        finished = run(ardm, discriminator, sites, order, noise, threshold=0.0, generator=generator)
        target = discriminator(finished.sites.flatten(0, 1))
        rows = finished.sites.flatten(0, 1), order.flatten(0, 1)
        expected = log_prob(ardm, *rows) + target - log_prob(Guided(ardm, discriminator), *rows)
    torch.testing.assert_close(
        finished.log_weights.flatten(), expected, rtol=0, atol=1e-5, check_dtype=False
    )


def test_judgement_does_not_depend_on_the_numbering(molecules):
    discriminator = trained()
    rows = partial(molecules[:30])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    nodes, edges = to_dense(rows)
    moved = to_sites(type(to_dense(rows))(nodes[:, order], edges[:, order][:, :, order]))
    torch.testing.assert_close(discriminator(moved), discriminator(rows), rtol=0, atol=1e-10)
    assert pairs(9).shape == (2, 36)


def test_it_learns_to_tell_two_sets_apart(molecules):
    """Real molecules against the same with every element permuted: C, N, O for O, C, N."""
    torch.manual_seed(0)
    generated = molecules.clone()
    nodes = generated[:, :9]
    nodes[(nodes >= 0) & (nodes < 3)] = (nodes[(nodes >= 0) & (nodes < 3)] + 2) % 3
    sites = torch.cat([molecules, generated])
    real = torch.cat([torch.ones(160), torch.zeros(160)])
    discriminator = Discriminator(network())
    optimizer = torch.optim.Adam(discriminator.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    history = []
    for _ in range(50):
        order = uniform(sites, generator=generator)
        shown = torch.randint(5, 46, (320,), generator=generator)
        rows = hide(sites, order, shown)
        loss = losses(discriminator, sites, rows, real).mean(0)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        history.append(loss.detach())
    first, last = torch.stack(history[:1]).mean(0), torch.stack(history[-10:]).mean(0)
    assert first[0] == pytest.approx(math.log(2), abs=1e-6)
    assert (last < 0.35).all()


@pytest.mark.parametrize("part", [slice(0, 16), slice(16, None)], ids=["nodes", "pairs"])
def test_the_value_reads_the_states_of_nodes_and_of_pairs(molecules, part):
    torch.manual_seed(0)
    trunk = GraphTransformer(8, 4, 9, width=16, pair_width=8, num_layers=2, num_heads=2)
    discriminator = Discriminator(trunk).eval()
    with torch.no_grad():
        discriminator.value.weight[:, part].normal_()
        values = discriminator(molecules[:40])
        h, e = (states.detach() for states in discriminator._states(molecules[:40]))
    num_nodes = h.shape[1]
    expected = []
    for row, nodes, edges in zip(molecules[:40], h, e, strict=True):
        here = nodes[row[:num_nodes] != PAD].mean(0), edges[row[num_nodes:] != PAD].mean(0)
        expected.append(float(discriminator.value(torch.cat(here)).detach()))
    torch.testing.assert_close(values, torch.tensor(expected).double(), rtol=1e-4, atol=1e-5)
    assert values.std() > 1e-3
