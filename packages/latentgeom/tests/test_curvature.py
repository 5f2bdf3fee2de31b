import pytest
import torch

from latentgeom.immersions.curvature import (
    derivative,
    gaussian_curvature,
    riemann,
    sectional_curvature,
)
from latentgeom.metrics.explicit import ConstantCurvature, Product
from latentgeom.pullback.pullback import Pullback


@pytest.mark.parametrize("k", [1.0, 0.3, 0.0, -1.0])
def test_constant_curvature_is_found(generator, k):
    metric = ConstantCurvature(3, k)
    z, u, v = torch.randn(3, 20, 3, generator=generator)
    found = sectional_curvature(metric.metric_tensor, z, u, v)
    torch.testing.assert_close(found, torch.full((20,), k), rtol=1e-6, atol=1e-6)


def test_torus_has_the_curvature_of_its_formula(generator):
    def torus(z):
        psi, phi = z.unbind(-1)
        rho = 2 + 0.7 * psi.cos()
        return torch.stack([rho * phi.cos(), rho * phi.sin(), 0.7 * psi.sin()], -1)

    z = torch.randn(50, 2, generator=generator)
    exact = z[:, 0].cos() / (0.7 * (2 + 0.7 * z[:, 0].cos()))
    found = gaussian_curvature(Pullback(torus, 2).metric_tensor, z)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


def test_mixed_planes_of_a_product_are_flat(generator):
    metric = Product([ConstantCurvature(2, 1.0), ConstantCurvature(2, -1.0)])
    z = torch.randn(10, 4, generator=generator)
    u, v = torch.eye(4)[0].expand(10, 4), torch.eye(4)[2].expand(10, 4)
    found = sectional_curvature(metric.metric_tensor, z, u, v)
    torch.testing.assert_close(found, torch.zeros(10), rtol=0, atol=1e-9)


def test_curvature_tensor_has_its_symmetries(generator):
    weight = torch.randn(6, 3, generator=generator)
    metric = Pullback(lambda z: torch.tanh(z @ weight.T), 3)
    z = torch.randn(8, 3, generator=generator) / 2
    tensor = metric.metric_tensor(z)
    lowered = torch.einsum("bml,blkij->bmkij", tensor, riemann(metric.metric_tensor, z))
    close = torch.testing.assert_close
    close(lowered, -lowered.movedim(-1, -2), rtol=1e-8, atol=1e-9)
    close(lowered, -lowered.transpose(1, 2), rtol=1e-8, atol=1e-9)
    close(lowered, lowered.permute(0, 3, 4, 1, 2), rtol=1e-8, atol=1e-9)
    cyclic = lowered + lowered.permute(0, 1, 3, 4, 2) + lowered.permute(0, 1, 4, 2, 3)
    close(cyclic, torch.zeros_like(cyclic), rtol=0, atol=1e-9)


def test_derivative_of_a_field_is_its_jacobian(generator):
    z = torch.randn(4, 5, 3, generator=generator)
    found = derivative(lambda x: x.unsqueeze(-1) * x.square().unsqueeze(-2), z)
    exact = torch.func.vmap(torch.func.jacrev(lambda x: torch.outer(x, x.square())))(
        z.reshape(-1, 3)
    )
    torch.testing.assert_close(found, exact.reshape(4, 5, 3, 3, 3))
