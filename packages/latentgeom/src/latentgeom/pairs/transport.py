r"""Parallel transport by the pole ladder: exponentials and logarithms are all it needs.

The geodesic from :math:`a` to :math:`b` is cut into rungs.  On each, from :math:`p` to
:math:`q` with middle :math:`m`, the tip :math:`x = \exp_p(v)` is reflected through :math:`m`,
:math:`x' = \exp_m(-\log_m x)`, and the vector read off where it arrives:

.. math:: v \mapsto -\log_q x' .

One rung is exact on symmetric spaces; elsewhere the error is of third order in the vector and
of second in the rungs, so the vector is made short before and long again after.

References:
    Lorenzi & Pennec (2014), Efficient Parallel Transport of Deformations in Time Series of
    Images: From Schild's to Pole Ladder;
    Guigui & Pennec (2022), Numerical Accuracy of Ladder Schemes for Parallel Transport.
"""

import torch
from torch import Tensor

from latentgeom.metrics.metric import Metric

__all__ = ["pole_ladder"]


def pole_ladder(
    metric: Metric,
    a: Tensor,
    b: Tensor,
    v: Tensor,
    *,
    num_rungs: int = 1,
    shrink: float = 1.0,
) -> Tensor:
    """Parallel transport of ``v`` from ``a`` to ``b`` along their geodesic, ``(B, d)``.

    Arguments:
        metric: Metric with exponential and logarithm.
        a: Start points, ``(B, d)``.
        b: End points, ``(B, d)``.
        v: Vectors at ``a``, ``(B, d)``.
        num_rungs: Pieces of the geodesic.
        shrink: Factor of the vector during transport; small ones suit strong curvature.
    """
    if num_rungs < 1:
        raise ValueError(f"num_rungs must be at least 1, got {num_rungs}")
    if not shrink > 0:
        raise ValueError(f"shrink must be positive, got {shrink}")
    times = torch.linspace(0, 1, 2 * num_rungs + 1, dtype=a.dtype, device=a.device)
    rail = metric.geodesic(a, b, times)
    v = shrink * v
    for rung in range(num_rungs):
        start, middle, end = (rail[:, 2 * rung + k] for k in range(3))
        tip = metric.expmap(start, v)
        mirrored = metric.expmap(middle, -metric.logmap(middle, tip))
        v = -metric.logmap(end, mirrored)
    return v / shrink
