import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Beta, Gamma, LogNormal, Normal, constraints

from diffsmc import ordered
from diffsmc.methods.automatic import Automatic
from diffsmc.methods.starting import started
from diffsmc.methods.tempering import Tempering
from diffsmc.smc.estimators import evidence
from diffsmc.smc.moves import HMC
from diffsmc.targets import posteriordb
from diffsmc.targets.posterior import Parameter, Posterior, constrain, free_shapes, unconstrain

SPACE = {
    "mean": Parameter(),
    "scale": Parameter(constraints.positive, (2,)),
    "share": Parameter(constraints.simplex, (3,)),
    "top": Parameter(constraints.unit_interval),
    "below": Parameter(lambda p: constraints.interval(0.0, 1 - p["top"]), (2,)),
}
DIM = 1 + 2 + 2 + 1 + 2


def test_constraints_hold_and_the_map_has_an_inverse(generator):
    z = torch.randn(4, 5, DIM, generator=generator, dtype=torch.float64)
    values, _ = constrain(SPACE, z, free_shapes(SPACE))
    assert values["share"].shape == (4, 5, 3)
    assert constraints.simplex.check(values["share"]).all()
    assert (values["below"] < 1 - values["top"][..., None]).all()
    assert (values["scale"] > 0).all()
    torch.testing.assert_close(unconstrain(SPACE, values), z)


def test_the_log_determinant_is_that_of_the_jacobian(generator):
    def free(z):
        values, _ = constrain(SPACE, z, free_shapes(SPACE))
        # two entries of a simplex say all
        values["share"] = values["share"][..., :2]
        return torch.cat([value.reshape(-1) for value in values.values()])

    for z in torch.randn(5, DIM, generator=generator, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(free, z)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        got = constrain(SPACE, z, free_shapes(SPACE))[1]
        torch.testing.assert_close(got, expected)


def test_a_parameter_that_rounds_to_its_edge_has_density_zero():
    space = {"rate": Parameter(constraints.positive)}
    target = Posterior(space, lambda p: -p["rate"], lambda p: 0 / p["rate"])
    value = target.log_prob(torch.tensor([[-800.0], [800.0], [0.0]], dtype=torch.float64))
    assert value.tolist() == [-math.inf, -math.inf, -1.0]


def test_conjugate_evidence_through_constraints(generator):
    """Beta-binomial and gamma-Poisson evidences, both parameters in one model."""
    prior = {"share": Beta(2.0, 3.0), "rate": Gamma(2.0, 1.0)}
    space = {
        "share": Parameter(constraints.unit_interval), "rate": Parameter(constraints.positive)
    }  # fmt: skip

    def log_prior(p):
        return prior["share"].log_prob(p["share"]) + prior["rate"].log_prob(p["rate"])

    def log_likelihood(p):
        binomial = 4 * p["share"].log() + 3 * torch.log1p(-p["share"])
        return binomial + 5 * p["rate"].log() - 2 * p["rate"]

    beta = lambda a, b: math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)  # noqa: E731
    expected = beta(6, 6) - beta(2, 3) + math.lgamma(7) - 7 * math.log(3)
    target = Posterior(space, log_prior, log_likelihood, scale=2.0)
    result = Tempering(0.7, move=HMC(5)).run(target, 40, 300, generator=generator)
    one = evidence(result.log_normalizers)
    assert abs(one.log_normalizer - expected) < 3.5 * one.standard_error
    shares = target.parameters_at(result.particles)["share"].mean(-1)
    assert abs(shares.mean() - 0.5) < 4 * shares.std() / 40**0.5


def reference_data():
    given = os.environ.get("DIFFSMC_DATA")
    folders = [Path(given)] if given else [p / "shared" / "data" for p in Path(__file__).parents]
    return next((folder / "posteriordb" for folder in folders if folder.is_dir()), None)


MODELS = {
    "eight_schools-eight_schools_noncentered": posteriordb.eight_schools,
    "arK-arK": posteriordb.autoregression,
    "garch-garch11": posteriordb.garch,
    "sblri-blr": posteriordb.bayesian_regression,
    "kidiq-kidscore_momiq": posteriordb.kid_scores,
}
QUICK = "eight_schools-eight_schools_noncentered"


@pytest.mark.skipif(reference_data() is None, reason="needs reference draws; see DIFFSMC_DATA")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == QUICK else [pytest.mark.slow]) for n in MODELS]
)
def test_reference_posteriors_are_found(name, generator):
    import xarray as xr

    target = MODELS[name](str(reference_data() / f"{name}.data.json"))
    method = Tempering(0.6, move=HMC(5), adapt_islands=None)
    result = method.run(target, 4, 1000, generator=generator)
    found = target.parameters_at(result.particles.flatten(0, 1))
    if "theta_trans" in found:
        effects = found.pop("theta_trans")
        found["theta"] = found["mu"][:, None] + found["tau"][:, None] * effects
    reference = xr.load_dataset(reference_data() / f"{name}.draws.nc", engine="h5netcdf")
    for variable in reference.data_vars:
        drawn = np.asarray(reference[variable]).ravel()
        base, _, place = variable.partition("_")
        ours = (found[base][:, int(place) - 1] if place else found[variable]).numpy()
        assert abs(ours.mean() - drawn.mean()) / drawn.std() < 0.1, variable
        assert 0.9 < ours.std() / drawn.std() < 1.1, variable


LINE = torch.linspace(-14, 14, 1401, dtype=torch.float64)


@pytest.mark.parametrize(
    ("constraint", "shape", "density"),
    [
        (constraints.positive, (), lambda t: -t),
        (constraints.interval(-1.0, 3.0), (), lambda t: torch.zeros_like(t) - math.log(4)),
        (constraints.greater_than(2.0), (), lambda t: 2.0 - t),
        (constraints.less_than(-1.0), (), lambda t: t + 1.0),
        (constraints.unit_interval, (), lambda t: math.log(6) + t.log() + torch.log1p(-t)),
        (constraints.simplex, (3,), lambda t: math.log(6.0) + t[..., 0].log()),
        (ordered(2), (2,), lambda t: math.log(2) + Normal(0.0, 1.0).log_prob(t).sum(-1)),
    ],
    ids=["positive", "interval", "above", "below", "unit", "simplex", "ordered"],
)
def test_log_jacobians_by_quadrature(constraint, shape, density):
    """A normalised density of the parameter stays one in free coordinates."""
    space = {"t": Parameter(constraint, shape)}
    (free,) = free_shapes(space)
    grid = torch.cartesian_prod(*[LINE] * max(1, free.numel())).reshape(-1, max(1, free.numel()))
    values, log_det = constrain(space, grid, [free])
    inside = torch.where(log_det > -torch.inf, density(values["t"]) + log_det, -torch.inf)
    width = float(LINE[1] - LINE[0]) ** grid.shape[-1]
    total = float(inside.nan_to_num(nan=-torch.inf).exp().sum()) * width
    assert total == pytest.approx(1.0, abs=2e-3)


def test_ordered_vectors_rise_and_have_an_inverse(generator):
    space = {"m": Parameter(ordered(4), (4,))}
    z = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    values, _ = constrain(space, z, free_shapes(space))
    assert bool((values["m"].diff(dim=-1) > 0).all())
    assert bool(ordered(4).check(values["m"]).all())
    assert not bool(ordered(4).check(values["m"].flip(-1)).any())
    torch.testing.assert_close(unconstrain(space, values), z)
    with pytest.raises(ValueError, match="at least 1 number, got 0"):
        ordered(0)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (3, 3)])
def test_bounds_may_depend_on_elements_of_earlier_vectors(lead, generator):
    """And on whole vectors, on scalars, and on nothing, whatever the leading axes."""
    space = {
        "a": Parameter(constraints.positive, (3,)),
        "s": Parameter(),
        "by_element": Parameter(lambda p: constraints.greater_than(p["a"][..., 1])),
        "vector_by_element": Parameter(lambda p: constraints.greater_than(p["a"][..., 0]), (3,)),
        "by_vector": Parameter(lambda p: constraints.greater_than(p["a"]), (3,)),
        "by_scalar": Parameter(lambda p: constraints.interval(p["s"], p["s"] + 1), (2, 3)),
        "by_nothing": Parameter(
            lambda p: constraints.greater_than(torch.tensor([5.0, 6.0, 7.0]).double()), (3,)
        ),
    }
    shapes = free_shapes(space)
    dim = sum(shape.numel() for shape in shapes)
    z = torch.randn(*lead, dim, generator=generator, dtype=torch.float64)
    values, log_det = constrain(space, z, shapes)
    assert log_det.shape == lead
    assert bool((values["by_element"] > values["a"][..., 1]).all())
    assert bool((values["vector_by_element"] > values["a"][..., :1]).all())
    assert bool((values["by_vector"] > values["a"]).all())
    low = values["s"][..., None, None]
    assert bool(((values["by_scalar"] > low) & (values["by_scalar"] < low + 1)).all())
    assert bool((values["by_nothing"] > torch.tensor([5.0, 6.0, 7.0])).all())
    torch.testing.assert_close(unconstrain(space, values), z, rtol=1e-6, atol=1e-6)
    if lead:
        # one point alone has the values that it has among others
        alone, _ = constrain(space, z[(0,) * len(lead)], shapes)
        for name, value in values.items():
            torch.testing.assert_close(alone[name], value[(0,) * len(lead)])


def test_a_posterior_starts_from_its_prior(generator):
    """A prior 100 wide about 300: N(0, 1) would be 300 widths away."""
    space = {"mu": Parameter(), "tau": Parameter(constraints.positive)}
    y = torch.tensor([310.0, 290.0, 305.0], dtype=torch.float64)

    def prior(p):
        return Normal(300.0, 100.0).log_prob(p["mu"]) + LogNormal(2.0, 0.5).log_prob(p["tau"])

    def likelihood(p):
        return Normal(p["mu"][..., None], p["tau"][..., None]).log_prob(y).sum(-1)

    target = Posterior(space, prior, likelihood)
    begun = started(target, generator=generator)
    assert float(begun.start_mean[0]) == pytest.approx(300, abs=15)
    assert float(begun.start_factor[0, 0]) == pytest.approx(110, rel=0.15)
    assert float(begun.start_mean[1]) == pytest.approx(2.0, abs=0.1)
    # the target given stays as it is, and a scale that is given is kept
    assert float(target.start_mean[0]) == 0.0
    fixed = Posterior(space, prior, likelihood, scale=3.0)
    assert started(fixed, generator=generator) is fixed
    mu = torch.linspace(200, 400, 2001, dtype=torch.float64)
    log_tau = torch.linspace(-1, 5, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(mu, log_tau)
    truth = float(target.log_prob(grid).logsumexp(0)) + math.log(0.1 * 0.01)
    for method in (Automatic(), Tempering(0.7)):
        one = method.run(target, 4, 200, generator=generator).evidence()
        assert abs(one.log_normalizer - truth) < 4 * one.standard_error + 0.02


def test_coordinates_are_named_after_their_parameters():
    space = {"mu": Parameter(), "s": Parameter(constraints.positive, (2,))}
    target = Posterior(space, lambda p: p["mu"], lambda p: p["mu"])
    assert target.names == ["mu", "unconstrained s[0]", "unconstrained s[1]"]
