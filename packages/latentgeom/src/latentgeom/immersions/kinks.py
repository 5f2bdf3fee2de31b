r"""Whether a map is one, and smooth: looked for on lines, whatever the map is made of.

Along a line at spacing :math:`h` the largest second difference over :math:`h`,

.. math:: J(h) = \max_t |f(t + h) - 2 f(t) + f(t - h)| / h ,

is about :math:`h |f''|` where the map is smooth, and the jump of the slope, whatever :math:`h`, at
a kink.  The place of the largest one is zoomed into, by a factor of four each time.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["has_kinks", "mixes_points"]

_LINES, _COARSE, _FINE = 8, 64, 8  # lines; their segments at first, and after each zoom
_ZOOMS = 6, 10  # the two that are compared
_KEPT = 0.3  # ratio of jumps above which they don't shrink; smooth ones fall by 4 a zoom
_LEAST = 1e-4  # jump relative to the slope


def _differences(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Second differences ``(L, n - 1)`` and the mean length of the first ones ``(L,)``."""
    image = function(x)
    steps = image.diff(dim=1)
    first: Tensor = torch.linalg.vector_norm(steps, dim=-1).mean(1)
    second: Tensor = torch.linalg.vector_norm(steps.diff(dim=1), dim=-1)
    return second, first


@torch.no_grad()
def has_kinks(function: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> bool:
    """Whether slopes jump somewhere on a few lines between points ``(B, d)``.

    In single precision narrow ridges look like kinks: there the answer is no.
    """
    if a.dtype != torch.float64 or len(a) == 0:
        return False
    a, b = a[:_LINES], b[:_LINES]
    early, last = _ZOOMS
    low, high, count = torch.zeros_like(a[:, 0]), torch.ones_like(a[:, 0]), _COARSE
    slopes: list[Tensor] = []
    jumps: list[Tensor] = []
    for _ in range(last + 1):
        fraction = torch.linspace(0, 1, count + 1, dtype=a.dtype, device=a.device)
        t = torch.lerp(low[:, None], high[:, None], fraction)
        second, first = _differences(function, torch.lerp(a[:, None], b[:, None], t.unsqueeze(-1)))
        spacing = (high - low) / count
        slopes.append(first / spacing)
        largest, place = second.max(1)
        jumps.append(largest / spacing)
        low, high = (t.gather(1, place[:, None] + k).squeeze(1) for k in (0, 2))
        count = _FINE
    kept = jumps[last] > _KEPT * jumps[early]
    return bool((kept & (jumps[last] > _LEAST * slopes[0])).any())


@torch.no_grad()
def mixes_points(function: Callable[[Tensor], Tensor], points: Tensor) -> bool:
    """Whether images of points ``(B, d)`` depend on the others, or on a draw."""
    few = len(points) // 2  # a norm of batches refuses single points
    together, alone, again = function(points), function(points[:few]), function(points[:few])
    size = together.abs().amax() + torch.finfo(points.dtype).tiny
    bound = torch.finfo(points.dtype).eps ** 0.5 * size
    differ = torch.maximum((together[:few] - alone).abs().amax(), (alone - again).abs().amax())
    return bool(differ > bound)
