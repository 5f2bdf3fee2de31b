r"""What an isometric autoencoder minimises.

.. math::

    \frac1B \sum_i |D(E(x_i)) - x_i|^2 + \frac wB \sum_i \|S(z_i) / c - I\|_F^2, \qquad
    z_i = \gamma_{E(x_i), E(x_i')}(t_i)

where :math:`\gamma` is the chosen metric's own geodesic from a code to that of a partner
:math:`x_i'`.  The encoder isn't to move for the points in between.

References:
    Lee, Yoon, Son & Park (2022), Regularized Autoencoders for Isometric Representation Learning.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.models.latent_model import Learnt
from latentgeom.models.losses import isometry_loss, relative_metric
from latentgeom.shell.showing import in_a_line

__all__ = ["Objective", "isometric_objective", "isometry_at", "points_between", "reconstruction_of"]


class Objective(NamedTuple):
    """Means over a batch.

    Arguments:
        reconstruction: Squared error of the observations, summed over their features.
        isometry: Squared distance of the relative metric from a multiple of the identity.
    """

    reconstruction: Tensor
    isometry: Tensor

    def __str__(self) -> str:
        return in_a_line(self)


Penalty = Callable[[Tensor, Tensor], Tensor]  # of relative metrics and the scale


def reconstruction_of(model: Learnt, x: Tensor, z: Tensor) -> Tensor:
    """Squared errors of observations ``(B, *D)`` decoded from codes, ``(B,)``."""
    return (model.decode(z).reshape(x.shape) - x).square().flatten(1).sum(-1)


def isometry_at(model: Learnt, z: Tensor, penalty: Penalty = isometry_loss) -> Tensor:
    """Isometry loss at coordinates ``(B, d)``, ``(B,)``; another penalty may be one number."""
    relative = relative_metric(model.decode, model.metric, z)
    return penalty(relative, model.log_scale.exp())


@torch.no_grad()
def points_between(model: Learnt, z: Tensor, partner: Tensor, t: Tensor) -> Tensor:
    """Points of the chosen metric's geodesics from codes to their partners' codes, ``(B, d)``.

    Arguments:
        model: Networks and the chosen metric.
        z: Codes, ``(B, d)``.
        partner: Observations whose codes the geodesics lead to, ``(B, D)``.
        t: Times, ``(B, 1)``, below zero behind the codes.
    """
    metric = model.metric
    return metric.exp_frame(z, t * metric.log_frame(z, model.encode(partner)))


def isometric_objective(
    model: Learnt, x: Tensor, partner: Tensor, t: Tensor, penalty: Penalty = isometry_loss
) -> Objective:
    """Reconstruction of observations, and isometry on geodesics between their codes.

    Arguments:
        model: Networks and the chosen metric.
        x: Observations, ``(B, D)``.
        partner: Observations to whose codes the geodesics lead, ``(B, D)``.
        t: Times on these geodesics, ``(B, 1)``.
        penalty: Function of the relative metrics ``(B, d, d)`` and the scale.
    """
    z = model.encode(x)
    reconstruction = reconstruction_of(model, x, z)
    isometry = isometry_at(model, points_between(model, z, partner, t), penalty)
    return Objective(reconstruction.mean(), isometry.mean())
