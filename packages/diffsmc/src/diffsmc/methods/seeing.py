r"""What a search for modes would have seen, and how much it may have missed.

Three statements, none of which needs to know the target:

- *Basins.* Of :math:`n` starts :math:`f` were alone in their basin. The next start falls into an
  unseen basin with probability about :math:`f/n` (Good-Turing); the bound is Poisson's 95 %
  limit. It speaks of basins as the starts meet them, not of their mass.
- *Mass.* As many starts again would find about as many new basins as were found by one start
  alone, and these would weigh about as much. If the basins that were hardly found hold less mass
  than the interval's half-width, what is unseen can hardly make an error larger than that.
- *Power.* Further modes are imagined: somewhere under the start, up to five times narrower than
  what was found, of any weight. One is *seen* if some start, look or wide draw of importance
  sampling lies where it would outweigh what was found; one that outweighs it nowhere is no mode.
  The share that is seen is printed. Where one mode was found, and more than one second mode in
  ten would be missed, that is a warning. It is so in many dimensions, whatever the method: a ball
  of a fifth of the width is a needle there.

References:
    Good, The population frequencies of species and the estimation of population parameters,
    Biometrika 1953.
    Chao, Nonparametric estimation of the number of classes in a population, Scandinavian Journal
    of Statistics 1984.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.methods.importance import IMPORTANCE
from diffsmc.methods.pilot import VALLEY, label_linked, lowest_between
from diffsmc.references.mixture import Mixture, log_joint
from diffsmc.results.result import Result
from diffsmc.targets.target import Target

__all__ = [
    "Modes",
    "Verdict",
    "chance_of_seeing",
    "look_back",
    "pooled",
    "unseen_basins",
    "without_ridges",
]

LOG_2PI = math.log(2 * math.pi)

NARROWEST = 5.0  # times narrower than what was found
LEAST_ERROR = 0.01  # of log Z, that counts
POWERFUL = 0.9  # below, more than one second mode in ten would be missed
FEW_STARTS = 0.1  # bound on unseen basins that is no bound
ALONE = 1.5  # starts: a mode that fewer found was found by one alone
HARDLY = 2.5  # starts: modes that fewer found may be places on a ridge
SUBSAMPLE = 5000  # particles that tell the masses of modes
MOST_DRAWS = 100_000  # that count as looks where one mode was found
BLOCK = 20_000  # points at a time


class Modes(NamedTuple):
    """What a search found: Gaussians, ``(K, D)`` and ``(K, D, D)``, the mode of each, ``(K,)``.

    ``found`` ``(M,)`` are numbers of starts by mode; below ``few`` a mode was hardly found.
    """

    means: Tensor
    factors: Tensor
    labels: Tensor
    found: Tensor
    few: float = ALONE

    def shares(self, run: Result) -> Tensor:
        """Give the mass of each mode, ``(M,)``, in a run: particles count for the nearest."""
        every = -(-run.particles[0].shape[0] // SUBSAMPLE)
        equal = torch.ones_like(self.means[:, 0]).log_softmax(0)
        x, log_weights = run.particles[0, ::every].double(), run.log_weights[0, ::every]
        parts = log_joint(Mixture(equal.exp(), self.means, self.factors), x)
        shares = torch.zeros_like(self.found)
        return shares.index_add(0, self.labels[parts.argmax(-1)], log_weights.softmax(-1))


class Verdict(NamedTuple):
    """What a search found: numbers of starts by mode, and the chance of having seen another.

    ``power`` is 1 where no second mode can be, and then few starts are enough. ``unsure`` is the
    mass in modes that were hardly found, relative to the interval's half-width.
    """

    found: Tensor
    power: float
    unsure: float = 0.0
    few: float = ALONE

    def notes(self) -> tuple[str, ...]:
        """Say what was found, the bound on what wasn't, and warn where that is wide."""
        total = float(self.found.sum())
        modes = len(self.found)
        bound = unseen_basins(self.found)
        what = "1 mode" if modes == 1 else f"{modes} modes"
        further = "a second mode" if modes == 1 else "a further mode"
        seen = (
            f"{total:.0f} starts found {what}; unseen basins hold at most {bound:.1%} of the "
            f"starts (95 %), and {further} up to {NARROWEST:.0f} times narrower would have been "
            f"seen with {self.power:.0%}; the interval is conditional on the modes found"
        )
        rare = int((self.found < self.few).sum())
        if modes > 1 and rare and not self.unsure <= 1:
            return (
                seen,
                f"warning: {rare} of {modes} modes were found by few starts, and hold more mass "
                "than the interval is wide: others were likely missed, and mode masses and log Z "
                "are unsure; use more starts (num_chains), a better scale, or starts",
            )
        if modes == 1 and self.power < POWERFUL:
            return (
                seen,
                f"warning: {what} found, but of narrower ones elsewhere under the start "
                f"this search would see {self.power:.0%}: a missed mode would make log Z too low "
                "by its mass; give starts or a scale, or say log_concave=True if no second mode "
                "can be",
            )
        if bound > FEW_STARTS and self.power < 1:
            return (
                seen,
                f"warning: {total:.0f} starts say little: another mode may hold a basin of up to "
                f"{bound:.0%} of them; use a larger budget, or more starts",
            )
        return (seen,)


def without_ridges(target: Target, mixture: Mixture, modes: Modes) -> tuple[Modes, int]:
    """Join modes between which the fit shows a way without a valley, and count the evaluations.

    Climbs and chains may stop on a curved ridge, at places between which the straight line leaves
    it. The components of a mixture that was fitted since lie along the ridge, close enough for
    straight lines from one to the next. Nothing is done where many starts found every mode.

    Arguments:
        target: The target.
        mixture: What was fitted.
        modes: What a search found.
    """
    if len(modes.found) == 1 or not bool((modes.found < max(modes.few, HARDLY)).any()):
        return modes, 0
    passes, height, spent = lowest_between(target, torch.cat([modes.means, mixture.means]))
    for k in range(len(passes)):
        # the way from i to j whose lowest point is highest may lead over k
        passes = torch.maximum(passes, torch.minimum(passes[:, k, None], passes[k]))
    # a mode's summit counts, and the best of the ways between any of its parts
    mine = modes.labels == torch.arange(len(modes.found), device=height.device)[:, None]
    summit = torch.where(mine, height[: mine.shape[1]], -torch.inf).amax(1)
    both = mine[:, None, :, None] & mine[None, :, None, :]
    between = passes[: mine.shape[1], : mine.shape[1]]
    between = torch.where(both, between, -torch.inf).amax((2, 3))
    new = label_linked(between >= torch.minimum(summit[:, None], summit) - VALLEY)
    found = torch.zeros_like(modes.found[: int(new.max()) + 1]).index_add(0, new, modes.found)
    return modes._replace(labels=new[modes.labels], found=found), spent


def unseen_basins(found: Tensor) -> float:
    """Give the 95 % bound on the share of starts that unseen basins hold.

    Arguments:
        found: Number of starts that found each mode, ``(K,)``.

    References:
        Good (1953), The population frequencies of species, Biometrika 40.
    """
    from scipy import stats

    alone = int((found < ALONE).sum())
    total = max(float(found.sum()), 1.0)
    return min(1.0, float(stats.chi2.ppf(0.95, 2 * (alone + 1))) / 2 / total)


def chance_of_seeing(
    target: Target,
    mixture: Mixture,
    points: Tensor,
    *,
    generator: torch.Generator,
    narrowest: float = NARROWEST,
    num_imagined: int = 200,
) -> float:
    """Give the share of imagined further modes that some point would have seen.

    Arguments:
        target: The target; its start says where modes may be.
        mixture: What was found, a component a mode: imagined ones are shaped like these.
        points: Where the density was looked at, ``(N, D)``.
        generator: Source of the imagined modes.
        narrowest: How many times narrower they are at most.
        num_imagined: Their number.

    References:
        Boender & Rinnooy Kan (1987), Bayesian stopping rules for multistart global optimization
        methods, Mathematical Programming 37.
    """
    if target.log_concave:
        return 1.0
    mean, factor = target.start_mean, target.start_factor
    size = (num_imagined, target.dim + 3)
    drawn = torch.randn(size, generator=generator, dtype=mean.dtype, device=mean.device)
    noise, uniform = drawn[:, :-3], torch.special.ndtr(drawn[:, -3:])
    centres = mean + noise @ factor.mT
    ratio = 1 + (narrowest - 1) * uniform[:, 0]
    weight = 0.01 + 0.98 * uniform[:, 1]
    kind = (uniform[:, 2:] > mixture.weights.cumsum(0)).sum(-1).clamp(max=len(mixture.weights) - 1)
    blocks = [(part, log_joint(mixture, part).logsumexp(-1)) for part in torch.split(points, BLOCK)]
    at_centre = log_joint(mixture, centres).logsumexp(-1)
    volume = mixture.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)[kind]
    peak = target.dim * (ratio.log() - 0.5 * LOG_2PI) - volume + weight.log() - torch.log1p(-weight)
    seen, real = 0, 0
    for k, shape in enumerate(mixture.factors):
        mine = (kind == k) & (peak > at_centre)
        if not bool(mine.any()):
            continue
        inverse = torch.linalg.solve_triangular(
            shape, torch.eye(target.dim, dtype=shape.dtype, device=shape.device), upper=False
        )
        met = torch.zeros_like(mine[mine])
        for part, found in blocks:
            square = torch.cdist(centres[mine] @ inverse.mT, part @ inverse.mT).square()
            hidden = peak[mine, None] - 0.5 * ratio[mine, None].square() * square
            met = met | (hidden > found).any(-1)
        real += int(mine.sum())
        seen += int(met.sum())
    return seen / real if real else 1.0


def look_back(
    target: Target, mixture: Mixture, modes: Modes, looks: Tensor, run: Result
) -> tuple[str, ...]:
    """Say what a run's search found, and what it would hardly have seen.

    Arguments:
        target: The target.
        mixture: What was fitted to the modes found.
        modes: Those.
        looks: Where the density was looked at, ``(N, D)``: starts, for instance.
        run: The run; the particles of importance sampling were looks as well.
    """
    single = len(modes.found) == 1
    if run.path == IMPORTANCE:
        looks = torch.cat([looks, _drawn(run, MOST_DRAWS if single else SUBSAMPLE)])
    generator = torch.Generator(looks.device).manual_seed(0)
    power = chance_of_seeing(
        target, pooled(mixture) if single else mixture, looks, generator=generator
    )
    rare = float(modes.shares(run)[modes.found < modes.few].sum())
    one = run.evidence()
    unsure = rare / max((one.upper - one.lower) / 2, LEAST_ERROR)
    return Verdict(modes.found, power, unsure, modes.few).notes()


def _drawn(run: Result, most: int) -> Tensor:
    """Give draws of importance sampling, some of all and all from the wide start."""
    every = -(-run.log_weights.numel() // most)
    points = [run.particles.flatten(0, 1)[::every]]
    if run.strata is not None and every > 1:
        points.append(run.particles[:, run.strata == run.strata.max()].flatten(0, 1))
    return torch.cat(points)


def pooled(mixture: Mixture) -> Mixture:
    """Give one Gaussian of the mean and covariance of a mixture: the pieces of one mode."""
    mean = mixture.weights @ mixture.means
    apart = mixture.means - mean
    within = mixture.factors @ mixture.factors.mT + apart[:, :, None] * apart[:, None]
    covariance = torch.einsum("k,kde->de", mixture.weights, within)
    scale = covariance.diagonal().sqrt()
    factor = torch.linalg.cholesky(covariance / scale / scale[:, None])
    return Mixture(torch.ones_like(scale[:1]), mean[None], (scale[:, None] * factor)[None])
