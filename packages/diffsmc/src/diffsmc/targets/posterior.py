r"""Posteriors with named, constrained parameters.

A parameter :math:`\theta` with a constraint is written :math:`\theta = T(z)` with the
bijection that ``torch.distributions.biject_to`` gives for it, so that the sampler sees

.. math:: \log\gamma(z) = \log p(T(z)) + \log p(y\mid T(z)) + \log|\det T'(z)|

on :math:`\mathbb R^D`. :math:`Z` is the evidence if the prior is normalised.

References:
    Stan Development Team, Stan Reference Manual, constraint transforms.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint, real
from typing_extensions import override

from diffsmc.targets.target import LogDensity, Scale, Target, differentiate, tolerate

__all__ = ["Parameter", "Parameters", "Posterior", "constrain", "free_shapes", "unconstrain"]

BOUND = 0.4 * math.log(torch.finfo(torch.float64).max)

Parameters = Mapping[str, Tensor]


class Parameter(NamedTuple):
    """A parameter's constraint and shape.

    A function in place of the constraint gets the parameters before this one and gives the
    constraint, for bounds that depend on them.
    """

    constraint: Constraint | Callable[[Parameters], Constraint] = real
    shape: tuple[int, ...] = ()

    def __repr__(self) -> str:
        free = isinstance(self.constraint, Constraint)
        what = type(self.constraint).__name__.strip("_") if free else "bounds by others"
        return f"Parameter({what}, shape={tuple(self.shape)})"


def _constraint(parameter: Parameter, before: Parameters, lead: torch.Size) -> Constraint:
    """Give the constraint, its bounds shaped to broadcast over the parameter."""
    fixed = parameter.constraint
    if isinstance(fixed, Constraint):
        return fixed
    dims, here = len(parameter.shape), fixed(before)
    if not dims or not lead or 0 in lead:
        return here
    first = fixed({name: value[(0,) * len(lead)] for name, value in before.items()})
    return _aligned(here, first, lead, dims)


def _aligned(here: Constraint, first: Constraint, lead: torch.Size, dims: int) -> Constraint:
    """Put axes between the points' and a bound's own, so that it broadcasts over a parameter.

    Arguments:
        here: The constraint at all points.
        first: The constraint at one point, which tells a bound's own axes.
        lead: Leading axes of the points.
        dims: Number of the parameter's axes.
    """
    changed = copy.copy(here)
    for name, value in vars(here).items():
        other = vars(first)[name]
        if isinstance(value, Constraint):
            setattr(changed, name, _aligned(value, other, lead, dims))
        elif isinstance(value, Tensor) and value.dim() == other.dim() + len(lead):
            shape = (*lead, *[1] * (dims - other.dim()), *other.shape)
            setattr(changed, name, value.reshape(shape))
    return changed


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
    bound = BOUND if z.dtype == torch.float64 else 0.4 * math.log(torch.finfo(z.dtype).max)
    inside = ~z.isnan().any(-1)
    log_det = torch.zeros_like(z[..., 0])
    parts = torch.split(z.nan_to_num(nan=0.0), [shape.numel() for shape in shapes], -1)
    for (name, parameter), part, shape in zip(space.items(), parts, shapes, strict=True):
        constraint = _constraint(parameter, values, lead)
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
        inverse = _bijection(_constraint(parameter, values, lead)).inv
        parts.append(inverse(value).reshape(*lead, -1))
    return torch.cat(parts, -1)


def free_shapes(space: Mapping[str, Parameter]) -> list[torch.Size]:
    """Give the shapes of the unconstrained parameters; bounds never change them."""
    half = torch.full((), 0.5, dtype=torch.float64, device="cpu")
    inside = {name: half.expand(p.shape) for name, p in space.items()}
    constraints = [_constraint(p, inside, torch.Size()) for p in space.values()]
    return [
        torch.Size(_bijection(constraint).inverse_shape(torch.Size(p.shape)))
        for constraint, p in zip(constraints, space.values(), strict=True)
    ]


class Posterior(Target):
    """A target from a log-prior and a log-likelihood of named parameters.

    Arguments:
        space: Parameters by name, in order.
        log_prior: Maps parameters to the log-prior, ``(...)``.
        log_likelihood: Maps parameters to the log-likelihood, ``(...)``.
        scale: Of the wide start in unconstrained coordinates: a number, one for each, or a
            Cholesky factor. By default the start is fitted to the prior.
        log_normalizer: The log-evidence, where it is known.
        location: Mean of the start, ``(D,)``, in unconstrained coordinates.
        reject: Exceptions by which a function says that a point has density zero.
    """

    def __init__(
        self,
        space: Mapping[str, Parameter],
        log_prior: Callable[[Parameters], Tensor],
        log_likelihood: Callable[[Parameters], Tensor],
        scale: Scale | None = None,
        log_normalizer: float | None = None,
        *,
        location: Sequence[float] | Tensor | None = None,
        reject: tuple[type[Exception], ...] = (),
    ) -> None:
        if not space:
            raise ValueError("space must have at least one parameter")
        shapes = free_shapes(space)
        dim = sum(shape.numel() for shape in shapes)
        super().__init__(
            dim,
            scale=1.0 if scale is None else scale,
            location=location,
            log_normalizer=log_normalizer,
            names=_coordinate_names(space, shapes),
        )
        self.space, self.shapes = dict(space), shapes
        self.log_prior = log_prior
        self.log_likelihood = log_likelihood
        self.reject = tuple(reject)
        self.starts_from_prior = scale is None and location is None
        free = torch.zeros((), dtype=torch.bool, device="cpu")
        bounded = torch.cat(
            [
                free.new_full((shape.numel(),), p.constraint is not real)
                for p, shape in zip(space.values(), shapes, strict=True)
            ]
        )
        if bool(bounded.any()):
            self.bounded = bounded
            self.bound = BOUND

    @override
    def functions(self) -> dict[str, Callable[[Tensor], Tensor]]:
        named = {"log-prior": self.log_prior, "log-likelihood": self.log_likelihood}
        return {
            f"{kind} {getattr(function, '__name__', 'function')}": self._at_points(function)
            for kind, function in named.items()
        }

    def _at_points(self, function: Callable[[Parameters], Tensor]) -> Callable[[Tensor], Tensor]:
        def at(x: Tensor) -> Tensor:
            return function(self.parameters_at(x))

        return (lambda x: tolerate(at, self.reject, x)) if self.reject else at

    def parameters_at(self, z: Tensor) -> dict[str, Tensor]:
        """Give the parameters of unconstrained points, ``(..., D)``."""
        return constrain(self.space, z, self.shapes)[0]

    def prior(self) -> LogDensity:
        """Give the prior alone as a target, in the same unconstrained coordinates."""

        def log_prob(x: Tensor) -> Tensor:
            values, log_det = constrain(self.space, x, self.shapes)
            value = self.log_prior(values) + log_det
            return value.where(log_det > -torch.inf, -torch.inf)

        alone = LogDensity(log_prob, self.dim, names=self.names, reject=self.reject)
        alone.bounded, alone.bound = self.bounded, self.bound
        return alone.to(self.start_mean.device)

    def _evaluate(self, x: Tensor) -> Tensor:
        values, log_det = constrain(self.space, x, self.shapes)
        value = self.log_prior(values) + self.log_likelihood(values) + log_det
        return value.where(log_det > -torch.inf, -torch.inf)

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return tolerate(self._evaluate, self.reject, x) if self.reject else self._evaluate(x)

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return differentiate(self.log_prob, x)


def _coordinate_names(space: Mapping[str, Parameter], shapes: list[torch.Size]) -> list[str]:
    """Name unconstrained coordinates after their parameters."""
    names = []
    for (name, parameter), shape in zip(space.items(), shapes, strict=True):
        shown = name if parameter.constraint is real else f"unconstrained {name}"
        places = [tuple(p) for p in torch.ones(shape, device="cpu").nonzero().tolist()]
        names += [shown + (f"[{', '.join(map(str, place))}]" if place else "") for place in places]
    return names
