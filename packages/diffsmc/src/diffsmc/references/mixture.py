r"""Mixtures of Gaussians :math:`q = \sum_k w_k N(\mu_k, \Sigma_k)`, and how they are fitted.

Points with weights are fitted by EM, with covariances shrunk by :math:`d/(n_k + d)` to their
diagonal, :math:`n_k` being the effective number of a component's points. Components may be
*split*, where halves fitted to one part of the points are likelier on the other part, but none is
ever *deleted*: a pilot finds modes with masses that mean nothing.

References:
    Cappé, Douc, Guillin, Marin & Robert, Adaptive importance sampling in general mixture
    classes, Statistics and Computing 2008.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.shell.showing import in_a_line
from diffsmc.smc.estimators import effective_sample_size, log_mean_exp
from diffsmc.targets.target import Target, proposal_log_prob

__all__ = [
    "Mixture",
    "adapt_weights",
    "expectation_maximization",
    "inflate",
    "log_joint",
    "log_prob_and_grad",
    "sample_component",
    "split_components",
]

LOG_2PI = math.log(2 * math.pi)


class Mixture(NamedTuple):
    """Weights ``(K,)``, means ``(K, D)`` and lower Cholesky factors ``(K, D, D)``."""

    weights: Tensor
    means: Tensor
    factors: Tensor

    __repr__ = __str__ = in_a_line  # type: ignore[misc]  # mypy knows no such tuples


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
    x = torch.randn(shape, generator=generator, dtype=mixture.means.dtype, device=labels.device)
    # one product a component: a factor for each point would take D times the memory
    for k, (mean, factor) in enumerate(zip(mixture.means, mixture.factors, strict=True)):
        mine = labels == k
        x[mine] = mean + x[mine] @ factor.T
    return x


def shrunk_factor(points: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """Give the Cholesky factor of points' covariance, shrunk to its diagonal.

    Arguments:
        points: ``(N, D)``.
        weights: ``(N,)``, whose sum is the effective number of points.
        mean: ``(D,)``.

    References:
        Ledoit & Wolf (2004), A well-conditioned estimator for large-dimensional covariance
        matrices, Journal of Multivariate Analysis 88.
    """
    count, dim = weights.sum(), points.shape[-1]
    centred = points - mean
    covariance = torch.einsum("n,nd,ne->de", weights / count, centred, centred)
    shrink = dim / (count + dim)
    diagonal = covariance.diagonal()
    # each coordinate by its own width: their scales may differ by any factor
    widths = diagonal.sqrt().clamp(min=1e-150)
    unit = covariance / widths / widths[:, None]
    shrunk = (1 - shrink) * unit + torch.diag(shrink * unit.diagonal() + 1e-6)
    factor: Tensor = widths[:, None] * torch.linalg.cholesky(shrunk)
    return factor


def expectation_maximization(
    mixture: Mixture,
    points: Tensor,
    num_rounds: int = 10,
    log_weights: Tensor | None = None,
    groups: Tensor | None = None,
) -> Mixture:
    """Refit by EM; one of several components keeps its shape with fewer than D + 2 points.

    Arguments:
        mixture: Where to start.
        points: ``(N, D)``.
        num_rounds: Rounds of EM.
        log_weights: Of the points, ``(N,)``; equal by default. It is effective points that count.
        groups: Which points say the same, ``(N,)``, if their number counts and not the points'.

    References:
        Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM
        algorithm, JRSS B 39.
    """
    masses = effective_masses(points, log_weights, groups)
    for _ in range(num_rounds):
        share = log_joint(mixture, points).softmax(-1) * masses[:, None]
        counts = share.sum(0)
        means, factors = mixture.means.clone(), mixture.factors.clone()
        enough = points.shape[-1] + 2 if len(counts) > 1 else 2
        for k in (counts >= enough).nonzero()[:, 0].tolist():
            means[k] = share[:, k] @ points / counts[k]
            factors[k] = shrunk_factor(points, share[:, k], means[k])
        # a floor of one point: pilot masses must not delete a mode
        weights = counts.clamp(min=1.0)
        mixture = Mixture(weights / weights.sum(), means, factors)
    return mixture


def effective_masses(
    points: Tensor, log_weights: Tensor | None, groups: Tensor | None = None
) -> Tensor:
    """Give masses of weighted points, ``(N,)``, that sum to their effective number, or groups'."""
    if log_weights is None:
        log_weights = torch.zeros_like(points[:, 0])
    weights = log_weights.softmax(0)
    if groups is None:
        return weights * effective_sample_size(log_weights)
    index = torch.unique(groups, return_inverse=True)[1]
    sums = torch.zeros_like(weights[: int(index.max()) + 1]).scatter_add(0, index, weights)
    return weights / sums.square().sum()


def split_components(
    mixture: Mixture,
    points: Tensor,
    groups: Tensor,
    max_components: int,
    log_weights: Tensor | None = None,
) -> Mixture:
    """Split components in two while that makes points likelier which the halves never saw.

    Halves start along the longest axis, or with one centre and two widths. They are fitted to
    one half of the groups and judged on the other: the gain in mean log-likelihood must exceed
    two standard errors over groups.

    Arguments:
        mixture: Where to start.
        points: ``(N, D)``.
        groups: Which points belong together, ``(N,)``: those of a chain, say, say the same.
        max_components: No more splits beyond.
        log_weights: Of the points, ``(N,)``; equal by default.
    """
    masses = effective_masses(points, log_weights)
    queue, done = list(range(len(mixture.weights))), 0
    while queue and len(mixture.weights) < max_components and done < 4 * max_components:
        k, done = queue.pop(0), done + 1
        mine = log_joint(mixture, points).argmax(-1) == k
        halves = _best_halves(mixture, k, points[mine], groups[mine], masses[mine])
        if halves is None:
            continue
        mixture = _replace(mixture, k, halves)
        queue += [k, len(mixture.weights) - 1]
    return mixture


def _replace(mixture: Mixture, k: int, halves: Mixture) -> Mixture:
    """Put the first half in the component's place and the second at the end."""
    parts = []
    scaled = halves._replace(weights=halves.weights * mixture.weights[k])
    for old, new in zip(mixture, scaled, strict=True):
        changed = old.clone()
        changed[k] = new[0]
        parts.append(torch.cat([changed, new[1:]]))
    return Mixture(*parts)


def _best_halves(
    mixture: Mixture, k: int, points: Tensor, groups: Tensor, masses: Tensor
) -> Mixture | None:
    """Give two components for one, if they are likelier on what they weren't fitted to."""
    odd = groups % 2 == 1
    enough = 2 * (points.shape[-1] + 2)
    if min(float(masses[odd].sum()), float(masses[~odd].sum())) < enough:
        return None
    whole = Mixture(mixture.weights.new_ones(1), mixture.means[k, None], mixture.factors[k, None])
    whole = expectation_maximization(whole, points[odd], 1, masses[odd].log())
    plain = log_joint(whole, points[~odd]).logsumexp(-1)
    best, best_score = None, 2.0
    for start in (_along_axis(whole), _in_width(whole)):
        fitted = expectation_maximization(start, points[odd], 12, masses[odd].log())
        gain = log_joint(fitted, points[~odd]).logsumexp(-1) - plain
        score = _z_score(gain, groups[~odd], masses[~odd])
        if score > best_score and float(fitted.weights.min()) * len(points) > enough:
            best, best_score = fitted, score
    return best and expectation_maximization(best, points, 6, masses.log())


def _along_axis(one: Mixture) -> Mixture:
    covariance = one.factors[0] @ one.factors[0].T
    values, vectors = torch.linalg.eigh(covariance)
    shift = values[-1].sqrt() * vectors[:, -1]
    half = covariance - 0.6 * torch.outer(shift, shift)
    factors = torch.linalg.cholesky(half).expand(2, *half.shape)
    means = torch.stack([one.means[0] - 0.8 * shift, one.means[0] + 0.8 * shift])
    return Mixture(one.weights.new_tensor([0.5, 0.5]), means, factors)


def _in_width(one: Mixture) -> Mixture:
    widths = one.weights.new_tensor([0.6, 1.4])[:, None, None]
    return Mixture(
        one.weights.new_tensor([0.5, 0.5]),
        one.means.expand(2, -1),
        widths * one.factors,
    )


def _z_score(gain: Tensor, groups: Tensor, masses: Tensor) -> float:
    """Mean gain over its standard error, groups being independent."""
    index = torch.unique(groups, return_inverse=True)[1]
    zeros = gain.new_zeros(int(index.max()) + 1)
    sums = zeros.scatter_add(0, index, gain * masses)
    return float(sums.sum() / sums.square().sum().sqrt().clamp(min=1e-300))


def inflate(mixture: Mixture, inflation: float) -> Mixture:
    """Multiply the covariances by a factor."""
    return mixture._replace(factors=math.sqrt(inflation) * mixture.factors)


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
        ratio = proposal_log_prob(target, x) - joint.logsumexp(-1)
        ratio = ratio.clamp(max=float(log_mean_exp(ratio)) + 0.5 * math.log(num_points))
        estimate = ratio.softmax(0) @ joint.softmax(-1)
        # a tenth stays with the old and with equal weights: rounds are noisy
        spare = 0.5 * (mixture.weights + 1 / len(mixture.weights))
        weights = 0.9 * estimate + 0.1 * spare
        mixture = mixture._replace(weights=weights / weights.sum())
    return mixture
