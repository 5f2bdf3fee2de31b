"""Which curves are silently wrong: called converged, and further off than their estimate."""

from typing import NamedTuple

import numpy as np
import torch
from families import Problem, conjugate, helix, oddity, radial_cost, ridge, sine

from latentgeom import geodesics, georce
from latentgeom.relaxation.elements import chords, resampled

FLOOR = 1e-9  # what the exact values themselves are known to, relative


def solved(problem: Problem, num_segments=32, dtype=torch.float64):
    a, b = problem.a.to(dtype), problem.b.to(dtype)
    if problem.immersion is None:
        return georce(problem.field, a, b, num_segments=num_segments)
    options = {"tolerance": 1e-10 if dtype == torch.float64 else 1e-6}
    return geodesics(problem.immersion, a, b, num_segments=num_segments, **options)


def true_length(problem, points, factor=64):
    """Length of the curves that were returned, read between their nodes."""
    count = points.shape[1] - 1
    times = torch.linspace(0, 1, count * factor + 1)
    lengths = []
    for curve in points.double().split(1):
        fine = resampled(chords(count, 1), curve, times)
        if problem.immersion is None:
            middle, step = (fine[:, 1:] + fine[:, :-1]) / 2, fine.diff(dim=1)
            square = torch.einsum("bti,btij,btj->bt", step, problem.field(middle), step)
            lengths.append(square.sqrt().sum(1))
        else:
            lengths.append(problem.immersion.embed(fine).diff(dim=1).norm(dim=-1).sum(1))
    return torch.cat(lengths)


def silent(problem, batch, floor=FLOOR):
    """Curves called converged whose length is further off than the estimate."""
    error = (batch.length.double() - problem.exact).abs()
    return batch.converged & (error > batch.error_estimate.double() + floor * problem.exact)


def resolvable(problem, segments=256, fine=256, excess=0.01):
    """Pairs that ``segments`` can resolve, told without solving anything.

    On the straight line between the ends, chords over equal steps of the image's length have to
    give that length to ``excess``, and no finer step may jump over a whole one of them.
    """
    t = torch.linspace(0, 1, segments * fine + 1)[:, None]
    answer = []
    for a, b in zip(problem.a, problem.b, strict=True):
        image = problem.immersion.embed(torch.lerp(a, b, t))
        steps = image.diff(dim=0).norm(dim=-1)
        arc = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        wanted = torch.linspace(0, 1, segments + 1) * arc[-1]
        chosen = image[torch.searchsorted(arc, wanted).clamp(max=len(arc) - 1)]
        chords = chosen.diff(dim=0).norm(dim=-1).sum()
        sound = (chords >= (1 - excess) * arc[-1]) & (steps.max() <= arc[-1] / segments)
        answer.append(bool(sound))
    return torch.tensor(answer)


class Verdict(NamedTuple):
    """Of a family of pairs; ``resolved`` and ``within`` count those that 256 segments resolve."""

    family: str
    pairs: int
    silent: int
    converged: int
    resolved: int = 0
    within: int = 0


def judged(family: str, problem: Problem, num_segments=32, dtype=torch.float64) -> Verdict:
    """Solve a problem, and count what is silent and what converged."""
    batch = solved(problem, num_segments, dtype)
    if problem.exact is not None:
        wrong = silent(problem, batch, FLOOR if dtype == torch.float64 else 1e-6)
    else:
        long = true_length(problem, batch.points)
        # The nodes alone give the curve between them to a few per mille where it is a string.
        slack = 5e-3 if problem.immersion is not None else 1e-5
        off = (batch.length - long).abs() - batch.error_estimate
        wrong = batch.converged & (off > slack * long)
    verdict = Verdict(family, len(problem.a), int(wrong.sum()), int(batch.converged.sum()))
    if not family.startswith("oddity"):
        return verdict
    easy = resolvable(problem)
    return verdict._replace(resolved=int(easy.sum()), within=int((easy & batch.converged).sum()))


def _study():
    """Families of the study: 2000 pairs with seeds that no other test has."""
    for width in (0.3, 0.1, 0.03, 0.01, 0.003):
        yield "ridges", lambda rng, w=width: ridge(w, rng, 100), 32, torch.float64
    for wave in (10.0, 40.0, 150.0):
        yield "sines", lambda rng, w=wave: sine(w, rng, 80), 32, torch.float64
    for radius, turns in ((0.05, 20), (0.02, 50)):
        yield "helices", lambda rng, r=radius, t=turns: helix(r, t, rng, 80), 16, torch.float64
    for centres in (16, 32, 64, 128):
        yield f"oddity {centres}", lambda rng, c=centres: oddity(c, rng, 50), 32, torch.float64
    for weight in (1e2, 1e4, 1e6):
        yield "costs", lambda rng, w=weight: radial_cost(w, 0.3, rng, 60), 32, torch.float64
    for gap in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        for chart in ("polar", "surface", "tangent"):
            make = lambda rng, g=gap, c=chart: conjugate(c, g, rng, 25)  # noqa: E731
            yield ("conjugate 0.1" if gap == 0.1 else "conjugate"), make, 32, torch.float64
    for make in (
        lambda rng: ridge(0.1, rng, 30), lambda rng: ridge(0.01, rng, 30),
        lambda rng: sine(40.0, rng, 20), lambda rng: helix(0.05, 20, rng, 20),
        lambda rng: conjugate("polar", 1e-2, rng, 20),
    ):  # fmt: skip
        yield "float32", make, 32, torch.float32


def study(families=None, seed=1000):
    """Verdicts of the study, one a family, added up."""
    total: dict[str, Verdict] = {}
    for number, (family, make, segments, dtype) in enumerate(_study()):
        if families and family not in families:
            continue
        found = judged(family, make(np.random.default_rng(seed + number)), segments, dtype)
        old = total.get(family, Verdict(family, 0, 0, 0))
        counts = (x + y for x, y in zip(old[1:], found[1:], strict=True))
        total[family] = Verdict(family, *counts)
    return list(total.values())


FAMILIES = list(dict.fromkeys(entry[0] for entry in _study()))
