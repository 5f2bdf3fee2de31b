r"""What a search for modes would have seen, and how much it may have missed.

Two statements, neither of which needs the target:

- *Basins.* Of :math:`n` starts :math:`f` were alone in their basin. The next start falls into an
  unseen basin with probability about :math:`f/n` (Good-Turing); the bound is Poisson's 95 %
  limit. It speaks of basins as the starts meet them, not of their mass.
- *Power.* Where one mode was found, others are imagined: somewhere under the start, up to five
  times narrower, of any weight. One is *seen* if some start, or some draw of the wide share of
  importance sampling, lies where it would outweigh what was found; one that outweighs it nowhere
  is no mode. The share of imagined modes that are seen is the chance that the search would have
  told. It is small in many dimensions,
  whatever the method: a ball of a fifth of the width is a needle there.

References:
    Good, The population frequencies of species and the estimation of population parameters,
    Biometrika 1953.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.methods.importance import IMPORTANCE
from diffsmc.references.mixture import Mixture, log_joint
from diffsmc.results.result import Result
from diffsmc.targets.target import Target

__all__ = ["Verdict", "chance_of_seeing", "look_back", "unseen_basins"]

LOG_2PI = math.log(2 * math.pi)

NARROWEST = 5.0  # times narrower than what was found
POWERFUL = 0.9
FEW_STARTS = 0.1  # bound on unseen basins that is no bound


class Verdict(NamedTuple):
    """What a search found: numbers of starts by mode, and the chance of having seen another.

    ``power`` is 1 where no second mode can be.
    """

    found: Tensor
    power: float

    def notes(self) -> tuple[str, ...]:
        """Say what was found, the bound on what wasn't, and warn where that is wide."""
        total = float(self.found.sum())
        modes = len(self.found)
        bound = unseen_basins(self.found)
        what = "1 mode" if modes == 1 else f"{modes} modes"
        seen = (
            f"{total:.0f} starts found {what}; unseen basins hold at most {bound:.1%} of the "
            "starts (95 %); the interval is conditional on the modes found"
        )
        rare = int((self.found < 1.5).sum())
        if modes > 1 and rare:
            return (
                seen,
                f"warning: {rare} of {modes} modes were found by one start alone, so others were "
                "likely missed, and mode masses and log Z are unsure: use more starts "
                "(num_chains), a better scale, or starts",
            )
        if modes != 2 and self.power < POWERFUL:
            return (
                seen,
                f"warning: {what} found, but of narrower ones elsewhere under the start "
                f"this search would see {self.power:.0%}: a missed mode would make log Z too low "
                "by its mass; give starts or a scale, or say log_concave=True if no second mode "
                "can be",
            )
        if bound > FEW_STARTS:
            return (
                seen,
                f"warning: {total:.0f} starts say little: another mode may hold a basin of up to "
                f"{bound:.0%} of them; use a larger budget, or more starts",
            )
        return (seen,)


def unseen_basins(found: Tensor) -> float:
    """Give the 95 % bound on the share of starts that unseen basins hold.

    Arguments:
        found: Number of starts that found each mode, ``(K,)``.
    """
    from scipy import stats

    alone = int((found < 1.5).sum())
    total = max(float(found.sum()), 1.0)
    return min(1.0, float(stats.chi2.ppf(0.95, 2 * (alone + 1))) / 2 / total)


def chance_of_seeing(
    target: Target,
    mixture: Mixture,
    points: Tensor,
    *,
    generator: torch.Generator,
    num_imagined: int = 200,
) -> float:
    """Give the share of imagined second modes that some point would have seen.

    Arguments:
        target: The target; its start says where modes may be.
        mixture: What was found.
        points: Where the density was looked at, ``(N, D)``.
        generator: Source of the imagined modes.
        num_imagined: Their number.
    """
    if target.log_concave:
        return 1.0
    mean, factor = target.start_mean, target.start_factor
    size = (num_imagined, target.dim + 3)
    drawn = torch.randn(size, generator=generator, dtype=mean.dtype, device=mean.device)
    noise, uniform = drawn[:, :-3], torch.special.ndtr(drawn[:, -3:])
    centres = mean + noise @ factor.mT
    ratio = 1 + (NARROWEST - 1) * uniform[:, 0]
    weight = 0.01 + 0.98 * uniform[:, 1]
    kind = (uniform[:, 2:] > mixture.weights.cumsum(0)).sum(-1).clamp(max=len(mixture.weights) - 1)
    found = log_joint(mixture, points).logsumexp(-1)
    seen, real = 0, 0
    at_centre = log_joint(mixture, centres).logsumexp(-1)
    for index in range(num_imagined):
        shape = mixture.factors[kind[index]]
        peak = (
            target.dim * ratio[index].log()
            - shape.diagonal().log().sum()
            - 0.5 * target.dim * LOG_2PI
            + weight[index].log()
            - torch.log1p(-weight[index])
        )
        if float(peak) <= float(at_centre[index]):
            continue
        unit = torch.linalg.solve_triangular(shape, (points - centres[index]).mT, upper=False)
        hidden = peak - 0.5 * ratio[index].square() * unit.square().sum(-2)
        real, seen = real + 1, seen + int((hidden > found).any())
    return seen / real if real else 1.0


def look_back(
    target: Target, mixture: Mixture, found: Tensor, starts: Tensor, run: Result
) -> tuple[str, ...]:
    """Say what a run's search found, and what it would hardly have seen.

    Arguments:
        target: The target.
        mixture: What was fitted to the modes found.
        found: Number of starts that found each, ``(K,)``.
        starts: Where the search began, ``(C, D)``.
        run: The run; the particles of importance sampling were looks as well.
    """
    points = [starts]
    if run.strata is not None and run.path == IMPORTANCE:
        wide = run.strata == run.strata.max()
        every = max(1, run.particles[0].shape[0] // 5000)
        points += [run.particles[:, wide].flatten(0, 1), run.particles[0][::every]]
    generator = torch.Generator(starts.device).manual_seed(0)
    power = chance_of_seeing(target, mixture, torch.cat(points), generator=generator)
    return Verdict(found, power).notes()
