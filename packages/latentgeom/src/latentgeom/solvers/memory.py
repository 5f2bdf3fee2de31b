"""Memory that geodesics of many pairs take: one rule, whatever is solved.

What a solver's most expensive evaluation allocates is measured on two points, so that any
callable counts: its widest layer, the data that it compares with, its derivatives.  Pairs are
then solved in parts that fit.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["bytes_a_point", "pairs_at_once"]

_POINTS = 2  # on which an evaluation is measured
_ALIVE = 0.4  # share of all that an evaluation allocates, alive at once, measured
_known: WeakKeyDictionary[object, dict[tuple[torch.dtype, int], int]] = WeakKeyDictionary()


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors made, views left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(made):
            if isinstance(x, Tensor) and _place(x) not in given:
                self.total += x.numel() * x.element_size()
        return made


def _place(x: Tensor) -> int:
    place: int = x.untyped_storage()._cdata
    return place


def bytes_a_point(evaluate: Callable[[Tensor], object], point: Tensor) -> int:
    """Bytes that an evaluation allocates, a point.

    Arguments:
        evaluate: What is done at points ``(B, d)``.
        point: One of them, ``(d,)``.
    """
    points = point.expand(_POINTS, -1).clone()
    with _Allocations() as allocations:
        evaluate(points)
    total: int = allocations.total // _POINTS
    return max(total, 1)


def _remembered(owner: object, evaluate: Callable[[Tensor], object], point: Tensor) -> int:
    """Measured once for each object: looking costs as much as several evaluations."""
    sizes = _known.setdefault(getattr(owner, "__self__", owner), {})
    key = point.dtype, len(point)
    if key not in sizes:
        sizes[key] = bytes_a_point(evaluate, point)
    return sizes[key]


def pairs_at_once(
    owner: object,
    evaluate: Callable[[Tensor], object],
    a: Tensor,
    num_segments: int,
    memory_gb: float,
) -> int:
    """Pairs whose geodesics fit into memory, at least one.

    Arguments:
        owner: Map or metric whose evaluation it is.
        evaluate: The most expensive evaluation at points ``(B, d)``.
        a: Start points, ``(B, d)``.
        num_segments: Segments of the geodesics.
        memory_gb: Memory that may be taken, in gigabytes.
    """
    if not memory_gb > 0:
        raise ValueError(f"memory_gb must be positive, got {memory_gb}")
    if len(a) < 2:
        return 1
    size = _ALIVE * _remembered(owner, evaluate, a[0]) * (num_segments + 1)
    return max(1, int(memory_gb * 1e9 / size))
