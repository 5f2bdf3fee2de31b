"""Training of ARDMs of molecules."""

from torch import nn

from ardm_guidance.models.domains import MoleculeGraphs
from ardm_guidance.sites.molecules import QM9_ATOM_TYPES, MoleculeAlphabet
from ardm_guidance.training.discrete_ardm import DiscreteARDM

__all__ = ["MoleculeARDM"]


class MoleculeARDM(DiscreteARDM):
    r"""An order-agnostic ARDM of molecules.

    Arguments:
        network: Maps sites to logits, such as a
            :class:`~ardm_guidance.GraphTransformer`.
        atom_types: Atom classes, as element and charge: ``C``, ``N+``, ``O-``.
        max_atoms: Heavy atoms of the largest molecule.
        learning_rate: Largest step size of AdamW; it rises linearly and then falls
            linearly to zero where the number of steps is known.
        warmup_steps: Steps of the rise.
        weight_decay: Weight decay of AdamW.
        average_horizon: Steps over which weights are averaged.
        connected: Look ahead to connected molecules in tests and samples.
        seed: Seed of all noise.
        aromatic: The encoding of published models, without any constraint; see
            :class:`~ardm_guidance.sites.molecules.MoleculeAlphabet`.
        masked_loss: Train the conditionals with their valence mask. Without, the loss has
            :math:`-\log P(\text{classes that fit})` besides, so that the network learns valences
            too and can also be sampled without any mask, as published models are.
        unstrained: Keep triple bonds out of rings of three to six atoms in tests and samples.

    References:
        Hoogeboom et al. (2022), Autoregressive diffusion models, arXiv:2110.02037.
    """

    def __init__(
        self,
        network: nn.Module,
        atom_types: list[str] = list(QM9_ATOM_TYPES),  # noqa: B006 - never changed
        max_atoms: int = 9,
        learning_rate: float = 2e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        average_horizon: int = 200,
        connected: bool = True,
        seed: int = 0,
        aromatic: bool = False,
        masked_loss: bool = True,
        unstrained: bool = False,
    ) -> None:
        alphabet = MoleculeAlphabet(tuple(atom_types), max_atoms, aromatic)
        super().__init__(
            MoleculeGraphs(alphabet, connected=connected, unstrained=unstrained),
            network,
            learning_rate,
            warmup_steps,
            weight_decay,
            average_horizon,
            seed,
            masked_loss,
        )
        self.save_hyperparameters()
        self.alphabet = alphabet
