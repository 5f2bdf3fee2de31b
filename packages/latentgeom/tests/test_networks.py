import torch

from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.models.networks import Autoencoder, Perceptron


def test_perceptron_is_twice_differentiable(generator):
    network = Perceptron(2, 3, [8, 8])
    x = torch.randn(4, 2, generator=generator, requires_grad=True)
    assert torch.autograd.gradgradcheck(network, (x,))


def test_autoencoder_keeps_codes_off_the_antipode(generator):
    model = Autoencoder(Perceptron(5, 2, []), Perceptron(3, 5, []), ConstantCurvature(2, 1.0))
    x = 1e4 * torch.randn(100, 5, generator=generator)
    assert model.encode(x).norm(dim=-1).max() <= 0.9 * torch.pi + 1e-9
    assert torch.isfinite(model.decode(model.encode(x))).all()
