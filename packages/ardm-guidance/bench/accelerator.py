"""The main cases on an accelerator: a training step, and guided sampling.

``python accelerator.py --device cuda`` prints two lines. Classes are drawn from noise that is
made on the CPU, so that both devices draw the same molecules but for rounding.
"""

import argparse
from collections.abc import Callable

import torch
from on_device import compare
from torch import Tensor

from ardm_guidance.data.files import read_molecules
from ardm_guidance.guidance.discriminator import Discriminator
from ardm_guidance.guidance.smc import run
from ardm_guidance.models.ardm import OrderAgnosticARDM, bound, steps
from ardm_guidance.models.networks import GraphTransformer
from ardm_guidance.models.orders import uniform
from ardm_guidance.shell.randomness import keyed_generator
from ardm_guidance.sites.constraints import Connectivity, Valence
from ardm_guidance.sites.graphs import masked_graphs
from ardm_guidance.sites.molecules import MoleculeAlphabet
from ardm_guidance.sites.shortcuts import shortcuts

ALPHABET = MoleculeAlphabet()


def network() -> GraphTransformer:
    """The network of ``qm9.yaml`` with random weights."""
    torch.manual_seed(0)
    return GraphTransformer(8, 4, 9, width=64, pair_width=32)


def training(device: torch.device) -> Callable[[], Tensor]:
    """A step on 512 molecules; the answer is the gradient."""
    model = OrderAgnosticARDM(network(), [Valence(ALPHABET.capacities)]).to(device)
    sites = read_molecules("qm9-sample", ALPHABET).sites[:512].long()
    generator = torch.Generator().manual_seed(0)
    order = uniform(sites, generator=generator).to(device)
    sites = sites.to(device)
    number = steps(sites, torch.rand(len(sites), generator=generator).to(device))

    def work() -> Tensor:
        model.zero_grad()
        (-bound(model, sites, order, number)).mean().backward()
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        return torch.cat([one.flatten() for one in gradients])

    return work


def guided(device: torch.device) -> Callable[[], Tensor]:
    """FADG, 32 groups of 10; the answer is the mean of log Z over the groups."""
    model = OrderAgnosticARDM(network(), [Connectivity(ALPHABET.capacities)]).to(device)
    torch.manual_seed(1)
    potential = Discriminator(network()).to(device)
    generator = torch.Generator().manual_seed(0)
    sites = masked_graphs(torch.full((32, 10), 9), 9)
    noise = torch.rand(sites.shape, generator=generator, dtype=torch.float64)
    drawn = [one.to(device) for one in (sites, uniform(sites, generator=generator), noise)]

    @torch.no_grad()
    def work() -> Tensor:
        ancestors = keyed_generator(0, 1, device=device)
        with shortcuts(device.type == "cpu"):
            done = run(model, potential, *drawn, generator=ancestors)
        return done.log_normalizer.mean() + 1

    return work


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    device = parser.parse_args().device
    name = "ardm-guidance"
    compare(name, "training_on_device", training, device, "step of 512 molecules", 1e-3)
    compare(name, "fadg_n10_on_device", guided, device, "32 groups of 10", 0.05)


if __name__ == "__main__":
    main()
