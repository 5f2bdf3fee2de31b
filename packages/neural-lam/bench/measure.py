"""CPU time and memory of this process."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["cpu_seconds", "peak_mebibytes"]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def peak_mebibytes(work: Callable[[], object]) -> float:
    """Largest resident memory during a piece of work, above that before it."""
    gc.collect()
    before = _status("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return _status("VmHWM:") - before
