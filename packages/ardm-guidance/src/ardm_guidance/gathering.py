"""Rows of a table that the ranks of a run have made together."""

from typing import Any

import torch.distributed as dist

__all__ = ["Row", "gather_rows"]

Row = dict[str, Any]


def gather_rows(rows: list[Row]) -> list[Row]:
    """Rows of all ranks in the order of their index, on every rank."""
    parts = [rows]
    if dist.is_available() and dist.is_initialized():
        parts = [rows] * dist.get_world_size()
        dist.all_gather_object(parts, rows)
    return sorted((row for part in parts for row in part), key=lambda row: row["index"])
