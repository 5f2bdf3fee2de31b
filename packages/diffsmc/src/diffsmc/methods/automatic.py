"""The path chosen by diagnostics: the cheapest that will do, and the result says which and why."""

import copy
import math
from dataclasses import dataclass, field, replace

import torch
from typing_extensions import override

from diffsmc.methods.climbing import Hills, find_hills, follow_up
from diffsmc.methods.drawing import draw_enough, draw_if_it_will_do
from diffsmc.methods.importance import heaviest
from diffsmc.methods.judgement import (
    FINITE_VARIANCE,
    MOST_COMPONENTS,
    OUTWEIGHS,
    USABLE,
    Fitted,
    Judgement,
    fit_hills,
    improve,
    judge_weights,
)
from diffsmc.methods.looking import look_further
from diffsmc.methods.method import SILENT, Method, Monitor
from diffsmc.methods.pilot import VARYING, Pilot
from diffsmc.methods.reference_mixture import ReferenceMixture
from diffsmc.methods.seeing import Modes, look_back, without_ridges
from diffsmc.methods.tempering import Tempering
from diffsmc.methods.thrift import LEAST_PILOT, PILOT, sample_thriftily
from diffsmc.results.diagnostics import FEW_EFFECTIVE
from diffsmc.results.result import Result
from diffsmc.smc.estimators import effective_sample_size, log_mean_exp
from diffsmc.targets.target import Target

__all__ = ["Automatic"]

LOOKS = 3  # at draws that outweigh the others
CLIMBING = 100_000  # evaluations that climbs and refits are cut to without a budget
SMALL_BUDGET = 5000
FIRST_CLIMBS = 16  # with a small budget
MOST_DIMENSIONS = 200  # in which climbs keep a matrix each


@dataclass(frozen=True, repr=False)
class Automatic(Method):
    """Importance sampling, tempering or the reference mixture, by what the density shows.

    First many points climb from starts at several scales. A mixture of Laplace's Gaussians at the
    modes that they found, refitted to its own weighted draws, is judged by importance
    sampling: if ESS and Pareto's k allow, that is all. Otherwise a pilot of short chains is
    clustered by place and width. One mode (no valley between clusters) about as wide everywhere:
    importance sampling from a Gaussian fitted to it where that will do, or else tempering.
    Several modes, or one whose width varies fivefold as a funnel's does: the reference mixture.

    Arguments:
        tempering: Method for one mode that is far from Gaussian.
        mixture: Method for several; its pilot is the one that decides.
        importance_ess: ESS, relative to the number of draws, from which importance sampling
            replaces all else; 1 never. Draws are as many as make one effective draw a particle.
        importance_shape: And Pareto's k must be below: from 0.5 the variance is infinite.
        budget: Evaluations to get along with; particles, chains and draws are cut to it.
        climb: Whether to climb first.

    References:
        Vehtari et al. (2024), Pareto smoothed importance sampling, JMLR 25, for the shape that
        judges the weights.
    """

    tempering: Tempering = field(default_factory=Tempering)
    mixture: ReferenceMixture = field(default_factory=ReferenceMixture)
    importance_ess: float = 0.05
    importance_shape: float = FINITE_VARIANCE
    budget: int | None = None
    climb: bool = True

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 200:
            raise ValueError(f"budget must be at least 200 evaluations, got {self.budget}")
        if not 0 < self.importance_ess <= 1:
            raise ValueError(f"importance_ess must be in (0, 1], got {self.importance_ess}")

    @override
    def sample(
        self,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor = SILENT,
    ) -> Result:
        hills, fitted, spent = None, None, 0
        if self.climb and target.dim <= MOST_DIMENSIONS:
            hills = self._hills(target, generator=generator)
            fitted = fit_hills(
                target, hills, self.importance_ess, self.importance_shape,
                budget=int(min(CLIMBING, self._left(hills.num_evaluations))), generator=generator,
            )  # fmt: skip
            spent = hills.num_evaluations + (fitted.num_evaluations if fitted else 0)
            if fitted and fitted.hills and self.budget is None:
                fitted, more = self._look(target, fitted.hills, fitted, generator=generator)
                spent += more
        if fitted and fitted.hills:
            hills = fitted.hills
        if hills and fitted and (fitted.suffices or self._left(spent) < LEAST_PILOT):
            run, spent = self._importance(
                target, hills, fitted, num_islands, num_particles, spent,
                generator=generator, monitor=monitor,
            )  # fmt: skip
            if run is not None:
                return run
        if self.budget is None:
            run = self._by_pilot(
                target, hills, num_islands, num_particles, generator=generator, monitor=monitor
            )
        else:
            run = sample_thriftily(
                self.mixture, target, hills, num_islands, num_particles, int(self._left(spent)),
                generator=generator, monitor=monitor,
            )  # fmt: skip
        return run._replace(num_evaluations=run.num_evaluations + spent)

    @property
    @override
    def num_checked(self) -> int:
        return 64 if self.budget is None or self.budget > SMALL_BUDGET else 16

    @override
    def after(self, spent: int) -> "Automatic":
        if self.budget is None:
            return self
        rest = copy.copy(self)
        object.__setattr__(rest, "budget", self.budget - spent - 4 * self.num_checked)
        return rest

    def _left(self, spent: int) -> float:
        return math.inf if self.budget is None else max(0, self.budget - spent)

    def _hills(self, target: Target, *, generator: torch.Generator) -> Hills:
        """Climb, from few starts where the budget is small."""
        budget = self.budget or CLIMBING
        return find_hills(
            target,
            generator=generator,
            # doubled as long as the budget allows: the first ones must arrive somewhere
            num_starts=128 if self.budget is None else _first_climbs(budget),
            most_starts=max(FIRST_CLIMBS, min(1024, budget // 50)),
            most=math.inf if self.budget is None else 0.4 * budget,
        )

    def _look(
        self, target: Target, hills: Hills, fitted: Fitted, *, generator: torch.Generator
    ) -> tuple[Fitted, int]:
        """Look for further modes at many points, and fit again if there are any."""
        seen = look_further(target, hills, fitted, generator=generator)
        more = seen.num_evaluations - hills.num_evaluations
        if len(seen.modes) == len(hills.modes):
            return fitted._replace(hills=seen), more
        again = fit_hills(
            target, seen, self.importance_ess, self.importance_shape, generator=generator
        )
        if again is None:
            return fitted._replace(hills=seen, suffices=False), more
        return again, more + again.num_evaluations

    def _importance(
        self,
        target: Target,
        hills: Hills,
        fitted: Fitted,
        num_islands: int,
        num_particles: int,
        spent: int,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> tuple[Result | None, int]:
        """Sample by importance sampling from what was fitted to the hills.

        The draws themselves are judged again. Where some outweigh the others, which a few thousand
        draws hadn't shown, climbs from those find what was missed, and sampling starts anew;
        where nothing is found and the weights aren't usable there is no result.
        """
        for look in range(LOOKS):
            judged = fitted.judged
            draws = self._draws(judged, num_islands, num_particles, spent)
            run, mixture = draw_enough(
                target, fitted.mixture, num_islands, draws,
                most=0 if self.budget else math.inf, generator=generator,
                monitor=replace(monitor, prefix=f"{monitor.prefix}look {look} " if look else ""),
            )  # fmt: skip
            fitted = fitted._replace(mixture=mixture)
            spent += run.num_evaluations
            last = self._left(spent) < PILOT
            ok = self._usable(run, draws) or last
            if ok and not self._to_follow(target, run, hills):
                return self._explain(run, target, hills, fitted, spent), spent
            before, known = hills.num_evaluations, len(hills.modes)
            hills = follow_up(target, hills, heaviest(run))
            spent += hills.num_evaluations - before
            if ok and len(hills.modes) == known:
                return self._explain(run, target, hills, fitted, spent), spent
            if len(hills.modes) == known or len(hills.modes) > MOST_COMPONENTS:
                break
            new = fit_hills(
                target, hills, self.importance_ess, self.importance_shape,
                budget=int(min(CLIMBING, self._left(spent))), generator=generator,
            )  # fmt: skip
            if new is None:
                break
            spent += new.num_evaluations
            fitted, hills = new, new.hills or hills
            if not fitted.suffices:
                break
        return None, spent

    def _usable(self, run: Result, draws: int) -> bool:
        """Tell whether a run's own weights are good enough, on every island."""
        judged = judge_weights(run.log_weights.flatten())
        # islands of few particles have few effective ones in any case
        least = float(effective_sample_size(run.log_weights).min())
        few = least < min(FEW_EFFECTIVE, 0.2 * draws)
        return judged.suffices(0.5 * self.importance_ess, USABLE) and not few

    def _to_follow(self, target: Target, run: Result, hills: Hills) -> bool:
        """Tell whether draws outweigh the fit where a second mode would be news."""
        if self.budget is not None or len(hills.modes) > 1 or target.log_concave:
            return False
        log_weights = run.log_weights.flatten()
        return bool(log_weights.max() > log_mean_exp(log_weights) + OUTWEIGHS)

    def _draws(self, judged: Judgement, num_islands: int, num_particles: int, spent: int) -> int:
        """Give the draws of an island."""
        each = max(self.mixture.importance_draws, math.ceil(1 / max(judged.ess, 0.02)))
        if self.budget is None:
            return each * num_particles
        return max(2, min(each * num_particles, int(self._left(spent)) // num_islands))

    def _explain(
        self, run: Result, target: Target, hills: Hills, fitted: Fitted, spent: int
    ) -> Result:
        """Say why importance sampling ran, and what it may have missed."""
        labels = torch.arange(len(hills.found), device=hills.found.device)
        modes = Modes(hills.modes, hills.factors, labels, hills.found)
        if self.budget is None:
            modes, more = without_ridges(target, fitted.mixture, modes)
            spent += more
        looks = torch.cat([hills.starts, hills.looks])
        seen = look_back(target, fitted.mixture, modes, looks, run)
        so = "that suffices" if fitted.suffices else "the budget allows no more"
        what = "one mode" if len(modes.found) == 1 else f"{len(modes.found)} modes"
        return run._replace(
            reason=f"{len(hills.starts)} climbs found {what}; {fitted.judged}: {so}",
            notes=(*run.notes, *seen),
            num_evaluations=spent,
        )

    def _by_pilot(
        self,
        target: Target,
        hills: Hills | None,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> Result:
        """Let a pilot of short chains decide."""
        pilot = self.mixture.reference.pilot(target, hills, generator=generator)
        modes, width = len(pilot.found), pilot.width
        seen = f"{self.mixture.reference.num_chains} pilot chains found"
        if modes == 1 and width < VARYING:
            run = self._one_mode(
                pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            return run._replace(reason=f"{seen} one mode of one width; {run.reason}")
        bound = max(self.importance_ess, self.mixture.importance_ess)
        run = replace(self.mixture, importance_ess=bound).run_from(
            pilot, target, num_islands, num_particles, generator=generator, monitor=monitor
        )
        found = f"{modes} modes" if modes > 1 else f"one mode whose width varies {width:.0f}-fold"
        return run._replace(reason=f"{seen} {found}; {run.reason}")

    def _one_mode(
        self,
        pilot: Pilot,
        target: Target,
        num_islands: int,
        num_particles: int,
        *,
        generator: torch.Generator,
        monitor: Monitor,
    ) -> Result:
        """Sample from the fitted Gaussian if that will do, by tempering otherwise."""
        fit = self.mixture.reference
        fitted = fit.fit(target, pilot, generator=generator)
        better = improve(
            target, fitted.mixture, fit.weight_points, self.importance_ess, self.importance_shape,
            generator=generator,
        )  # fmt: skip
        judged, spent = better.judged, fitted.num_evaluations + better.num_evaluations
        draws = max(self.mixture.importance_draws, math.ceil(1 / max(judged.ess, 0.02)))
        drawn, reason, more = draw_if_it_will_do(
            target, better, num_islands, draws * num_particles, self.importance_ess,
            generator=generator, monitor=monitor,
        )  # fmt: skip
        spent += more
        if drawn is not None:
            run = drawn
        else:
            run = self.tempering.sample(
                target, num_islands, num_particles, generator=generator, monitor=monitor
            )
            reason = f"{reason}: tempering is needed"
            spent += run.num_evaluations
        return run._replace(
            reason=reason,
            notes=(
                *run.notes,
                *fitted.notes,
                *look_back(target, better.mixture, fit.modes(pilot), pilot.looks, run),
            ),
            num_evaluations=spent,
        )


def _first_climbs(budget: int) -> int:
    """Give the number of climbs to begin with: of sixteen one arrives, at 60 evaluations each."""
    return min(128, max(4, min(FIRST_CLIMBS, budget // 60), budget // 1000))
