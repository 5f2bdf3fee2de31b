"""Sixty densities of a user's own kinds with known log Z, and random mixtures."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Gamma, HalfCauchy, Normal, constraints

import diffsmc
from diffsmc import LogDensity, Parameter, Posterior, Target

LOG_2PI = math.log(2 * math.pi)
FIRST_PAIR, FIRST_TRIPLE = 90_000, 95_000  # no rule was made with these
Density = Callable[[Tensor], Tensor]


def normal(x: Tensor) -> Tensor:
    """Standard Gaussian, normalised."""
    return -0.5 * x.square().sum(-1) - 0.5 * x.shape[-1] * LOG_2PI


def known(function: Density, dim: int, log_z: float, scale: Any = 1.0) -> LogDensity:
    """A target whose log Z is known."""
    return LogDensity(function, dim, scale, log_z)


def ring(radius: float, width: float, dim: int = 2) -> LogDensity:
    """A Gaussian profile of the distance from the origin; log Z by quadrature."""
    r = torch.linspace(1e-9, radius + 12 * width, 200_001, dtype=torch.float64)
    surface = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    profile = -0.5 * ((r - radius) / width).square() + (dim - 1) * r.log()
    log_z = surface + math.log(float(torch.trapezoid(profile.exp(), r)))

    def density(x: Tensor) -> Tensor:
        distance = x.square().sum(-1).clamp(min=1e-300).sqrt()
        return -0.5 * ((distance - radius) / width).square()

    return known(density, dim, log_z, max(1.0, radius))


def banana(dim: int, bend: float, scale: float = 3.0) -> LogDensity:
    """A Gaussian whose second coordinate is bent: the map has determinant 1."""

    def density(x: Tensor) -> Tensor:
        second = x[..., 1] - bend * (x[..., 0].square() - 1)
        rest = torch.cat([x[..., :1], second[..., None], x[..., 2:]], -1)
        return normal(rest)

    return known(density, dim, 0.0, scale)


def moons() -> LogDensity:
    """Two half moons; log Z by quadrature."""

    def density(x: Tensor) -> Tensor:
        distance = x.square().sum(-1).clamp(min=1e-300).sqrt()
        a = -0.5 * ((x[..., 0] - 2) / 0.6).square()
        b = -0.5 * ((x[..., 0] + 2) / 0.6).square()
        return -0.5 * ((distance - 2) / 0.4).square() + torch.logaddexp(a, b)

    line = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    log_z = float(density(grid).logsumexp(0)) + 2 * math.log(16 / 2000)
    return known(density, 2, log_z, 2.0)


def student(dim: int, freedom: float, together: bool, scale: float = 2.0) -> LogDensity:
    """Independent Student coordinates, or one multivariate Student density."""
    size = dim if together else 1
    constant = (
        math.lgamma((freedom + size) / 2)
        - math.lgamma(freedom / 2)
        - size / 2 * math.log(freedom * math.pi)
    )

    def density(x: Tensor) -> Tensor:
        if together:
            square = x.square().sum(-1)
            return constant - (freedom + dim) / 2 * torch.log1p(square / freedom)
        return (constant - (freedom + 1) / 2 * torch.log1p(x.square() / freedom)).sum(-1)

    return known(density, dim, 0.0, scale)


def box(dim: int, half: float, scale: float = 1.0) -> LogDensity:
    """The indicator of a cube."""

    def density(x: Tensor) -> Tensor:
        return torch.where((x.abs() < half).all(-1), x.new_zeros(()), -torch.inf)

    return known(density, dim, dim * math.log(2 * half), scale)


def steps(dim: int) -> LogDensity:
    """A Gaussian that is twice as high where the first coordinate is positive, and cut at 2."""
    log_z = math.log(0.5 * 0.5 + 1.0 * (float(Normal(0.0, 1.0).cdf(torch.tensor(2.0))) - 0.5))

    def density(x: Tensor) -> Tensor:
        first = x[..., 0]
        high = torch.where(first > 0, x.new_zeros(()), x.new_full((), -math.log(2)))
        return torch.where(first < 2, normal(x) + high, -torch.inf)

    return known(density, dim, log_z)


def axes(dim: int, decades: float) -> LogDensity:
    """A Gaussian whose axes have standard deviations over many decades."""
    sizes = 10 ** torch.linspace(-decades, decades, dim, dtype=torch.float64)

    def density(x: Tensor) -> Tensor:
        return normal(x / sizes)

    return known(density, dim, float(sizes.log().sum()))


def mixture(
    centres: list[list[float]], scales: list[float], weights: list[float], wide: float
) -> Target:
    """Isotropic Gaussians."""
    return diffsmc.GaussianMixture(centres, scales, weights, wide)


def halo(dim: int, wide: float) -> Target:
    """A narrow peak upon a wide one at the same place."""
    return mixture([[0.0] * dim, [0.0] * dim], [1.0, wide], [0.5, 0.5], 1.0)


def simplex(size: int) -> Posterior:
    """A Dirichlet posterior: counts under a uniform prior."""
    counts = torch.arange(1, size + 1, dtype=torch.float64)
    log_z = float(
        torch.lgamma(torch.tensor(float(size)))
        + torch.lgamma(counts + 1).sum()
        - torch.lgamma(counts.sum() + size)
    )
    space = {"p": Parameter(constraints.simplex, (size,))}

    def prior(p: Any) -> Tensor:
        return torch.full_like(p["p"][..., 0], math.lgamma(size))

    def likelihood(p: Any) -> Tensor:
        return (counts * p["p"].log()).sum(-1)

    return Posterior(space, prior, likelihood, log_normalizer=log_z)


def ordered_normals(size: int) -> Posterior:
    """Ordered Gaussians: one of size! orders."""
    space = {"m": Parameter(diffsmc.ordered(size), (size,))}

    def prior(p: Any) -> Tensor:
        return Normal(0.0, 2.0).log_prob(p["m"]).sum(-1) + math.lgamma(size + 1)

    def likelihood(p: Any) -> Tensor:
        return Normal(0.0, 1.0).log_prob(p["m"].sum(-1))

    log_z = float(Normal(0.0, math.sqrt(1 + 4 * size)).log_prob(torch.tensor(0.0)))
    return Posterior(space, prior, likelihood, log_normalizer=log_z)


def horseshoe(dim: int) -> Posterior:
    """Horseshoe prior, one observation a coefficient; log Z by quadrature over scales."""
    y = torch.linspace(-1, 3, dim, dtype=torch.float64)
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    tau = grid.exp()
    weight = (HalfCauchy(1.0).log_prob(tau) + grid).exp()
    parts = [
        math.log(
            float(
                torch.trapezoid(weight * Normal(0.0, (1 + tau**2).sqrt()).log_prob(v).exp(), grid)
            )
        )
        for v in y
    ]
    space = {"scale": Parameter(constraints.positive, (dim,)), "z": Parameter(shape=(dim,))}

    def prior(p: Any) -> Tensor:
        return (HalfCauchy(1.0).log_prob(p["scale"]) + Normal(0.0, 1.0).log_prob(p["z"])).sum(-1)

    def likelihood(p: Any) -> Tensor:
        return Normal(p["z"] * p["scale"], 1.0).log_prob(y).sum(-1)

    return Posterior(space, prior, likelihood, log_normalizer=sum(parts))


def conjugate() -> Posterior:
    """Normal observations, Gamma precision, Gaussian mean given it: closed form."""
    y = torch.tensor([1.2, -0.4, 0.9, 2.2, 0.1], dtype=torch.float64)
    n, mean = len(y), float(y.mean())
    a, b, kappa = 2.0, 1.5, 0.5
    a_n, kappa_n = a + n / 2, kappa + n
    b_n = b + 0.5 * float((y - mean).square().sum()) + kappa * n * mean**2 / (2 * kappa_n)
    log_z = (
        math.lgamma(a_n) - math.lgamma(a) + a * math.log(b) - a_n * math.log(b_n)
        + 0.5 * math.log(kappa / kappa_n) - n / 2 * LOG_2PI
    )  # fmt: skip
    space = {"precision": Parameter(constraints.positive), "mu": Parameter()}

    def prior(p: Any) -> Tensor:
        spread = (kappa * p["precision"]).rsqrt()
        return Gamma(a, b).log_prob(p["precision"]) + Normal(0.0, spread).log_prob(p["mu"])

    def likelihood(p: Any) -> Tensor:
        spread = p["precision"].rsqrt()[..., None]
        return Normal(p["mu"][..., None], spread).log_prob(y).sum(-1)

    return Posterior(space, prior, likelihood, log_normalizer=log_z)


def shifted(offset: float, dim: int = 3) -> LogDensity:
    """A Gaussian far from the start."""
    return known(lambda x: normal(x - offset), dim, 0.0)


def raised(constant: float) -> LogDensity:
    """A Gaussian times a huge or tiny constant."""
    return known(lambda x: normal(x) + constant, 3, constant)


def exponential(dim: int) -> LogDensity:
    """Independent exponentials on the half line."""

    def density(x: Tensor) -> Tensor:
        return torch.where((x > 0).all(-1), -x.sum(-1), -torch.inf)

    return known(density, dim, 0.0, 2.0)


def laplace_density(dim: int) -> LogDensity:
    """Double exponentials."""
    return known(lambda x: -x.abs().sum(-1) - dim * math.log(2), dim, 0.0, 2.0)


def quartic(dim: int) -> LogDensity:
    """exp(-x^4)."""
    return known(lambda x: -x.pow(4).sum(-1), dim, dim * math.log(2 * math.gamma(1.25)), 1.0)


PROPER: dict[str, Callable[[], Target]] = {
    "Gaussian, d=1": lambda: known(normal, 1, 0.0),
    "Gaussian, d=4": lambda: known(normal, 4, 0.0),
    "Gaussian, d=20": lambda: diffsmc.correlated_gaussian(20),
    "Gaussian, start 10 times too wide": lambda: known(normal, 3, 0.0, 10.0),
    "Gaussian, start 10 times too narrow": lambda: known(normal, 3, 0.0, 0.1),
    "Gaussian 50 away": lambda: shifted(50.0),
    "Gaussian 1e4 away": lambda: shifted(1e4),
    "Gaussian times e^700": lambda: raised(700.0),
    "Gaussian times e^-1e5": lambda: raised(-1e5),
    "axes 1e-3 to 1e3, d=5": lambda: axes(5, 3),
    "axes 1e-6 to 1e6, d=4": lambda: axes(4, 6),
    "axes 1e-6 to 1e6, d=10": lambda: axes(10, 6),
    "ring, width 0.1": lambda: ring(3.0, 0.1),
    "ring, width 0.02": lambda: ring(2.0, 0.02),
    "shell, d=3": lambda: ring(3.0, 0.2, 3),
    "shell, d=8": lambda: ring(5.0, 0.3, 8),
    "moons": moons,
    "banana, d=2": lambda: banana(2, 1.0),
    "banana, d=2, bend 3": lambda: banana(2, 3.0),
    "banana, d=10": lambda: banana(10, 1.0),
    "funnel, d=2": lambda: diffsmc.Funnel(2),
    "funnel, d=10": lambda: diffsmc.Funnel(10),
    "funnel, d=50": lambda: diffsmc.Funnel(50),
    "halo, d=2, 10 times": lambda: halo(2, 10.0),
    "halo, d=5, 5 times": lambda: halo(5, 5.0),
    "Student 3, d=2": lambda: student(2, 3.0, True),
    "Student 3, d=10": lambda: student(10, 3.0, True),
    "Student 5, d=5, independent": lambda: student(5, 5.0, False),
    "Cauchy, d=1": lambda: student(1, 1.0, False),
    "Cauchy, d=5, independent": lambda: student(5, 1.0, False),
    "Cauchy, d=3, together": lambda: student(3, 1.0, True),
    "cube, d=2": lambda: box(2, 1.0),
    "cube, d=5": lambda: box(5, 1.0),
    "cube, start 5 times too wide": lambda: box(2, 1.0, 5.0),
    "steps, d=2": lambda: steps(2),
    "exponentials, d=3": lambda: exponential(3),
    "double exponentials, d=5": lambda: laplace_density(5),
    "quartic, d=4": lambda: quartic(4),
    "skewed, d=5": lambda: diffsmc.SkewedGaussian(5, 6.0),
    "simplex of 3": lambda: simplex(3),
    "simplex of 8": lambda: simplex(8),
    "ordered, d=3": lambda: ordered_normals(3),
    "ordered, d=6": lambda: ordered_normals(6),
    "horseshoe, d=4": lambda: horseshoe(2),
    "horseshoe, d=12": lambda: horseshoe(6),
    "normal and gamma": conjugate,
    "two modes, d=2": lambda: diffsmc.two_modes(2),
    "two modes, d=10": lambda: diffsmc.two_modes(10),
    "rare mode of 1 %, d=2": lambda: mixture(
        [[0.0, 0.0], [8.0, 0.0]], [1.0, 0.5], [0.99, 0.01], 4.0
    ),
    "rare mode of 1 %, d=6": lambda: mixture([[0.0] * 6, [3.0] * 6], [1.0, 0.7], [0.99, 0.01], 3.0),
    "narrow mode of 90 %, d=8": lambda: mixture(
        [[-2.0] * 8, [2.0] * 8], [1.0, 0.2], [0.1, 0.9], 3.0
    ),
    "forty Gaussians": lambda: diffsmc.gmm40(),
    "many wells, d=8": lambda: diffsmc.ManyWell(8),
    "eight Student modes, d=10": lambda: diffsmc.student_mixture(),
    "Brownian motion": lambda: diffsmc.BrownianMotion(),
}
IMPROPER: dict[str, Callable[[], Target]] = {
    "constant": lambda: LogDensity(lambda x: 0 * x.sum(-1), 2),
    "flat in two of three": lambda: LogDensity(lambda x: -0.5 * x[..., 0].square(), 3),
    "flat along a diagonal": lambda: LogDensity(lambda x: -(x[..., 0] + x[..., 1]).square(), 2),
    "growing": lambda: LogDensity(lambda x: 0.1 * x.square().sum(-1), 2),
    "falling as 1/r": lambda: LogDensity(lambda x: -0.5 * torch.log1p(x.square()).sum(-1), 1),
}


def random_pair(index: int) -> tuple[Target, dict[str, float]]:
    """Two Gaussians: d 2 to 20, width ratio 1 to 5, weights .01 to .99, start 1 to 4 times."""
    generator = torch.Generator().manual_seed(FIRST_PAIR + index)
    u = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    dim, ratio, weight = int(2 + 19 * u[0]), 1 + 4 * u[1], 0.01 + 0.98 * u[2]
    times, gap = 1 + 3 * u[3], 6 + 6 * u[4]
    way = torch.randn(dim, generator=generator, dtype=torch.float64)
    centre = way / way.norm() * gap / 2
    wide = times * math.sqrt(1 + (gap / 2) ** 2 / dim)
    target = mixture(
        [(-centre).tolist(), centre.tolist()], [1.0, 1 / ratio], [1 - weight, weight], wide
    )
    return target, {"dim": dim, "ratio": ratio, "weight": weight, "times": times, "gap": gap}


def random_triple(index: int) -> tuple[Target, dict[str, Any]]:
    """Three Gaussians as `random_pair`, in random directions; each has .01 of the mass or more."""
    generator = torch.Generator().manual_seed(FIRST_TRIPLE + index)
    u = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    dim, ratios = int(2 + 19 * u[0]), [1.0, 1 + 4 * u[1], 1 + 4 * u[2]]
    times, gap = 1 + 3 * u[3], 6 + 6 * u[4]
    share = -torch.rand(3, generator=generator, dtype=torch.float64).log()
    weights = (0.97 * share / share.sum() + 0.01).tolist()
    way = torch.randn(3, dim, generator=generator, dtype=torch.float64)
    centres = 0.58 * gap * way / way.norm(dim=-1, keepdim=True)
    wide = times * math.sqrt(1 + (0.58 * gap) ** 2 / dim)
    target = mixture(centres.tolist(), [1 / ratio for ratio in ratios], weights, wide)
    return target, {"dim": dim, "ratios": ratios, "weights": weights, "times": times, "gap": gap}
