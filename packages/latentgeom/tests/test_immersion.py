import pytest
import torch
from torch import nn

from latentgeom.immersions.immersion import Chart, hessian, jacobian


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
