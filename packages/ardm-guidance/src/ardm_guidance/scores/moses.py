r"""The scores of the MOSES benchmark, of any samples against any reference.

*Valid* is the share of samples that RDKit sanitises; all others are of the valid ones.
*Unique@k* is the share of distinct ones among the first :math:`k`, *novel* that of distinct
ones not in the training set, *filters* that of molecules without charges, large rings, foreign
elements or a substructure of the medicinal-chemistry and PAINS lists.  Against a
reference: the Fréchet ChemNet distance, the similarity to the nearest neighbour (SNN), the
cosines between counts of BRICS fragments (Frag) and of scaffolds with two or more rings (Scaf), and
the Wasserstein distances of log P, SA, QED and weight.

What a set contributes is kept as :class:`Statistics`, which add up over shares, so that ranks
that each hold a share of the samples find the scores of the whole (:func:`moses_scores`).

References:
    Polykovskiy et al., "Molecular Sets (MOSES)", Front. Pharmacol. 11 (2020).
"""

import pickle
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import Crippen, Descriptors
from rdkit.Chem.Scaffolds import MurckoScaffold
from torch import Tensor

from ardm_guidance.data.files import installed_folder
from ardm_guidance.data.gathering import gather
from ardm_guidance.scores.accessibility import synthetic_accessibility
from ardm_guidance.scores.chemnet import ChemNet, Moments, frechet_distance, merge_moments, moments
from ardm_guidance.scores.filters import passes_filters
from ardm_guidance.scores.fingerprints import internal_diversity, morgan, nearest_similarity
from ardm_guidance.scores.likeness import drug_likeness
from ardm_guidance.scores.screening import Screened
from ardm_guidance.scores.workers import in_pieces
from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.showing import in_a_line
from ardm_guidance.sites.molecules import canonical_smiles, read_smiles

__all__ = [
    "Distances",
    "MosesScores",
    "Statistics",
    "cosine_similarity",
    "distances",
    "fragments",
    "merge",
    "moses_scores",
    "published_statistics",
    "scaffold",
    "statistics",
    "wasserstein_distance",
]


PROPERTIES: dict[str, Callable[[Chem.Mol], float]] = {
    "logP": Crippen.MolLogP,  # type: ignore[attr-defined]
    "SA": synthetic_accessibility,
    "QED": drug_likeness,
    "weight": Descriptors.MolWt,  # type: ignore[attr-defined]
}
_DISTRIBUTION = "molsets==0.3.1"


class Statistics(NamedTuple):
    """What the scores need of a set of molecules.

    Attributes:
        bits: Morgan fingerprints, ``(N, 1024)``.
        fragments: Counts of BRICS fragments.
        scaffolds: Counts of scaffolds with two or more rings.
        properties: Values of each of ``logP``, ``SA``, ``QED``, ``weight``, ``(N,)``.
        chemnet: Moments of ChemNet's states, or none without ChemNet.
    """

    bits: Tensor
    fragments: Counter[str]
    scaffolds: Counter[str]
    properties: dict[str, Tensor]
    chemnet: Moments | None

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class Distances(NamedTuple):
    """Scores against one reference; FCD is none without ChemNet.

    Attributes:
        reference: Name of the set.
        num_reference: Its size.
    """

    reference: str
    num_reference: int
    fcd: float | None
    snn: float
    frag: float
    scaf: float
    logp: float
    sa: float
    qed: float
    weight: float

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


class MosesScores(NamedTuple):
    """All scores; filters are none without their lists.

    Attributes:
        num_samples: All samples.
        num_valid: The ones that all other scores are of.
    """

    num_samples: int
    num_valid: int
    valid: float
    unique_1k: float
    unique_10k: float
    novel: float
    int_div_1: float
    int_div_2: float
    filters: float | None
    distances: list[Distances]

    def __str__(self) -> str:
        """One line: shapes instead of numbers."""
        return in_a_line(self)


def fragments(molecule: Chem.Mol) -> list[str]:
    """SMILES of the pieces after breaking the BRICS bonds."""
    return str(Chem.MolToSmiles(Chem.FragmentOnBRICSBonds(molecule))).split(".")


def scaffold(molecule: Chem.Mol, min_rings: int = 2) -> str | None:
    """SMILES of the Murcko scaffold, or none with fewer rings."""
    core = MurckoScaffold.GetScaffoldForMol(molecule)  # type: ignore[no-untyped-call]
    smiles = str(Chem.MolToSmiles(core))
    return smiles if smiles and core.GetRingInfo().NumRings() >= min_rings else None


def statistics(
    smiles: Sequence[str], chemnet: ChemNet | None = None, num_workers: int = 0
) -> Statistics:
    """Statistics of valid molecules.

    Arguments:
        smiles: Valid SMILES, repeats included.
        chemnet: For the Fréchet distance.
        num_workers: Processes for all but ChemNet; none is this one.
    """
    parts = in_pieces(_without_chemnet, smiles, num_workers, "properties")
    found = merge(parts) if parts else _without_chemnet(())
    return found._replace(chemnet=None if chemnet is None else moments(chemnet.states(smiles)))


def _without_chemnet(smiles: Sequence[str]) -> Statistics:
    molecules = [Chem.MolFromSmiles(text) for text in smiles]
    cores = (scaffold(molecule) for molecule in molecules)
    return Statistics(
        morgan(molecules),
        Counter(chain.from_iterable(map(fragments, molecules))),
        Counter(core for core in cores if core is not None),
        {
            name: torch.tensor([compute(one) for one in molecules], dtype=torch.float64)
            for name, compute in PROPERTIES.items()
        },
        None,
    )


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of the union of sets."""
    known = [part.chemnet for part in parts if part.chemnet is not None]
    return Statistics(
        torch.cat([part.bits for part in parts]),
        sum((part.fragments for part in parts), Counter()),
        sum((part.scaffolds for part in parts), Counter()),
        {name: torch.cat([part.properties[name] for part in parts]) for name in PROPERTIES},
        merge_moments(known) if len(known) == len(parts) else None,
    )


def cosine_similarity(a: Counter[str], b: Counter[str]) -> float:
    """Cosine of two tables of counts; 0 where one is empty and the other not, 1 of two empty."""
    if not a or not b:
        return float(not a and not b)
    product = sum(count * b[key] for key, count in a.items())
    squares = [sum(count**2 for count in table.values()) for table in (a, b)]
    return float(product / np.sqrt(float(squares[0]) * float(squares[1])))


def wasserstein_distance(a: Tensor, b: Tensor) -> float:
    r""":math:`W_1 = \int |F_a - F_b|` of two samples ``(N,)``, ``(M,)``."""
    a, b = a.double().sort().values, b.double().sort().values
    every = torch.cat([a, b]).sort().values
    shares = [torch.searchsorted(one, every[:-1], right=True) / len(one) for one in (a, b)]
    return float(((shares[0].double() - shares[1].double()).abs() * every.diff()).sum())


def distances(samples: Statistics, name: str, reference: Statistics) -> Distances:
    """Scores of samples against one reference."""
    known = samples.chemnet is not None and reference.chemnet is not None
    fcd = frechet_distance(samples.chemnet, reference.chemnet) if known else None  # type: ignore[arg-type]
    shifts = [
        wasserstein_distance(samples.properties[key], reference.properties[key])
        for key in PROPERTIES
    ]
    return Distances(
        name,
        len(reference.bits),
        fcd,
        nearest_similarity(samples.bits, reference.bits),
        cosine_similarity(samples.fragments, reference.fragments),
        cosine_similarity(samples.scaffolds, reference.scaffolds),
        *shifts,
    )


def canonical(smiles: str) -> str | None:
    """The canonical SMILES of every other score and of the references, or none where invalid."""
    try:
        return canonical_smiles(read_smiles(smiles))
    except ValueError:
        return None


def moses_scores(
    samples: Sequence[str],
    references: dict[str, Statistics],
    training: Collection[str],
    *,
    chemnet: ChemNet | None = None,
    unwanted: Sequence[Chem.Mol] | None = None,
    canonicals: Sequence[str | None] | None = None,
    num_workers: int = 0,
) -> MosesScores:
    """Score samples; in a distributed run each rank gives every R-th of them and all find the same.

    Arguments:
        samples: SMILES, invalid ones too.
        references: Statistics by name.
        training: Canonical SMILES of the training set.
        chemnet: For the Fréchet distance.
        unwanted: Substructures of the filters, see :func:`load_filters`.
        canonicals: Canonical SMILES of the samples, none where invalid, where they are known.
        num_workers: Processes for RDKit's work; none is this one.

    Raises:
        ValueError: No sample is valid.

    References:
        Polykovskiy et al. (2020), Molecular Sets (MOSES), arXiv:1811.12823.
    """
    own = [canonical(text) for text in samples] if canonicals is None else list(canonicals)
    own_valid = [text for text in own if text is not None]
    every = _interleave(gather(own))
    valid = [text for text in every if text is not None]
    if not valid:
        raise ValueError(f"no valid molecule among {len(every)} samples")
    # A rank without a valid molecule has nothing to add up.
    parts = gather(statistics(own_valid, chemnet, num_workers) if own_valid else None)
    found = merge([part for part in parts if part is not None])
    return MosesScores(
        num_samples=len(every),
        num_valid=len(valid),
        valid=len(valid) / len(every),
        unique_1k=_unique(valid, 1000),
        unique_10k=_unique(valid, 10_000),
        novel=sum(text not in training for text in set(valid)) / len(set(valid)),
        int_div_1=internal_diversity(found.bits),
        int_div_2=internal_diversity(found.bits, 2),
        filters=None
        if unwanted is None
        else _share_passing(own_valid, unwanted, len(valid), num_workers),
        distances=[distances(found, name, one) for name, one in references.items()],
    )


def _interleave(shares: Sequence[Sequence[str | None]]) -> list[str | None]:
    """The samples in their order: rank r holds numbers r, r + R, ..."""
    rounds = zip_longest(*(enumerate(share) for share in shares))
    return [held[1] for row in rounds for held in row if held is not None]


def _unique(valid: Sequence[str], number: int) -> float:
    return len(set(valid[:number])) / len(valid[:number])


def _share_passing(
    own: Sequence[str], unwanted: Sequence[Chem.Mol], count: int, num_workers: int
) -> float:
    screened = unwanted if isinstance(unwanted, Screened) else Screened(unwanted)
    passing = sum(in_pieces(partial(_passing, screened), own, num_workers, "filters"))
    return sum(gather(passing)) / count


def _passing(unwanted: Screened, texts: Sequence[str]) -> int:
    return sum(passes_filters(Chem.MolFromSmiles(text), unwanted) for text in texts)


_ALLOWED = {
    ("_codecs", "encode"),
    ("collections", "Counter"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
}


class _Restricted(pickle.Unpickler):
    """Reads arrays and counters, and executes nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        module = module.replace("numpy.core", "numpy._core")
        return super().find_class(module, name)


def published_statistics(split: str) -> Statistics:
    """Statistics of a test set as MOSES publishes them: its benchmark's own references.

    Arguments:
        split: ``test`` or ``test_scaffolds``.

    Raises:
        InputError: ``molsets`` is not installed or the file is not readable.
    """
    path = installed_folder("moses", _DISTRIBUTION) / "dataset" / "data" / f"{split}_stats.npz"
    try:
        with zipfile.ZipFile(path) as archive, archive.open("stats.npy") as file:
            return _from_published(_read_object(file))
    except (OSError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not readable ({error})") from error


def _read_object(file: Any) -> Any:
    """The object of a NumPy file, without trusting it."""
    stream: BinaryIO = file
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    return _Restricted(stream).load().item()


def _from_published(content: dict[str, Any]) -> Statistics:
    values = {name: torch.from_numpy(np.asarray(content[name]["values"])) for name in PROPERTIES}
    count = len(values["logP"])
    chemnet = Moments(
        count,
        torch.from_numpy(content["FCD"]["mu"]).double(),
        torch.from_numpy(content["FCD"]["sigma"]).double() * (count - 1),
    )
    bits = torch.from_numpy(np.asarray(content["SNN"]["fps"], dtype=np.uint8))
    return Statistics(bits, content["Frag"]["frag"], content["Scaf"]["scaf"], values, chemnet)
