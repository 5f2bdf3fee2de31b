"""The main case on an accelerator: geodesics of a decoder of many dimensions.

``python accelerator.py --device cuda`` prints one line; the lengths of both devices must agree.
"""

import argparse
from collections.abc import Callable

import torch
from on_device import compare
from problems import network
from torch import Tensor

from latentgeom import Chart, geodesics


def lengths(device: torch.device) -> Callable[[], Tensor]:
    """Lengths of 200 pairs on a random tanh network into 784 dimensions."""
    decoder = network([2, 128, 128, 784]).to(device)
    generator = torch.Generator().manual_seed(0)
    ends = 3 * torch.rand(2, 200, 2, generator=generator, dtype=torch.float64) - 1.5
    a, b = ends.to(device)
    return lambda: geodesics(Chart(decoder, 2), a, b).length


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    device = parser.parse_args().device
    setting = "200 pairs, 2-128-128-784, float64"
    compare("latentgeom", "geodesics_on_device", lengths, device, setting, 1e-6)


if __name__ == "__main__":
    main()
