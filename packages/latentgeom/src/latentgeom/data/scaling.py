r"""Observations brought to a common scale, and back.

.. math:: y = (x - m) / s

with mean :math:`m` and deviation :math:`s` of the observations that are learnt.

References:
    LeCun, Bottou, Orr & Müller (1998), Efficient BackProp, section 4.3.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DEFAULT", "Affine", "Scaling"]


class Affine(NamedTuple):
    """A fitted scaling.

    Arguments:
        shift: :math:`m`, ``(D,)``.
        factor: :math:`s`, ``(D,)``, positive.
    """

    shift: Tensor
    factor: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Observations as networks see them."""
        return (x - self.shift) / self.factor

    def invert(self, y: Tensor) -> Tensor:
        """Observations in their own units."""
        return y * self.factor + self.shift


@dataclass(frozen=True)
class Scaling:
    """What is done with the columns of a table before it is learnt.

    Arguments:
        centre: Take off the mean.
        scale: Divide by the standard deviation.
        each_column: Divide each column by its own; else all by the root of their mean square,
            which keeps the shape of the data.
    """

    centre: bool = True
    scale: bool = True
    each_column: bool = True

    def fit(self, x: Tensor) -> Affine:
        """Shift and factor of observations ``(N, D)``; a constant column is not divided."""
        shift = x.mean(0) if self.centre else torch.zeros_like(x[0])
        variance = x.var(0, correction=0)
        if not self.each_column:
            variance = variance.mean().expand_as(variance)
        # A constant column's variance is rounding of its mean, not zero.
        nothing = 64 * torch.finfo(x.dtype).eps * x.abs().amax(0).clamp(min=1e-300)
        divided = torch.tensor(self.scale, device=x.device) & (variance.sqrt() > nothing)
        return Affine(shift, torch.where(divided, variance.sqrt(), 1.0))


DEFAULT = Scaling()
