"""The problems of the benchmark: deterministic, shared by all solvers, with reference lengths.

``mlp``: a tanh network 2 -> 64 -> 64 -> 50 with fixed random weights.
``sphere``: polar coordinates of the unit sphere, lifted isometrically to 50 dimensions.
``ellipsoid``: geodetic coordinates of an ellipsoid of flattening 0.02, lifted likewise.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from latentgeom.immersions.immersion import Chart
from latentgeom.relaxation.curves import smooth_length
from latentgeom.solvers.boundary import geodesics

__all__ = ["Decoder", "Problem", "curve_length", "ellipsoid", "mlp", "network", "sphere"]

Decoder = Callable[[Tensor], Tensor]


class Problem(NamedTuple):
    """A decoder, end points and the lengths to be found."""

    name: str
    decoder: Decoder
    a: Tensor
    b: Tensor
    exact: Tensor


def _lift() -> Tensor:
    rng = np.random.default_rng(7)
    return torch.tensor(np.linalg.qr(rng.normal(size=(50, 3)))[0].T.copy())


def _ends(low: list[float], high: list[float], count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    a, b = (torch.tensor(rng.uniform(low, high, size=(count, len(low)))) for _ in range(2))
    return a, b


def network(sizes: list[int], seed: int = 0) -> nn.Sequential:
    """A tanh network with random weights that bend its image well."""
    rng = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    for layer, (n, m) in enumerate(pairwise(sizes)):
        last = layer == len(sizes) - 2
        gain = 1.0 if layer == 0 or last else 1.2
        linear = nn.Linear(n, m, bias=not last, dtype=torch.float64)
        weight = rng.normal(size=(m, n)) * gain / (1.0 if layer == 0 else math.sqrt(n))
        bias = torch.tensor(rng.normal(size=m) * (0.5 if layer == 0 else 0.1))
        linear.weight.data = torch.tensor(weight)
        if not last:
            linear.bias.data = bias
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def mlp(count: int, seed: int = 1) -> Problem:
    """Random pairs on a random network; the reference takes 256 segments."""
    decoder = network([2, 64, 64, 50])
    a, b = _ends([-1.5, -1.5], [1.5, 1.5], count, seed)
    reference = geodesics(Chart(decoder, 2), a, b, num_segments=256, tolerance=1e-13)
    if not bool(reference.converged.all()):
        raise RuntimeError("the reference did not converge")
    return Problem("mlp", decoder, a, b, reference.length)


def sphere(count: int, seed: int = 1) -> Problem:
    """Random pairs on the sphere in polar coordinates."""
    lift = _lift()

    def surface(z: Tensor) -> Tensor:
        t, p = z[..., 0], z[..., 1]
        return torch.stack([t.sin() * p.cos(), t.sin() * p.sin(), t.cos()], -1)

    a, b = _ends([0.6, -1.2], [2.5, 1.2], count, seed)
    x, y = surface(a), surface(b)
    exact = 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))
    return Problem("sphere", lambda z: surface(z) @ lift.to(z), a, b, exact)


def ellipsoid(count: int, seed: int = 1, flattening: float = 0.02) -> Problem:
    """Random pairs on an oblate ellipsoid in geodetic latitude and longitude.

    Much flatter ones are beyond the series of geographiclib at the accuracy asked here.
    """
    from geographiclib.geodesic import Geodesic

    lift, e2 = _lift(), flattening * (2 - flattening)

    def surface(z: Tensor) -> Tensor:
        t, p = z[..., 0], z[..., 1]
        n = (1 - e2 * t.sin().square()).rsqrt()
        x, y = n * t.cos() * p.cos(), n * t.cos() * p.sin()
        return torch.stack([x, y, n * (1 - e2) * t.sin()], -1)

    a, b = _ends([-0.95, -1.2], [0.95, 1.2], count, seed)
    earth = Geodesic(1.0, flattening)
    ends = zip(torch.rad2deg(a).tolist(), torch.rad2deg(b).tolist(), strict=True)
    exact = torch.tensor([earth.Inverse(*p, *q)["s12"] for p, q in ends], dtype=torch.float64)
    return Problem("ellipsoid", lambda z: surface(z) @ lift.to(z), a, b, exact)


def curve_length(problem: Problem, curve: Tensor) -> Tensor:
    """Length of dense samples ``(N, M, 2)``, to sixth order: all solvers' curves judged alike."""
    return smooth_length(problem.decoder(curve))
