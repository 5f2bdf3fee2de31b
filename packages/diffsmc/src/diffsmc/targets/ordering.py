r"""Ordered vectors :math:`\theta_1 < \theta_2 < \dots`, beside torch's constraints.

:math:`\theta_1 = z_1` and :math:`\theta_k = \theta_{k-1} + e^{z_k}`, so that the log-Jacobian is
:math:`\sum_{k\ge2} z_k`.

References:
    Stan Development Team, Stan Reference Manual, ordered vectors.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import Transform

__all__ = ["Ordered", "ordered"]


class Ordered(constraints.Constraint):
    """Vectors of rising numbers, in their last axis.

    Arguments:
        num: Their number, where it is to be checked.
    """

    event_dim = 1

    def __init__(self, num: int | None = None) -> None:
        if num is not None and num < 1:
            raise ValueError(f"ordered needs at least 1 number, got {num}")
        self.num = num
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Tell which vectors rise."""
        return (value[..., 1:] > value[..., :-1]).all(-1)


class _ToOrdered(Transform):
    """Free numbers to rising ones."""

    bijective = True
    domain = constraints.real_vector
    codomain = Ordered()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ToOrdered)

    def __hash__(self) -> int:
        return hash(type(self))

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], y.diff(dim=-1).log()], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x[..., 1:].sum(-1)


def _make(constraint: Any) -> Transform:
    return _ToOrdered()


_register: Any = biject_to  # torch.distributions has no types
_register.register(Ordered, _make)


def ordered(num: int | None = None) -> Ordered:
    """Give the constraint of rising numbers; a parameter of it has the shape ``(num,)``.

    Arguments:
        num: Their number.
    """
    return Ordered(num)
