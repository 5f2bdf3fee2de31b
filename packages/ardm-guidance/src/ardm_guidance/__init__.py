"""Autoregressive diffusion for discrete data, guided exactly.

Public names are imported on first use (PEP 562), so that ``import ardm_guidance`` and
``ardm-guidance --help`` never pay for torch. What is named here stays; where it lives may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ardm_guidance.data.files import read_molecules as read_molecules
    from ardm_guidance.data.modules import MoleculeData as MoleculeData
    from ardm_guidance.data.pyg import from_pyg as from_pyg
    from ardm_guidance.data.pyg import to_pyg as to_pyg
    from ardm_guidance.guidance.discriminator import Discriminator as Discriminator
    from ardm_guidance.guidance.potentials import Hard as Hard
    from ardm_guidance.guidance.potentials import LateStart as LateStart
    from ardm_guidance.guidance.potentials import Potential as Potential
    from ardm_guidance.guidance.potentials import Product as Product
    from ardm_guidance.guidance.potentials import Reward as Reward
    from ardm_guidance.guidance.potentials import Tempered as Tempered
    from ardm_guidance.guidance.proposals import Guided as Guided
    from ardm_guidance.guidance.proposals import best_of as best_of
    from ardm_guidance.guidance.proposals import bootstrap as bootstrap
    from ardm_guidance.guidance.proposals import fully_adapted as fully_adapted
    from ardm_guidance.guidance.smc import run as run
    from ardm_guidance.guidance.smc import select as select
    from ardm_guidance.guidance.smc import select_groups as select_groups
    from ardm_guidance.methods.ardg import ARDG as ARDG
    from ardm_guidance.methods.best_of import BestOf as BestOf
    from ardm_guidance.methods.bsdg import BSDG as BSDG
    from ardm_guidance.methods.fadg import FADG as FADG
    from ardm_guidance.methods.importance import Importance as Importance
    from ardm_guidance.methods.method import Method as Method
    from ardm_guidance.methods.unguided import Parallel as Parallel
    from ardm_guidance.methods.unguided import Plain as Plain
    from ardm_guidance.models.ardm import OrderAgnosticARDM as OrderAgnosticARDM
    from ardm_guidance.models.ardm import bound as bound
    from ardm_guidance.models.ardm import log_prob as log_prob
    from ardm_guidance.models.ardm import sample as sample
    from ardm_guidance.models.domains import Domain as Domain
    from ardm_guidance.models.domains import MoleculeGraphs as MoleculeGraphs
    from ardm_guidance.models.networks import GraphTransformer as GraphTransformer
    from ardm_guidance.models.parallel import best_schedule as best_schedule
    from ardm_guidance.models.parallel import sample_parallel as sample_parallel
    from ardm_guidance.models.state import Conditionals as Conditionals
    from ardm_guidance.models.state import Stateful as Stateful
    from ardm_guidance.scores.evaluation import Checked as Checked
    from ardm_guidance.scores.evaluation import Scores as Scores
    from ardm_guidance.scores.evaluation import check as check
    from ardm_guidance.scores.evaluation import score as score
    from ardm_guidance.scores.moses import moses_scores as moses_scores
    from ardm_guidance.scores.reports import evaluate as evaluate
    from ardm_guidance.shell.checkpoints import CheckpointError as CheckpointError
    from ardm_guidance.shell.errors import InputError as InputError
    from ardm_guidance.sites.constraints import Connectivity as Connectivity
    from ardm_guidance.sites.constraints import Constraint as Constraint
    from ardm_guidance.sites.constraints import Valence as Valence
    from ardm_guidance.sites.molecules import AtomType as AtomType
    from ardm_guidance.sites.molecules import MoleculeAlphabet as MoleculeAlphabet
    from ardm_guidance.sites.molecules import canonical_smiles as canonical_smiles
    from ardm_guidance.sites.molecules import read_smiles as read_smiles
    from ardm_guidance.sites.shortcuts import shortcuts as shortcuts
    from ardm_guidance.sites.strain import Unstrained as Unstrained
    from ardm_guidance.training.discrete_ardm import DiscreteARDM as DiscreteARDM
    from ardm_guidance.training.discriminator import DiscriminatorData as DiscriminatorData
    from ardm_guidance.training.discriminator import MoleculeDiscriminator as MoleculeDiscriminator
    from ardm_guidance.training.discriminator import load_discriminator as load_discriminator
    from ardm_guidance.training.molecule_ardm import MoleculeARDM as MoleculeARDM

__version__ = "0.1.0"

_EXPORTS = {
    "ARDG": "methods.ardg",
    "AtomType": "sites.molecules",
    "BSDG": "methods.bsdg",
    "BestOf": "methods.best_of",
    "Checked": "scores.evaluation",
    "CheckpointError": "shell.checkpoints",
    "Conditionals": "models.state",
    "Connectivity": "sites.constraints",
    "Constraint": "sites.constraints",
    "DiscreteARDM": "training.discrete_ardm",
    "Discriminator": "guidance.discriminator",
    "DiscriminatorData": "training.discriminator",
    "Domain": "models.domains",
    "FADG": "methods.fadg",
    "GraphTransformer": "models.networks",
    "Guided": "guidance.proposals",
    "Hard": "guidance.potentials",
    "Importance": "methods.importance",
    "InputError": "shell.errors",
    "LateStart": "guidance.potentials",
    "Method": "methods.method",
    "MoleculeARDM": "training.molecule_ardm",
    "MoleculeAlphabet": "sites.molecules",
    "MoleculeData": "data.modules",
    "MoleculeDiscriminator": "training.discriminator",
    "MoleculeGraphs": "models.domains",
    "OrderAgnosticARDM": "models.ardm",
    "Parallel": "methods.unguided",
    "Plain": "methods.unguided",
    "Potential": "guidance.potentials",
    "Product": "guidance.potentials",
    "Reward": "guidance.potentials",
    "Scores": "scores.evaluation",
    "Stateful": "models.state",
    "Tempered": "guidance.potentials",
    "Unstrained": "sites.strain",
    "Valence": "sites.constraints",
    "best_of": "guidance.proposals",
    "best_schedule": "models.parallel",
    "bootstrap": "guidance.proposals",
    "bound": "models.ardm",
    "canonical_smiles": "sites.molecules",
    "check": "scores.evaluation",
    "evaluate": "scores.reports",
    "from_pyg": "data.pyg",
    "fully_adapted": "guidance.proposals",
    "load_discriminator": "training.discriminator",
    "log_prob": "models.ardm",
    "moses_scores": "scores.moses",
    "read_molecules": "data.files",
    "read_smiles": "sites.molecules",
    "run": "guidance.smc",
    "sample": "models.ardm",
    "sample_parallel": "models.parallel",
    "score": "scores.evaluation",
    "select": "guidance.smc",
    "select_groups": "guidance.smc",
    "shortcuts": "sites.shortcuts",
    "to_pyg": "data.pyg",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
