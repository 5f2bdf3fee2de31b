r"""A reference mixture :math:`q = \sum_k w_k N(\mu_k, \Sigma_k)`, fitted by a pilot.

1. *Pilot*: many short HMC chains from the wide start, each with its own step size.
2. *Leaders*: a chain joins the nearest cluster whose leader is within 1.5 of the larger
   scale and of similar width (ratio below 2.5), narrow chains first; else it leads a new
   one. Masses of a pilot are arbitrary, so no cluster is ever deleted.
3. *EM* with covariances shrunk by :math:`d/(n_k + d)` to their diagonal, then inflated.
4. *Weights* by rounds of adaptive importance sampling.

What no step can do is find a mode that no chain visited.

References:
    Cappé, Douc, Guillin, Marin & Robert, Adaptive importance sampling in general mixture
    classes, Statistics and Computing 2008.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .estimators import log_mean_exp
from .kernels import HMC, Density, Mass
from .moves import adapt_step
from .reference import isotropic
from .targets import Target
from .tempering import TemperedPath

__all__ = [
    "Mixture",
    "adapt_weights",
    "cluster_chains",
    "expectation_maximization",
    "fit_mixture",
    "log_joint",
    "log_prob_and_grad",
    "run_pilot",
    "sample_component",
]

LOG_2PI = math.log(2 * math.pi)


class Mixture(NamedTuple):
    """Weights ``(K,)``, means ``(K, D)`` and lower Cholesky factors ``(K, D, D)``."""

    weights: Tensor
    means: Tensor
    factors: Tensor


def _units(mixture: Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
    """Give residuals in each component's coordinates, ``(..., K, D)``, and inverse factors."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    inverse = torch.linalg.solve_triangular(mixture.factors, eye, upper=False)
    return torch.einsum("kde,...ke->...kd", inverse, x[..., None, :] - mixture.means), inverse


def _log_joint(mixture: Mixture, units: Tensor) -> Tensor:
    log_det = mixture.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mixture.weights.log() - log_det - 0.5 * units.shape[-1] * LOG_2PI
    return constant - 0.5 * units.square().sum(-1)


def log_joint(mixture: Mixture, x: Tensor) -> Tensor:
    r"""Give :math:`\log w_k N(x; \mu_k, \Sigma_k)`, ``(..., D)`` to ``(..., K)``."""
    return _log_joint(mixture, _units(mixture, x)[0])


def log_prob_and_grad(mixture: Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
    """Give the mixture's log-density, ``(...)``, and its gradient, ``(..., D)``."""
    units, inverse = _units(mixture, x)
    joint = _log_joint(mixture, units)
    pull = joint.softmax(-1)[..., None] * units
    return joint.logsumexp(-1), -torch.einsum("...kd,kde->...e", pull, inverse)


def sample_component(mixture: Mixture, labels: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw one point of the component of each label, ``(...)`` to ``(..., D)``."""
    shape = (*labels.shape, mixture.means.shape[-1])
    noise = torch.randn(shape, generator=generator, dtype=mixture.means.dtype, device=labels.device)
    return mixture.means[labels] + torch.einsum("...de,...e->...d", mixture.factors[labels], noise)


def run_pilot(
    target: Target,
    *,
    generator: torch.Generator,
    num_chains: int = 256,
    num_moves: int = 60,
    keep: int = 20,
    starts: Tensor | None = None,
) -> Tensor:
    """Run short HMC chains from the wide start, each adapting its own step size.

    Arguments:
        target: The target.
        generator: Source of all draws.
        num_chains: Number of chains.
        num_moves: HMC moves of five leapfrog steps each.
        keep: How many of the last states are kept.
        starts: Starting points, ``(C, D)``, instead of draws from the wide start.

    Returns:
        States, ``(keep, C, D)``.
    """
    path = TemperedPath(target, isotropic(target.dim, target.scale))
    cloud = path.start(num_chains, 1, gradient=True, generator=generator)
    if starts is not None:
        cloud = path.evaluate(starts[:, None], gradient=True)
    density = Density(lambda x: path.evaluate(x, gradient=True), 1.0)
    flat = torch.ones_like(cloud.particles[:, 0])
    mass, move = Mass(torch.zeros_like(flat), flat), HMC(5)
    step, states = torch.full_like(cloud.base[:, 0], 0.1), []
    for index in range(num_moves):
        cloud, info = move.step(cloud, density, mass, step, generator=generator)
        step = adapt_step(step, info.acceptance, move, 1.0 if index < num_moves // 2 else 0.3)
        states.append(cloud.particles[:, 0])
    return torch.stack(states[-keep:])


def cluster_chains(states: Tensor) -> Tensor:
    """Give the cluster of each chain, ``(T, C, D)`` to ``(C,)``, by leaders.

    Arguments:
        states: States of the chains.
    """
    means = states.mean(0)
    scales = states.var(0).mean(-1).clamp(min=1e-12).sqrt()
    labels = torch.full_like(scales, -1, dtype=torch.long)
    leaders: list[int] = []
    for chain in scales.argsort().tolist():
        lead = torch.tensor(leaders, dtype=torch.long)
        wide = torch.maximum(scales[lead], scales[chain])
        similar = wide / torch.minimum(scales[lead], scales[chain]) < 2.5
        distance = (means[lead] - means[chain]).square().mean(-1).sqrt() / wide
        distance = torch.where(similar, distance, torch.inf)
        if leaders and float(distance.min()) < 1.5:
            labels[chain] = int(distance.argmin())
        else:
            labels[chain] = len(leaders)
            leaders.append(chain)
    return labels


def _shrunk_factor(points: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    count, dim = weights.sum(), points.shape[-1]
    centred = points - mean
    covariance = torch.einsum("n,nd,ne->de", weights / count, centred, centred)
    shrink = dim / (count + dim)
    diagonal = covariance.diagonal()
    floor = 1e-12 + 1e-6 * diagonal.mean()
    shrunk = (1 - shrink) * covariance + torch.diag(shrink * diagonal + floor)
    factor: Tensor = torch.linalg.cholesky(shrunk)
    return factor


def expectation_maximization(mixture: Mixture, points: Tensor, num_rounds: int = 10) -> Mixture:
    """Refit by EM; a component with fewer than D + 2 points keeps its shape.

    Arguments:
        mixture: Where to start.
        points: ``(N, D)``.
        num_rounds: Rounds of EM.
    """
    for _ in range(num_rounds):
        share = log_joint(mixture, points).softmax(-1)
        counts = share.sum(0)
        means, factors = mixture.means.clone(), mixture.factors.clone()
        for k in (counts >= points.shape[-1] + 2).nonzero()[:, 0].tolist():
            means[k] = share[:, k] @ points / counts[k]
            factors[k] = _shrunk_factor(points, share[:, k], means[k])
        # a floor of one point: pilot masses must not delete a mode
        weights = counts.clamp(min=1.0)
        mixture = Mixture(weights / weights.sum(), means, factors)
    return mixture


def fit_mixture(states: Tensor, labels: Tensor, inflation: float = 1.15) -> Mixture:
    """Fit a mixture to the pilot's states.

    Arguments:
        states: ``(T, C, D)``.
        labels: Cluster of each chain, ``(C,)``.
        inflation: Factor on the covariances.
    """
    points = [states[:, labels == k].flatten(0, 1) for k in range(int(labels.max()) + 1)]
    means = torch.stack([p.mean(0) for p in points])
    factors = torch.stack(
        [_shrunk_factor(p, torch.ones_like(p[:, 0]), m) for p, m in zip(points, means, strict=True)]
    )
    sizes = means.new_tensor([len(p) for p in points])
    start = Mixture(sizes / sizes.sum(), means, factors)
    fitted = expectation_maximization(start, states.flatten(0, 1))
    return fitted._replace(factors=math.sqrt(inflation) * fitted.factors)


def adapt_weights(
    target: Target,
    mixture: Mixture,
    *,
    generator: torch.Generator,
    num_rounds: int = 3,
    num_points: int = 2000,
) -> Mixture:
    """Adapt the weights by importance sampling; single weights are clipped at their mean x root N.

    Arguments:
        target: The target.
        mixture: Its components stay.
        generator: Source of all draws.
        num_rounds: Rounds.
        num_points: Draws of a round, each one target evaluation.
    """
    for _ in range(num_rounds):
        labels = torch.multinomial(mixture.weights, num_points, True, generator=generator)
        x = sample_component(mixture, labels, generator=generator)
        joint = log_joint(mixture, x)
        ratio = target.log_prob(x) - joint.logsumexp(-1)
        ratio = ratio.clamp(max=float(log_mean_exp(ratio)) + 0.5 * math.log(num_points))
        estimate = ratio.softmax(0) @ joint.softmax(-1)
        # a tenth stays with the old and with equal weights: rounds are noisy
        spare = 0.5 * (mixture.weights + 1 / len(mixture.weights))
        weights = 0.9 * estimate + 0.1 * spare
        mixture = mixture._replace(weights=weights / weights.sum())
    return mixture
