"""Guided sampling and training in CPU seconds, one thread.

Prints one JSON object a line. Networks have random weights: the time does not depend on
them. ``--quick`` takes fewer molecules.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ardm_guidance.ardm import OrderAgnosticARDM, bound, sample, steps  # noqa: E402
from ardm_guidance.constraints import Connectivity, Valence  # noqa: E402
from ardm_guidance.discriminator import Discriminator  # noqa: E402
from ardm_guidance.files import read_molecules  # noqa: E402
from ardm_guidance.graphs import masked_graphs  # noqa: E402
from ardm_guidance.molecules import MoleculeAlphabet  # noqa: E402
from ardm_guidance.networks import GraphTransformer  # noqa: E402
from ardm_guidance.orders import uniform  # noqa: E402
from ardm_guidance.potentials import Potential, per_class  # noqa: E402
from ardm_guidance.smc import run  # noqa: E402

ALPHABET = MoleculeAlphabet()
SIZE = {"width": 64, "pair_width": 32, "num_layers": 4, "num_heads": 4}
SETTING = "QM9, 9 atoms, 180 204 parameters (width 64, pairs 32, 4 layers), 1 thread"


def line(
    case: str, quantity: str, ours: float, peer: float | None, name: str | None, setting: str,
    smaller: bool = True,
) -> None:  # fmt: skip
    """One result."""
    better = None if peer is None else bool(ours <= peer if smaller else ours >= peer)
    record = {
        "package": "ardm-guidance", "case": case, "quantity": quantity, "ours": ours,
        "peer": peer, "peer_name": name, "better": better, "seeds": [0],
        "setting": f"{SETTING}; {setting}",
    }  # fmt: skip
    print(json.dumps(record), flush=True)


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Smallest CPU time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


class PerClass(Potential):
    """The same discriminator, asked once for each class."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, sites: Tensor) -> Tensor:
        """The logit."""
        value: Tensor = self.discriminator(sites)
        return value

    def look_ahead(self, sites: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """One call for each class."""
        return per_class(self.discriminator, sites, positions, allowed)


class Clock:
    """CPU time spent in the calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call and count."""
        start = time.process_time()
        result = self.function(*arguments)
        self.seconds += time.process_time() - start
        return result


def network() -> GraphTransformer:
    """The network of ``qm9.yaml``."""
    torch.manual_seed(0)
    return GraphTransformer(8, 4, 9, **SIZE)


def start(groups: int, particles: int) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    """Empty molecules, orders, noise and a generator."""
    generator = torch.Generator().manual_seed(0)
    sites = masked_graphs(torch.full((groups, particles), 9), 9)
    noise = torch.rand(sites.shape, generator=generator, dtype=torch.float64)
    return sites, uniform(sites, generator=generator), noise, generator


def guided(ardm: OrderAgnosticARDM, potential: Potential, groups: int, particles: int) -> None:
    """FADG."""
    *drawn, generator = start(groups, particles)
    run(ardm, potential, *drawn, generator=generator)


def fadg(ardm: OrderAgnosticARDM, potential: Discriminator, groups: int) -> None:
    """Look-ahead against one call for each class, and plain sampling of as many molecules."""
    ours = timed(lambda: guided(ardm, potential, groups, 10), 2)
    peer = timed(lambda: guided(ardm, PerClass(potential), groups, 10), 1)
    setting = f"{groups} groups of 10, connectivity look-ahead on"
    line("fadg_n10", "cpu_seconds", ours, peer, "per-class", setting)
    plain = timed(lambda: sample(ardm, *(v[:, 0] for v in start(groups, 1)[:3])), 2)
    line("fadg_n10", "cost_of_plain_sampling", ours / plain, None, None, setting)


def bookkeeping(ardm: OrderAgnosticARDM, potential: Discriminator, groups: int) -> None:
    """Share of the engine in the time of the model and the potential that it calls."""
    inner, look = Clock(ardm.log_probs_at), Clock(potential.look_ahead)
    base = type("Timed", (), {"log_probs_at": staticmethod(inner)})()
    potential.look_ahead = look  # type: ignore[method-assign]
    total = timed(lambda: guided(base, potential, groups, 10), 1)
    del potential.look_ahead
    calls = inner.seconds + look.seconds
    line("smc_bookkeeping", "share", (total - calls) / calls, None, None, f"{groups} groups of 10")


def speed(ardm: OrderAgnosticARDM, number: int) -> None:
    """Plain samples and training molecules in a CPU second."""
    seconds = timed(lambda: sample(ardm, *(v[:, 0] for v in start(number, 1)[:3])), 1)
    line("sample", "per_cpu_second", number / seconds, None, None, f"{number} molecules")
    model = OrderAgnosticARDM(network(), [Valence(ALPHABET.capacities)])
    optimizer = torch.optim.AdamW(model.parameters())
    sites = read_molecules("qm9-sample", ALPHABET).sites[:64]
    generator = torch.Generator().manual_seed(0)

    @torch.enable_grad()
    def step() -> None:
        noise = torch.rand(len(sites), generator=generator)
        loss = -bound(model, sites, uniform(sites, generator=generator), steps(sites, noise))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()

    seconds = timed(lambda: [step() for _ in range(10)], 2)
    line("train", "per_cpu_second", 640 / seconds, None, None, "batches of 64")


def growth(ardm: OrderAgnosticARDM, potential: Discriminator, largest: int) -> None:
    """Exponent of the time with the number of particles."""
    small = timed(lambda: guided(ardm, potential, 2, largest // 4), 2)
    large = timed(lambda: guided(ardm, potential, 2, largest), 1)
    exponent = math.log(large / small) / math.log(4)
    line("growth_particles", "exponent", exponent, None, None, f"N = {largest // 4}, {largest}")


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer molecules")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    ardm = OrderAgnosticARDM(network(), [Connectivity(ALPHABET.capacities)])
    potential = Discriminator(network())
    groups = 4 if quick else 20
    fadg(ardm, potential, groups)
    bookkeeping(ardm, potential, groups)
    growth(ardm, potential, 16 if quick else 64)
    speed(ardm, 60 if quick else 300)


if __name__ == "__main__":
    main()
