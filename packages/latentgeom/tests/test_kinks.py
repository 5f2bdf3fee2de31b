import warnings

import numpy as np
import pytest
import torch
from families import helix, network, ridge, sine
from torch import nn

from latentgeom import Chart, geodesics
from latentgeom.immersions.kinks import has_kinks, mixes_points


def lines(generator):
    return 3 * torch.rand(2, 8, 2, generator=generator) - 1.5


class Hidden:
    """A decoder whose activation stands in a method."""

    def __init__(self, generator, activation):
        self.first = torch.randn(2, 16, generator=generator)
        self.shift = torch.randn(16, generator=generator) / 2
        self.second = torch.randn(16, 5, generator=generator) / 4
        self.activation = activation

    def decode(self, z):
        first, shift, second = (x.to(z) for x in (self.first, self.shift, self.second))
        return self.activation(z @ first + shift) @ second


KINKED = {
    "relu": torch.relu,
    "leaky": lambda x: nn.functional.leaky_relu(x, 0.2),
    "absolute value": torch.abs,
    "clamp": lambda x: x.clamp(-1, 1),
    "smooth and relu": lambda x: torch.tanh(x) + 0.3 * torch.relu(x),
}
SMOOTH = {
    "tanh": torch.tanh, "silu": nn.functional.silu, "gelu": nn.functional.gelu,
    "softplus": nn.functional.softplus, "sine": torch.sin, "steep": lambda x: torch.tanh(30 * x),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKED)
def test_kinks_of_any_callable_are_found(generator, name):
    decoder = Hidden(generator, KINKED[name])
    assert has_kinks(decoder.decode, *lines(generator))
    a, b = lines(generator)
    for callable_ in (decoder.decode, lambda z: decoder.decode(z)):
        with pytest.warns(UserWarning, match="decoder has kinks, at which its slope jumps"):
            geodesics(Chart(callable_, 2), a[:1], b[:1], num_segments=8, max_iterations=2)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_maps_have_none(generator, name):
    assert not has_kinks(Hidden(generator, SMOOTH[name]).decode, *lines(generator))


@pytest.mark.parametrize("make", [
    lambda rng: ridge(0.01, rng, 8), lambda rng: ridge(0.003, rng, 8),
    lambda rng: sine(150.0, rng, 8), lambda rng: helix(0.02, 50, rng, 8),
], ids=["ridge .01", "ridge .003", "sine", "helix"])  # fmt: skip
def test_narrow_features_are_no_kinks(make):
    problem = make(np.random.default_rng(0))
    assert not has_kinks(problem.immersion.embed, problem.a, problem.b)


def test_single_precision_cannot_tell_and_is_not_asked():
    problem = ridge(0.01, np.random.default_rng(0), 8)
    assert not has_kinks(problem.immersion.embed, problem.a.float(), problem.b.float())


class Net(nn.Module):
    """A network in single precision whose activation is no layer of it."""

    def __init__(self, generator, activation):
        super().__init__()
        self.first, self.second = nn.Linear(2, 16), nn.Linear(16, 5)
        for layer in (self.first, self.second):
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) / 2
        self.activation = activation
        self.float().requires_grad_(False)

    def forward(self, z):
        return self.second(self.activation(self.first(z)))

    def decode(self, z):
        return self(z)


def test_kinks_of_modules_and_functions_are_found_in_single_precision(generator):
    a, b = (x.float() for x in lines(generator))
    net = Net(generator, torch.relu)
    for decoder in (net, net.decode, lambda z: torch.cat([z, z.abs()], -1)):
        with pytest.warns(UserWarning, match="decoder has kinks"):
            Chart(decoder, 2).look(a, b)
    assert net.first.weight.dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Chart(Net(generator, torch.tanh), 2).look(a, b)
        Chart(lambda z: net(z), 2).look(a, b)  # whose weights nobody sees


def test_a_decoder_is_looked_at_once(generator):
    seen = []
    net = network([2, 8, 5], np.random.default_rng(0))

    def decoder(z):
        seen.append(len(z))
        return net(z)

    chart, (a, b) = Chart(decoder, 2), lines(generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        geodesics(chart, a, b, num_segments=8)
        first = len(seen)
        geodesics(chart, a, b, num_segments=8)
    assert len(seen) - first < first


def test_looking_changes_no_digit(generator):
    net = network([10, 32, 20], np.random.default_rng(0))
    looked, blind = Chart(net, 10), Chart(net, 10)
    blind.looked = True
    a, b = torch.randn(2, 6, 10, generator=generator) / 3
    one, two = (geodesics(chart, a, b, num_segments=16) for chart in (looked, blind))
    assert torch.equal(one.length, two.length)
    assert torch.equal(one.points, two.points)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.Dropout])
def test_layers_in_training_mode_are_refused_inside_any_callable(generator, kind):
    layer = kind(8) if kind is nn.BatchNorm1d else kind(0.5)
    net = nn.Sequential(nn.Linear(2, 8), layer, nn.Tanh(), nn.Linear(8, 5)).requires_grad_(False)
    hidden = lambda z: net(z)  # noqa: E731
    a, b = lines(generator)
    net.train()
    with pytest.raises(ValueError, match="maps a point differently beside others"):
        geodesics(Chart(hidden, 2), a, b)
    net.eval()
    assert not mixes_points(hidden, a)
    assert geodesics(Chart(hidden, 2), a, b, num_segments=8).converged.any()
