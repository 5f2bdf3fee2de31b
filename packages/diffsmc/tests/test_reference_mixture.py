import pytest
import torch
from test_methods import Counted

from diffsmc import Funnel, LogDensity, ManyWell, two_modes
from diffsmc.methods.mixture_diffusion import MixtureDiffusion
from diffsmc.methods.mixture_fit import MixtureFit
from diffsmc.methods.pilot import _join_by_flow
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.seeing import Verdict
from diffsmc.references.mixture import log_joint
from diffsmc.smc.estimators import evidence

SMALL = MixtureFit(num_chains=100)
METHODS = {
    "importance sampling": ReferenceMixture(SMALL),
    "stratified bridge": ReferenceMixture(SMALL, importance_ess=1.0),
    "mixture diffusion": MixtureDiffusion(ReferenceMixture(SMALL), num_steps=8),
}


@pytest.mark.parametrize("name", METHODS)
def test_modes_of_unequal_width_get_their_masses(name, generator):
    target = two_modes(2, 0.2)
    result = METHODS[name].run(target, 6, 300, generator=generator)
    one = evidence(result.log_normalizers)
    assert result.unbiased
    # so small a pilot leaves it to chance whether importance sampling suffices
    assert result.path in {name, "stratified bridge"}
    assert abs(one.log_normalizer) < 4 * one.standard_error + 0.005
    weights = (result.log_weights.softmax(-1) / 6)[..., None]
    left = (weights[..., 0] * (result.particles[..., 0] < 0)).sum()
    assert left.item() == pytest.approx(0.5, abs=0.05)
    assert result.particles.shape[:2] == result.log_weights.shape == result.eves.shape


def test_joined_histories_count_all_strata(generator):
    result = ReferenceMixture(MixtureFit(num_chains=64), importance_ess=1.0).run(
        two_modes(2, 0.5), 3, 100, generator=generator
    )
    num = result.log_weights.shape[-1]
    info = result.history[-1]
    assert info.ess.shape == (3,)
    assert (info.ess <= num + 1e-9).all()
    assert (info.families <= num).all()
    torch.testing.assert_close(info.log_normalizer, result.log_normalizers)


def test_too_many_modes_for_strata_are_said(generator):
    method = ReferenceMixture(
        MixtureFit(num_chains=100, max_components=20), adapt_islands=None, refits=2
    )
    result = method.run(ManyWell(16), 2, 200, generator=generator)
    assert "one Gaussian for all" in result.notes[0]
    assert abs(result.log_normalizers.mean() - ManyWell(16).log_normalizer) < 1.5


@pytest.mark.parametrize("name", METHODS)
def test_evaluations_are_counted(name, generator):
    counted = Counted(two_modes(2, 0.5))
    result = METHODS[name].run(counted, 2, 60, generator=generator)
    assert counted.count == result.num_evaluations


def test_importance_sampling_says_that_it_suffices(generator):
    result = METHODS["importance sampling"].run(two_modes(2, 0.5), 2, 1000, generator=generator)
    assert "that suffices" in result.reason
    assert result.particles.shape[1] == 10_000  # ten draws a particle


def test_a_mixture_that_does_not_fit_needs_the_bridge(generator):
    result = ReferenceMixture(SMALL, refits=0).run(Funnel(20), 2, 200, generator=generator)
    assert result.path == "stratified bridge"
    assert "the bridge is needed" in result.reason


def test_refitting_makes_the_mixture_closer(generator):
    """Kullback-Leibler divergence from the funnel, on exact samples."""
    target = Funnel(6)
    exact = target.sample(4000, generator=generator)
    gaps = []
    for refits in (0, 2):
        method = ReferenceMixture(SMALL, refits=refits)
        start = torch.Generator().manual_seed(1)
        pilot = SMALL.pilot(target, generator=start)
        fitted = method.fit(pilot, target, 2000, generator=start)
        gap = target.log_prob(exact) - log_joint(fitted.mixture, exact).logsumexp(-1)
        gaps.append(float(gap.mean()))
    assert gaps[1] < 0.85 * gaps[0]


def test_rarely_found_modes_are_a_warning(generator):
    from diffsmc import student_mixture

    method = ReferenceMixture(SMALL, refits=0, adapt_islands=None)
    result = method.run(student_mixture(), 8, 200, generator=generator)
    assert any("others were likely missed" in note for note in result.notes)


@pytest.mark.parametrize(
    ("found", "told"),
    [([1, 99], True), ([40, 60], False), ([4, 48, 48], False), ([2, 49, 49], True)],
)
def test_modes_found_by_few_chains_for_their_number_are_told(found, told, generator):
    """Of two modes one alone is few; of three a tenth of the mean; of forty modes 2.5 aren't."""
    pilot = SMALL.pilot(two_modes(2, 0.2), generator=generator)
    counts = torch.tensor(found, dtype=torch.float64)

    def notes(counts):
        some = pilot._replace(found=counts, basins=torch.arange(len(counts)))
        modes = SMALL.modes(some)
        return Verdict(modes.found, 1.0, unsure=2.0, few=modes.few).notes()

    assert any(note.startswith("warning") for note in notes(counts)) == told
    even = torch.full((40,), 2.5, dtype=torch.float64)
    assert not any(note.startswith("warning") for note in notes(even))


def test_modes_between_which_chains_pass_are_one():
    """Clusters 0, 1 and 2, 3 are modes; four chains of the first went to both, one to the third."""
    modes = torch.tensor([0, 0, 1, 2])
    flow = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 9.0]])
    assert _join_by_flow(flow, modes).tolist() == [0, 0, 1]
    flow[0, 2] = 1.0
    assert _join_by_flow(flow, modes).tolist() == [0, 1, 2]


def test_a_curved_ridge_is_no_crowd_of_modes(generator):
    """The straight lines between clusters on a ring cross a valley; its chains go round."""
    ring = LogDensity(lambda x: -0.5 * ((x.norm(dim=-1) - 3) / 0.1).square(), 2, 3.0)
    pilot = MixtureFit(num_chains=100, revisit_chains=100).pilot(ring, generator=generator)
    assert len(pilot.modes) > 9
    assert len(MixtureFit().modes(pilot).found) <= 2


@pytest.mark.parametrize("name", ["importance sampling", "stratified bridge"])
def test_intervals_cover_the_truth(name, generator):
    """200 runs of eight islands: between 90 and 98 % of 95 % intervals hold log Z."""
    result = METHODS[name].run(two_modes(2, 0.5), 1600, 64, generator=generator)
    runs = [evidence(row) for row in result.log_normalizers.reshape(200, 8)]
    covered = sum(one.lower <= 0 <= one.upper for one in runs)
    assert 180 <= covered <= 196
