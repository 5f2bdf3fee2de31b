r"""Densities of weighted draws in which narrow modes survive.

A kernel at each of many weighted quantiles :math:`c_i`, of a width of its own:

.. math:: \hat p(x) = \frac1m\sum_i N(x; c_i, h_i^2),\qquad
    h_i = \min\big(Q(u_i + \delta) - c_i,\ c_i - Q(u_i - \delta)\big)

with :math:`Q` the quantile function: where draws are dense kernels are narrow, and at the edge of a
mode the nearer side counts, not the gap to the next mode. One draw may hold more mass than
:math:`\delta`; so a kernel spans the draws that make eight effective ones, :math:`8N/\mathrm{ESS}`
neighbours on its nearer side, at the least.

References:
    Loftsgaarden & Quesenberry, A nonparametric estimate of a multivariate density function,
    Annals of Mathematical Statistics 1965 (widths by neighbours).
"""

from typing import Any

import numpy as np

__all__ = ["adaptive_density"]

NUM_KERNELS = 400
REACH = 0.03  # share of the mass on one side of a kernel
EFFECTIVE = 8  # draws that a kernel spans on its nearer side


def adaptive_density(
    values: np.ndarray[Any, np.dtype[np.float64]], weights: np.ndarray[Any, np.dtype[np.float64]]
) -> tuple[Any, Any]:
    """Give a grid and the density of weighted values on it.

    Arguments:
        values: ``(N,)``.
        weights: ``(N,)``, not negative.
    """
    order = np.argsort(values)
    ordered = values[order]
    rising = np.cumsum(weights[order])
    # the middle of each draw's own share
    cdf = (rising - 0.5 * weights[order]) / rising[-1]

    def quantile(u: Any) -> Any:
        return np.interp(u, cdf, ordered)

    levels = (np.arange(NUM_KERNELS) + 0.5) / NUM_KERNELS
    centres = quantile(levels)
    above = quantile(np.minimum(levels + REACH, 1)) - centres
    below = centres - quantile(np.maximum(levels - REACH, 0))
    # beyond the outermost quantiles there is no draw: the inner side counts there
    above = np.where(levels > 1 - REACH, np.inf, above)
    below = np.where(levels < REACH, np.inf, below)
    spread = ordered[-1] - ordered[0]
    least = max(1e-4 * spread, 1e-12 * max(1.0, abs(float(ordered[0]))))
    widths = np.maximum(np.minimum(above, below), _neighbours(ordered, centres, weights))
    widths = np.maximum(widths, least)
    margin = 2 * float(np.median(widths))
    grid = np.union1d(
        np.linspace(quantile(0.0005) - margin, quantile(0.9995) + margin, 300),
        np.concatenate([centres, centres + widths, centres - widths]),
    )
    unit = (grid[:, None] - centres) / widths
    density = (np.exp(-0.5 * unit**2) / (widths * np.sqrt(2 * np.pi))).mean(1)
    return grid, density


def _neighbours(ordered: Any, centres: Any, weights: Any) -> Any:
    """Give distances to the draws that make some effective ones, on the nearer side."""
    num = len(ordered)
    ess = weights.sum() ** 2 / np.square(weights).sum()
    reach = min(int(np.ceil(EFFECTIVE * num / ess)), max(1, num // 8))
    place = np.searchsorted(ordered, centres)
    above = ordered[np.minimum(place + reach, num - 1)] - centres
    below = centres - ordered[np.maximum(place - reach, 0)]
    above = np.where(place + reach > num - 1, np.inf, above)
    below = np.where(place - reach < 0, np.inf, below)
    nearer = np.minimum(above, below)
    return np.where(np.isfinite(nearer), nearer, 0.0)
