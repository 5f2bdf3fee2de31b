r"""Posteriors with named, constrained parameters.

A parameter :math:`\theta` with a constraint is written :math:`\theta = T(z)` with the
bijection that ``torch.distributions.biject_to`` gives for it, so that the sampler sees

.. math:: \log\gamma(z) = \log p(T(z)) + \log p(y\mid T(z)) + \log|\det T'(z)|

on :math:`\mathbb R^D`. :math:`Z` is the evidence if the prior is normalised.

References:
    Stan Development Team, Stan Reference Manual, constraint transforms.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint, real
from typing_extensions import override

from diffsmc.targets.target import Target, differentiate

__all__ = ["Parameter", "Parameters", "Posterior", "constrain", "free_shapes", "unconstrain"]

Parameters = Mapping[str, Tensor]


class Parameter(NamedTuple):
    """A parameter's constraint and shape.

    A function in place of the constraint gets the parameters before this one and gives the
    constraint, for bounds that depend on them.
    """

    constraint: Constraint | Callable[[Parameters], Constraint] = real
    shape: tuple[int, ...] = ()


def _constraint(parameter: Parameter, before: Parameters) -> Constraint:
    fixed = parameter.constraint
    return fixed if isinstance(fixed, Constraint) else fixed(before)


def _bijection(constraint: Constraint) -> Any:
    # torch.distributions has no types
    return biject_to(constraint)


def constrain(
    space: Mapping[str, Parameter], z: Tensor, shapes: list[torch.Size]
) -> tuple[dict[str, Tensor], Tensor]:
    r"""Give the parameters :math:`T(z)` and :math:`\log|\det T'(z)|`.

    Far out a constrained parameter rounds to its edge, :math:`e^{-800}` to 0, where models
    divide by zero. So :math:`|z|` beyond 0.4 times the log of the largest number (283 in
    float64) counts as density zero: the log-determinant is ``-inf``, the parameters are
    those of the bound. So does NaN, where a trajectory diverged.

    Arguments:
        space: The parameters, in order.
        z: Unconstrained points, ``(..., D)``.
        shapes: Shapes of the unconstrained parameters, which `free_shapes` gives.
    """
    lead = z.shape[:-1]
    values: dict[str, Tensor] = {}
    bound = 0.4 * math.log(torch.finfo(z.dtype).max)
    inside = ~z.isnan().any(-1)
    log_det = torch.zeros_like(z[..., 0])
    parts = torch.split(z.nan_to_num(nan=0.0), [shape.numel() for shape in shapes], -1)
    for (name, parameter), part, shape in zip(space.items(), parts, shapes, strict=True):
        constraint = _constraint(parameter, _aligned(values, len(parameter.shape)))
        if constraint is not real:
            inside = inside & (part.abs() <= bound).all(-1)
            part = part.clamp(-bound, bound)
        transform, free = _bijection(constraint), part.reshape((*lead, *shape))
        values[name] = transform(free)
        jacobian = transform.log_abs_det_jacobian(free, values[name])
        log_det = log_det + jacobian.reshape(*lead, -1).sum(-1)
    log_det = log_det.where(inside, -torch.inf)
    return values, log_det


def unconstrain(space: Mapping[str, Parameter], values: Parameters) -> Tensor:
    """Give the unconstrained point, ``(..., D)``, of parameters."""
    parts = []
    for name, parameter in space.items():
        value = values[name]
        lead = value.shape[: value.dim() - len(parameter.shape)]
        before = _aligned(values, len(parameter.shape))
        inverse = _bijection(_constraint(parameter, before)).inv
        parts.append(inverse(value).reshape(*lead, -1))
    return torch.cat(parts, -1)


def free_shapes(space: Mapping[str, Parameter]) -> list[torch.Size]:
    """Give the shapes of the unconstrained parameters; bounds never change them."""
    inside = {name: torch.tensor(0.5, dtype=torch.float64) for name in space}
    shapes = [_bijection(_constraint(p, inside)).inverse_shape(p.shape) for p in space.values()]
    return [torch.Size(shape) for shape in shapes]


def _aligned(values: Parameters, dims: int) -> dict[str, Tensor]:
    """Give earlier parameters trailing axes, so that bounds broadcast over a later one."""
    return {name: value[(..., *[None] * dims)] for name, value in values.items()}


class Posterior(Target):
    """A target from a log-prior and a log-likelihood of named parameters.

    Arguments:
        space: Parameters by name, in order.
        log_prior: Maps parameters to the log-prior, ``(...)``.
        log_likelihood: Maps parameters to the log-likelihood, ``(...)``.
        scale: Standard deviation of the wide start, in unconstrained coordinates.
        log_normalizer: The log-evidence, where it is known.
    """

    def __init__(
        self,
        space: Mapping[str, Parameter],
        log_prior: Callable[[Parameters], Tensor],
        log_likelihood: Callable[[Parameters], Tensor],
        scale: float = 1.0,
        log_normalizer: float | None = None,
    ) -> None:
        shapes = free_shapes(space)
        dim = sum(shape.numel() for shape in shapes)
        super().__init__(dim, scale=scale, log_normalizer=log_normalizer)
        self.space, self.shapes = dict(space), shapes
        self.log_prior = log_prior
        self.log_likelihood = log_likelihood

    def parameters_at(self, z: Tensor) -> dict[str, Tensor]:
        """Give the parameters of unconstrained points, ``(..., D)``."""
        return constrain(self.space, z, self.shapes)[0]

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        values, log_det = constrain(self.space, x, self.shapes)
        value = self.log_prior(values) + self.log_likelihood(values) + log_det
        return value.where(log_det > -torch.inf, -torch.inf)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return differentiate(self.log_prob, x)
