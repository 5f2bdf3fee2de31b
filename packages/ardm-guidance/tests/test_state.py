"""A model with a state samples what its stateless form samples, alone and guided."""

import pytest
import torch

from ardm_guidance import Guided, Reward, Stateful, bootstrap, fully_adapted, run, sample
from ardm_guidance.models.ardm import step_log_probs
from ardm_guidance.models.state import Stateless, with_state
from ardm_guidance.sites.graphs import MASK

D, K = 6, 3


class Recurrent:
    """What a site is depends on all that came before, by a sum that is kept.

    It also counts its steps: asked for whole objects it would take many more.
    """

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(D, K, 4, generator=generator, dtype=torch.float64)
        self.outputs = torch.randn(4, D, K, generator=generator, dtype=torch.float64)
        self.extended = 0

    def begin(self, sites):
        state = torch.zeros(len(sites), 4, dtype=torch.float64)
        for at in range(sites.shape[-1]):
            shown = (sites[:, at] != MASK)[:, None]
            state = state + torch.where(shown, self.inputs[at, sites[:, at].clamp(min=0)], 0.0)
        return {"sum": state, "shown": sites != MASK}

    def log_probs(self, state, at):
        logits = torch.einsum("bc,cbk->bk", state["sum"], self.outputs[:, at])
        return logits.log_softmax(-1)

    def extend(self, state, at, value):
        self.extended += len(at)
        new = ~state["shown"].gather(1, at[:, None])
        added = torch.where(new, self.inputs[at, value.clamp(min=0)], 0.0)
        return {"sum": state["sum"] + added, "shown": state["shown"].scatter(1, at[:, None], True)}

    def select(self, state, rows):
        return {name: values[rows] for name, values in state.items()}


class Whole:
    """The same law, computed anew for every partial object."""

    def __init__(self, model):
        self.model = model

    def log_probs_at(self, sites, positions):
        state = self.model.begin(sites)
        return torch.stack([self.model.log_probs(state, at) for at in positions.unbind(1)], 1)


def start(*shape, clamped=0):
    generator = torch.Generator().manual_seed(1)
    sites = torch.full((*shape, D), MASK)
    sites[..., :clamped] = 1
    order = torch.rand(sites.shape, generator=generator).argsort(-1)
    return sites, order, torch.rand(sites.shape, generator=generator, dtype=torch.float64)


def reward(sites):
    return ((sites == 2).sum(-1) - (sites == 0).sum(-1)).double()


@pytest.mark.parametrize("clamped", [0, 2])
def test_plain_samples_are_the_same(clamped):
    model = Recurrent()
    drawn, whole = (sample(m, *start(40, clamped=clamped)) for m in (model, Whole(model)))
    assert torch.equal(drawn.sites, whole.sites)
    torch.testing.assert_close(drawn.log_prob, whole.log_prob)
    assert bool((drawn.sites[:, :clamped] == 1).all())
    assert model.extended == 40 * D


@pytest.mark.parametrize("propose", [bootstrap, fully_adapted])
def test_states_follow_their_particles_through_resampling(propose):
    """A state of another particle would change what comes next."""
    model, results = Recurrent(), []
    for base in (model, Whole(model)):
        generator = torch.Generator().manual_seed(2)
        groups = start(7, 5, clamped=1)
        results.append(
            run(base, Reward(reward, 1.5), *groups, propose=propose, threshold=1.1,
                generator=generator)
        )  # fmt: skip
    ours, other = results
    assert bool(ours.resampled.all())
    assert not torch.equal(ours.ancestors, torch.arange(5).expand_as(ours.ancestors))
    assert torch.equal(ours.sites, other.sites)
    torch.testing.assert_close(ours.log_weights, other.log_weights)


def test_guided_conditionals_keep_the_state_of_the_model():
    model = Recurrent()
    drawn, whole = (sample(Guided(m, Reward(reward)), *start(30)) for m in (model, Whole(model)))
    assert torch.equal(drawn.sites, whole.sites)
    torch.testing.assert_close(drawn.log_prob, whole.log_prob)


def test_steps_add_up_and_shown_sites_cost_nothing():
    drawn = step_log_probs(Recurrent(), *start(9, clamped=2))
    ranks = start(9, clamped=2)[1].argsort(-1)
    torch.testing.assert_close(
        drawn.log_probs.sum(-1), sample(Recurrent(), *start(9, clamped=2)).log_prob
    )
    assert bool((drawn.log_probs.gather(1, ranks[:, :2]) == 0).all())
    assert bool((drawn.log_probs.gather(1, ranks[:, 2:]) < 0).all())


def test_models_without_a_state_get_one():
    whole = Whole(Recurrent())
    assert isinstance(Recurrent(), Stateful)
    assert not isinstance(whole, Stateful)
    assert isinstance(with_state(whole), Stateless)
    sites = start(4)[0]
    at = torch.tensor([0, 3, 1, 1])
    after = with_state(whole).extend(sites, at, torch.tensor([2, 1, 0, 2]))
    assert after.gather(1, at[:, None])[:, 0].tolist() == [2, 1, 0, 2]
    assert int((after == MASK).sum()) == 4 * (D - 1)
