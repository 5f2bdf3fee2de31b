"""Rows are computed once; answers are those of the trunk itself."""

import pytest
import torch

from ardm_guidance.guidance.discriminator import Discriminator
from ardm_guidance.guidance.potentials import Tempered
from ardm_guidance.guidance.sharing import same_weights, shared_trunks
from ardm_guidance.methods.counting import evaluations
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.models.once import Once
from ardm_guidance.models.quick import Quick
from ardm_guidance.models.trunks import Trunk
from ardm_guidance.sites.graphs import MASK, masked_graphs
from ardm_guidance.sites.shortcuts import shortcuts


def trunk(seed=0):
    torch.manual_seed(seed)
    return GraphTransformer(3, 4, 4, width=8, pair_width=8, num_layers=2, num_heads=2).double()


def questions(number=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    full = torch.randint(3, (number, 10), generator=generator)
    hidden = torch.rand(number, 10, generator=generator) < 0.6
    sites = full.masked_fill(hidden, MASK)
    return sites, torch.randint(10, (number,), generator=generator)


class Counted:
    """The rows that a trunk has computed."""

    def __init__(self, base):
        self.base, self.rows = base, []
        function = base.states_at
        base.states_at = lambda sites, at: (self.rows.append(len(sites)), function(sites, at))[1]


@torch.no_grad()
def test_answers_are_those_of_the_trunk():
    base, (sites, at) = trunk(), questions()
    once = Once(base)
    for asked in (slice(None), slice(3, 9), slice(5, 12), slice(0, 0)):
        for found, known in zip(
            once.states_at(sites[asked], at[asked]), base.states_at(sites[asked], at[asked]),
            strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(found, known)
    torch.testing.assert_close(once.at(sites, at), base.at(sites, at))
    torch.testing.assert_close(once(sites), base(sites))


@torch.no_grad()
def test_equal_rows_are_computed_once_and_the_last_ones_not_again():
    base, (sites, at) = trunk(), questions(6)
    once, counted = Once(base), Counted(base)
    doubled, places = sites.repeat(3, 1), at.repeat(3)
    h, e = once.states_at(doubled, places)
    assert counted.rows == [6]
    assert torch.equal(h[:6], h[12:])
    assert torch.equal(e[:6], e[6:12])
    once.states_at(doubled[4:9], places[4:9])
    assert counted.rows == [6]
    # Another place in the same object is another question.
    once.states_at(sites, (at + 1) % 10)
    assert counted.rows == [6, 6]


@torch.no_grad()
def test_where_looking_costs_a_wait_only_the_same_tensors_are_remembered():
    base, (sites, at) = trunk(), questions(6)
    once, counted = Once(base), Counted(base)
    with shortcuts(False):
        first = once.states_at(sites, at)
        assert once.states_at(sites, at)[0] is first[0]
        assert counted.rows == [6]
        once.states_at(sites.clone(), at)
        assert counted.rows == [6, 6]


def test_a_gradient_is_never_taken_from_memory():
    base, (sites, at) = trunk(), questions()
    once = Once(base)
    with torch.no_grad():
        once.states_at(sites, at)
    once.at(sites, at)[0, 0].backward()
    assert base.node.weight.grad is not None


class Holder:
    def __init__(self, average):
        self.average = average


def test_equal_weights_are_one_trunk_and_come_back_afterwards():
    generator, same, other = trunk(), trunk(), trunk(1)
    assert same_weights(generator, same)
    assert not same_weights(generator, other)
    holder, guide = Holder(generator), Tempered(Discriminator(same), 2.0)
    with shared_trunks(holder, guide) as number:
        assert number == 1
        assert holder.average is guide.potential.trunk
        assert isinstance(holder.average, Trunk)
    assert holder.average is generator
    assert guide.potential.trunk is same
    with shared_trunks(holder, Discriminator(other)) as number:
        assert number == 2
    with pytest.raises(RuntimeError), shared_trunks(holder, guide):
        raise RuntimeError
    assert holder.average is generator


@torch.no_grad()
def test_a_generator_and_its_guide_ask_one_trunk_one_call():
    generator, (sites, at) = trunk(), questions()
    sites = torch.where(torch.arange(10) == at[:, None], MASK, sites)
    sites[:, :2] = MASK  # nothing is a last site
    guide = Discriminator(trunk(), head_width=5).double()
    torch.nn.init.normal_(guide.node_ahead.weight)
    allowed = torch.ones(12, 4, dtype=torch.bool)
    apart = generator.at(sites, at), guide.look_ahead(sites, at, allowed)
    with shared_trunks(Holder(generator), guide) as _, evaluations(guide) as count:
        logits = guide.trunk.at(sites, at)
        ahead = guide.look_ahead(sites, at, allowed)
    assert count.rows == 12
    torch.testing.assert_close((logits, ahead), apart)


@torch.no_grad()
@pytest.mark.parametrize("number", [0, 3, 8, 11])
def test_a_quick_trunk_is_the_trunk_in_bfloat16(number):
    base = trunk().float()
    sites, at = (part[:number] for part in questions())
    quick = Quick(base, num_rows=4, compiled=False)
    for found, known in zip(quick.states_at(sites, at), base.states_at(sites, at), strict=True):
        assert found.dtype == torch.float32
        assert found.shape == known.shape
        torch.testing.assert_close(found, known, atol=0.1, rtol=0.1)
    if number:
        assert not torch.equal(quick.states(sites)[0], base.states(sites)[0])


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_trunk_answers_any_number_of_rows():
    base = trunk().float().requires_grad_(False).eval()
    quick = Quick(base, num_rows=4)
    sites, at = questions()
    for number in (3, 4, 11):
        h, _ = quick.states_at(sites[:number], at[:number])
        torch.testing.assert_close(
            h, base.states_at(sites[:number], at[:number])[0], atol=0.1, rtol=0.1
        )
    empty = masked_graphs(torch.tensor([2, 4]), 4)
    assert quick.states(empty)[0].shape == (2, 4, 8)
