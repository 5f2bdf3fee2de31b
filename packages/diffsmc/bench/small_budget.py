"""Log Z at small budgets: the default with budget= on five targets of at most five dimensions.

python bench/small_budget.py        # 1e3, 1e4 and 1e5 evaluations, ten seeds; small_budget.json
"""

import json
import math
from pathlib import Path

import torch

import diffsmc

RESULTS = Path(__file__).with_name("small_budget.json")
TARGETS = {
    "two_modes": lambda: diffsmc.two_modes(2),
    "gmm40": lambda: diffsmc.gmm40(),
    "skewed5": lambda: diffsmc.SkewedGaussian(5, 4.0),
    "manywell4": lambda: diffsmc.ManyWell(4),
    "funnel3": lambda: diffsmc.Funnel(3),
}
BUDGETS = (1000, 10_000, 100_000)
SEEDS = range(100, 110)


def main() -> None:
    """Measure, print and store."""
    torch.set_num_threads(1)
    rows = []
    for name, make in TARGETS.items():
        for budget in BUDGETS:
            errors, spent, warned = [], [], 0
            for seed in SEEDS:
                target = make()
                run = diffsmc.sample(
                    target, seed=seed, num_islands=4, budget=budget, progress=False
                )
                errors.append(run.evidence().log_normalizer - (target.log_normalizer or 0.0))
                spent.append(run.num_evaluations)
                warned += bool(run.diagnose())
            rows.append(
                {
                    "target": name,
                    "budget": budget,
                    "log_normalizer_rmse": math.sqrt(sum(e * e for e in errors) / len(errors)),
                    "evaluations": sorted(spent)[len(spent) // 2],
                    "warned": warned,
                    "seeds": list(SEEDS),
                }
            )
            print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
