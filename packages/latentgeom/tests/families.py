"""Maps and metrics on which a geodesic solver could be wrong without noticing.

Each family gives a problem with end points and, where one is known, the exact distance. Ridges
and waves fit between the nodes of a curve; helices wind between them; Oddity's stacks have
deviations that rise steeply between their centres; radial costs have walls; ends are nearly
conjugate.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

from latentgeom import (
    Chart,
    Ellipsoid,
    Immersion,
    RadialCost,
    Stacked,
    ambient_to_tangent,
    fit_deviation,
    radial_deviation,
    tangent_to_ambient,
)

OFF = 0.013  # places of ridges, so that no node falls on them by itself


class Problem(NamedTuple):
    """Where geodesics are asked for; ``exact`` is none where only curves can be judged."""

    name: str
    immersion: Immersion | None
    field: Callable[[Tensor], Tensor] | None
    a: Tensor
    b: Tensor
    exact: Tensor | None


def tensors(*arrays: np.ndarray) -> list[Tensor]:
    return [torch.tensor(array) for array in arrays]


def arc(height: Callable[[np.ndarray], np.ndarray], low: float, high: float, fine: np.ndarray):
    """Length of a graph over an interval, by a polygon with extra points where it is steep."""
    t = np.unique(np.concatenate([np.linspace(low, high, 20001), fine]))
    t = t[(t >= low) & (t <= high)]
    return np.hypot(np.diff(t), np.diff(height(t))).sum()


def ridge(width: float, rng: np.random.Generator, count: int, height: float = 2.0) -> Problem:
    """A cylinder over a narrow bump: flat, so that distances are known."""

    def graph(x):
        return height * np.exp(-((x - OFF) ** 2) / (2 * width**2))

    def embed(z: Tensor) -> Tensor:
        bump = height * torch.exp(-(z[..., :1] - OFF).square() / (2 * width**2))
        return torch.cat([z, bump], -1)

    a = np.stack([rng.uniform(-1, -0.5, count), rng.uniform(-0.5, 0.5, count)], 1)
    b = np.stack([rng.uniform(0.5, 1, count), rng.uniform(-0.5, 0.5, count)], 1)
    fine = OFF + width * np.linspace(-9, 9, 40001)
    across = [arc(graph, low, high, fine) for low, high in zip(a[:, 0], b[:, 0], strict=True)]
    exact = np.hypot(np.array(across), b[:, 1] - a[:, 1])
    return Problem(f"ridge {width}", Chart(embed, 2), None, *tensors(a, b, exact))


def on_a_line(name: str, embed, speed, rng: np.random.Generator, count: int) -> Problem:
    """Curves in one dimension: their length is an integral."""
    a, b = rng.uniform(-1, 0, (count, 1)), rng.uniform(0.3, 1.5, (count, 1))
    exact = []
    for low, high in zip(a[:, 0], b[:, 0], strict=True):
        t = np.linspace(low, high, 200_001)
        exact.append(np.trapezoid(speed(t), t))
    return Problem(name, Chart(embed, 1), None, *tensors(a, b, np.array(exact)))


def sine(wave: float, rng: np.random.Generator, count: int) -> Problem:
    def embed(z: Tensor) -> Tensor:
        return torch.cat([z, torch.sin(wave * z)], -1)

    return on_a_line(
        f"sine {wave}", embed, lambda t: np.hypot(1, wave * np.cos(wave * t)), rng, count
    )


def helix(radius: float, turns: float, rng: np.random.Generator, count: int) -> Problem:
    wave = 2 * math.pi * turns

    def embed(z: Tensor) -> Tensor:
        return torch.cat([z, radius * torch.sin(wave * z), radius * torch.cos(wave * z)], -1)

    def speed(t):
        return np.full_like(t, math.hypot(1, radius * wave))

    return on_a_line(f"helix {radius} {turns}", embed, speed, rng, count)


def network(widths: list[int], rng: np.random.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        linear = nn.Linear(n, m, dtype=torch.float64)
        gain = 1.0 if n == widths[0] else 1.2 / math.sqrt(n)
        linear.weight.data = torch.tensor(rng.normal(size=(m, n)) * gain)
        linear.bias.data = torch.tensor(rng.normal(size=m) * 0.3)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def oddity(num_centres: int, rng: np.random.Generator, count: int, features: int = 20) -> Problem:
    """Mean and radial deviation over two half moons of codes."""
    seed = int(rng.integers(1000))
    codes = torch.tensor(make_moons(400, noise=0.05, random_state=seed)[0])
    mean = network([2, 32, features], rng)
    observations = mean(codes) + 0.1 * torch.tensor(rng.normal(size=(400, features)))
    deviation = radial_deviation(codes, num_centres, features, floor=1e-3, seed=seed)
    fit_deviation(deviation, mean, codes, observations)
    deviation.requires_grad_(False)
    index = rng.permutation(400)[: 2 * count]
    chart = Chart(Stacked([mean, deviation]), 2)
    return Problem(
        f"oddity {num_centres}", chart, None, codes[index[:count]], codes[index[count:]], None
    )


def radial_cost(weight: float, width: float, rng: np.random.Generator, count: int) -> Problem:
    """Walls around random centres."""
    centres = torch.tensor(rng.uniform(-1, 1, (10, 2)))
    metric = RadialCost(centres, torch.full((10,), weight, dtype=torch.float64), width)
    a, b = tensors(rng.uniform(-1, 1, (count, 2)), rng.uniform(-1, 1, (count, 2)))
    return Problem(f"cost {weight:.0e} {width}", None, metric.metric_tensor, a, b, None)


def polar(z: Tensor) -> Tensor:
    theta, phi = z.unbind(-1)
    return torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)


def from_polar(x: Tensor) -> Tensor:
    return torch.stack(
        [torch.atan2(x[:, :2].norm(dim=-1), x[:, 2]), torch.atan2(x[:, 1], x[:, 0])], -1
    )


def conjugate(chart: str, gap: float, rng: np.random.Generator, count: int) -> Problem:
    """Ends of a unit sphere that miss each other's antipode by a small angle."""
    x = torch.tensor(rng.normal(size=(count, 3)))
    x = x / x.norm(dim=-1, keepdim=True)
    t = torch.tensor(rng.normal(size=(count, 3)))
    t = t - (t * x).sum(-1, keepdim=True) * x
    t = t / t.norm(dim=-1, keepdim=True)
    y = -x * math.cos(gap) + t * math.sin(gap)
    exact = torch.full((count,), math.pi - gap, dtype=torch.float64)
    if chart == "polar":
        immersion, a, b = Chart(polar, 2), from_polar(x), from_polar(y)
    elif chart == "surface":
        immersion, a, b = Ellipsoid(torch.ones(3, dtype=torch.float64)), x, y
    else:
        immersion = Chart(lambda z: tangent_to_ambient(z, 1.0), 2)
        a, b = ambient_to_tangent(x, 1.0), ambient_to_tangent(y, 1.0)
    return Problem(f"conjugate {chart} {gap:.0e}", immersion, None, a, b, exact)
