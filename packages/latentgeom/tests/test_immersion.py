import pytest
import torch
from torch import nn

from latentgeom.immersions.immersion import Chart, hessian, jacobian
from latentgeom.solvers.boundary import geodesics


def test_jacobian_and_hessian_agree_with_autograd(generator):
    weight = torch.randn(5, 3, generator=generator)
    chart = Chart(lambda z: torch.tanh(z @ weight.T).square(), 3)
    x = torch.randn(4, 6, 3, generator=generator)
    covector = torch.randn(4, 6, 5, generator=generator)
    image, columns = jacobian(chart, x)
    flat = torch.func.vmap(torch.func.jacrev(chart.embed))(x.reshape(-1, 3))
    torch.testing.assert_close(columns, flat.reshape(4, 6, 5, 3))
    torch.testing.assert_close(image, chart.embed(x))
    second = torch.func.vmap(torch.func.hessian(chart.embed))(x.reshape(-1, 3))
    expected = torch.einsum("bk,bkij->bij", covector.reshape(-1, 5), second)
    torch.testing.assert_close(hessian(chart, x, covector), expected.reshape(4, 6, 3, 3))


def test_a_kinked_decoder_is_warned_about():
    with pytest.warns(UserWarning, match="ReLU: its pullback metric is discontinuous"):
        Chart(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), 2)


def test_convolutional_decoders_are_decoders(generator):
    layers = [
        nn.Linear(2, 32), nn.SiLU(), nn.Unflatten(1, (2, 4, 4)), nn.ConvTranspose2d(2, 3, 2, 2),
        nn.SiLU(), nn.Conv2d(3, 1, 3, padding=1),
    ]  # fmt: skip
    chart = Chart(nn.Sequential(*layers).requires_grad_(False), 2)
    a, b = torch.randn(2, 5, 2, generator=generator)
    found = geodesics(chart, a, b, num_segments=16)
    assert chart.embed(a).shape == (5, 64)
    assert found.converged.all()
    assert (found.length >= (chart.embed(a) - chart.embed(b)).norm(dim=-1) * (1 - 1e-9)).all()


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)])
def test_layers_that_mix_or_draw_are_refused_while_they_train(layer):
    decoder = nn.Sequential(nn.Linear(2, 4), layer, nn.Tanh()).double()
    with pytest.raises(ValueError, match="in training mode; call decoder"):
        Chart(decoder, 2)
    z = torch.zeros(3, 7, 2)
    assert Chart(decoder.eval(), 2).embed(z).shape == (3, 7, 4)


def test_kinks_of_a_bound_method_are_told():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 4), nn.ReLU())

        def decode(self, z):
            return self.layers(z)

    with pytest.warns(UserWarning, match="decoder has ReLU"):
        Chart(Model().decode, 2)
