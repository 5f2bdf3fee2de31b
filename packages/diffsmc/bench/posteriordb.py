"""The smallest posteriors of posteriordb against their reference draws.

    python bench/posteriordb.py FOLDER   # a clone of github.com/stan-dev/posteriordb
    python bench/posteriordb.py show
    python bench/posteriordb.py lines    # lines of results.jsonl

Every posterior of at most five parameters with reference draws but one, whose density takes an
ordinary differential equation (one_comp_mm_elim_abs), with the default and with a budget of 5000
evaluations. A posterior is *met* if all means differ by less than a tenth of their standard
deviation, and all standard deviations by less than a tenth. Starts are wide: coefficients as large
as the largest response over the largest of their covariate.
"""

import json
import math
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta, Gamma
from torch.distributions.constraints import positive, unit_interval

import diffsmc
from diffsmc import Parameter, Posterior

RESULTS = Path(__file__).with_name("posteriordb.json")
BUDGETS = (None, 5000)
Data = Mapping[str, Any]
LOG_2PI = math.log(2 * math.pi)


def log_normal(x: Tensor, mean: Any, scale: Any) -> Tensor:
    """Give Gaussian log-densities, any leading dimensions."""
    scale = torch.as_tensor(scale, dtype=torch.float64)
    return -0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * LOG_2PI


def half_cauchy(x: Tensor, scale: float) -> Tensor:
    """Give half-Cauchy log-densities."""
    return math.log(2 / (math.pi * scale)) - torch.log1p((x / scale).square())


def regression(y: Tensor, columns: list[Tensor], cauchy: float | None = None) -> Posterior:
    """Linear regression with flat coefficients, an intercept first, and flat or Cauchy noise.

    Arguments:
        y: Responses.
        columns: Covariates.
        cauchy: Scale of the half-Cauchy prior of the noise.
    """
    design = torch.stack([torch.ones_like(y), *columns], -1)
    wide = (y.abs().max() / design.abs().amax(0)).tolist()

    def prior(p: Any) -> Tensor:
        return half_cauchy(p["sigma"], cauchy) if cauchy else torch.zeros_like(p["sigma"])

    def likelihood(p: Any) -> Tensor:
        return log_normal(y, p["beta"] @ design.T, p["sigma"][..., None]).sum(-1)

    space = {"beta": Parameter(shape=(design.shape[1],)), "sigma": Parameter(positive)}
    return Posterior(space, prior, likelihood, [*wide, 3.0])


def centred(x: Tensor) -> Tensor:
    """Take the mean off."""
    return x - x.mean()


def kid(*names: str, prepare: Callable[[Tensor, str], Tensor], cauchy: float | None) -> Any:
    """Children's scores by covariates; two of them with their product."""

    def make(data: Data) -> Posterior:
        columns = [prepare(data[name], name) for name in names]
        if prepare is not plain or "inter" in names:
            columns.append(columns[0] * columns[1])
        return regression(data["kid_score"], columns, cauchy)

    return make


def plain(x: Tensor, name: str) -> Tensor:
    """Leave a covariate as it is."""
    return x


def interaction(data: Data) -> Posterior:
    """Children's scores by school, IQ and both, as they are."""
    school, iq = data["mom_hs"], data["mom_iq"]
    return regression(data["kid_score"], [school, iq, school * iq], 2.5)


def work(data: Data) -> Posterior:
    """Children's scores by their mothers' work, four kinds."""
    kinds = [(data["mom_work"] == kind).double() for kind in (2, 3, 4)]
    return regression(data["kid_score"], kinds)


def earnings(*columns: Callable[[Data], Tensor], scale: Callable[[Tensor], Tensor]) -> Any:
    """Earnings by covariates."""
    return lambda data: regression(scale(data["earn"]), [column(data) for column in columns])


def height(data: Data) -> Tensor:
    """Height as it is."""
    return data["height"]


def male(data: Data) -> Tensor:
    """One for men."""
    return data["male"]


def z_height(data: Data) -> Tensor:
    """Height in standard deviations."""
    return centred(data["height"]) / data["height"].std()


def mesquite_volume(data: Data) -> Tensor:
    """Logarithm of the canopy's volume."""
    return (data["diam1"] * data["diam2"] * data["canopy_height"]).log()


def mesquite_all(data: Data) -> Posterior:
    """Weight of mesquite bushes by volume, area and group."""
    area = (data["diam1"] * data["diam2"]).log()
    return regression(data["weight"].log(), [mesquite_volume(data), area, data["group"]])


def kilpisjarvi(data: Data) -> Posterior:
    """Summer temperatures by year."""
    x, y = data["x"], data["y"]
    space = {"alpha": Parameter(), "beta": Parameter(), "sigma": Parameter(positive)}

    def prior(p: Any) -> Tensor:
        alpha = log_normal(p["alpha"], data["pmualpha"], data["psalpha"])
        return alpha + log_normal(p["beta"], data["pmubeta"], data["psbeta"])

    def likelihood(p: Any) -> Tensor:
        mean = p["alpha"][..., None] + p["beta"][..., None] * x
        return log_normal(y, mean, p["sigma"][..., None]).sum(-1)

    return Posterior(space, prior, likelihood, [float(data["psalpha"]), float(data["psbeta"]), 3.0])


def gaussian_process(data: Data) -> Posterior:
    """Regression by a Gaussian process."""
    x, y = data["x"], data["y"]
    square = (x[:, None] - x).square()
    eye = torch.eye(len(x), dtype=torch.float64)
    space = {name: Parameter(positive) for name in ("rho", "alpha", "sigma")}

    def prior(p: Any) -> Tensor:
        rough = Gamma(25.0, 4.0).log_prob(p["rho"]) + log_normal(p["alpha"], 0.0, 2.0)
        return rough + log_normal(p["sigma"], 0.0, 1.0)

    def likelihood(p: Any) -> Tensor:
        rho, alpha, sigma = (p[name][..., None, None] for name in space)
        covariance = alpha.square() * (-0.5 * square / rho.square()).exp() + sigma * eye
        factor, failed = torch.linalg.cholesky_ex(covariance)
        unit = torch.linalg.solve_triangular(factor, y[:, None], upper=False)[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        value = -0.5 * unit.square().sum(-1) - log_det - 0.5 * len(x) * LOG_2PI
        return torch.where((failed == 0) & value.isfinite(), value, -torch.inf)

    return Posterior(space, prior, likelihood)


def two_gaussians(data: Data) -> Posterior:
    """Mixture of two Gaussians, ordered."""
    y = data["y"]
    space = {
        "mu": Parameter(diffsmc.ordered(2), (2,)), "sigma": Parameter(positive, (2,)),
        "theta": Parameter(unit_interval),
    }  # fmt: skip

    def prior(p: Any) -> Tensor:
        both = log_normal(p["mu"], 0.0, 2.0) + log_normal(p["sigma"], 0.0, 2.0)
        return both.sum(-1) + Beta(5.0, 5.0).log_prob(p["theta"])

    def likelihood(p: Any) -> Tensor:
        parts = log_normal(y[:, None], p["mu"][..., None, :], p["sigma"][..., None, :])
        share = torch.stack([p["theta"].log(), torch.log1p(-p["theta"])], -1)
        return (parts + share[..., None, :]).logsumexp(-1).sum(-1)

    return Posterior(space, prior, likelihood)


def arma(data: Data) -> Posterior:
    """Autoregression with a moving average, both of order one."""
    y = data["y"]
    space = {
        "mu": Parameter(), "phi": Parameter(), "theta": Parameter(), "sigma": Parameter(positive)
    }  # fmt: skip

    def prior(p: Any) -> Tensor:
        location = log_normal(p["mu"], 0.0, 10.0)
        rest = log_normal(p["phi"], 0.0, 2.0) + log_normal(p["theta"], 0.0, 2.0)
        return location + rest + half_cauchy(p["sigma"], 2.5)

    def likelihood(p: Any) -> Tensor:
        errors = [y[0] - p["mu"] * (1 + p["phi"])]
        for t in range(1, len(y)):
            errors.append(y[t] - p["mu"] - p["phi"] * y[t - 1] - p["theta"] * errors[-1])
        return log_normal(torch.stack(errors, -1), 0.0, p["sigma"][..., None]).sum(-1)

    return Posterior(space, prior, likelihood, 3.0)


def shipped(make: Callable[[str], Posterior]) -> Any:
    """Take a posterior of the package, which reads a file."""

    def read_back(data: Data) -> Posterior:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(data["json"])
            file.flush()
            return make(file.name)

    return read_back


def c2(x: Tensor, name: str) -> Tensor:
    """Take round numbers off."""
    return x - (0.5 if name == "mom_hs" else 100.0)


PAIR = ("mom_hs", "mom_iq")
MODELS: dict[str, Callable[[Data], Posterior]] = {
    "gp_pois_regr-gp_regr": gaussian_process,
    "kidiq-kidscore_momhs": lambda d: regression(d["kid_score"], [d["mom_hs"]], 2.5),
    "kidiq-kidscore_momiq": lambda d: regression(d["kid_score"], [d["mom_iq"]], 2.5),
    "earnings-earn_height": earnings(height, scale=lambda y: y),
    "earnings-log10earn_height": earnings(height, scale=torch.log10),
    "earnings-logearn_height": earnings(height, scale=torch.log),
    "kilpisjarvi_mod-kilpisjarvi": kilpisjarvi,
    "mesquite-logmesquite_logvolume": lambda d: regression(d["weight"].log(), [mesquite_volume(d)]),
    "kidiq-kidscore_momhsiq": lambda d: regression(d["kid_score"], [d["mom_hs"], d["mom_iq"]], 2.5),
    "earnings-logearn_height_male": earnings(height, male, scale=torch.log),
    "earnings-logearn_logheight_male": earnings(lambda d: d["height"].log(), male, scale=torch.log),
    "garch-garch11": shipped(diffsmc.garch),
    "arma-arma11": arma,
    "earnings-logearn_interaction": earnings(
        height, male, lambda d: height(d) * male(d), scale=torch.log
    ),
    "earnings-logearn_interaction_z": earnings(
        z_height, male, lambda d: z_height(d) * male(d), scale=torch.log
    ),
    "kidiq-kidscore_interaction": interaction,
    "kidiq_with_mom_work-kidscore_interaction_c": kid(
        *PAIR, prepare=lambda x, name: centred(x), cauchy=None
    ),
    "kidiq_with_mom_work-kidscore_interaction_c2": kid(*PAIR, prepare=c2, cauchy=None),
    "kidiq_with_mom_work-kidscore_interaction_z": kid(
        *PAIR, prepare=lambda x, name: centred(x) / (2 * x.std()), cauchy=None
    ),
    "kidiq_with_mom_work-kidscore_mom_work": work,
    "mesquite-logmesquite_logva": mesquite_all,
    "low_dim_gauss_mix-low_dim_gauss_mix": two_gaussians,
}


def unzip(path: Path) -> Any:
    """Read the one JSON file of an archive."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(archive.namelist()[0]))


def read(folder: Path, name: str) -> tuple[Data, dict[str, Tensor]]:
    """Give data, and reference draws by name of the coordinate."""
    home = folder / "posterior_database"
    content = unzip(home / "data" / "data" / f"{name.split('-')[0]}.json.zip")
    data: dict[str, Any] = {
        key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
        for key, value in content.items()
    }
    data["json"] = json.dumps(content)
    chains = unzip(home / "reference_posteriors" / "draws" / "draws" / f"{name}.json.zip")
    names = chains[0]
    draws = {
        key: torch.cat([torch.tensor(chain[key], dtype=torch.float64) for chain in chains])
        for key in names
    }
    return data, draws


def compare(target: Posterior, run: diffsmc.Result, draws: dict[str, Tensor]) -> dict[str, float]:
    """Give the largest error of a mean, and the least and largest ratio of deviations."""
    share = run.log_normalizers.log_softmax(0)[:, None]
    weights = (run.log_weights.log_softmax(-1) + share).exp().flatten()
    values = target.parameters_at(run.particles.flatten(0, 1))
    means, ratios = [], []
    for key, drawn in draws.items():
        base, _, place = key.partition("[")
        ours = values[base][:, int(place.rstrip("]")) - 1] if place else values[key]
        mean = weights @ ours
        deviation = (weights @ (ours - mean).square()).sqrt()
        means.append(float((mean - drawn.mean()).abs() / drawn.std()))
        ratios.append(float(deviation / drawn.std()))
    return {"mean": max(means), "least": min(ratios), "largest": max(ratios)}


def met(row: dict[str, Any]) -> bool:
    """Tell whether means and deviations are those of the reference draws."""
    return bool(row["mean"] < 0.1 and row["least"] > 0.9 and row["largest"] < 1.1)


def measure(folder: Path) -> None:
    """Sample all posteriors, and store every result."""
    content: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, make in MODELS.items():
        for budget in BUDGETS:
            key = f"{name} {budget or 'default'}"
            if key in content:
                continue
            data, draws = read(folder, name)
            target = make(data)
            begin = time.perf_counter()
            run = diffsmc.sample(target, seed=1, num_islands=4, budget=budget, progress=False)
            content[key] = {
                **compare(target, run, draws),
                "evaluations": run.num_evaluations,
                "log_normalizer": run.evidence().log_normalizer,
                "path": run.path,
                "warnings": [line[:80] for line in run.diagnose()],
                "seconds": round(time.perf_counter() - begin, 1),
            }
            RESULTS.write_text(json.dumps(content, indent=1) + "\n")
            print(key, met(content[key]), content[key], flush=True)


def show() -> None:
    """Print a table."""
    content = json.loads(RESULTS.read_text())
    print("| posterior | default: mean, deviations, evaluations | 5000 evaluations |")
    print("|---|---|---|")
    for name in MODELS:
        cells = []
        for budget in BUDGETS:
            row = content[f"{name} {budget or 'default'}"]
            text = f"{row['mean']:.3f}, {row['least']:.2f} to {row['largest']:.2f}"
            spent = "" if budget else f", {row['evaluations']:.1e}"
            cells.append(text + spent + ("" if met(row) else " (not met)"))
        print(f"| {name} | {' | '.join(cells)} |")


def lines() -> None:
    """Print the shares that are met as the bench does."""
    content = json.loads(RESULTS.read_text())
    for budget in BUDGETS:
        rows = [content[f"{name} {budget or 'default'}"] for name in MODELS]
        for quantity, value, better in (
            ("met_share", sum(map(met, rows)) / len(rows), "higher"),
            ("largest_mean_error", max(row["mean"] for row in rows), "lower"),
            ("evaluations", sorted(row["evaluations"] for row in rows)[len(rows) // 2], "lower"),
        ):
            record = {
                "package": "diffsmc", "case": "posteriordb", "quantity": quantity, "ours": value,
                "peer": None, "peer_name": None, "better": better, "seeds": [1],
                "setting": f"{len(rows)} posteriors, 4 islands, budget {budget or 'none'}, against "
                "10,000 reference draws; python bench/posteriordb.py",
            }  # fmt: skip
            print(json.dumps(record))


def main() -> None:
    """Measure, show or print."""
    torch.set_num_threads(1)
    verb = sys.argv[1] if len(sys.argv) > 1 else "show"
    if verb == "show":
        show()
    elif verb == "lines":
        lines()
    else:
        measure(Path(verb))


if __name__ == "__main__":
    main()
