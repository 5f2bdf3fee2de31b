"""CPU seconds of smooth solves by whichever latentgeom is on the path, as one JSON object."""

import json
import math
import os
import sys
import time
from itertools import pairwise

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from latentgeom import Chart, geodesics  # noqa: E402

__all__ = ["main"]


def network(widths: list[int]) -> nn.Sequential:
    """A tanh network with random weights that bend its image well."""
    rng = np.random.default_rng(0)
    layers: list[nn.Module] = []
    for layer, (n, m) in enumerate(pairwise(widths)):
        linear = nn.Linear(n, m, dtype=torch.float64)
        gain = 1.0 if layer in (0, len(widths) - 2) else 1.2
        weight = rng.normal(size=(m, n)) * gain / (1.0 if layer == 0 else math.sqrt(n))
        linear.weight.data = torch.tensor(weight)
        linear.bias.data = torch.tensor(rng.normal(size=m) * (0.5 if layer == 0 else 0.1))
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def ends(dim: int, count: int) -> tuple[Tensor, Tensor]:
    """Random pairs, as far apart in ten dimensions as in two."""
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-1.5, 1.5, (2, count, dim)) * math.sqrt(2 / dim)
    return torch.tensor(a), torch.tensor(b)


CASES = {
    "smooth_d2": (network([2, 64, 64, 50]), ends(2, 100)),
    "smooth_d10": (network([10, 64, 64, 100]), ends(10, 50)),
}


def main() -> None:
    """The least of several CPU times a case and number of segments."""
    turns = int(sys.argv[1])
    torch.set_num_threads(1)
    seconds: dict[str, dict[int, float]] = {}
    for name, (decoder, (a, b)) in CASES.items():
        chart = Chart(decoder, a.shape[1])
        seconds[name] = {}
        for num_segments in (16, 32):
            times = []
            for _ in range(turns + 1):  # the first one fills caches
                start = time.process_time()
                batch = geodesics(chart, a, b, num_segments=num_segments)
                times.append(time.process_time() - start)
            if not bool(batch.converged.double().mean() > 0.9):
                raise RuntimeError(f"{name} did not converge")
            seconds[name][num_segments] = min(times[1:])
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
