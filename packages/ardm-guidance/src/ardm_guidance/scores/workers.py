"""Work on many molecules: piece by piece, in other processes where asked for, with progress."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["in_pieces"]

T = TypeVar("T")
_PIECE = 500
_SLOW = 2000  # molecules from which on progress is shown


def in_pieces(
    work: Callable[[Sequence[str]], T], texts: Sequence[str], num_workers: int = 0, label: str = ""
) -> list[T]:
    """The results of pieces of 500, in their order.

    Arguments:
        work: A function of a module, so that other processes find it.
        texts: What it works on.
        num_workers: Processes; none is this one.
        label: Shown beside the progress of long work.
    """
    pieces = [texts[start : start + _PIECE] for start in range(0, len(texts), _PIECE)]
    shown: dict[str, Any] = {"total": len(pieces), "desc": label, "disable": len(texts) < _SLOW}
    if num_workers < 1 or len(pieces) < 2:
        return list(tqdm(map(work, pieces), **shown))
    # A fork would carry torch's threads along in a state that can't be used.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_workers, len(pieces)), mp_context=context) as pool:
        return list(tqdm(pool.map(work, pieces), **shown))
