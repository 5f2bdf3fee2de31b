"""How a reference mixture is fitted to what a pilot found, and refitted to particles."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.methods.climbing import Hills, scaled_starts
from diffsmc.methods.pilot import Pilot, cluster_factors, search
from diffsmc.methods.seeing import ALONE, Modes
from diffsmc.references.mixture import (
    Mixture,
    adapt_weights,
    expectation_maximization,
    inflate,
    split_components,
)
from diffsmc.results.result import Result
from diffsmc.shell.showing import in_a_line
from diffsmc.targets.target import Target

__all__ = ["FittedMixture", "MixtureFit"]


# Of the mean number of chains a mode: one found by fewer suggests others found by none. With a
# tenth all eight runs of 20 on the eight Student modes with a wrong mass are told (their rarest had
# 0.01 to 0.06 of the mean), and of 15 on forty modes that missed no mass three are accused.
FEW = 0.1


class FittedMixture(NamedTuple):
    """A mixture, what its pilot found, and the evaluations of both."""

    mixture: Mixture
    notes: tuple[str, ...]
    num_evaluations: int


@dataclass(frozen=True)
class MixtureFit:
    """How a reference mixture is found and fitted.

    Arguments:
        num_chains: Chains of the pilot.
        search_moves: HMC moves of each, five leapfrog steps long.
        revisit_chains: Chains spread evenly over what was found.
        revisit_moves: HMC moves of each of those.
        max_components: With more clusters than this a single Gaussian is fitted to all.
        weight_points: Draws of each of three rounds that adapt the weights.
        inflation: Factor on the fitted covariances.
        starts: Starting points of the pilot instead of draws from the wide start.

    References:
        Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM
        algorithm, JRSS B 39.
    """

    num_chains: int = 400
    search_moves: int = 40
    revisit_chains: int = 256
    revisit_moves: int = 20
    max_components: int = 64
    weight_points: int = 2000
    inflation: float = 1.15
    starts: list[list[float]] | None = None

    __repr__ = __str__ = in_a_line

    def __post_init__(self) -> None:
        for name in ("num_chains", "search_moves", "max_components", "weight_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.inflation > 0:
            raise ValueError(f"inflation must be positive, got {self.inflation}")

    def pilot(
        self, target: Target, hills: Hills | None = None, *, generator: torch.Generator
    ) -> Pilot:
        """Look for modes.

        Arguments:
            target: The target.
            hills: Modes found by climbing, at which some chains start.
            generator: Source of all draws.
        """
        if self.starts is not None:
            starts = torch.tensor(self.starts, dtype=torch.float64, device=generator.device)
            if starts.dim() != 2 or starts.shape[1] != target.dim:
                raise ValueError(
                    f"starts must be points of {target.dim} coordinates, got shape "
                    f"{tuple(starts.shape)}"
                )
        else:
            starts = scaled_starts(target, self.num_chains, generator=generator)
            starts = _at_hills(starts, hills, generator=generator)
        pilot = search(
            target,
            generator=generator,
            num_moves=self.search_moves,
            num_revisit_chains=self.revisit_chains,
            num_revisits=self.revisit_moves,
            max_clusters=self.max_components,
            starts=starts,
        )
        if hills is None:
            return pilot
        return pilot._replace(looks=torch.cat([starts, hills.starts, hills.looks]))

    def fit(self, target: Target, pilot: Pilot, *, generator: torch.Generator) -> FittedMixture:
        """Fit a mixture to what a pilot found."""
        states, labels = pilot.states, pilot.labels
        many = int(labels.max()) >= self.max_components
        labels = torch.zeros_like(labels) if many else labels
        points, chains = (
            states.flatten(0, 1),
            torch.arange(states.shape[1], device=states.device).repeat(len(states)),
        )
        sizes = labels.bincount().to(points.dtype)
        mixture = Mixture(sizes / sizes.sum(), *cluster_factors(states, labels))
        # chains that keep to their modes count once each
        mixture = expectation_maximization(mixture, points, groups=chains if many else None)
        if not many:
            mixture = split_components(mixture, points, chains, self.max_components)
        mixture, spent = inflate(mixture, self.inflation), pilot.num_evaluations
        if len(mixture.weights) > 1:
            mixture = adapt_weights(
                target, mixture, generator=generator, num_points=self.weight_points
            )
            spent += 3 * self.weight_points
        return FittedMixture(mixture, self._notes(pilot), spent)

    def _notes(self, pilot: Pilot) -> tuple[str, ...]:
        clusters, modes = int(pilot.labels.max()) + 1, len(pilot.found)
        chains = float(pilot.found.sum())
        if clusters > self.max_components:
            return (f"{clusters} clusters of chains are too many for strata: one Gaussian for all",)
        return (f"the pilot's {chains:.0f} chains found {modes} modes in {clusters} clusters",)

    def modes(self, pilot: Pilot) -> Modes:
        """Give the modes that a pilot found, for a verdict on them."""
        basins = pilot.basins
        found = torch.zeros_like(pilot.found[: int(basins.max()) + 1])
        found = found.index_add(0, basins, pilot.found)
        mean = float(found.sum()) / len(found)
        few = max(FEW * mean, ALONE) if len(found) > 2 else ALONE
        return Modes(*cluster_factors(pilot.states, pilot.labels), basins[pilot.modes], found, few)

    def refit(self, mixture: Mixture, result: Result) -> Mixture:
        """Fit the mixture again, to weighted particles."""
        points = result.particles.flatten(0, 1)
        share = result.log_normalizers.log_softmax(0)[:, None]
        log_weights = (result.log_weights.log_softmax(-1) + share).flatten()
        index = torch.arange(len(result.eves), device=points.device)[:, None]
        families = (result.eves + result.eves.shape[1] * index).flatten()
        seen = log_weights > -torch.inf
        points, log_weights, families = points[seen], log_weights[seen], families[seen]
        mixture = inflate(mixture, 1 / self.inflation)
        # one Gaussian for many modes: particles of one ancestor share a mode, and count once
        groups = families if len(mixture.weights) == 1 else None
        mixture = expectation_maximization(mixture, points, 10, log_weights, groups)
        if len(mixture.weights) > 1:
            mixture = split_components(mixture, points, families, self.max_components, log_weights)
            mixture = expectation_maximization(mixture, points, 5, log_weights)
        return inflate(mixture, self.inflation)


def _at_hills(starts: Tensor, hills: Hills | None, *, generator: torch.Generator) -> Tensor:
    """Let at most a quarter of the chains start at modes that are known."""
    if hills is None or not len(hills.modes):
        return starts
    num = min(len(starts) // 4, 4 * len(hills.modes))
    which = torch.arange(num, device=starts.device) % len(hills.modes)
    shape = starts[:num].shape
    noise = torch.randn(shape, generator=generator, dtype=starts.dtype, device=starts.device)
    near = hills.modes[which] + torch.einsum("cde,ce->cd", hills.factors[which], noise)
    return torch.cat([near, starts[num:]])
