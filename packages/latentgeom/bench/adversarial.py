"""The adversarial study of the tests: how many of 2000 pairs are silently wrong, and converged."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from silence import study

__all__ = ["main"]


def main() -> None:
    """One JSON object for all families together, with what each of them did."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    verdicts = study()
    print(json.dumps([verdict._asdict() for verdict in verdicts]))


if __name__ == "__main__":
    main()
