r"""Maps into Euclidean space, seen through local coordinates at each point.

An immersion knows where a point goes, :math:`f(x) \in \mathbb{R}^D`, and how to move it,
:math:`x \mapsto R_x(\delta)` with :math:`\delta \in \mathbb{R}^d`.  The solvers only use
:math:`\delta \mapsto f(R_x(\delta))` and its derivatives at zero,

.. math::

    J = \partial_\delta f(R_x(\delta)), \qquad
    H(s) = \partial^2_\delta \langle s, f(R_x(\delta)) \rangle ,

so charts (:math:`R_x(\delta) = x + \delta`) and surfaces given by a projection share one code.

References:
    do Carmo (1992), Riemannian Geometry, chapter 6.
"""

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vjp, vmap
from typing_extensions import override

from latentgeom.immersions.kinks import has_kinks, mixes_points
from latentgeom.shell.showing import in_a_line

__all__ = ["Chart", "Immersion", "hessian", "jacobian"]


class Immersion(nn.Module, ABC):
    """A map of ``num_coordinates`` numbers, with ``dim`` degrees of freedom, into R^D."""

    __str__ = in_a_line

    dim: int
    num_coordinates: int
    differentiates_backward_forward = True  # until torch says otherwise

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Image in Euclidean space, ``(..., n) -> (..., D)``."""

    @abstractmethod
    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        """Move ``x`` by local coordinates ``delta`` ``(..., d)``; identity at zero."""

    def local(self, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """The embedding as a function of local coordinates, and their values at ``x``."""
        return lambda delta: self.embed(self.retract(x, delta)), x.new_zeros(
            *x.shape[:-1], self.dim
        )

    @abstractmethod
    def to_local(self, x: Tensor, step: Tensor) -> Tensor:
        """Local coordinates at ``x`` of a small step of the coordinates, ``(..., d)``."""

    @abstractmethod
    def projx(self, x: Tensor) -> Tensor:
        """Admissible coordinates near ``x``, ``(..., n)``."""

    @abstractmethod
    def check(self, x: Tensor, name: str) -> None:
        """Refuse coordinates that aren't admissible, with a ``ValueError``."""

    def look(self, a: Tensor, b: Tensor) -> None:
        """Look once, between end points ``(B, n)``, at what can't be known of any callable."""

    def finest_scale(self) -> float:
        """Smallest step of the coordinates over which a part of the map says that it changes.

        Parts say so by a method of this name; without any it is infinite, and curves are
        sampled by their own length alone.
        """
        said = (getattr(module, "finest_scale", None) for module in self.modules())
        scales = [
            float(scale()) for scale in said if scale is not None and scale != self.finest_scale
        ]
        return min([math.inf, *scales])


class Chart(Immersion):
    """Any decoder of ``dim`` plain coordinates.

    Arguments:
        decoder: Map ``(B, d) -> (B, *D)`` of points one by one; twice differentiable, or its
            geodesics have corners (a warning is given for piecewise linear activations).
        dim: Number of coordinates ``d``.
    """

    def __init__(self, decoder: Callable[[Tensor], Tensor], dim: int) -> None:
        super().__init__()
        self.looked = _warn_if_piecewise_linear(decoder)
        _refuse_if_training(decoder)
        self.decoder, self.dim, self.num_coordinates = decoder, dim, dim

    @override
    def embed(self, x: Tensor) -> Tensor:
        # One leading axis, whatever the curves are like: convolutions take no more.
        image: Tensor = self.decoder(x.reshape(-1, self.dim))
        return image.reshape(*x.shape[:-1], image[0].numel() if len(image) else 0)

    @override
    def retract(self, x: Tensor, delta: Tensor) -> Tensor:
        return x + delta

    @override
    def to_local(self, x: Tensor, step: Tensor) -> Tensor:
        return step

    @override
    def local(self, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        return self.embed, x  # torch takes a slow path for the sum of x and a dual number

    @override
    def projx(self, x: Tensor) -> Tensor:
        return x

    @override
    def check(self, x: Tensor, name: str) -> None:
        """All of R^d is admissible."""

    @override
    def look(self, a: Tensor, b: Tensor) -> None:
        """Refuse decoders that mix or draw, and warn of kinks, whatever they are made of."""
        if self.looked:
            return
        self.looked = True
        ends = a[:4], b[:4]
        points = torch.cat([*ends, torch.lerp(*ends, 0.3), torch.lerp(*ends, 0.6)])
        if len(a) and mixes_points(self.embed, points):
            raise ValueError(
                "decoder maps a point differently beside others, or each time: batch normalisation"
                " or dropout in training mode? call eval() first"
            )
        if self._has_kinks(a, b):
            _warn_of_kinks("kinks, at which its slope jumps")

    def _has_kinks(self, a: Tensor, b: Tensor) -> bool:
        """In double precision always: in single, narrow ridges look like kinks."""
        if a.dtype == torch.float64:
            return has_kinks(self.embed, a, b)
        owner = getattr(self.decoder, "__self__", self.decoder)  # of a bound method
        decoder = self.decoder
        if isinstance(owner, nn.Module):
            twin = copy.deepcopy(owner).double()
            decoder = twin if owner is decoder else getattr(twin, decoder.__name__)

        def embed(x: Tensor) -> Tensor:
            return decoder(x.reshape(-1, self.dim)).reshape(*x.shape[:-1], -1)

        try:
            return has_kinks(embed, a.double(), b.double())
        except RuntimeError:  # weights in single precision, out of sight in a callable
            return False


def _refuse_if_training(decoder: Callable[[Tensor], Tensor]) -> None:
    """Layers that draw, or mix the points of a batch, make no map of single points."""
    mixing = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    modules = decoder.modules() if isinstance(decoder, nn.Module) else ()
    names = {type(m).__name__ for m in modules if isinstance(m, mixing) and m.training}
    if names:
        raise ValueError(
            f"decoder has {', '.join(sorted(names))} in training mode; call decoder.eval() first"
        )


def _warn_if_piecewise_linear(decoder: Callable[[Tensor], Tensor]) -> bool:
    kinked = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.RReLU)
    owner = getattr(decoder, "__self__", decoder)  # of a bound method
    modules = owner.modules() if isinstance(owner, nn.Module) else ()
    names = {type(module).__name__ for module in modules if isinstance(module, kinked)}
    if names:
        _warn_of_kinks(", ".join(sorted(names)))
    return bool(names)


def _warn_of_kinks(what: str) -> None:
    warnings.warn(
        f"decoder has {what}: its pullback metric is discontinuous and geodesics may not converge;"
        " use a smooth activation such as SiLU",
        stacklevel=4,
    )


def jacobian(immersion: Immersion, x: Tensor) -> tuple[Tensor, Tensor]:
    """Image and Jacobian in local coordinates.

    Arguments:
        immersion: Map to differentiate.
        x: Points, ``(..., n)``.

    Returns:
        Images ``(..., D)`` and Jacobians ``(..., D, d)``.

    References:
        Griewank & Walther (2008), Evaluating Derivatives, chapter 3, for forward accumulation.
    """
    function, origin = immersion.local(x)

    def push(direction: Tensor) -> tuple[Tensor, Tensor]:
        moved = jvp(function, (origin,), (direction.expand_as(origin),))
        return moved[0], moved[1]

    image, columns = vmap(push, out_dims=(None, -1))(_basis(immersion, x))  # type: ignore[arg-type]
    return image, columns


def hessian(immersion: Immersion, x: Tensor, covector: Tensor) -> Tensor:
    """Second derivative of ``<covector, f>`` in local coordinates, ``(..., d, d)``.

    Arguments:
        immersion: Map to differentiate.
        x: Points, ``(..., n)``.
        covector: Constant weights of the outputs, ``(..., D)``.

    References:
        Pearlmutter (1994), Fast Exact Multiplication by the Hessian.
    """
    if immersion.differentiates_backward_forward:
        try:
            return _forward_over_reverse(immersion, x, covector)
        except NotImplementedError:
            # The backward of SiLU, GELU, ... has no forward derivative in torch.
            immersion.differentiates_backward_forward = False
    return _reverse_over_forward(immersion, x, covector)


def _basis(immersion: Immersion, x: Tensor) -> Tensor:
    return torch.eye(immersion.dim, dtype=x.dtype, device=x.device)


def _forward_over_reverse(immersion: Immersion, x: Tensor, covector: Tensor) -> Tensor:
    function, origin = immersion.local(x)

    def gradient(delta: Tensor) -> Tensor:
        pulled: Tensor = vjp(function, delta)[1](covector)[0]
        return pulled + 0 * delta  # vmap fails on the constant gradient of a linear map

    def push(direction: Tensor) -> Tensor:
        column: Tensor = jvp(gradient, (origin,), (direction.expand_as(origin),))[1]
        return column

    columns: Tensor = vmap(push, out_dims=-1)(_basis(immersion, x))
    return columns


def _reverse_over_forward(immersion: Immersion, x: Tensor, covector: Tensor) -> Tensor:
    function, origin = immersion.local(x)

    def slope(delta: Tensor, direction: Tensor) -> Tensor:
        move = jvp(function, (delta,), (direction.expand_as(delta),))
        total: Tensor = (covector * move[1]).sum()
        return total

    columns: Tensor = vmap(lambda direction: grad(slope)(origin, direction), out_dims=-1)(
        _basis(immersion, x)
    )
    return columns
