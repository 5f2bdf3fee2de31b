r"""The standard deviation of a decoder that knows where its codes are.

.. math:: \sigma(z) = \beta(z)^{-1/2}, \qquad
    \beta(z) = W v(z) + \zeta, \quad v_k(z) = e^{-\lambda_k |z - c_k|^2}, \quad W \ge 0

The precision falls to :math:`\zeta` far from all centres, so that the expected metric
:math:`J_\mu^\top J_\mu + J_\sigma^\top J_\sigma` keeps geodesics near the codes.  Centres are the
means of clusters of the codes, rates come from their widths,
:math:`\lambda_k = \tfrac12 (\kappa\, \overline{|z - c_k|})^{-2}`, and the weights are fitted
after the mean, by maximum likelihood with the mean held fixed.

References:
    Arvanitidis, Hansen & Hauberg (2018), Latent Space Oddity, section 4.
"""

import math
from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from latentgeom.shell.showing import in_a_line

__all__ = ["RadialDeviation", "fit_deviation", "radial_deviation"]


class RadialDeviation(nn.Module):
    r"""Standard deviation that grows away from the codes; formula above.

    Arguments:
        centres: Centres ``c``, ``(K, d)``.
        rates: Positive :math:`\lambda`, ``(K,)``.
        out_features: Number ``D`` of observations.
        floor: Precision :math:`\zeta` far from all centres.

    References:
        Que & Belkin (2016), Back to the Future: Radial Basis Function Networks Revisited.
    """

    __str__ = in_a_line

    centres: Tensor
    rates: Tensor

    def __init__(
        self, centres: Tensor, rates: Tensor, out_features: int, floor: float = 1e-3
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}")
        self.register_buffer("centres", centres)
        self.register_buffer("rates", rates)
        self.floor = floor
        self.log_weight = nn.Parameter(torch.zeros(out_features, len(centres)).to(centres))

    def finest_scale(self) -> float:
        """Standard deviation of the narrowest radial function; curves are sampled by it."""
        return float((2 * self.rates.max()) ** -0.5)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., d)`` to ``(..., D)``."""
        square = (z.unsqueeze(-2) - self.centres).square().sum(-1)
        basis = (-self.rates * square).exp()
        precision = basis @ self.log_weight.exp().mT + self.floor
        return precision.rsqrt()


def radial_deviation(
    codes: Tensor,
    num_centres: int,
    out_features: int,
    *,
    width: float = 1.25,
    floor: float = 1e-3,
    seed: int = 0,
) -> RadialDeviation:
    r"""A deviation whose centres are the k-means of the codes.

    Arguments:
        codes: Codes, ``(N, d)``.
        num_centres: Clusters ``K``, at most ``N``.
        out_features: Number ``D`` of observations.
        width: Factor :math:`\kappa` of the mean distance to a centre.
        floor: Precision far from all centres.
        seed: Seed of the clusters' first centres.
    """
    if not 1 <= num_centres <= len(codes):
        raise ValueError(f"num_centres must be from 1 to {len(codes)}, got {num_centres}")
    clusters = KMeans(num_centres, n_init=4, random_state=seed).fit(codes.double().cpu().numpy())
    centres = torch.from_numpy(clusters.cluster_centers_).to(codes)
    label = torch.from_numpy(clusters.labels_).long().to(codes.device)
    gap = torch.linalg.vector_norm(codes - centres[label], dim=-1)
    count = torch.bincount(label, minlength=num_centres).to(codes)
    mean = torch.zeros_like(count).index_add(0, label, gap) / count
    # A cluster of one code has no width of its own: it gets the mean one.
    mean = torch.where(mean > 0, mean, gap.mean() if bool(gap.any()) else 1.0)
    return RadialDeviation(centres, 0.5 / (width * mean).square(), out_features, floor)


def fit_deviation(
    deviation: RadialDeviation,
    mean: Callable[[Tensor], Tensor],
    codes: Tensor,
    observations: Tensor,
    *,
    max_iterations: int = 100,
) -> float:
    r"""Fit the weights by maximum likelihood of Gaussian observations, the mean held fixed.

    .. math:: \min_W \; \frac1N \sum_{n,d} \tfrac12 \bigl(
        \beta_d(z_n) (x_{nd} - \mu_d(z_n))^2 - \log \beta_d(z_n) + \log 2 \pi \bigr)

    Arguments:
        deviation: Deviation to fit, in place.
        mean: Mean decoder, trained before, ``(..., d) -> (..., D)``.
        codes: Codes, ``(N, d)``.
        observations: Observations, ``(N, D)``.
        max_iterations: Steps of L-BFGS.

    Returns:
        Negative log-likelihood an observation, in nats.
    """
    with torch.no_grad():
        square = (observations - mean(codes)).square()
    optimizer = torch.optim.LBFGS(
        deviation.parameters(), max_iter=max_iterations, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        log_sigma = deviation(codes).log()
        terms = square * (-2 * log_sigma).exp() / 2 + log_sigma
        total: Tensor = terms.sum(-1).mean() + square.shape[-1] * math.log(2 * math.pi) / 2
        return total

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(loss().detach())
