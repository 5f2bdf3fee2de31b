"""Quantitative estimate of drug-likeness, as RDKit computes it, for a third of the time."""

from functools import lru_cache

from rdkit import Chem
from rdkit.Chem import QED, Crippen, Descriptors, MolSurf, rdMolDescriptors

from ardm_guidance.scores.screening import Screened

__all__ = ["drug_likeness"]


def drug_likeness(molecule: Chem.Mol) -> float:
    """QED, with its structural alerts screened by fingerprints first.

    References:
        Bickerton et al. (2012), Quantifying the chemical beauty of drugs, Nature Chemistry 4.
    """
    alerts = _alerts()
    bare = Chem.RemoveHs(molecule)
    found = QED.QEDproperties(  # type: ignore[no-untyped-call]
        MW=Descriptors.MolWt(bare),  # type: ignore[attr-defined]
        ALOGP=Crippen.MolLogP(bare),  # type: ignore[attr-defined]
        HBA=sum(len(bare.GetSubstructMatches(pattern)) for pattern in QED.Acceptors),
        HBD=rdMolDescriptors.CalcNumHBD(bare),
        PSA=MolSurf.TPSA(bare),  # type: ignore[attr-defined]
        ROTB=rdMolDescriptors.CalcNumRotatableBonds(
            bare, rdMolDescriptors.NumRotatableBondsOptions.Strict
        ),
        AROM=len(Chem.GetSSSR(Chem.DeleteSubstructs(Chem.Mol(bare), QED.AliphaticRings))),
        ALERTS=sum(1 for _ in alerts.found_in(bare)),
    )
    return float(QED.qed(bare, qedProperties=found))  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1)
def _alerts() -> Screened:
    return Screened(QED.StructuralAlerts)
