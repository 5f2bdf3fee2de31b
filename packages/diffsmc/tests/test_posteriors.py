import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Beta, Gamma, constraints

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
