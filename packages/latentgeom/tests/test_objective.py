import pytest
import torch
from sklearn import datasets

from latentgeom import Autoencoder, ConstantCurvature, Perceptron, isometric_objective
from latentgeom.immersions.curvature import derivative
from latentgeom.models.objective import points_between


def model(features, curvature, seed=0, hidden=(128, 64)):
    torch.manual_seed(seed)
    width = 3 if curvature > 0 else 2
    networks = Perceptron(features, 2, hidden), Perceptron(width, features, hidden[::-1])
    return Autoencoder(*networks, ConstantCurvature(2, curvature))


@pytest.mark.parametrize("curvature", [-1.0, 0.0, 1.0])
def test_the_objective_is_its_formula_on_three_samples(curvature, generator):
    net = model(5, curvature, hidden=(8,))
    x, partner = torch.randn(2, 3, 5, generator=generator)
    t = torch.tensor([[0.3], [-0.1], [0.9]])
    found = isometric_objective(net, x, partner, t)
    metric, total, miss = net.metric, 0.0, 0.0
    for i in range(3):
        a, b = net.encode(x[i]), net.encode(partner[i])
        miss += (net.decode(a) - x[i]).square().sum() / 3
        z = metric.geodesic(a, b, t[i]).squeeze(0).detach()
        slope = derivative(net.decode, z[None])[0]
        relative = torch.linalg.solve(metric.metric_tensor(z), slope.mT @ slope)
        gap = relative / net.log_scale.exp() - torch.eye(2)
        total += (gap @ gap).trace() / 3  # the spectrum is that of the symmetric form
    torch.testing.assert_close(found.reconstruction, miss)
    torch.testing.assert_close(found.isometry, total)


def test_points_lie_between_codes_and_the_encoder_does_not_move_for_them(generator):
    net = model(5, -1.0, hidden=(8,))
    x, partner = torch.randn(2, 3, 5, generator=generator)
    t = torch.full((3, 1), 0.5)
    z = net.encode(x)
    middle = points_between(net, z, partner, t)
    assert not middle.requires_grad
    half = net.metric.dist(z, net.encode(partner)) / 2
    torch.testing.assert_close(net.metric.dist(z, middle), half)
    assert (net.metric.dist(middle, z) > 0).all()


def data(name):
    rng = {"random_state": 0}
    loaders = {
        "breast cancer": lambda: datasets.load_breast_cancer().data,
        "iris": lambda: datasets.load_iris().data,
        "wine": lambda: datasets.load_wine().data,
        "digits": lambda: datasets.load_digits().data,
        "diabetes": lambda: datasets.load_diabetes().data,
        "linnerud": lambda: datasets.load_linnerud().data,
        "swiss roll": lambda: datasets.make_swiss_roll(400, **rng)[0],
        "s curve": lambda: datasets.make_s_curve(400, **rng)[0],
        "blobs": lambda: datasets.make_blobs(400, n_features=20, centers=6, **rng)[0],
        "classes": lambda: datasets.make_classification(400, n_features=20, **rng)[0],
    }
    x = torch.tensor(loaders[name](), dtype=torch.float32)
    return (x - x.mean(0)) / x.std(0).clamp(min=1e-6)


def trained(x, curvature, seed, steps):
    """The shipped optimiser and networks; the largest radius of a code on the way."""
    torch.set_default_dtype(torch.float32)
    net = model(x.shape[1], curvature, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    size = min(128, len(x))
    for _ in range(steps):
        first, second = (torch.randperm(len(x), generator=generator)[:size] for _ in range(2))
        t = 1.2 * torch.rand(size, 1, generator=generator).square() - 0.2
        parts = isometric_objective(net, x[first], x[second], t)
        optimizer.zero_grad()
        (parts.reconstruction + 2.0 * parts.isometry).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters()])
        assert torch.isfinite(norm)
        optimizer.step()
    return net, net.encode(x).detach().norm(dim=-1).max()


@pytest.mark.parametrize("seed", [
    0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow),
])  # fmt: skip
def test_training_in_hyperbolic_space_does_not_die(seed):
    _, radius = trained(data("breast cancer"), -1.0, seed, 200)
    assert radius <= 6.0 + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("curvature", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("name", [
    "breast cancer", "iris", "wine", "digits", "diabetes", "linnerud", "swiss roll", "s curve",
    "blobs", "classes",
])  # fmt: skip
def test_training_does_not_die_on_any_data(name, curvature):
    x = data(name)
    bound = {-1.0: 6.0, 0.0: float("inf"), 1.0: 0.9 * torch.pi}[curvature]
    for seed in range(3):
        net, radius = trained(x, curvature, seed, 120)
        assert radius <= bound + 1e-4
        assert torch.isfinite(net.decode(net.encode(x))).all()
