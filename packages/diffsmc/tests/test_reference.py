import pytest
import torch

from diffsmc import Gaussian, LogDensity, breast_cancer, correlated_gaussian
from diffsmc.references.gaussian import (
    GaussianReference,
    Whitened,
    fit_gaussian,
    isotropic,
    laplace,
)


def test_laplace_is_exact_for_a_gaussian():
    target = correlated_gaussian(4)
    fitted = laplace(target)
    torch.testing.assert_close(fitted.mean, target.mean, rtol=0, atol=1e-8)
    covariance = fitted.factor @ fitted.factor.T
    torch.testing.assert_close(
        covariance @ target.precision, torch.eye(4).double(), rtol=0, atol=1e-6
    )


def test_laplace_finds_the_mode_of_a_posterior():
    target = breast_cancer()
    fitted = laplace(target)
    assert target.log_prob_and_grad(fitted.mean)[1].abs().max() < 1e-4


def test_laplace_says_when_there_is_no_mode():
    slope = LogDensity(lambda x: x.sum(-1), 2)
    with pytest.raises(ValueError, match="did not reach a mode"):
        laplace(slope, num_iterations=5)


def test_fitted_gaussian_has_the_pooled_moments(generator):
    x = torch.randn(3, 500, 2, generator=generator, dtype=torch.float64)
    fitted = fit_gaussian(x, torch.zeros(3, 500).double())
    pooled = x.flatten(0, 1)
    torch.testing.assert_close(fitted.mean, pooled.mean(0))
    torch.testing.assert_close(fitted.factor @ fitted.factor.T, torch.cov(pooled.T, correction=0))


def test_whitening_keeps_the_normalizer_and_the_gradient(generator):
    target = Gaussian([1.0, -2.0], [[2.0, 0.5], [0.5, 1.0]], 0.7)
    factor = torch.linalg.cholesky(torch.linalg.inv(target.precision))
    white = Whitened(target, GaussianReference(target.mean, factor))
    z = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    value, grad = white.log_prob_and_grad(z)
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(value, standard + 0.7)
    torch.testing.assert_close(grad, -z)
    torch.testing.assert_close(white.log_prob(z), value)


def test_isotropic_follows_its_example():
    one = isotropic(3, 2.0, like=torch.zeros(1, dtype=torch.float32))
    assert one.factor.dtype == torch.float32
    assert torch.equal(one.factor, 2 * torch.eye(3))
