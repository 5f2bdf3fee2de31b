"""Objects that the ranks of a run have made together."""

from typing import Any, TypeVar

import torch.distributed as dist

__all__ = ["Row", "gather", "gather_rows"]

Row = dict[str, Any]
T = TypeVar("T")


def gather(value: T) -> list[T]:
    """The values of all ranks in their order, on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, value)
    return parts


def gather_rows(rows: list[Row]) -> list[Row]:
    """Rows of all ranks in the order of their index, on every rank."""
    return sorted((row for part in gather(rows) for row in part), key=lambda row: row["index"])
