"""The main case on an accelerator: a tempered run on the many wells.

``python accelerator.py --device cuda`` prints one line. Random numbers differ from device to
device, so that log Z is compared, not draws.
"""

import argparse
from collections.abc import Callable

import torch
from on_device import compare
from torch import Tensor

import diffsmc
from diffsmc.shell.randomness import keyed_generator


def evidence(
    method: diffsmc.Method, num_particles: int
) -> Callable[[torch.device], Callable[[], Tensor]]:
    """Log Z of 32 wells, pooled over four islands."""

    def job(device: torch.device) -> Callable[[], Tensor]:
        target = diffsmc.ManyWell(32).to(device)

        @torch.no_grad()
        def work() -> Tensor:
            generator = keyed_generator(0, device=device)
            found = method.run(target, 4, num_particles, generator=generator)
            return found.log_normalizers.exp().mean().log()

        return work

    return job


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    device = parser.parse_args().device
    tempered = evidence(diffsmc.Tempering(num_moves=2), 2000)
    setting = "32 wells, 4 islands of 2000, tempered path"
    compare("diffsmc", "manywell32_on_device", tempered, device, setting, 0.02)


if __name__ == "__main__":
    main()
