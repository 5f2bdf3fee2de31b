"""Peak memory of 10 000 geodesics (d = 2, D = 784): run in a process of its own by ``run.py``.

Prints gigabytes, CPU seconds and the fraction that converged as JSON.
"""

import json
import resource
import time

import torch
from problems import network

from latentgeom.immersions.immersion import Chart
from latentgeom.solvers.boundary import geodesics

__all__ = ["main"]


def main() -> None:
    """Solve and measure."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    a, b = 3 * torch.rand(2, 10_000, 2, generator=generator, dtype=torch.float64) - 1.5
    chart = Chart(network([2, 64, 64, 784]), 2)
    start = time.process_time()
    batch = geodesics(chart, a, b, num_segments=16, tolerance=1e-6)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    converged = float(batch.converged.double().mean())
    print(json.dumps({"gigabytes": peak, "seconds": seconds, "converged": converged}))


if __name__ == "__main__":
    main()
