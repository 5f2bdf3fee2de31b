import pytest
import torch

from latentgeom.metrics import constant_curvature as cc
from latentgeom.metrics.explicit import ConstantCurvature, Euclidean
from latentgeom.models.losses import (
    conformal_distortion,
    isometry_loss,
    relative_metric,
    relaxed_distortion,
    volume_distortion,
)


def sphere_of_radius_three(z):
    return 3 * cc.tangent_to_ambient(z, 1.0)


def test_all_losses_vanish_for_an_isometry_up_to_scale(generator):
    z = torch.randn(50, 2, generator=generator)
    relative = relative_metric(sphere_of_radius_three, ConstantCurvature(2, 1.0), z)
    zero = torch.zeros(50)
    torch.testing.assert_close(isometry_loss(relative, torch.tensor(9.0)), zero)
    torch.testing.assert_close(conformal_distortion(relative), zero)
    assert abs(relaxed_distortion(relative)) < 1e-12
    assert volume_distortion(relative) < 1e-24


def test_a_conformal_map_is_told_from_an_isometry(generator):
    z = torch.randn(50, 2, generator=generator)
    ambient = lambda x: cc.tangent_to_ambient(cc.stereographic_to_tangent(x, 1.0), 1.0)  # noqa: E731
    relative = relative_metric(ambient, Euclidean(2), z)
    torch.testing.assert_close(conformal_distortion(relative), torch.zeros(50))
    assert relaxed_distortion(relative) > 0.1
    assert volume_distortion(relative) > 0.1


@pytest.mark.parametrize("stretch", [1.0, 1.5, 4.0])
def test_a_linear_map_has_the_losses_of_its_singular_values(generator, stretch):
    z = torch.randn(20, 2, generator=generator)
    relative = relative_metric(lambda x: x * torch.tensor([1.0, stretch]), Euclidean(2), z)
    lowest, highest = 1.0, stretch**2
    expected = 2 * (lowest**2 + highest**2) / (lowest + highest) ** 2 - 1
    torch.testing.assert_close(conformal_distortion(relative), torch.full((20,), expected))
    assert relaxed_distortion(relative).item() == pytest.approx(expected)
    loss = isometry_loss(relative, torch.tensor(1.0))
    torch.testing.assert_close(loss, torch.full((20,), (highest - 1) ** 2))


def test_loss_has_the_gradient_of_the_weights(generator):
    weight = torch.randn(3, 2, generator=generator, requires_grad=True)
    z = torch.randn(5, 2, generator=generator)

    def loss(w):
        relative = relative_metric(lambda x: torch.tanh(x @ w.T), Euclidean(2), z)
        return isometry_loss(relative, torch.tensor(1.0)).sum()

    assert torch.autograd.gradcheck(loss, (weight,))
