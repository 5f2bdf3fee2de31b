r"""Curves read between their nodes, where the energy has not looked.

A curve of nodes :math:`z_i` has images :math:`f(z_i)`; between the nodes its energy supposes
the interpolating polynomial :math:`\tilde f(t)` of the images.  On the same times
:math:`t_j` two polygons tell whether that was right: through :math:`f(\tilde z(t_j))`, which is
what the curve's image does, and through :math:`\tilde f(t_j)`, which is what was supposed.
Their lengths agree to rounding on smooth maps, and differ where a ridge, a wave or a winding
of the map fits between the nodes.

Near a singular point of the chart the interpolated coordinates swing, although the nodes'
images lie on a geodesic as they should.  **Landing** tells this from a map that hides
something: Gauss-Newton steps look for coordinates whose image is the supposed one.

**Re-timing** reads a curve again at equal steps of its image's true length, so that nodes
gather where the image moves fast.

References:
    E, Ren & Vanden-Eijnden (2007), Simplified and Improved String Method, for re-timing.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom.immersions.immersion import Immersion, jacobian
from latentgeom.relaxation.elements import Grid, chords, interpolation, lobatto

__all__ = [
    "Samples",
    "completed",
    "drawn",
    "landed",
    "linear",
    "polygon",
    "reading",
    "refined_samples",
    "retimed",
    "sampled",
    "shorter",
    "supposed_length",
]

_LANDINGS = 16  # Gauss-Newton steps
_ROUNDS = 3  # of re-timing; each sees the speeds that the one before left


class Samples(NamedTuple):
    """A curve by many of its points.

    Arguments:
        points: Coordinates, ``(B, M + 1, n)``.
        image: Their images, ``(B, M + 1, D)``.
    """

    points: Tensor
    image: Tensor

    @property
    def length(self) -> Tensor:
        """Length of the polygon of images, ``(B,)``."""
        return polygon(self.image)

    def take(self, chosen: Tensor) -> "Samples":
        """The same for some of the curves."""
        return Samples(self.points[chosen], self.image[chosen])


def polygon(image: Tensor) -> Tensor:
    """Length of polygons ``(B, M + 1, D)``, ``(B,)``."""
    total: Tensor = torch.linalg.vector_norm(image.diff(dim=1), dim=-1).sum(-1)
    return total


@lru_cache(maxsize=64)
def _reader(polynomial: bool, num_segments: int, degree: int, count: int) -> Tensor:
    """Matrix that reads nodes of a grid at ``count + 1`` equal steps, ``(count + 1, N + 1)``."""
    grid = lobatto(num_segments, degree) if polynomial else chords(num_segments, degree)
    times = torch.linspace(0, 1, count + 1, dtype=torch.float64, device="cpu")
    index, weights = interpolation(grid, times)
    empty = torch.zeros(count + 1, num_segments + 1, dtype=torch.float64, device="cpu")
    return empty.scatter_add_(1, index, weights)


def reading(grid: Grid, x: Tensor, count: int) -> Tensor:
    """A curve ``(B, N + 1, n)``, or its images, at ``count + 1`` equal steps of time."""
    polynomial = bool(grid.tail.any())
    reader = _reader(polynomial, len(grid.times) - 1, grid.degree, count)
    return reader.to(x) @ x


def drawn(immersion: Immersion, points: Tensor, image: Tensor) -> Samples:
    """Samples whose ends' images are known: ``image`` gives them, the rest is computed."""
    inner = immersion.projx(points[:, 1:-1])
    whole = torch.cat([points[:, :1], inner, points[:, -1:]], 1)
    images = torch.cat([image[:, :1], immersion.embed(inner), image[:, -1:]], 1)
    return Samples(whole, images)


def sampled(immersion: Immersion, grid: Grid, nodes: Tensor, image: Tensor, count: int) -> Samples:
    """A curve at ``count + 1`` equal steps of time, with its true images.

    Arguments:
        immersion: Map into Euclidean space.
        grid: Times of the nodes, and how to read between them.
        nodes: All nodes, ``(B, N + 1, n)``.
        image: Their images, ``(B, N + 1, D)``.
        count: Segments of the samples.
    """
    return drawn(immersion, reading(grid, nodes, count), image)


@lru_cache(maxsize=64)
def _stepper(polynomial: bool, num_segments: int, degree: int, count: int) -> Tensor:
    """Steps between the times read, in terms of the steps between the nodes, ``(count, N)``."""
    # Rows of the reader's differences sum to zero: summed up, they weigh differences.
    return -_reader(polynomial, num_segments, degree, count).diff(dim=0).cumsum(1)[:, :-1]


def supposed_length(grid: Grid, image: Tensor, count: int) -> Tensor:
    """Length of the polygon through the interpolated images, without forming them, ``(B,)``."""
    polynomial = bool(grid.tail.any())
    weights = _stepper(polynomial, len(grid.times) - 1, grid.degree, count).to(image)
    steps = image.diff(dim=1)
    square = (weights @ (steps @ steps.mT) * weights).sum(-1)
    return square.clamp(min=0).sqrt().sum(-1)


def _toward(immersion: Immersion, points: Tensor, target: Tensor) -> Tensor:
    """Gauss-Newton step of each point towards its target, in local coordinates."""
    image, columns = jacobian(immersion, points)
    gram = columns.mT @ columns
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    identity = torch.eye(immersion.dim, dtype=points.dtype, device=points.device)
    ridge = torch.finfo(points.dtype).eps * trace + torch.finfo(points.dtype).tiny
    pulled = columns.mT @ (target - image).unsqueeze(-1)
    step: Tensor = torch.linalg.solve_ex(gram + ridge * identity, pulled).result.squeeze(-1)
    return step


def landed(immersion: Immersion, points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates whose images are given ones, and by how much they still miss.

    Arguments:
        immersion: Map into Euclidean space.
        points: Coordinates to start from, ``(B, M, n)``.
        target: Images to land on, ``(B, M, D)``.

    Returns:
        Coordinates like ``points``, and distances of their images, ``(B, M)``.
    """
    best, missed = points, torch.linalg.vector_norm(immersion.embed(points) - target, dim=-1)
    fraction = torch.ones_like(missed)
    for _ in range(_LANDINGS):
        step = fraction.unsqueeze(-1) * _toward(immersion, best, target)
        points = immersion.retract(best, step)
        miss = torch.linalg.vector_norm(immersion.embed(points) - target, dim=-1)
        closer = miss < missed
        best = torch.where(closer.unsqueeze(-1), points, best)
        missed = torch.where(closer, miss, missed)
        fraction = torch.where(closer, (2 * fraction).clamp(max=1), fraction / 4)
    return best, missed


def linear(known: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """Curves ``(B, N + 1, n)`` at ``known`` times, linear between them, at others."""
    left = (torch.searchsorted(known, times, right=True) - 1).clamp(0, len(known) - 2)
    fraction = ((times - known[left]) / (known[left + 1] - known[left])).unsqueeze(-1)
    return torch.lerp(x[:, left], x[:, left + 1], fraction)


def refined_samples(points: Tensor, factor: int) -> Tensor:
    """Piecewise linear curves with ``factor`` times as many segments."""
    fraction = torch.arange(factor, dtype=points.dtype, device=points.device) / factor
    steps = fraction[:, None] * points.diff(dim=1).unsqueeze(2)
    inner = (points[:, :-1].unsqueeze(2) + steps).flatten(1, 2)
    return torch.cat([inner, points[:, -1:]], 1)


def _at_equal_steps(samples: Samples, count: int) -> Tensor:
    """Points at ``count + 1`` equal steps of the polygon's length, linear between samples."""
    steps = torch.linalg.vector_norm(samples.image.diff(dim=1), dim=-1)
    arc = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], 1)
    wanted = torch.linspace(0, 1, count + 1, dtype=arc.dtype, device=arc.device) * arc[:, -1:]
    left = torch.searchsorted(arc, wanted.contiguous(), right=True) - 1
    left = left.clamp(0, steps.shape[1] - 1)
    step = steps.gather(1, left)
    fraction = (wanted - arc.gather(1, left)) / torch.where(step > 0, step, 1.0)
    fraction = fraction.clamp(0, 1).unsqueeze(-1)
    rows = left.unsqueeze(-1).expand(-1, -1, samples.points.shape[-1])
    here, there = samples.points.gather(1, rows), samples.points.gather(1, rows + 1)
    return torch.cat(
        [samples.points[:, :1], torch.lerp(here, there, fraction)[:, 1:-1], samples.points[:, -1:]],
        1,
    )


def retimed(immersion: Immersion, samples: Samples, count: int, rounds: int = _ROUNDS) -> Tensor:
    """The same curves at ``count + 1`` equal steps of true length, ``(B, count + 1, n)``."""
    for _ in range(rounds - 1):
        again = _at_equal_steps(samples, samples.points.shape[1] - 1)
        samples = drawn(immersion, again, samples.image)
    points = _at_equal_steps(samples, count)
    return torch.cat([points[:, :1], immersion.projx(points[:, 1:-1]), points[:, -1:]], 1)


def shorter(one: Samples, two: Samples, factor: float = 1.0) -> Samples:
    """Of two curves between the same ends the first, or the second where that is truly shorter.

    Arguments:
        one: Curves, kept unless they are beaten.
        two: The same number of samples of others; NaN is never shorter.
        factor: Share of the first's length that the second must come below.
    """
    first = ~(two.length < factor * one.length)
    columns = zip(one, two, strict=True)
    return Samples(*(torch.where(first[:, None, None], x, y) for x, y in columns))


def completed(tangent: Tensor) -> Tensor:
    """Bases whose first column is the tangent's direction, ``(..., d, d)``; orthonormal."""
    size = torch.linalg.vector_norm(tangent, dim=-1, keepdim=True)
    unit = tangent / torch.where(size > 0, size, 1.0)
    unit = torch.where(size > 0, unit, torch.ones_like(unit) / unit.shape[-1] ** 0.5)
    sign = 1 - 2 * (unit[..., :1] < 0).to(unit)
    mirror = torch.cat([unit[..., :1] + sign, unit[..., 1:]], -1)
    weight = 2 / mirror.square().sum(-1)[..., None, None]
    identity = torch.eye(unit.shape[-1], dtype=unit.dtype, device=unit.device)
    return identity - weight * mirror.unsqueeze(-1) * mirror.unsqueeze(-2)
