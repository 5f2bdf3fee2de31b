"""Exactness of guidance on laws that can be enumerated: D = 4, K = 3, 81 objects, 24 orders."""

import pytest
import torch

from ardm_guidance.guidance.potentials import LateStart, Potential, Reward, Tempered
from ardm_guidance.guidance.proposals import Guided, best_of, bootstrap, fully_adapted
from ardm_guidance.guidance.resampling import killing, multinomial, residual, stratified, systematic
from ardm_guidance.guidance.smc import run, select, select_groups
from ardm_guidance.guidance.toys import (
    MarginalRatio,
    consistent,
    inconsistent,
    law,
    objects,
    orders,
    total_variation,
)
from ardm_guidance.models.ardm import log_prob, sample
from ardm_guidance.sites.graphs import MASK, PAD

D, K = 4, 3
OBJECTS, ORDERS = objects(D, K), orders(D)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_law(seed):
    logits = 0.8 * torch.randn((K,) * D, generator=generator(seed), dtype=torch.float64)
    return logits.flatten().log_softmax(0).view((K,) * D)


TARGET = random_law(0)
Q = TARGET.exp().flatten()
CONSISTENT = consistent(random_law(1))
INCONSISTENT = inconsistent(random_law(1), 0.6, generator=generator(2))


def model_law(base):
    """The law of samples in a uniform order."""
    return law(base, D, K).exp().mean(0)


def discriminator(base):
    return MarginalRatio(TARGET, model_law(base).log().view((K,) * D))


def start(groups, particles, seed=0, shared=False):
    """Empty objects, uniform orders and noise, ``(G, N, D)``."""
    source = generator(seed)
    choice = torch.randint(24, (groups, 1 if shared else particles), generator=source)
    order = ORDERS[choice].expand(groups, particles, D)
    noise = torch.rand(groups, particles, D, generator=source, dtype=torch.float64)
    return torch.full((groups, particles, D), MASK), order, noise


def code(sites):
    return (sites * K ** torch.arange(D - 1, -1, -1)).sum(-1)


def shares(sites):
    counts = torch.bincount(code(sites).flatten(), minlength=K**D)
    return counts.double() / counts.sum()


# The laws, by enumeration.


def test_guidance_is_exact_with_consistent_conditionals():
    guided = law(Guided(CONSISTENT, discriminator(CONSISTENT)), D, K).exp().mean(0)
    assert total_variation(model_law(CONSISTENT), Q) > 0.1
    assert total_variation(guided, Q) < 1e-10


def test_guidance_is_biased_with_inconsistent_conditionals_though_the_discriminator_is_optimal():
    guided = law(Guided(INCONSISTENT, discriminator(INCONSISTENT)), D, K).exp().mean(0)
    unguided = total_variation(model_law(INCONSISTENT), Q)
    assert 0.005 < total_variation(guided, Q) < 0.5 * unguided


def test_orders_per_particle_are_exact_in_the_limit_and_shared_ones_are_not():
    weighted = law(INCONSISTENT, D, K).exp() * discriminator(INCONSISTENT)(OBJECTS).exp()
    normalizers = weighted.sum(-1)
    per_particle = weighted.mean(0) / weighted.mean(0).sum()
    shared = (weighted / normalizers[:, None]).mean(0)
    reweighted = (normalizers[:, None] * (weighted / normalizers[:, None])).sum(0)
    assert normalizers.max() / normalizers.min() > 1.05
    assert total_variation(per_particle, Q) < 1e-10
    assert total_variation(shared, Q) > 1e-3
    assert total_variation(reweighted / reweighted.sum(), Q) < 1e-10


# The engine, against these laws.


@pytest.mark.parametrize("resample", [multinomial, stratified, systematic, residual, killing])
@pytest.mark.parametrize("propose", [bootstrap, fully_adapted])
def test_the_normalizer_and_every_object_are_unbiased(propose, resample):
    finished = run(
        INCONSISTENT, discriminator(INCONSISTENT), *start(20_000, 8, 3),
        propose=propose, resample=resample, threshold=0.98, generator=generator(4),
    )  # fmt: skip
    z = finished.log_normalizer.exp()
    assert finished.resampled.any()
    assert abs(z.mean() - 1) <= 3 * z.std() / len(z) ** 0.5
    one_hot = torch.zeros(len(z), K**D, dtype=torch.float64)
    one_hot.scatter_add_(1, code(finished.sites), finished.log_weights.exp() / 8)
    error = one_hot.std(0) / len(z) ** 0.5
    assert ((one_hot.mean(0) - Q).abs() <= 4.5 * error).all()


def test_a_shared_order_tends_to_its_biased_law_and_group_weights_repair_it():
    finished = run(
        INCONSISTENT, discriminator(INCONSISTENT), *start(12_000, 64, 5, shared=True),
        generator=generator(6),
    )  # fmt: skip
    weighted = law(INCONSISTENT, D, K).exp() * discriminator(INCONSISTENT)(OBJECTS).exp()
    biased = (weighted / weighted.sum(-1, keepdim=True)).mean(0)
    within = finished.log_weights.softmax(-1)
    means = torch.zeros(12_000, K**D, dtype=torch.float64)
    means.scatter_add_(1, code(finished.sites), within)
    groups = select_groups(finished, generator=generator(7))
    assert total_variation(means.mean(0), biased) < 0.35 * total_variation(biased, Q)
    assert total_variation(means[groups].mean(0), Q) < 0.35 * total_variation(biased, Q)


def test_one_particle_of_each_group_follows_the_target():
    finished = run(
        INCONSISTENT, discriminator(INCONSISTENT), *start(20_000, 32, 8), generator=generator(9)
    )
    chosen = select(finished, torch.rand(20_000, generator=generator(10), dtype=torch.float64))
    chance = (2 * Q * (1 - Q) / (torch.pi * 20_000)).sqrt().sum() / 2  # expected of exact draws
    assert total_variation(shares(chosen), Q) < 1.5 * chance


# Identities.


@pytest.mark.parametrize("propose", [bootstrap, fully_adapted])
def test_one_particle_is_the_sampler_without_smc_bit_for_bit(propose):
    potential = discriminator(INCONSISTENT)
    sites, order, noise = start(3000, 1, 11)
    finished = run(
        INCONSISTENT, potential, sites, order, noise, propose=propose, generator=generator(12)
    )
    alone = Guided(INCONSISTENT, potential) if propose is fully_adapted else INCONSISTENT
    drawn, _ = sample(alone, sites[:, 0], order[:, 0], noise[:, 0])
    assert torch.equal(finished.sites[:, 0], drawn)


def test_without_resampling_the_weight_is_the_ratio_of_target_to_proposal():
    potential = discriminator(INCONSISTENT)
    sites, order, noise = start(50, 6, 13)
    for propose, proposal in (
        (bootstrap, INCONSISTENT),
        (fully_adapted, Guided(INCONSISTENT, potential)),
    ):
        finished = run(
            INCONSISTENT, potential, sites, order, noise,
            propose=propose, threshold=0.0, generator=generator(14),
        )  # fmt: skip
        rows = finished.sites.flatten(0, 1), order.flatten(0, 1)
        expected = log_prob(INCONSISTENT, *rows) + potential(rows[0]) - log_prob(proposal, *rows)
        torch.testing.assert_close(
            finished.log_weights.flatten(), expected, rtol=0, atol=1e-6, check_dtype=False
        )


def test_ancestry_leads_from_the_final_particles_to_the_first():
    finished = run(
        INCONSISTENT, discriminator(INCONSISTENT), *start(200, 8, 15), generator=generator(16)
    )
    assert finished.ancestors.shape == (D, 200, 8)
    kept = ~finished.resampled
    identity = torch.arange(8).expand(int(kept.sum()), 8)
    assert torch.equal(finished.ancestors[kept], identity)
    assert (finished.ess[finished.resampled] < 0.7 * 8).all()
    assert (finished.ess[kept] >= 0.7 * 8).all()


def test_shown_sites_and_padding_stay_and_carry_no_weight():
    class Flat(Potential):
        def forward(self, sites):
            return torch.zeros(len(sites)).double()

        def look_ahead(self, sites, positions, allowed):
            return torch.zeros(allowed.shape).double()

    sites, order, noise = start(40, 4, 17)
    sites = sites.clone()
    sites[..., 1] = 2
    finished = run(CONSISTENT, Flat(), sites, order, noise, generator=generator(18))
    assert (finished.sites[..., 1] == 2).all()
    torch.testing.assert_close(finished.log_weights, torch.zeros(40, 4).double())
    sites[..., 3] = PAD
    finished = run(CONSISTENT, Flat(), sites, order, noise, generator=generator(18))
    assert (finished.sites[..., 3] == PAD).all()


def test_groups_that_die_have_a_zero_normalizer():
    class Nothing(Potential):
        def forward(self, sites):
            done = (sites == MASK).sum(-1) < 2
            return torch.zeros(len(sites)).double().masked_fill(done, -torch.inf)

        def look_ahead(self, sites, positions, allowed):
            done = (sites == MASK).sum(-1) < 3
            return torch.zeros(allowed.shape).double().masked_fill(done[:, None], -torch.inf)

    for propose in (bootstrap, fully_adapted):
        finished = run(
            CONSISTENT, Nothing(), *start(5, 4, 19), propose=propose, generator=generator(20)
        )
        assert (finished.log_normalizer == -torch.inf).all()


def test_a_potential_that_is_not_a_number_is_refused():
    class Broken(Potential):
        def forward(self, sites):
            return torch.full((len(sites),), torch.nan).double()

        def look_ahead(self, sites, positions, allowed):
            return torch.full(allowed.shape, torch.nan).double()

    with pytest.raises(ValueError, match="gave NaN"):
        run(CONSISTENT, Broken(), *start(2, 3, 21), generator=generator(22))


def test_late_starts_and_temperatures_keep_their_targets():
    potential = discriminator(INCONSISTENT)
    base = model_law(INCONSISTENT)
    tilted = base * (0.5 * potential(OBJECTS)).exp()
    for changed, expected in (
        (LateStart(potential, 3), torch.ones(()).double()),
        (Tempered(potential, 0.5), tilted.sum()),
    ):
        finished = run(INCONSISTENT, changed, *start(20_000, 8, 23), generator=generator(24))
        z = finished.log_normalizer.exp()
        assert abs(z.mean() - expected) <= 3.5 * z.std() / len(z) ** 0.5


@pytest.mark.parametrize("propose", [bootstrap, fully_adapted])
def test_a_reward_tilts_the_law_whatever_it_says_of_partial_objects(propose):
    """Feynman-Kac: only the reward of complete objects is in the target."""
    count = (OBJECTS == 1).sum(-1).double()
    tilted = model_law(INCONSISTENT) * (0.7 * count).exp()

    def reward(sites):
        guess = torch.sin(3.0 * (sites + 2).double()).sum(-1)  # nonsense, but positive once raised
        return torch.where((sites == MASK).any(-1), guess, (sites == 1).sum(-1).double())

    finished = run(
        INCONSISTENT, Reward(reward, 0.7), *start(20_000, 8, 26),
        propose=propose, threshold=0.95, generator=generator(27),
    )  # fmt: skip
    z = finished.log_normalizer.exp()
    assert finished.resampled.any()
    assert abs(z.mean() - tilted.sum()) <= 3 * z.std() / len(z) ** 0.5
    ones = ((finished.sites == 1).sum(-1) * finished.log_weights.exp()).mean(-1)
    assert abs(ones.mean() - (tilted * count).sum()) <= 3 * ones.std() / len(z) ** 0.5


def test_the_best_of_a_group_has_its_largest_potential():
    potential = discriminator(INCONSISTENT)
    sites, order, noise = start(100, 5, 25)
    best = best_of(INCONSISTENT, potential, sites, order, noise)
    drawn, _ = sample(INCONSISTENT, *(v.flatten(0, 1) for v in (sites, order, noise)))
    values = potential(drawn).view(100, 5)
    assert torch.equal(best.log_value, values.max(-1).values)
    assert torch.equal(potential(best.sites), best.log_value)
