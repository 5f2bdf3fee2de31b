"""Ways to draw, on laws that can be enumerated."""

from typing import NamedTuple

import pytest
import torch

from ardm_guidance import ARDG, BSDG, FADG, BestOf, Importance, Parallel, Plain
from ardm_guidance.guidance.toys import (
    MarginalRatio,
    consistent,
    inconsistent,
    law,
    objects,
    total_variation,
)
from ardm_guidance.methods.counting import evaluations
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.shell.randomness import keyed_uniform
from ardm_guidance.sites.graphs import MASK, masked_graphs
from ardm_guidance.training.sampling import pool

D, K = 4, 3
POWERS = K ** torch.arange(D - 1, -1, -1)


class Start(NamedTuple):
    sites: torch.Tensor
    order: torch.Tensor
    noise: torch.Tensor


class Toy:
    """A model that can be enumerated, as the methods meet it."""

    def __init__(self, base):
        self.base = base

    def ardm(self):
        return self.base

    def start(self, index, seed):
        keys = keyed_uniform(seed, 0, index, (2 * D,), torch.float64)
        return Start(torch.full((len(index), D), MASK), keys[:, :D].argsort(-1), keys[:, D:])


def random_law(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 0.8 * torch.randn((K,) * D, generator=generator, dtype=torch.float64)
    return logits.flatten().log_softmax(0).view((K,) * D)


@pytest.fixture(scope="module")
def toy():
    return Toy(inconsistent(random_law(1), 0.6, generator=torch.Generator().manual_seed(2)))


@pytest.fixture(scope="module")
def guide(toy):
    """What takes the model's law in a uniform order to another law."""
    own = law(toy.base, D, K).exp().mean(0).log().view((K,) * D)
    return MarginalRatio(random_law(0), own)


@pytest.fixture(scope="module")
def target():
    return random_law(0).exp().flatten()


def shares(sites, weights):
    counts = torch.zeros(K**D, dtype=torch.float64)
    counts.index_add_(0, (sites * POWERS).sum(-1), weights)
    return counts / counts.sum()


def even(drawn):
    return shares(drawn.sites, torch.ones(len(drawn.sites), dtype=torch.float64))


@pytest.mark.parametrize(("kind", "number", "bias"), [(FADG, 3, 0.015), (BSDG, 8, 0.1)])
def test_reweighting_groups_removes_most_of_the_bias_of_few_particles(
    toy, guide, target, kind, number, bias
):
    """Laws without the noise of selection: each particle counts with its weight."""
    index = torch.arange(100_000)
    done = kind(number).groups(toy, guide, index, 0)
    sites = done.sites.flatten(0, 1)
    within = total_variation(shares(sites, done.log_weights.softmax(-1).flatten()), target)
    pooled = kind(number, reweight=True).draw(toy, guide, index, 0)
    assert torch.equal(pooled.sites, sites)
    across = total_variation(shares(pooled.sites, pooled.log_weight.exp()), target)
    assert within > bias
    assert across < within / 2


def test_a_shared_order_is_right_once_groups_are_reweighted(toy, guide, target):
    index = torch.arange(60_000)
    method = FADG(8, shared_order=True, reweight=True)
    drawn = method.draw(toy, guide, index, 0)
    across = total_variation(shares(drawn.sites, drawn.log_weight.exp()), target)
    done = method.groups(toy, guide, index, 0)
    weights = done.log_weights.softmax(-1).flatten()
    assert total_variation(shares(drawn.sites, weights), target) > 2 * across
    with pytest.raises(ValueError, match="biased without reweight"):
        FADG(8, shared_order=True)


@pytest.mark.parametrize("method", [BSDG(128), FADG(32), Importance(128)], ids=str)
def test_one_of_many_particles_follows_the_target(toy, guide, target, method):
    """10 000 draws of 81 objects: pure noise has a total variation of .036 on average."""
    drawn = method.draw(toy, guide, torch.arange(10_000), 3)
    assert total_variation(even(drawn), target) < 0.05
    assert float(drawn.log_normalizer.exp().mean()) == pytest.approx(1, abs=0.02)
    assert bool((drawn.log_weight > -torch.inf).all())


def test_the_best_of_many_is_no_draw(toy, guide, target):
    drawn = BestOf(32).draw(toy, guide, torch.arange(5000), 3)
    assert total_variation(even(drawn), target) > 0.3
    best = guide(drawn.sites)
    torch.testing.assert_close(drawn.log_weight, best)
    assert bool(drawn.log_normalizer.isnan().all())


def test_one_particle_of_fadg_is_ardg_with_its_weight(toy, guide):
    index = torch.arange(50)
    alone, one = ARDG().draw(toy, guide, index, 1), FADG(1).draw(toy, guide, index, 1)
    assert torch.equal(alone.sites, one.sites)
    assert bool(alone.log_weight.isnan().all())
    assert torch.equal(one.log_weight, one.log_normalizer)


def test_plain_samples_weigh_nothing(toy):
    drawn = Plain().draw(toy, None, torch.arange(20_000), 2)
    own = law(toy.base, D, K).exp().mean(0)
    assert total_variation(even(drawn), own) < 0.04
    assert bool((drawn.log_weight == 0).all())
    assert bool((drawn.log_normalizer == 0).all())


def test_guides_are_needed_or_refused(toy, guide):
    index = torch.arange(2)
    for method in (ARDG(), BSDG(), FADG(), BestOf(), Importance()):
        with pytest.raises(ValueError, match=f"{type(method).__name__} needs a guide"):
            method.draw(toy, None, index, 0)
    for method in (Plain(), Parallel()):
        with pytest.raises(ValueError, match="takes no guide"):
            method.draw(toy, guide, index, 0)
    with pytest.raises(ValueError, match="num_particles"):
        FADG(0)
    with pytest.raises(ValueError, match="threshold must be between 0 and 1, got 7"):
        FADG(threshold=7)


def test_parallel_sampling_finds_its_schedule_from_the_model():
    """Two sites are copies of the two before: a schedule that knows draws copies alone."""
    joint = torch.full((K,) * D, -torch.inf, dtype=torch.float64)
    for i in range(K):
        for j in range(K):
            joint[i, j, i, j] = -torch.tensor(9.0).log()

    class Forwards(Toy):
        def start(self, index, seed):
            return super().start(index, seed)._replace(order=torch.arange(D).expand(len(index), D))

    # Whatever can't be conditioned on has no law: it is never asked for.
    model = Forwards(consistent(joint))
    method = Parallel(num_calls=2)
    drawn = method.draw(model, None, torch.arange(3000), 0)
    assert method.schedule(model, 0).starts == [0, 2] or method.schedule(model, 0).cost < 2.3
    assert bool((drawn.sites[:, :2] == drawn.sites[:, 2:]).all())
    assert bool(drawn.log_weight.isnan().all())
    assert bool((drawn.log_prob < 0).all())


def test_as_many_calls_as_sites_draw_what_plain_sampling_draws(toy):
    index = torch.arange(500)
    drawn = Parallel(num_calls=D).draw(toy, None, index, 4)
    assert len(Parallel(num_calls=99).schedule(toy, 4).starts) <= D
    if len(Parallel(num_calls=D).schedule(toy, 4).starts) == D:
        assert torch.equal(drawn.sites, Plain().draw(toy, None, index, 4).sites)


def test_pooled_rows_are_drawn_in_proportion_to_their_weight():
    rows = [
        {"log_weight": float(torch.tensor(w).log()), "log_normalizer": 0.5 * g, "group": g}
        for g, w in enumerate([1.0, 2.0, 0.5, 6.5])
    ]
    drawn, effective = pool(rows, 40, 0)
    counts = [sum(row is one for one in drawn) for row in rows]
    for count, expected in zip(counts, (4, 8, 2, 26), strict=True):
        assert abs(count - expected) <= 1
    normalizers = torch.tensor([0.0, 0.5, 1.0, 1.5]).exp()
    assert effective == pytest.approx(float(normalizers.sum() ** 2 / normalizers.square().sum()))


def test_rows_of_networks_are_counted_and_nothing_is_left_behind():
    network = GraphTransformer(4, 4, 4, width=8, pair_width=4, num_layers=1, num_heads=1)
    sites = masked_graphs(torch.tensor([3, 4]), 4)
    with torch.no_grad(), evaluations(network, network) as count:
        network(sites)
        network.at(sites, torch.tensor([0, 1]))
        network.states(sites[:1])
    assert count.rows == 5
    network(sites)
    assert count.rows == 5
    assert "states" not in vars(network)


def test_objects_of_a_toy_are_what_they_are_called():
    assert torch.equal((objects(D, K) * POWERS).sum(-1), torch.arange(K**D))
