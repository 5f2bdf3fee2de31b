r"""How far a decoder is from an isometry of the chosen metric.

With :math:`J` the decoder's Jacobian and :math:`W` an orthonormal frame of the chosen metric
:math:`h`, :math:`W^\top h W = I`, the relative metric

.. math:: S(z) = W^\top J^\top J W

has the spectrum of :math:`h^{-1} J^\top J`: the identity for an isometry, a multiple of it for a
conformal map.  All losses are functions of that spectrum, so that any frame serves.

References:
    Lee, Yoon, Son & Park (2022), Regularized Autoencoders for Isometric Representation
    Learning, for the relaxed distortion with flat h;
    Chen, Klushyn, Ferroni, Bayer & van der Smagt (2020), Learning Flat Latent Manifolds.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from latentgeom.immersions.immersion import Chart, jacobian
from latentgeom.metrics.metric import Metric
from latentgeom.shell.showing import in_a_line

__all__ = [
    "RelaxedPenalty",
    "conformal_distortion",
    "isometry_loss",
    "relative_metric",
    "relaxed_distortion",
    "volume_distortion",
]


def relative_metric(decode: Callable[[Tensor], Tensor], metric: Metric, z: Tensor) -> Tensor:
    """Induced metric in an orthonormal frame of the chosen one, ``(..., d, d)``.

    Arguments:
        decode: Map of coordinates ``(..., d)`` to observations ``(..., D)``.
        metric: The chosen metric.
        z: Coordinates, ``(..., d)``.
    """
    columns = jacobian(Chart(decode, metric.dim), z)[1]
    scaled = columns @ metric.orthonormal_frame(z)
    return scaled.mT @ scaled


def isometry_loss(relative: Tensor, scale: Tensor) -> Tensor:
    r"""Isometry up to scale, :math:`\|S / c - I\|_F^2`, ``(...,)``.

    Arguments:
        relative: Relative metrics ``S``, ``(..., d, d)``.
        scale: Positive factor ``c``.
    """
    identity = torch.eye(relative.shape[-1], dtype=relative.dtype, device=relative.device)
    return (relative / scale - identity).square().sum((-2, -1))


def relaxed_distortion(relative: Tensor) -> Tensor:
    r"""Scale-free isometry of a sample, :math:`d\, E \mathrm{Tr} S^2 / (E \mathrm{Tr} S)^2 - 1`.

    Zero exactly when ``S`` is one multiple of the identity everywhere.

    Arguments:
        relative: Relative metrics of a sample, ``(B, d, d)``.

    References:
        Lee, Yoon, Son & Park (2022), Regularized Autoencoders for Isometric Representation
        Learning.
    """
    square = relative.square().sum((-2, -1)).mean()
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1).mean()
    return relative.shape[-1] * square / trace.square() - 1


class RelaxedPenalty(nn.Module):
    """The relaxed distortion as what a training adds to the reconstruction; it learns no scale."""

    __str__ = in_a_line

    @override
    def forward(self, relative: Tensor, scale: Tensor) -> Tensor:
        """Relaxed distortion of a sample of relative metrics ``(B, d, d)``."""
        return relaxed_distortion(relative) + 0 * scale


def conformal_distortion(relative: Tensor) -> Tensor:
    r"""Angles alone, :math:`d\, \mathrm{Tr} S^2 / (\mathrm{Tr} S)^2 - 1`, ``(...,)``."""
    square = relative.square().sum((-2, -1))
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    return relative.shape[-1] * square / trace.square() - 1


def volume_distortion(relative: Tensor) -> Tensor:
    r"""Volume alone, the variance of :math:`\log\det S` over a sample ``(B, d, d)``.

    References:
        Nazari, Damrich & Hamprecht (2023), Geometric Autoencoders: What You See is What You
        Decode, arXiv:2306.17638.
    """
    return torch.logdet(relative).var()
