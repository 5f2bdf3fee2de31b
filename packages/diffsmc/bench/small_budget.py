"""Log Z at small budgets beside nautilus, dynesty, pocoMC and Laplace with importance sampling.

    python bench/small_budget.py ours       # 1e3, 1e4 and 1e5 evaluations, ten seeds
    python bench/small_budget.py peers      # the same for the peers; what is stored is kept
    python bench/small_budget.py show       # the table
    python bench/small_budget.py lines      # lines of results.jsonl

Five targets of at most five dimensions. Nested samplers need a prior: they get our wide start,
and the density over it as likelihood, so that all begin with the same knowledge. The
nested samplers have fixed numbers of live points, untuned. Their runs take long: three seeds.
pocoMC can't be held to a budget: its numbers of particles are those that come near. *laplace-is*
is BFGS from one start, and Student draws (five degrees of freedom) at Laplace's Gaussian with
what is left.
"""

import json
import math
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import optimize, special, stats

import diffsmc

RESULTS = Path(__file__).with_name("small_budget.json")
TARGETS: dict[str, Callable[[], diffsmc.Target]] = {
    "two_modes": lambda: diffsmc.two_modes(2),
    "gmm40": lambda: diffsmc.gmm40(),
    "skewed5": lambda: diffsmc.SkewedGaussian(5, 4.0),
    "manywell4": lambda: diffsmc.ManyWell(4),
    "funnel3": lambda: diffsmc.Funnel(3),
}
BUDGETS = (1000, 10_000, 100_000)
SEEDS = range(100, 110)
FEW_SEEDS = range(100, 103)
SIZES = {1000: 50, 10_000: 200, 100_000: 1000}  # live points
POCO = {1000: (64, 32), 10_000: (512, 256), 100_000: (4096, 2048)}  # effective, active


class Counted:
    """A target as numpy functions of points, which counts its evaluations.

    Arguments:
        target: The target.
    """

    def __init__(self, target: diffsmc.Target) -> None:
        self.target, self.count, self.dim = target, 0, target.dim
        self.scale = float(target.start_factor[0, 0])
        self.truth = float(target.log_normalizer or 0.0)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Give values of points, ``(..., D)``."""
        values = self.target.log_prob(torch.as_tensor(np.asarray(x, dtype=float)))
        self.count += values.numel()
        return values.numpy()

    def gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient of one point."""
        self.count += 1
        value, grad = self.target.log_prob_and_grad(torch.as_tensor(x)[None])
        return float(value), grad[0].numpy()

    def transform(self, u: np.ndarray) -> np.ndarray:
        """Take points of the unit cube to the wide start."""
        return self.scale * special.ndtri(u)

    def likelihood(self, x: np.ndarray) -> np.ndarray:
        """Give the density over the wide start's."""
        x = np.asarray(x, dtype=float)
        start = stats.norm.logpdf(x, scale=self.scale).sum(-1)
        values = self.log_density(x) - start
        return np.where(np.isfinite(values), values, -1e300)


def ours(target: Counted, budget: int, size: int, seed: int) -> float:
    """Give the default's log Z; there is no size."""
    run = diffsmc.sample(target.target, seed=seed, num_islands=4, budget=budget, progress=False)
    target.count = run.num_evaluations
    return run.evidence().log_normalizer


def nautilus(target: Counted, budget: int, size: int, seed: int) -> float:
    """Importance nested sampling (Lange, MNRAS 2023)."""
    import nautilus as package

    sampler = package.Sampler(
        target.transform, target.likelihood, n_dim=target.dim, n_live=size, seed=seed,
        vectorized=True, pass_dict=False, n_networks=0 if target.dim < 3 else 4,
    )  # fmt: skip
    sampler.run(n_like_max=budget, n_eff=math.inf, discard_exploration=False, verbose=False)
    return float(sampler.log_z)


def dynesty(target: Counted, budget: int, size: int, seed: int) -> float:
    """Static nested sampling (Speagle, MNRAS 2020)."""
    import dynesty as package

    sampler = package.NestedSampler(
        lambda x: float(target.likelihood(x)), target.transform, target.dim, nlive=size,
        rstate=np.random.default_rng(seed),
    )  # fmt: skip
    sampler.run_nested(maxcall=budget - size, print_progress=False)
    return float(sampler.results.logz[-1])


def pocomc(target: Counted, budget: int, size: int, seed: int) -> float:
    """Preconditioned Monte Carlo (Karamanis et al., JOSS 2022)."""
    import pocomc as package

    effective, active = POCO[budget]
    sampler = package.Sampler(
        package.Prior([stats.norm(0.0, target.scale)] * target.dim), target.likelihood,
        n_dim=target.dim, n_effective=effective, n_active=active, vectorize=True,
        random_state=seed,
    )  # fmt: skip
    sampler.run(n_total=effective, n_evidence=0, progress=False)
    return float(sampler.evidence()[0])


def laplace_is(target: Counted, budget: int, size: int, seed: int) -> float:
    """Importance sampling at one mode."""
    rng = np.random.default_rng(seed)

    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = target.gradient(x)
        return -value, -grad

    begin = target.scale * rng.standard_normal(target.dim)
    found = optimize.minimize(down, begin, jac=True, method="BFGS", options={"maxiter": 100})
    covariance = 0.5 * (found.hess_inv + found.hess_inv.T)
    draws = max(10, budget - target.count)
    proposal = stats.multivariate_t(found.x, covariance, df=5, allow_singular=True, seed=rng)
    x = proposal.rvs(draws).reshape(draws, target.dim)
    weights = target.log_density(x) - proposal.logpdf(x)
    return float(special.logsumexp(weights) - math.log(draws))


METHODS = {
    "diffsmc": ours, "nautilus": nautilus, "dynesty": dynesty, "laplace-is": laplace_is,
    "pocomc": pocomc,
}  # fmt: skip
UNSIZED = {"diffsmc", "laplace-is", "pocomc"}


def trial(method: str, name: str, budget: int, size: int, seed: int) -> tuple[float, int]:
    """Give error and evaluations of a run; a run that fails is off by its NaN."""
    target = Counted(TARGETS[name]())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = METHODS[method](target, budget, size, seed)
    return found - target.truth, target.count


def rmse(errors: list[float]) -> float:
    """Give the root of the mean square."""
    return math.sqrt(statistics.fmean(error**2 for error in errors))


def measure(method: str, name: str, budget: int) -> dict[str, Any]:
    """Run all seeds of a method."""
    cheap = method in {"diffsmc", "laplace-is"}
    size = 0 if method in UNSIZED else SIZES[budget]
    seeds = list(SEEDS if cheap else FEW_SEEDS)
    runs = [trial(method, name, budget, size, seed) for seed in seeds]
    return {
        "log_normalizer_rmse": rmse([error for error, _ in runs]),
        "errors": [round(error, 6) for error, _ in runs],
        "evaluations": statistics.median(count for _, count in runs),
        "size": size,
        "seeds": seeds,
    }


def load() -> dict[str, Any]:
    """Read what is stored: results by method, target and budget."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.is_file() else {}


def fill(methods: list[str]) -> None:
    """Measure what isn't stored, and store it at once."""
    for budget in BUDGETS:
        for method in methods:
            for name in TARGETS:
                key = f"{method} {name} {budget}"
                content = load()
                if key in content:
                    continue
                content[key] = measure(method, name, budget)
                RESULTS.write_text(json.dumps(content, indent=1) + "\n")
                print(key, content[key], flush=True)


def show(content: dict[str, Any]) -> None:
    """Print the table, budgets below each other."""
    print("| target | budget | " + " | ".join(METHODS) + " |")
    print("|---|---|" + "---|" * len(METHODS))
    for name in TARGETS:
        for budget in BUDGETS:
            cells = []
            for method in METHODS:
                row = content.get(f"{method} {name} {budget}")
                cells.append("" if row is None else f"{row['log_normalizer_rmse']:.2g}")
            print(f"| {name} | {budget:.0e} | " + " | ".join(cells) + " |")


def lines(content: dict[str, Any]) -> None:
    """Print lines as the bench does, every peer beside ours."""
    for name in TARGETS:
        for budget in BUDGETS:
            mine = content[f"diffsmc {name} {budget}"]
            for peer in list(METHODS)[1:]:
                row = content.get(f"{peer} {name} {budget}")
                if row is None:
                    continue
                record = {
                    "package": "diffsmc", "case": f"small_budget_{name}",
                    "quantity": "log_normalizer_rmse", "ours": mine["log_normalizer_rmse"],
                    "peer": row["log_normalizer_rmse"], "peer_name": peer, "better": "lower",
                    "seeds": mine["seeds"],
                    "setting": f"budget {budget}: ours {mine['evaluations']:.0f} evaluations, "
                    f"{peer} {row['evaluations']:.0f} of size {row['size']}; "
                    "python bench/small_budget.py",
                }  # fmt: skip
                print(json.dumps(record))


def main() -> None:
    """Measure, show, or print."""
    torch.set_num_threads(1)
    verb = sys.argv[1] if len(sys.argv) > 1 else "show"
    given = {"ours": ["diffsmc"], "peers": list(METHODS)[1:]}.get(verb, [verb])
    if verb == "show":
        show(load())
    elif verb == "lines":
        lines(load())
    else:
        fill(given)


if __name__ == "__main__":
    main()
