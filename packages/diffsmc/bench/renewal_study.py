"""Does the renewal of the log-density tell runs that failed from those that didn't?

    python bench/renewal_study.py

Frozen runs with known log Z, seed 0: error of log Z with its standard error, and the least
renewal (mean over islands) of any level. Written to ``renewal_study.json`` beside this script.
"""

import json
from pathlib import Path
from typing import Any

import torch
from cases import CASES

import diffsmc
from diffsmc import Target
from diffsmc.methods.method import Method
from diffsmc.methods.mixture_fit import MixtureFit
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.tempering import Tempering
from diffsmc.shell.randomness import keyed_generator
from diffsmc.smc.estimators import evidence
from diffsmc.smc.moves import HMC

PATH = Path(__file__).with_suffix(".json")
SHARP = HMC(10, target_acceptance=0.9)
BRIDGE = ReferenceMixture(MixtureFit(num_chains=300), importance_ess=1.0)
BRIDGED = ("gmm40_2d", "unequal_student_d10", "funnel10", "unequal_two_d2", "manywell32")


def measure(target: Target, log_normalizer: float, method: Method, bridged: bool) -> dict[str, Any]:
    """One run: 1000 particles and four islands tempered, 1500 and two by the bridge."""
    islands, num = (2, 1500) if bridged else (4, 1000)
    with torch.no_grad():
        result = method.run(target, islands, num, generator=keyed_generator(0))
    found = evidence(result.log_normalizers)
    renewal = torch.stack([info.renewal for info in result.history]).nanmean(-1)
    return {
        "path": result.path,
        "error": round(found.log_normalizer - log_normalizer, 3),
        "standard_error": round(found.standard_error, 3),
        "least_renewal": round(float(renewal.min()), 3),
    }


def main() -> None:
    """Measure all and write."""
    torch.set_num_threads(1)
    brownian, rows = diffsmc.BrownianMotion(), {}
    methods = {
        "defaults": Tempering(),
        "five moves": Tempering(num_moves=5),
        "acceptance 0.9": Tempering(move=SHARP),
        "acceptance 0.9, five moves": Tempering(move=SHARP, num_moves=5),
    }
    for name, method in methods.items():
        rows[f"Brownian motion, {name}"] = (brownian, float(brownian.log_normalizer or 0.0), method)
    gaussian = diffsmc.correlated_gaussian(10)
    rows["correlated Gaussian"] = (gaussian, float(gaussian.log_normalizer or 0.0), Tempering())
    for name in ("gmm40_2d", "unequal_two_d2", "manywell32", "ionosphere"):
        rows[name] = (CASES[name].target(), CASES[name].log_normalizer(), Tempering())
    for name in BRIDGED:
        rows[f"{name}, bridge"] = (CASES[name].target(), CASES[name].log_normalizer(), BRIDGE)
    content: dict[str, Any] = {"command": "python bench/renewal_study.py", "runs": {}}
    for name, row in rows.items():
        content["runs"][name] = measure(*row, bridged=row[2] is BRIDGE)
        print(json.dumps({name: content["runs"][name]}), flush=True)
    partial = PATH.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(PATH)


if __name__ == "__main__":
    main()
