r"""A pilot that looks for modes: many short HMC chains from the wide start.

1. *Search*: each chain adapts its own step size, and settles in some mode.
2. *Leaders*: a chain joins the nearest cluster whose leader is within 1.5 of the larger
   scale and of similar width (ratio below 2.5), narrow chains first; else it leads a new one.
   Clusters that share the one mode there is, and are about as wide, are made one: chains that are
   still apart in many dimensions are no structure.
3. *Revisit*: chains restart, equally many from every cluster, in its coordinates, so that a mode
   that one chain found is known as well as one that a hundred found. They are clustered again.

How many chains *found* each mode is kept: the masses of a pilot mean nothing, but where some mode
was found by few chains, others were likely found by none. What no step can do is see those.

References:
    Good, The population frequencies of species and the estimation of population parameters,
    Biometrika 1953.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from diffsmc.paths.tempered import TemperedPath
from diffsmc.references.gaussian import GaussianReference, Whitened
from diffsmc.references.mixture import shrunk_factor
from diffsmc.smc.adaptation import adapt_step
from diffsmc.smc.density import Cloud, Density, Mass
from diffsmc.smc.moves import HMC
from diffsmc.smc.validity import WANDERING, check_finite, reject_invalid
from diffsmc.targets.target import Target

__all__ = [
    "Pilot",
    "cluster_chains",
    "cluster_factors",
    "join_clusters",
    "label_linked",
    "lowest_between",
    "revisit",
    "run_pilot",
    "search",
    "width_ratio",
]

LEAPFROGS = 5
VALLEY = 1.0  # of the log-density, below the lower of two ends
PASSING = 2  # chains that show that a way is open
VARYING = 5.0  # the width of a mode, from the narrowest cluster to the widest


class Pilot(NamedTuple):
    """States ``(T, C, D)``, the cluster of each chain, ``(C,)``, and who found it.

    ``found`` are the numbers of searching chains that found each mode, clusters that share one
    being pooled; ``starts`` ``(C, D)`` is where they began, and ``width`` the ratio of the widest
    to the narrowest cluster. ``modes`` ``(K,)`` is the mode of each cluster,
    and ``basins`` ``(M,)`` joins the modes between which chains went to and fro.
    ``looks`` ``(N, D)`` are the points, starts among them, at which the density was looked at.
    """

    states: Tensor
    labels: Tensor
    found: Tensor
    starts: Tensor
    width: float
    num_evaluations: int
    modes: Tensor
    basins: Tensor
    looks: Tensor


def run_pilot(
    target: Target,
    *,
    generator: torch.Generator,
    num_chains: int = 256,
    num_moves: int = 60,
    keep: int = 20,
    starts: Tensor | None = None,
) -> Tensor:
    """Run short HMC chains from the wide start, each adapting its own step size.

    Arguments:
        target: The target.
        generator: Source of all draws.
        num_chains: Number of chains.
        num_moves: HMC moves of five leapfrog steps each.
        keep: How many of the last states are kept.
        starts: Starting points, ``(C, D)``, instead of draws from the wide start.

    Returns:
        States, ``(keep, C, D)``.
    """
    path = _path(target)
    cloud = path.start(num_chains, 1, generator=generator)
    if starts is not None:
        cloud = path.evaluate(starts[:, None])
    cloud = path.evaluate(_possible(cloud, generator=generator))
    flat = torch.ones_like(cloud.particles[:, 0])
    mass = Mass(torch.zeros_like(flat), target.start_factor.diagonal().expand_as(flat))
    step = torch.full_like(cloud.base[:, 0], 0.1)
    return _run_chains(path, cloud, mass, step, num_moves, generator=generator)[-keep:]


def _path(target: Target) -> TemperedPath:
    return TemperedPath(target, GaussianReference(target.start_mean, target.start_factor))


def _possible(cloud: Cloud, *, generator: torch.Generator) -> Tensor:
    """Give points in which those of density zero, or NaN, are replaced: there HMC stands still.

    Raises:
        ValueError: All have density zero.
    """
    x, dead = cloud.particles, ~(cloud.base + cloud.tilt > -torch.inf)[:, 0]
    if bool(dead.all()):
        raise ValueError("the target has density zero at all starting points; give starts or scale")
    alive = (~dead).nonzero()[:, 0]
    pick = torch.randint(len(alive), (len(x),), generator=generator, device=x.device)
    return torch.where(dead[:, None, None], x[alive[pick]], x)


def _run_chains(
    path: TemperedPath,
    cloud: Cloud,
    mass: Mass,
    step: Tensor,
    num_moves: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Give all states, ``(num_moves, C, D)``, of chains at the target.

    Raises:
        NonFiniteLogDensityError: A log-density is NaN or ``+inf``; chains count as islands.
    """
    check_finite(cloud, 0)
    density = Density(path.evaluate, 1.0)
    move, states = HMC(LEAPFROGS), []
    for index in range(num_moves):
        cloud, info = move.step(cloud, density, mass, step, generator=generator)
        reject_invalid(info.proposal, index + 1, WANDERING)
        # fast until the last third, which is kept: a chain that stands still finds nothing
        step = adapt_step(step, info.acceptance, move, 1.0 if 3 * index < 2 * num_moves else 0.3)
        states.append(cloud.particles[:, 0])
    return torch.stack(states)


def cluster_chains(states: Tensor) -> Tensor:
    """Give the cluster of each chain, ``(T, C, D)`` to ``(C,)``, by leaders.

    Arguments:
        states: States of the chains.

    References:
        Hartigan (1975), Clustering Algorithms, chapter 3: the leader algorithm.
    """
    means = states.mean(0)
    scales = states.var(0).mean(-1).clamp(min=1e-12).sqrt()
    labels = torch.full_like(scales, -1, dtype=torch.long)
    leaders: list[int] = []
    for chain in scales.argsort().tolist():
        lead = torch.tensor(leaders, dtype=torch.long, device=states.device)
        wide = torch.maximum(scales[lead], scales[chain])
        similar = wide / torch.minimum(scales[lead], scales[chain]) < 2.5
        distance = (means[lead] - means[chain]).square().mean(-1).sqrt() / wide
        distance = torch.where(similar, distance, torch.inf)
        if leaders and float(distance.min()) < 1.5:
            labels[chain] = int(distance.argmin())
        else:
            labels[chain] = len(leaders)
            leaders.append(chain)
    return labels


def cluster_factors(states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Give mean, ``(K, D)``, and shrunk Cholesky factor, ``(K, D, D)``, of each cluster.

    Arguments:
        states: ``(T, C, D)``.
        labels: Cluster of each chain, ``(C,)``.
    """
    points = [states[:, labels == k].flatten(0, 1) for k in range(int(labels.max()) + 1)]
    means = torch.stack([p.mean(0) for p in points])
    factors = [shrunk_factor(p, torch.ones_like(p[:, 0]), p.mean(0)) for p in points]
    return means, torch.stack(factors)


def revisit(
    target: Target,
    states: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    num_chains: int = 256,
    num_moves: int = 20,
) -> Tensor:
    """Run chains from states of every cluster, equally many of each, in its coordinates.

    Arguments:
        target: The target.
        states: States of the search, ``(T, C, D)``.
        labels: Cluster of each of its chains, ``(C,)``.
        generator: Source of all draws.
        num_chains: Number of chains.
        num_moves: HMC moves of five leapfrog steps each.

    Returns:
        States, ``(num_moves, C, D)``; chain ``c`` starts in cluster ``c`` modulo their number.
    """
    num_clusters = int(labels.max()) + 1
    origins = torch.arange(num_chains, device=states.device) % num_clusters
    starts = []
    for cluster in origins.tolist():
        mine = (labels == cluster).nonzero()[:, 0]
        pick = torch.randint(len(mine) * len(states), (), generator=generator, device=states.device)
        starts.append(states[int(pick) // len(mine), mine[int(pick) % len(mine)]])
    path = _path(target)
    cloud = path.evaluate(torch.stack(starts)[:, None])
    means, factors = cluster_factors(states, labels)
    mass = Mass(means[origins], factors[origins])
    step = torch.full_like(cloud.base[:, 0], 0.5 * HMC().initial_step(target.dim))
    return _run_chains(path, cloud, mass, step, num_moves, generator=generator)


def lowest_between(target: Target, means: Tensor) -> tuple[Tensor, Tensor, int]:
    r"""Give the least :math:`\log\gamma` on straight lines between points, ``(K, K)``.

    Lines lead to the four nearest of each; between others it is ``-inf``.

    Arguments:
        target: The target.
        means: The points, ``(K, D)``.

    Returns:
        Those values, the values at the points, ``(K,)``, and the number of evaluations.
    """
    num = len(means)
    if num == 1:
        return torch.zeros_like(means[:, :1]), torch.zeros_like(means[:, 0]), 0
    distance = (means[:, None] - means).norm(dim=-1).fill_diagonal_(torch.inf)
    near = distance.argsort(1)[:, : min(4, num - 1)]
    along = torch.linspace(0, 1, 11, dtype=means.dtype, device=means.device)[:, None]
    way = means[:, None, None] + along * (means[near] - means[:, None])[:, :, None]
    values = target.log_prob(way).nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    lowest = torch.full_like(distance, -torch.inf)
    lowest.scatter_(1, near, values.min(-1).values)
    return torch.maximum(lowest, lowest.T), values[:, 0, 0], values.numel()


def join_clusters(target: Target, means: Tensor) -> tuple[Tensor, int]:
    r"""Tell which clusters share a mode: no valley lies between their means.

    Each is joined to those of its four nearest neighbours towards which :math:`\log\gamma` falls
    by less than 1 below the lower of both ends.

    Arguments:
        target: The target.
        means: Means of the clusters, ``(K, D)``.

    Returns:
        The mode of each cluster, ``(K,)``, and the number of evaluations.
    """
    lowest, height, spent = lowest_between(target, means)
    linked = lowest >= torch.minimum(height[:, None], height) - VALLEY
    return label_linked(linked), spent


def label_linked(linked: Tensor) -> Tensor:
    """Number groups of what is linked, directly or through others, ``(K, K)`` to ``(K,)``."""
    num = len(linked)
    linked = linked | linked.T | torch.eye(num, dtype=torch.bool, device=linked.device)
    label = torch.arange(num, device=linked.device)
    for _ in range(num):
        label = torch.where(linked, label, num).min(1).values
    numbered: Tensor = torch.unique(label, return_inverse=True)[1]
    return numbered


def width_ratio(states: Tensor, labels: Tensor) -> float:
    """Give the ratio of the widest to the narrowest cluster; see `cluster_factors`."""
    scales = cluster_factors(states, labels)[1].square().sum((-1, -2)).sqrt()
    return float(scales.max() / scales.min())


def _cluster(target: Target, states: Tensor, max_clusters: int) -> tuple[Tensor, Tensor, int]:
    """Give clusters of chains, the mode of each cluster, and the evaluations.

    Clusters that share a mode are made one where they are too many, or the only mode is about
    as wide everywhere.
    """
    labels = cluster_chains(states)
    mode, spent = join_clusters(target, cluster_factors(states, labels)[0])
    num_modes = int(mode.max()) + 1
    alike = num_modes == 1 and width_ratio(states, labels) < VARYING
    if int(labels.max()) < max_clusters and not alike:
        return labels, mode, spent
    return mode[labels], torch.arange(num_modes, device=mode.device), spent


def search(
    target: Target,
    *,
    generator: torch.Generator,
    num_chains: int = 256,
    num_moves: int = 40,
    num_revisit_chains: int = 256,
    num_revisits: int = 20,
    max_clusters: int = 64,
    starts: Tensor | None = None,
) -> Pilot:
    """Search for modes and revisit what was found.

    Arguments:
        target: The target.
        generator: Source of all draws.
        num_chains: Number of searching chains.
        num_moves: Moves of the search, whose last third is kept.
        num_revisit_chains: Number of revisiting chains.
        num_revisits: Moves of the revisit, whose last two thirds are kept.
        max_clusters: With more clusters nothing is revisited.
        starts: Starting points, ``(C, D)``, instead of draws from the wide start.
    """
    home = GaussianReference(target.start_mean, target.start_factor)
    flat = Whitened(target, home)
    if starts is None:
        starts = _path(target).start(num_chains, 1, generator=generator).particles[:, 0]
    states = run_pilot(
        flat,
        generator=generator,
        num_chains=len(starts),
        num_moves=num_moves,
        keep=-(-num_moves // 3),
        starts=flat.whiten(starts),
    )
    labels, mode, spent = _cluster(flat, states, max_clusters)
    spent += states.shape[1] * (3 + LEAPFROGS * num_moves)
    found = labels.bincount().to(states.dtype)
    if len(found) > min(max_clusters, num_revisit_chains) or num_revisits < 2:
        width = width_ratio(states, labels)
        pooled = _pool(found, mode)
        apart = torch.arange(len(pooled), device=mode.device)
        return Pilot(
            flat.restore(states), labels, pooled, starts, width, spent, mode, apart, starts
        )
    again = revisit(
        flat,
        states,
        labels,
        generator=generator,
        num_chains=num_revisit_chains,
        num_moves=num_revisits,
    )
    again = again[num_revisits // 3 :]
    new, mode, checks = _cluster(flat, again, max_clusters)
    origins = torch.arange(num_revisit_chains, device=states.device) % len(found)
    # a chain of the search counts for the clusters that its own cluster's revisits ended in
    flow = states.new_zeros(len(found), int(new.max()) + 1)
    flow.index_put_((origins, new), flow.new_ones(()), accumulate=True)
    spent += checks + num_revisit_chains * (1 + LEAPFROGS * num_revisits)
    pooled = _pool(found @ (flow / flow.sum(1, keepdim=True)), mode)
    width, basins = width_ratio(again, new), _join_by_flow(flow, mode)
    return Pilot(flat.restore(again), new, pooled, starts, width, spent, mode, basins, starts)


def _join_by_flow(flow: Tensor, mode: Tensor) -> Tensor:
    """Join modes, ``(M,)``, that chains from one cluster of the search ended in.

    A curved ridge has valleys on the straight line between two of its points. That chains pass
    shows that it has none along the ridge.

    Arguments:
        flow: Chains from each cluster of the search to each of the revisit, ``(K', K)``.
        mode: Mode of each of those, ``(K,)``.
    """
    num = int(mode.max()) + 1
    reached = flow.new_zeros(len(flow), num).index_add(1, mode, flow) >= PASSING
    return label_linked((reached.T.to(flow.dtype) @ reached.to(flow.dtype)) > 0)


def _pool(found: Tensor, mode: Tensor) -> Tensor:
    """Add up the counts of clusters that share a mode."""
    return torch.zeros_like(found[: int(mode.max()) + 1]).scatter_add(0, mode, found)
