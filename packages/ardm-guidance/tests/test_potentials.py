import pytest
import torch

from ardm_guidance.guidance.potentials import Hard, LateStart, Product, Reward, Tempered, per_class
from ardm_guidance.guidance.proposals import bootstrap, fully_adapted
from ardm_guidance.guidance.smc import run
from ardm_guidance.models.ardm import OrderAgnosticARDM
from ardm_guidance.models.orders import uniform
from ardm_guidance.sites.constraints import Connectivity, Valence
from ardm_guidance.sites.graphs import MASK, masked_graphs, to_dense


def number_of_ones(sites):
    return (sites == 1).sum(-1).double()


PARTIAL = torch.tensor([[0, MASK, 1, MASK], [MASK, 1, 1, MASK]])
AT = torch.tensor([1, 0])


def every(rows, num_classes):
    return torch.ones(len(rows), num_classes, dtype=torch.bool)


def test_looking_ahead_is_the_value_after_the_class():
    reward = Reward(number_of_ones, 2.0)
    assert reward(PARTIAL).tolist() == [2.0, 4.0]
    assert reward.look_ahead(PARTIAL, AT, every(PARTIAL, 3)).tolist() == [
        [2.0, 4.0, 2.0],
        [4.0, 6.0, 4.0],
    ]


def test_products_and_powers_act_on_logarithms():
    reward = Reward(number_of_ones)
    both = Product([reward, Tempered(reward, 0.5)])
    torch.testing.assert_close(both(PARTIAL), 1.5 * reward(PARTIAL))
    expected = 1.5 * reward.look_ahead(PARTIAL, AT, every(PARTIAL, 3))
    torch.testing.assert_close(both.look_ahead(PARTIAL, AT, every(PARTIAL, 3)), expected)
    torch.testing.assert_close(per_class(both, PARTIAL, AT, every(PARTIAL, 3)), expected)


def test_an_empty_product_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Product([])


@pytest.mark.parametrize("start", [0, 2, 3, 4, 9])
def test_late_starts_look_ahead_as_they_value(start):
    late = LateStart(Reward(number_of_ones), start)
    rows = torch.tensor([[MASK, 1, MASK, MASK], [0, MASK, 1, MASK], [1, MASK, 1, 1]])
    at = torch.tensor([0, 1, 1])
    torch.testing.assert_close(
        late.look_ahead(rows, at, every(rows, 2)), per_class(late, rows, at, every(rows, 2))
    )
    complete = torch.tensor([[1, 1, 0, 1]])
    assert late(complete).item() == 3.0


class Counted:
    """A reward that counts the objects it is asked about, and refuses to be asked of none."""

    def __init__(self):
        self.asked = 0

    def __call__(self, sites):
        assert len(sites)
        self.asked += len(sites)
        return number_of_ones(sites)


def test_only_allowed_classes_are_asked():
    reward = Counted()
    allowed = torch.tensor([[True, False, True], [False, False, False]])
    values = per_class(Reward(reward), PARTIAL, AT, allowed)
    infinity = float("inf")
    assert values.tolist() == [[1.0, -infinity, 1.0], [-infinity] * 3]
    assert reward.asked == 2
    assert (per_class(Reward(reward), PARTIAL, AT, allowed & False) == -infinity).all()


def test_late_starts_ask_nothing_before():
    reward = Counted()
    late = LateStart(Reward(reward), 4)
    assert late(PARTIAL).tolist() == [0.0, 0.0]
    assert (late.look_ahead(PARTIAL, AT, every(PARTIAL, 2)) == 0.0).all()
    assert reward.asked == 0
    late.look_ahead(torch.tensor([[0, 1, 1, MASK], [0, MASK, 1, MASK]]), AT, every(PARTIAL, 2))
    assert reward.asked == 2


class Uniform(torch.nn.Module):
    """Equal logits for two node and three edge classes."""

    def forward(self, sites):
        logits = torch.zeros(*sites.shape, 3)
        logits[:, :3, 2] = -torch.inf
        return logits


def test_conditioning_on_the_valence_has_the_normaliser_in_the_weight():
    """All graphs of three atoms: the constant is the share of those within the valences."""
    capacities = torch.tensor([3, 1])
    constraint = Hard(Valence(capacities.tolist(), 3))
    sites = masked_graphs(torch.full((4000, 8), 3), 3)
    generator = torch.Generator().manual_seed(0)
    finished = run(
        OrderAgnosticARDM(Uniform()), constraint, sites, uniform(sites, generator=generator),
        torch.rand(sites.shape, generator=generator, dtype=torch.float64), generator=generator,
    )  # fmt: skip
    grids = [range(2)] * 3 + [range(3)] * 3
    every = torch.cartesian_prod(*(torch.tensor(list(grid)) for grid in grids))
    nodes, edges = to_dense(every)
    share = (edges.clamp(min=0).sum(-1) <= capacities[nodes]).all(-1).double().mean()
    z = finished.log_normalizer.exp()
    assert abs(z.mean() - share) <= 3.5 * z.std() / len(z) ** 0.5
    assert (constraint(finished.sites.flatten(0, 1)) == 0).all()
    expected = (edges.clamp(min=0).sum(-1) <= capacities[nodes]).all(-1)
    assert torch.equal(constraint(every) == 0, expected)


CAPACITIES = torch.tensor([3, 1])


def three_atoms():
    """All graphs of three atoms of two classes, and which are connected within the valences."""
    grids = [range(2)] * 3 + [range(3)] * 3
    every = torch.cartesian_prod(*(torch.tensor(list(grid)) for grid in grids))
    nodes, edges = to_dense(every)
    within = (edges.clamp(min=0).sum(-1) <= CAPACITIES[nodes]).all(-1)
    joined = (edges > 0).float()
    reach = (torch.eye(3) + joined + joined @ joined).bool().all(-1).all(-1)
    return every, within & reach


def test_a_hard_potential_asks_complete_objects_for_the_property_itself():
    every, connected = three_atoms()
    hard = Hard(Connectivity(CAPACITIES.tolist(), 3))
    assert torch.equal(hard(every) == 0, connected)
    # Three atoms without a bond, `C.C.C`.
    assert hard(torch.zeros(1, 6, dtype=torch.long)) == -torch.inf


@pytest.mark.parametrize("constraint", [Connectivity, Valence])
def test_a_hard_potential_is_one_function_whichever_way_it_is_asked(constraint):
    hard = Hard(constraint(CAPACITIES.tolist(), 3))
    source = torch.Generator().manual_seed(1)
    every, _ = three_atoms()
    rows = every[torch.randint(len(every), (300,), generator=source)]
    rows = torch.where(torch.rand(rows.shape, generator=source) < 0.4, MASK, rows)
    at = torch.randint(6, (300,), generator=source)
    rows = rows.scatter(1, at[:, None], MASK)
    allowed = torch.arange(3) < torch.where(at < 3, 2, 3)[:, None]
    ahead = hard.look_ahead(rows, at, allowed)
    for k in range(3):
        fits = allowed[:, k]
        after = hard(rows[fits].scatter(1, at[fits, None], k))
        assert torch.equal(ahead[fits, k].double(), after.double())
        assert (ahead[~fits, k] == -torch.inf).all()


@pytest.mark.parametrize("propose", [bootstrap, fully_adapted])
def test_the_share_of_connected_graphs_comes_out_by_either_proposal(propose):
    _, connected = three_atoms()
    sites = masked_graphs(torch.full((4000, 6), 3), 3)
    generator = torch.Generator().manual_seed(2)
    finished = run(
        OrderAgnosticARDM(Uniform()), Hard(Connectivity(CAPACITIES.tolist(), 3)), sites,
        uniform(sites, generator=generator),
        torch.rand(sites.shape, generator=generator, dtype=torch.float64),
        propose=propose, generator=generator,
    )  # fmt: skip
    z, share = finished.log_normalizer.exp(), connected.double().mean()
    assert abs(z.mean() - share) <= 3.5 * z.std() / len(z) ** 0.5
    assert 0.02 < share < 0.5
