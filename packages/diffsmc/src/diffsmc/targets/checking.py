r"""What a density returns is looked at once, on a few points, before anything runs.

Each function that a user gave must map points ``(..., D)`` to values ``(...)`` of the same type on
the same device, each value depending on its own point alone. A density that forgets the batch
would otherwise be broadcast, and its evidence be absurd without a word.

A density is also followed far out. Along a line the mass within a factor of the distance :math:`r`
is :math:`r\,\gamma(c + ru)`; where that doesn't fall between :math:`10^{10}` and :math:`10^{12}`
scales (between a third and four fifths of the bound where parameters are constrained), the integral
is infinite for almost all purposes.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffsmc.targets.errors import DensityError, ImproperTargetError, NonFiniteLogDensityError
from diffsmc.targets.target import Target, differentiate

__all__ = ["check_density", "check_proper"]

BATCH = (2, 3)  # differs from its transpose, from a scalar and from what keepdim leaves
TRIED = 4  # points for each line: lines begin at the best of them
FAR = (1e10, 1e12)
MOST_AXES = 16


def check_density(target: Target, *, gradient: bool = True) -> int:
    """Check every function of a target at points of its start; give the number of evaluations.

    Arguments:
        target: The target.
        gradient: Whether gradients are asked for.

    Raises:
        DensityError: A function isn't a log-density of points ``(..., D)``.
        NonFiniteLogDensityError: A value is NaN or ``+inf``.
    """
    counted, log_prob = 0, target.log_prob

    def count(x: Tensor) -> Tensor:
        nonlocal counted
        counted += x[..., 0].numel()
        return log_prob(x)

    with torch.no_grad():
        x = _points(target, BATCH, seed=1)
        for name, function in target.functions().items():
            value = _check_function(name, count if function == log_prob else function, x)
            _check_finite(name, value, x)
            _check_observations(name, value)
            if gradient and function != log_prob:
                _check_slope(name, function, partial(differentiate, function), target, x)
        if not any(function == log_prob for function in target.functions().values()):
            _check_function("log-density", count, x)
        if gradient:
            counted += _check_gradient(target, x)
    return counted


def _points(target: Target, shape: tuple[int, ...], seed: int) -> Tensor:
    mean, factor = target.start_mean, target.start_factor
    generator = torch.Generator(mean.device).manual_seed(seed)
    noise = torch.randn(
        (*shape, target.dim), generator=generator, dtype=mean.dtype, device=mean.device
    )
    return mean + noise @ factor.mT


def _check_function(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Give the values of a function that treats points alone and returns the same each time."""
    value = _value(name, function, x)
    _check_rows(name, function, x, value)
    return value


def _value(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Give values of the shape, type and device of the points.

    Raises:
        DensityError: They are others, or it raised an exception.
    """
    value = _call(name, function, x)
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        raise DensityError(
            name,
            f"{value.layout}" if isinstance(value, Tensor) else kind,
            f"a torch.Tensor of shape {tuple(x.shape[:-1])}",
            "compute with torch functions (torch.exp, not numpy.exp or math.exp; no .item())",
        )
    if value.shape != x.shape[:-1]:
        raise DensityError(
            name,
            f"shape {tuple(value.shape)} for points of shape {tuple(x.shape)}",
            f"shape {tuple(x.shape[:-1])}",
            "reduce the last axis alone, x[..., 0] and .sum(-1); a function of one point is "
            "LogDensity(..., vectorize=True)",
        )
    if value.dtype != x.dtype:
        raise DensityError(
            name,
            str(value.dtype),
            str(x.dtype),
            f"make its constants with dtype={x.dtype}, and don't convert its points",
        )
    if value.device != x.device:
        raise DensityError(
            name,
            f"device {value.device}",
            f"device {x.device}",
            "make its constants like its points, torch.tensor(..., device=x.device), or move the "
            "target to their device, target.to(...)",
        )
    return value


def _call(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call a function; whatever it raises becomes one line.

    Raises:
        DensityError: It raised an exception.
    """
    try:
        return function(x)
    except NonFiniteLogDensityError:
        raise
    except Exception as error:
        text = (str(error).strip() or "no message").splitlines()[0]
        raise DensityError(
            name,
            f"{type(error).__name__} ({text}) for points of shape {tuple(x.shape)}",
            f"values of shape {tuple(x.shape[:-1])}",
            "write it for any leading axes, or LogDensity(..., vectorize=True) for one point; "
            f"where single points may fail, LogDensity(..., reject=({type(error).__name__},))",
        ) from error


def _check_rows(name: str, function: Callable[[Tensor], Tensor], x: Tensor, value: Tensor) -> None:
    """Refuse functions that mix points, or give another value the second time."""
    again = _value(name, function, x)
    if not _close(again, value):
        raise DensityError(
            name,
            "two values at the same points",
            "a function of the point alone",
            "it must not draw random numbers or change what it closes over",
        )
    for index in ((0, 0), (1, 2)):
        # a row among others and alone, with one leading axis and with none
        for point in (x[index][None], x[index]):
            got = _value(name, function, point)
            if not _close(got.reshape(()), value[index]):
                raise DensityError(
                    name,
                    f"{float(value[index]):.6g} for a point among others and {float(got):.6g} for "
                    "the same point alone",
                    "each value to depend on its own point",
                    "sum over the last axis alone, and don't take means over the points",
                )


def _close(a: Tensor, b: Tensor) -> bool:
    precision = 1e-7 if a.dtype == torch.float64 else 1e-3
    return torch.allclose(a, b, rtol=precision, atol=precision, equal_nan=True)


def _check_finite(name: str, value: Tensor, x: Tensor) -> None:
    bad = value.isnan() | (value == torch.inf)
    if bool(bad.any()):
        island, particle = bad.nonzero()[0].tolist()
        raise NonFiniteLogDensityError(
            0, island, particle, float(value[island, particle]), x[island, particle], name
        )


def _check_observations(name: str, value: Tensor) -> None:
    if name.startswith("log-likelihood") and not bool(value.any()):
        raise DensityError(
            name,
            "0 at every point",
            "the log-likelihood of some observations",
            "there seem to be no observations, or none that depend on the parameters",
        )


def _check_gradient(target: Target, x: Tensor) -> int:
    name, size = next(iter(target.functions())), x[..., 0].numel()
    value, moved = _check_slope(name, target.log_prob, target.log_prob_and_grad, target, x)
    if not _close(value, target.log_prob(x)):
        raise DensityError(
            f"log_prob_and_grad of {type(target).__name__}",
            "another value than log_prob gives",
            "the same value",
            "both must be the same log-density, constants included",
        )
    return size * (3 if moved else 2)


def _check_slope(
    name: str,
    function: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], tuple[Tensor, Tensor]],
    target: Target,
    x: Tensor,
) -> tuple[Tensor, bool]:
    """Give the values beside a function's gradient, and whether points were moved to check it.

    Raises:
        DensityError: It has no gradient, or one that is NaN or was cut off.
    """
    try:
        value, grad = slope(x)
    except Exception as error:
        text = (str(error).strip() or "no message").splitlines()[0]
        raise DensityError(
            name,
            f"{type(error).__name__} ({text}) when differentiated",
            "a function that torch can differentiate",
            "write it with torch functions, or use moves without gradients: Tempering(move=RWM())",
        ) from error
    if grad.shape != x.shape or value.shape != x.shape[:-1]:
        raise DensityError(
            f"log_prob_and_grad of {type(target).__name__}",
            f"shapes {tuple(value.shape)} and {tuple(grad.shape)}",
            f"shapes {tuple(x.shape[:-1])} and {tuple(x.shape)}",
            "the gradient has the shape of the points",
        )
    unknown = grad.isnan().any(-1) & value.isfinite()
    if bool(unknown.any()):
        raise DensityError(
            name,
            "a NaN gradient at a point of finite density",
            "a finite gradient",
            "torch.where differentiates both branches: make the unused one finite too, "
            "torch.where(ok, f(torch.where(ok, x, 1.0)), -inf)",
        )
    flat = ~grad.flatten(0, -2).any(0)
    if bool(flat.any()):
        _check_constant(name, function, x, value, flat * target.start_factor.diagonal())
    return value, bool(flat.any())


def _check_constant(
    name: str, function: Callable[[Tensor], Tensor], x: Tensor, value: Tensor, width: Tensor
) -> None:
    """Tell a function that is constant in pieces from one whose gradient was cut off.

    Points move along the coordinates without a gradient; a change by less than rounding is none.
    """
    moved = _call(name, function, x + 1e-3 * width)
    both = value.isfinite() & moved.isfinite()
    rounding = 100 * torch.finfo(x.dtype).eps * (1 + value.abs())
    changed = ((moved - value).abs() > rounding)[both]
    if bool(changed.all()) and bool(both.any()):
        where = "" if bool((width > 0).all()) else " along some coordinates"
        raise DensityError(
            name,
            f"a gradient of zero{where} though its values change",
            "a function that torch can differentiate",
            "numpy, .detach(), .item() and torch.no_grad() cut the gradient off: use torch "
            "functions, or moves without gradients: Tempering(move=RWM())",
        )


def check_proper(
    target: Target, directions: Tensor | None = None, centres: Tensor | None = None
) -> int:
    """Follow the density far out along lines; give the number of evaluations.

    Arguments:
        target: The target.
        directions: Vectors, ``(K, D)``; by default axes, and some at random.
        centres: Where lines begin, ``(K, D)``; by default points of the start.

    Raises:
        ImproperTargetError: Along some line the density doesn't fall fast enough.
    """
    spent = 0
    if directions is None:
        directions = _default_directions(target)
    if centres is None:
        centres = _best_points(target, len(directions))
        spent += TRIED * len(directions)
    scale = float(target.start_factor.square().sum(-1).sqrt().max())
    free = torch.ones_like(target.start_mean) if target.bounded is None else ~target.bounded
    spent += _follow(target, directions * free, centres, scale * FAR[0], scale * FAR[1])
    if target.bounded is not None:
        edge = target.bound
        spent += _follow(target, directions * target.bounded, centres, edge / 3, 0.8 * edge)
    return spent


def _best_points(target: Target, num: int) -> Tensor:
    """Give points of the start at which the density is highest: others may lie beyond all reason.

    An autoregression that explodes, say, is likelier the wider its noise, as far as one may go.
    """
    points = _points(target, (TRIED * num,), seed=2)
    with torch.no_grad():
        values = target.log_prob(points).nan_to_num(nan=-torch.inf)
    return points[values.topk(num).indices]


def _follow(target: Target, directions: Tensor, centres: Tensor, near: float, far: float) -> int:
    """Compare the density near and far along lines in both directions."""
    length = directions.norm(dim=-1, keepdim=True)
    long = (length > 0.1 * length.max()) & (length > 0)
    lines = (directions / length)[long[:, 0]]
    begin = centres[long[:, 0]].repeat(2, 1)
    lines = torch.cat([lines, -lines])
    if not len(lines):
        return 0
    with torch.no_grad():
        values = torch.stack([target.log_prob(begin + r * lines) for r in (near, far)])
    gain = values[1] - values[0] + math.log(far / near)
    # falling to zero density is proper; NaN, of an overflow, tells nothing
    bad = ((gain > -1) & values[0].isfinite()) | (values == torch.inf).any(0)
    if bool(bad.any()):
        line = lines[int(bad.nonzero()[0])].tolist()
        shown = ", ".join(f"{x:.3g}" for x in line[:6]) + (", ..." if len(line) > 6 else "")
        raise ImproperTargetError(
            f"the density may be improper: along the direction [{shown}] it doesn't fall by the "
            f"distance between {near:.3g} and {far:.3g}, so its integral, the evidence, is "
            "infinite or that of an arbitrary box; give every parameter a proper prior"
        )
    return values.numel()


def _default_directions(target: Target) -> Tensor:
    mean = target.start_mean
    eye = torch.eye(target.dim, dtype=mean.dtype, device=mean.device)
    generator = torch.Generator(mean.device).manual_seed(3)
    if target.dim > MOST_AXES:
        order = torch.randperm(target.dim, generator=generator, device=mean.device)
        eye = eye[order[:MOST_AXES]]
    shape = (4, target.dim)
    noise = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return torch.cat([eye, noise / noise.norm(dim=-1, keepdim=True)])
