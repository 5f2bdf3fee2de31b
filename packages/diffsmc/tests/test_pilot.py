import math

import pytest
import torch

from diffsmc import (
    Funnel,
    Gaussian,
    GaussianMixture,
    LogDensity,
    ManyWell,
    student_mixture,
    two_modes,
)
from diffsmc.methods.pilot import (
    cluster_chains,
    cluster_factors,
    join_clusters,
    revisit,
    run_pilot,
    search,
)


def test_chains_are_clustered_by_place_and_width(generator):
    noise = torch.randn(30, 60, 2, generator=generator, dtype=torch.float64)
    # wide at 0, narrow at 0 (a different mode), narrow at 6
    centre = torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64).repeat(20)[:, None]
    width = torch.tensor([2.0, 0.1, 0.1], dtype=torch.float64).repeat(20)[:, None]
    labels = cluster_chains(centre + width * noise)
    for k in range(3):
        assert len(labels[k::3].unique()) == 1
    assert len(labels.unique()) == 3


def test_the_pilot_finds_both_modes(generator):
    states = run_pilot(two_modes(2, 0.5), generator=generator, num_chains=64)
    assert states.shape == (20, 64, 2)
    means, _ = cluster_factors(states, cluster_chains(states))
    centre = 5 / math.sqrt(2)
    for sign in (-1, 1):
        distance = (means - sign * centre).norm(dim=-1).min()
        assert distance < 0.5


def test_clusters_without_a_valley_between_share_a_mode():
    target = GaussianMixture([[-4.0, 0.0], [4.0, 0.0]], [1.0, 1.0])
    means = torch.tensor([[-4.5, 0.2], [-3.7, 0.0], [4.0, 0.3], [4.1, -0.2]], dtype=torch.float64)
    mode, spent = join_clusters(target, means)
    assert mode[0] == mode[1] != mode[2] == mode[3]
    assert spent == 4 * 3 * 11


def test_the_revisit_starts_equally_many_chains_in_every_cluster(generator):
    target = two_modes(2, 0.2)
    states = target.means[:, None] + 0.1 * torch.randn(2, 50, 2, generator=generator).double()
    # one chain on the left and 49 on the right
    chosen = torch.cat([states[0, :1], states[1, 1:]])[None].expand(4, -1, -1)
    labels = torch.tensor([0] + [1] * 49)
    again = revisit(target, chosen, labels, generator=generator, num_chains=40, num_moves=6)
    left = again[-1, :, 0] < 0
    assert left[::2].all()
    assert not left[1::2].any()


def test_finders_add_up_to_the_chains(generator):
    pilot = search(two_modes(2, 0.2), generator=generator, num_chains=100)
    assert len(pilot.found) == 2
    assert abs(float(pilot.found.sum()) - 100) < 1e-9


def test_a_gaussian_is_one_mode(generator):
    target = Gaussian([0.5, -0.5], [[1.0, 0.6], [0.6, 2.0]], scale=3.0)
    pilot = search(target, generator=generator, num_chains=100)
    assert len(pilot.found) == 1


def test_a_funnel_is_one_mode_of_varying_width(generator):
    pilot = search(Funnel(10), generator=generator, num_chains=100)
    assert pilot.labels.max() > 2
    assert len(pilot.found) == 1


def test_too_many_modes_are_not_revisited(generator):
    pilot = search(ManyWell(16), generator=generator, num_chains=100, max_clusters=20)
    assert pilot.states.shape[1] == 100
    assert len(pilot.found) > 20


def test_too_many_clusters_of_few_modes_are_made_one_each(generator):
    pilot = search(two_modes(2, 0.2), generator=generator, num_chains=100, max_clusters=3)
    assert int(pilot.labels.max()) + 1 == len(pilot.found) == 2


def test_a_mode_that_few_chains_find_is_counted_so(generator):
    pilot = search(student_mixture(), generator=generator, num_chains=300)
    assert float(pilot.found.min()) < 0.03 * 300


def test_starts_are_where_chains_begin(generator):
    starts = torch.tensor([[-5 / math.sqrt(2)] * 2] * 20, dtype=torch.float64)
    pilot = search(two_modes(2, 0.2), generator=generator, num_chains=20, starts=starts)
    assert (pilot.states.sum(-1) < 0).all()


def test_chains_start_where_the_density_is_not_zero(generator):
    half = LogDensity(
        lambda x: torch.where(x[..., 0] > 0, -0.5 * x.square().sum(-1), -torch.inf), 2
    )
    states = run_pilot(half, generator=generator, num_chains=50, num_moves=10)
    assert (states[..., 0] > 0).all()
    nowhere = LogDensity(lambda x: x[..., 0] - torch.inf, 2)
    with pytest.raises(ValueError, match="density zero at all starting points"):
        run_pilot(nowhere, generator=generator, num_chains=50)
