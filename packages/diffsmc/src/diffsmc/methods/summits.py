r"""Modes from the ends of climbs: Newton's steps, and the curvature by differences of gradients.

With :math:`H` the negative second derivatives of :math:`\log\gamma`, a step is
:math:`H^{-1}\nabla\log\gamma`, and Laplace's Gaussian at the mode has covariance
:math:`H^{-1}`. Differences are taken over steps of the mode's own widths.

References:
    Nocedal & Wright, Numerical Optimization, 2006, chapters 3 and 8.
"""

import math

import torch
from torch import Tensor

from diffsmc.targets.target import Target

__all__ = ["find_summit"]

RISING = 0.1  # gain that a step predicts where there is no summit yet


def find_summit(target: Target, end: Tensor, most: float) -> tuple[Tensor, Tensor | None, int]:
    """Give the mode near an end by Newton steps, and Laplace's factor there.

    Arguments:
        target: The target.
        end: Where a climb ended, ``(D,)``.
        most: Most evaluations.

    Returns:
        The mode, its factor ``(D, D)``, or nothing where no mode is near, and the evaluations.
    """
    spent, widths, gain, near, risen = 0, 1e-3 * target.start_factor, math.inf, False, True
    factor = None
    for _ in range(14):
        if spent + 2 * target.dim + 3 > most:
            break
        factor, grad, cost = _curvature(target, end, widths)
        spent += cost
        if factor is None:
            return end, None, spent
        step = factor @ (factor.T @ grad)
        new = end + step
        values = target.log_prob(torch.stack([end, new]))
        spent += 2
        risen = bool(values[1] >= values[0])
        gain = float(grad @ step)
        near = gain < 1e-6
        end = new if risen else end
        same = torch.allclose(0.3 * factor, widths, rtol=0.3, atol=0.0)
        widths = 0.3 * factor
        if (near or not risen) and same:
            break
    # where Newton's steps find no end, or one that still rises, there is a ridge, and no peak
    return end, factor if near or (not risen and gain < RISING) else None, spent


def _curvature(target: Target, mode: Tensor, widths: Tensor) -> tuple[Tensor | None, Tensor, int]:
    """Give Laplace's factor, or nothing where the density isn't peaked, and the gradient.

    Arguments:
        target: The target.
        mode: Where.
        widths: Columns are the differences, ``(D, D)``, over which gradients are compared.
    """
    points = torch.cat([mode + widths.T, mode - widths.T, mode[None]])
    grads = target.log_prob_and_grad(points)[1]
    plus, minus, grad = grads[: len(mode)], grads[len(mode) : -1], grads[-1]
    # in the coordinates of the widths, which make any scales of the axes alike
    bent = (minus - plus) @ widths / 2
    bent = 0.5 * (bent + bent.T)
    scale = bent.diagonal()
    if not bool(bent.isfinite().all()) or not bool((scale > 0).all()):
        return None, grad, len(points)
    scale = scale.rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * bent * scale)
    if float(values[0]) <= 0:
        return None, grad, len(points)
    return _lower(widths @ (scale[:, None] * vectors / values.sqrt())), grad, len(points)


def _lower(root: Tensor) -> Tensor | None:
    """Give the lower Cholesky factor of ``root root^T`` by a QR decomposition, any scales."""
    scale = root.square().sum(-1).sqrt()
    if not bool((scale > 0).all()) or not bool(scale.isfinite().all()):
        return None
    upper = torch.linalg.qr((root / scale[:, None]).T).R
    factor = upper.T * upper.diagonal().sign()
    return scale[:, None] * factor if bool((factor.diagonal() > 0).all()) else None
