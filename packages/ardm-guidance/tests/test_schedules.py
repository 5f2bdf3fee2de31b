from itertools import combinations

import pytest
import torch

from ardm_guidance.guidance.toys import consistent, objects, total_variation
from ardm_guidance.models.ardm import OrderAgnosticARDM, sample
from ardm_guidance.models.parallel import Schedule, best_schedule, sample_parallel, schedule_cost
from ardm_guidance.sites.constraints import Connectivity, Valence
from ardm_guidance.sites.graphs import MASK, masked_graphs


def brute_force(step_costs, num_calls):
    dimension = len(step_costs)
    return min(
        schedule_cost(step_costs, [0, *rest])
        for calls in range(1, num_calls + 1)
        for rest in combinations(range(1, dimension), calls - 1)
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_program_equals_brute_force(seed):
    generator = torch.Generator().manual_seed(seed)
    for dimension in range(1, 11):
        costs = torch.rand(dimension, generator=generator, dtype=torch.float64)
        if seed % 2:
            costs = costs.sort(descending=True).values  # what a good model has
        for num_calls in range(1, dimension + 1):
            best = best_schedule(costs, num_calls)
            assert best.cost == pytest.approx(brute_force(costs, num_calls), rel=1e-12)
            assert schedule_cost(costs, best.starts) == pytest.approx(best.cost, rel=1e-12)
            assert len(best.starts) <= num_calls
            assert best.starts[0] == 0


def test_as_many_calls_as_steps_cost_the_bound_where_costs_fall():
    costs = torch.linspace(2, 0.1, 9, dtype=torch.float64)
    best = best_schedule(costs, 9)
    assert best.starts == list(range(9))
    assert best.cost == pytest.approx(float(costs.sum()))


@pytest.mark.parametrize("calls", [0, 4])
def test_impossible_numbers_of_calls_are_refused(calls):
    with pytest.raises(ValueError, match="between 1 and 3"):
        best_schedule(torch.ones(3), calls)


def test_costs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        best_schedule(torch.tensor([1.0, torch.nan]), 1)


@pytest.fixture
def toy():
    generator = torch.Generator().manual_seed(0)
    joint = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    joint = joint.flatten().log_softmax(0).view(3, 3, 3)
    order = torch.rand(20_000, 3, generator=generator).argsort(-1)
    noise = torch.rand(20_000, 3, generator=generator, dtype=torch.float64)
    return joint, torch.full((20_000, 3), MASK), order, noise


def test_one_step_a_call_is_ancestral_sampling(toy):
    joint, sites, order, noise = toy
    base = consistent(joint)
    parallel = sample_parallel(base, sites, order, noise, Schedule([0, 1, 2], 0.0))
    expected = sample(base, sites, order, noise)
    assert torch.equal(parallel.sites, expected.sites)
    torch.testing.assert_close(parallel.log_prob, expected.log_prob)


def test_one_call_draws_the_product_of_the_marginals(toy):
    joint, sites, order, noise = toy
    drawn = sample_parallel(consistent(joint), sites, order, noise, Schedule([0], 0.0)).sites
    p = joint.exp()
    product = torch.einsum("a,b,c->abc", p.sum((1, 2)), p.sum((0, 2)), p.sum((0, 1))).flatten()
    share = (drawn[:, None] == objects(3, 3)).all(-1).double().mean(0)
    error = (product * (1 - product) / len(drawn)).sqrt()
    assert ((share - product).abs() <= 4.5 * error).all()
    assert total_variation(product, p.flatten()) > 0.05


class Flat(torch.nn.Module):
    """The same logits everywhere: 3 atom classes and bonds of order 0 to 2."""

    def forward(self, sites):
        logits = torch.tensor([0.1, 0.8, -0.2])
        return logits.expand(*sites.shape, 3)


@pytest.mark.parametrize("number", [2, 3, 5, 10])
@pytest.mark.parametrize("constraint", [Valence, Connectivity])
def test_constraints_hold_however_many_sites_a_call_takes(number, constraint):
    capacities = [4, 2, 1]
    base = OrderAgnosticARDM(Flat(), [Valence(capacities, 3), constraint(capacities, 3)])
    sites = masked_graphs(torch.full((600,), 4), 4)
    source = torch.Generator().manual_seed(number)
    order = torch.rand(sites.shape, generator=source).argsort(-1)
    noise = torch.rand(sites.shape, generator=source, dtype=torch.float64)
    drawn = sample_parallel(base, sites, order, noise, Schedule(list(range(0, 10, number)), 0.0))
    assert Valence(capacities, 3).holds(drawn.sites).all()


def test_the_log_probability_of_a_parallel_draw_is_exact():
    """Frequencies of the objects of two atoms against what the draws say of themselves."""
    base = OrderAgnosticARDM(Flat(), [Valence([2, 2, 1], 3)])
    count = 60_000
    sites = masked_graphs(torch.full((count,), 2), 2)
    source = torch.Generator().manual_seed(3)
    order = torch.tensor([0, 2, 1]).expand(count, 3)
    noise = torch.rand(sites.shape, generator=source, dtype=torch.float64)
    drawn = sample_parallel(base, sites, order, noise, Schedule([0], 0.0))
    found, inverse = drawn.sites.unique(dim=0, return_inverse=True)
    total = 0.0
    for index in range(len(found)):
        rows = inverse == index
        assert len(drawn.log_prob[rows].unique()) == 1
        p = float(drawn.log_prob[rows][0].exp())
        total += p
        share = float(rows.double().mean())
        assert abs(share - p) <= 4.5 * (p * (1 - p) / count) ** 0.5
    assert total == pytest.approx(1.0, abs=1e-5)
