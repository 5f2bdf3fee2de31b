"""Guided sampling and training in CPU seconds, one thread.

Prints one JSON object a line. Networks have random weights, and the shares of the classes in QM9
as biases, so that about as many classes are allowed as while real molecules are drawn.  Peers run
in turn with ours: one discriminator call a class (as published: each class of the site, at every
step; and only where and what the masks allow), a plain dense graph transformer of the same size,
and torch-molecule's DiGress.  ``--quick`` takes fewer molecules and repeats.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import torch  # noqa: E402
from plain_transformer import PlainTransformer  # noqa: E402
from torch import Tensor  # noqa: E402

from ardm_guidance.data.files import read_molecules  # noqa: E402
from ardm_guidance.guidance.discriminator import Discriminator  # noqa: E402
from ardm_guidance.guidance.potentials import Potential, per_class  # noqa: E402
from ardm_guidance.guidance.proposals import Proposal, Proposing, fully_adapted  # noqa: E402
from ardm_guidance.guidance.smc import run  # noqa: E402
from ardm_guidance.models.ardm import (  # noqa: E402
    OrderAgnosticARDM,
    bound,
    sample,
    steps,
)
from ardm_guidance.models.networks import GraphTransformer  # noqa: E402
from ardm_guidance.models.once import Once  # noqa: E402
from ardm_guidance.models.orders import uniform  # noqa: E402
from ardm_guidance.models.state import Conditionals  # noqa: E402
from ardm_guidance.sites.constraints import Connectivity, Constraint, Valence  # noqa: E402
from ardm_guidance.sites.graphs import PAD, masked_graphs, to_dense  # noqa: E402
from ardm_guidance.sites.molecules import MoleculeAlphabet  # noqa: E402

ALPHABET = MoleculeAlphabet()
SIZE = {"width": 64, "pair_width": 32, "num_layers": 4, "num_heads": 4}
HEAD_WIDTH = 128
SETTING = "QM9, 9 atoms, 180 204 parameters (width 64, pairs 32, 4 layers), 1 thread"


def line(
    case: str, quantity: str, ours: float, peer: float | None, name: str | None, setting: str,
    smaller: bool = True,
) -> None:  # fmt: skip
    """One result."""
    record = {
        "package": "ardm-guidance", "case": case, "quantity": quantity, "ours": ours,
        "peer": peer, "peer_name": name, "better": "lower" if smaller else "higher", "seeds": [0],
        "setting": f"{SETTING}; {setting}",
    }  # fmt: skip
    print(json.dumps(record), flush=True)


def timed(work: Callable[[], Any]) -> float:
    """CPU time."""
    start = time.process_time()
    work()
    return time.process_time() - start


class Times(NamedTuple):
    """CPU times of one thing, in seconds."""

    seconds: list[float]

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.seconds)

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.seconds)


def interleaved(repeats: int, *works: Callable[[], Any]) -> list[Times]:
    """CPU times of several things, taken in turn so that load falls on all alike."""
    rows = [[timed(work) for work in works] for _ in range(repeats)]
    return [Times(list(column)) for column in zip(*rows, strict=True)]


class PerClass(Potential):
    """The same discriminator, asked once for each class that the masks allow."""

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


class Everywhere(torch.nn.Module):
    """A network that is asked for the logits of all sites, whichever is needed."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sites: Tensor) -> Tensor:
        """All logits."""
        logits: Tensor = self.network(sites)
        return logits


def published(
    log_probs: Tensor, potential: Potential, sites: Tensor, at: Tensor, log_value: Tensor
) -> Proposal:
    """The fully adapted proposal, with a call for each class of the site at every step."""
    exists = torch.arange(log_probs.shape[-1]) < torch.where(at < 9, 8, 4)
    values = per_class(potential, sites, at[:, 0], exists).masked_fill(
        log_probs.isinf(), -torch.inf
    )
    joint = log_probs + values
    return Proposal(joint.log_softmax(-1), joint.logsumexp(-1), values)


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
    """The network of ``qm9.yaml``, whose first guess are the shares of the classes."""
    torch.manual_seed(0)
    network = GraphTransformer(8, 4, 9, **SIZE)
    sites = read_molecules("qm9-sample", ALPHABET).sites[-500:]
    for head, shown in ((network.node_logits, sites[:, :9]), (network.edge_logits, sites[:, 9:])):
        counts = shown[shown >= 0].long().bincount(minlength=head[1].out_features)
        head[1].bias.copy_((counts + 1.0).log() - counts.sum().log())
    return network


def start(groups: int, particles: int) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    """Empty molecules, orders, noise and a generator."""
    generator = torch.Generator().manual_seed(0)
    sites = masked_graphs(torch.full((groups, particles), 9), 9)
    noise = torch.rand(sites.shape, generator=generator, dtype=torch.float64)
    return sites, uniform(sites, generator=generator), noise, generator


def guided(
    ardm: Conditionals, potential: Potential, groups: int, particles: int,
    propose: Proposing = fully_adapted,
) -> None:  # fmt: skip
    """FADG."""
    *drawn, generator = start(groups, particles)
    run(ardm, potential, *drawn, propose=propose, generator=generator)


def fadg(ardm: OrderAgnosticARDM, potential: Discriminator, groups: int, repeats: int) -> None:
    """Look-ahead against one call for each class, and plain sampling of as many molecules."""
    plainly = OrderAgnosticARDM(Everywhere(ardm.network), ardm.constraints)
    ours, each, fitting, plain = interleaved(
        repeats,
        lambda: guided(ardm, potential, groups, 10),
        lambda: guided(plainly, potential, groups, 10, published),
        lambda: guided(ardm, PerClass(potential), groups, 10),
        lambda: sample(ardm, *(v[:, 0] for v in start(groups, 1)[:3])),
    )
    setting = f"{groups} groups of 10, connectivity look-ahead on; least of {repeats} in turn"
    peers = (("fadg_n10", "per-class", each), ("fadg_n10_allowed", "per-class, allowed", fitting))
    for case, name, peer in peers:
        ratios = f"ratio {peer.least / ours.least:.2f}, of medians {peer.middle / ours.middle:.2f}"
        line(case, "cpu_seconds", ours.least, peer.least, name, f"{setting}; {ratios}")
    ratio = ours.least / plain.least
    line("fadg_n10", "cost_of_plain_sampling", ratio, None, None, setting)


def on_one_trunk(constraints: Iterable[Constraint], groups: int, repeats: int) -> None:
    """FADG whose look-ahead reads the generator's own states, against a trunk of its own."""
    generator, apart = network(), Discriminator(network())
    heads = Discriminator(network(), head_width=HEAD_WIDTH)
    once = Once(generator)
    heads.trunk = once
    together, alone = (OrderAgnosticARDM(one, constraints) for one in (once, generator))
    ours, separate, plain = interleaved(
        repeats,
        lambda: guided(together, heads, groups, 10),
        lambda: guided(alone, apart, groups, 10),
        lambda: sample(alone, *(v[:, 0] for v in start(groups, 1)[:3])),
    )
    ratios = (
        f"ratio {ours.least / separate.least:.2f}, of medians {ours.middle / separate.middle:.2f}"
    )
    setting = f"{groups} groups of 10, connectivity look-ahead on; least of {repeats} in turn"
    line("fadg_shared_n10", "cpu_seconds", ours.least, separate.least, "trunk of its own",
         f"{setting}; {ratios}")  # fmt: skip
    for name, number in (("particle", 10 * groups), ("kept_object", groups)):
        line("fadg_shared_n10", f"cpu_seconds_per_{name}", ours.least / number,
             plain.least / groups, "plain, per object", setting)  # fmt: skip


def bookkeeping(ardm: OrderAgnosticARDM, potential: Discriminator, groups: int) -> None:
    """Share of the engine in the time of the model and the potential that it calls."""
    inner, look = Clock(ardm.log_probs_at), Clock(potential.look_ahead)
    base = type("Timed", (), {"log_probs_at": staticmethod(inner)})()
    potential.look_ahead = look  # type: ignore[method-assign]
    total = timed(lambda: guided(base, potential, groups, 10))
    del potential.look_ahead
    calls = inner.seconds + look.seconds
    line("smc_bookkeeping", "share", (total - calls) / calls, None, None, f"{groups} groups of 10")


def training_step(sites: Tensor) -> Callable[[], None]:
    """One step of ours on a batch."""
    model = OrderAgnosticARDM(network(), [Valence(ALPHABET.capacities)])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)

    @torch.enable_grad()
    def step() -> None:
        noise = torch.rand(len(sites), generator=generator)
        loss = -bound(model, sites, uniform(sites, generator=generator), steps(sites, noise))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()

    return step


def plain_step(model: PlainTransformer, sites: Tensor) -> Callable[[], None]:
    """One step of the plain loop on the same batch."""
    optimizer = torch.optim.AdamW(model.parameters())
    nodes, edges = to_dense(sites)
    present = nodes != PAD
    nodes, edges = nodes.clamp(min=0), edges.clamp(min=0)
    generator = torch.Generator().manual_seed(0)

    @torch.enable_grad()
    def step() -> None:
        loss = model.loss(nodes, edges, present, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def repeated(work: Callable[[], None], number: int) -> Callable[[], None]:
    """The work, several times."""

    def many() -> None:
        for _ in range(number):
            work()

    return many


class DiGress:
    """torch-molecule's DiGress, as wide and as deep, on the same molecules."""

    def __init__(self, smiles: list[str]) -> None:
        from torch_geometric.loader import DataLoader
        from torch_molecule import DigressMolecularGenerator

        self.model = DigressMolecularGenerator(
            hidden_size_X=64, hidden_size_E=32, num_layer=4, n_head=4, dropout=0.0,
            batch_size=64, epochs=1, device="cpu",
        )  # fmt: skip
        # Its global features are sized for large models by default.
        self.model.hidden_size_y = 64
        with torch.enable_grad():
            self.model.fit(smiles)
        graphs = self.model._convert_to_pytorch_data(smiles)
        self.loader = DataLoader(graphs, batch_size=64, shuffle=True)
        self.optimizer, _ = self.model._setup_optimizers()
        self.count = len(graphs)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(weight.numel() for weight in self.model.model.parameters())

    @torch.enable_grad()
    def epoch(self) -> None:
        """Train on all molecules once."""
        self.model._train_epoch(self.loader, self.optimizer, 0)

    def sample(self, number: int) -> None:
        """Sample with its default of 500 steps."""
        self.model.generate(num_nodes=[[9]] * number)


def digress(smiles: list[str]) -> DiGress | None:
    """The peer, where it is installed."""
    try:
        return DiGress(smiles)
    except ImportError as error:
        print(f"torch-molecule: {error}", file=sys.stderr)
        return None


def speed(ardm: OrderAgnosticARDM, number: int, repeats: int) -> None:
    """Training molecules and samples in a CPU second, against both peers."""
    molecules = read_molecules("qm9-sample", ALPHABET)
    batch = molecules.sites[-64:].long()
    torch.manual_seed(0)
    model = PlainTransformer(9, **SIZE)
    smiles = molecules.smiles[-640:]
    other = digress(smiles)
    works = [repeated(training_step(batch), 10), repeated(plain_step(model, batch), 10)]
    samples: list[Callable[[], Any]] = [
        lambda: sample(ardm, *(v[:, 0] for v in start(number, 1)[:3])),
        lambda: sample(free, *(v[:, 0] for v in start(number, 1)[:3])),
        lambda: model.sample(number, 9, torch.Generator().manual_seed(0)),
    ]
    free = OrderAgnosticARDM(ardm.network)
    if other is not None:
        works.append(other.epoch)
        samples.append(lambda: other.sample(number // 4))
    ours, plain, *rest = (640 / times.least for times in interleaved(repeats, *works))
    size = sum(weight.numel() for weight in model.parameters())
    name = f"plain dense loop ({size} parameters)"
    digress_name = None if other is None else f"torch-molecule DiGress ({other.parameters})"
    line("train", "per_cpu_second", ours, plain, name, "batches of 64", smaller=False)
    for value in rest:
        line("train", "per_cpu_second", ours, value, digress_name, "batches of 64", smaller=False)
    times = interleaved(repeats, *samples)
    ours, bare, plain = (number / one.least for one in times[:3])
    setting = f"{number} molecules; ours with valence mask and connectivity, the peer without"
    line("sample", "per_cpu_second", ours, plain, name, setting, smaller=False)
    setting = f"{number} molecules; both without masks"
    line("sample", "per_cpu_second", bare, plain, name, setting, smaller=False)
    for one in times[3:]:
        setting = f"{number} molecules; ours with masks; DiGress {number // 4} in its 500 steps"
        value = number // 4 / one.least
        line("sample", "per_cpu_second", ours, value, digress_name, setting, smaller=False)


def growth_particles(
    ardm: OrderAgnosticARDM, potential: Discriminator, largest: int, repeats: int
) -> None:
    """Exponent of the time with the number of particles."""
    small, large = interleaved(
        repeats,
        lambda: guided(ardm, potential, 2, largest // 4),
        lambda: guided(ardm, potential, 2, largest),
    )
    exponent = math.log(large.least / small.least) / math.log(4)
    setting = f"N = {largest // 4}, {largest}"
    line("growth_particles", "exponent", exponent, None, None, setting)


def growth_atoms(number: int, repeats: int) -> None:
    """Exponent of the time of a molecule with its atoms, 9 to 18; 4 by counting operations."""
    torch.manual_seed(0)
    ours = OrderAgnosticARDM(
        GraphTransformer(8, 4, 18, **SIZE), [Connectivity(ALPHABET.capacities)]
    )
    plain = PlainTransformer(18, **SIZE)
    generator = torch.Generator().manual_seed(0)

    def draw(atoms: int, count: int) -> None:
        sites = masked_graphs(torch.full((count,), atoms), atoms)
        noise = torch.rand(sites.shape, generator=generator, dtype=torch.float64)
        sample(ours, sites, uniform(sites, generator=generator), noise)

    small, large, plain_small, plain_large = interleaved(
        repeats,
        lambda: draw(9, number),
        lambda: draw(18, number // 4),
        lambda: plain.sample(number, 9, generator),
        lambda: plain.sample(number // 4, 18, generator),
    )
    values = [
        math.log(4 * b.least / a.least) / math.log(2)
        for a, b in ((small, large), (plain_small, plain_large))
    ]
    setting = f"9 and 18 atoms, {number} and {number // 4} molecules"
    line("growth_atoms", "exponent", values[0], values[1], "plain dense loop", setting)


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer molecules and repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore")
    ardm = OrderAgnosticARDM(network(), [Connectivity(ALPHABET.capacities)])
    potential = Discriminator(network())
    groups, repeats = (4, 2) if quick else (20, 5)
    fadg(ardm, potential, groups, repeats)
    on_one_trunk(ardm.constraints, groups, repeats)
    bookkeeping(ardm, potential, groups)
    growth_particles(ardm, potential, 16 if quick else 64, repeats)
    growth_atoms(40 if quick else 160, repeats)
    speed(ardm, 60 if quick else 300, repeats)


if __name__ == "__main__":
    main()
