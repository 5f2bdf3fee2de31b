import warnings

import pytest
import torch

from diffsmc import LogisticRegression, ManyWell
from diffsmc.methods.tempering import Tempering
from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import isotropic
from diffsmc.smc.density import Mass, trajectory
from diffsmc.smc.moves import HMC


def start(path, generator):
    cloud = path.start(2, 30, generator=generator)
    noise = torch.randn(cloud.particles.shape, generator=generator, dtype=cloud.particles.dtype)
    dim = cloud.particles.shape[-1]
    factor = torch.eye(dim, dtype=noise.dtype).tril() + 0.1 * torch.ones(dim, dim).tril()
    step = torch.full((2, 30, 1), 0.1, dtype=noise.dtype)
    return cloud, noise, factor.expand(2, dim, dim), step


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_compiled_leapfrog_steps_equal_plain_ones_at_all_levels(single, generator):
    features = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    target = LogisticRegression(features.tolist(), [0.0, 1.0] * 6)
    path = TemperedPath(target, isotropic(4, 1.0), compiled=True, single=single)
    cloud, noise, factor, step = start(path, generator)
    factor = factor.to(noise.dtype)
    with warnings.catch_warnings(), torch._dynamo.config.patch(error_on_recompile=True):
        warnings.simplefilter("ignore", DeprecationWarning)
        for level in (0.1, 0.35, 1.0):
            density = path.density(level)
            end, ratio = trajectory(cloud, noise, density, factor, step, 3)
            plain = density._replace(inner=None)
            expected, expected_ratio = trajectory(cloud, noise, plain, factor, step, 3)
            bounds = {"atol": 1e-5, "rtol": 1e-5} if single else {"atol": 1e-9, "rtol": 1e-9}
            for found, other in zip(end, expected, strict=True):
                torch.testing.assert_close(found, other, **bounds)
            torch.testing.assert_close(ratio, expected_ratio, **bounds)


def test_a_failing_compiler_is_named_and_the_run_goes_on(generator, monkeypatch):
    """What a machine without a C++ compiler does, made by a backend that fails."""

    def compile_badly(function, **_):
        def fail(*_):
            raise RuntimeError("no C++ compiler\n(a long trace)")

        return fail

    monkeypatch.setattr(torch, "compile", compile_badly)
    target = ManyWell(2)
    path = TemperedPath(target, isotropic(2, 2.0), compiled=True)
    cloud, noise, factor, step = start(path, generator)
    density = path.density(0.5)
    with pytest.warns(UserWarning, match="^leapfrog steps run uncompiled: no C\\+\\+ compiler$"):
        end, ratio = trajectory(cloud, noise, density, factor, step, 3)
    plain = density._replace(inner=None)
    expected = trajectory(cloud, noise, plain, factor, step, 3)
    assert torch.equal(end.particles, expected[0].particles)
    assert torch.equal(ratio, expected[1])
    # the second call doesn't try again
    trajectory(cloud, noise, density, factor, step, 3)


def test_tempering_runs_in_single_precision(generator):
    result = Tempering(move=HMC(3), single=True).run(ManyWell(4), 8, 500, generator=generator)
    assert result.particles.dtype == torch.float32
    assert result.log_normalizers.dtype == torch.float64
    error = (
        result.log_normalizers.logsumexp(0) - torch.tensor(8.0).log() - ManyWell(4).log_normalizer
    )
    assert abs(error) < 4 * result.log_normalizers.std() / 8**0.5


def test_a_mass_of_unit_scale_is_kept_in_the_dtype_of_the_particles(generator):
    path = TemperedPath(ManyWell(2), isotropic(2, 2.0), single=True)
    cloud, _, factor, _ = start(path, generator)
    mass = Mass(torch.zeros(2, 2), factor.float())
    moved, _ = HMC(2).step(
        cloud, path.density(0.5), mass, torch.full((2,), 0.1), generator=generator
    )
    assert moved.particles.dtype == torch.float32
