"""Seconds of a job on a device and on one CPU, as a line of the bench.

The job runs once to warm up and then three times; the least counts. Both must give the same
answer, as far as their arithmetic allows.
"""

import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["compare"]

Job = Callable[[torch.device], Callable[[], Tensor]]


def _seconds(work: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    answer = work()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        answer = work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times), answer.detach().cpu().double()


def compare(
    package: str, case: str, job: Job, device: torch.device, setting: str, tolerance: float
) -> None:
    """Print the line of a job.

    Arguments:
        package: Of the line.
        case: Of the line.
        job: Prepares the work on a device; the work answers numbers that can be compared.
        device: Beside the CPU.
        setting: Of the line.
        tolerance: Largest difference of the answers, relative to their largest entry.

    Raises:
        RuntimeError: The answers differ by more.
    """
    ours, answer = _seconds(job(device), device)
    peer, expected = _seconds(job(torch.device("cpu")), torch.device("cpu"))
    error = float((answer - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise RuntimeError(f"{case}: {device} and CPU differ by {error:.2g} ({tolerance} allowed)")
    threads = torch.get_num_threads()
    record = {
        "package": package, "case": case, "quantity": "seconds", "ours": ours, "peer": peer,
        "peer_name": f"cpu, {threads} threads", "better": "lower", "seeds": [0],
        "setting": f"{setting}; on {device}, answers differ by {error:.1e}",
    }  # fmt: skip
    print(json.dumps(record), flush=True)
