r"""Points between our tangent coordinates and geoopt's manifolds, both ways.

geoopt has the manifold parameters and Riemannian optimisers; distances are ours.  With
:math:`\kappa` the curvature and :math:`(C, S)` of :mod:`latentgeom.metrics.constant_curvature`, its

- ``Lorentz(k)`` has :math:`\kappa = -1/k` and points :math:`(\sqrt{k}\, C, S \hat u)`;
- ``Stereographic(k)`` and ``PoincareBall(c)`` have :math:`\kappa = k` and :math:`-c`;
- ``Sphere()`` has :math:`\kappa = 1` and points :math:`(C, S \hat u)`;
- ``Euclidean()`` has :math:`\kappa = 0`.

References:
    Kochurov, Karimov & Kozlukov (2020), Geoopt: Riemannian Optimization in PyTorch,
    arXiv:2005.02819.
"""

import geoopt
import torch
from torch import Tensor

from latentgeom.metrics import constant_curvature as cc

__all__ = ["curvature_of", "from_geoopt", "to_geoopt"]


def curvature_of(manifold: geoopt.Manifold) -> Tensor:
    """Sectional curvature of one of geoopt's manifolds.

    Raises:
        ValueError: The manifold isn't of constant curvature, or unknown here.
    """
    if isinstance(manifold, geoopt.Lorentz):
        return -1 / torch.as_tensor(manifold.k)
    if isinstance(manifold, geoopt.Stereographic):
        return torch.as_tensor(manifold.k)
    if isinstance(manifold, geoopt.Sphere):
        return torch.tensor(1.0)
    if isinstance(manifold, geoopt.Euclidean):
        return torch.tensor(0.0)
    raise ValueError(f"no constant curvature known for {type(manifold).__name__}")


def to_geoopt(u: Tensor, manifold: geoopt.Manifold) -> Tensor:
    """Points of a geoopt manifold from tangent coordinates ``(..., d)``."""
    curvature = curvature_of(manifold).to(u)
    if isinstance(manifold, geoopt.Stereographic):
        return cc.tangent_to_stereographic(u, curvature)
    if isinstance(manifold, geoopt.Euclidean):
        return u
    x = cc.tangent_to_ambient(u, curvature)
    return torch.cat([x[..., :1] / curvature.abs().sqrt(), x[..., 1:]], -1)


def from_geoopt(x: Tensor, manifold: geoopt.Manifold) -> Tensor:
    """Tangent coordinates from points of a geoopt manifold; inverse of the above."""
    curvature = curvature_of(manifold).to(x)
    if isinstance(manifold, geoopt.Stereographic):
        return cc.stereographic_to_tangent(x, curvature)
    if isinstance(manifold, geoopt.Euclidean):
        return x
    scaled = torch.cat([x[..., :1] * curvature.abs().sqrt(), x[..., 1:]], -1)
    return cc.ambient_to_tangent(scaled, curvature)
