"""Six decoders: ours against stochman, scipy and GEORCE, at matched error, interleaved.

Our setting for a peer is the cheapest one whose median error isn't above the peer's; errors are
those of lengths on pairs that both answered, against 64 segments. GEORCE is this package's own
(torch, not compiled), which sees the metric tensor alone, and one compiled by JAX
(``compiled_georce.py``), at its cheapest setting with a digit in the median. scipy's L-BFGS-B moves
the nodes of 16 chords, a pair at a time, by torch's gradient. A peer gets as many pairs as it
can do in eight seconds, and its time is scaled to all of them.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from problems import Problem, network
from scipy.optimize import minimize
from torch import Tensor, nn

from latentgeom import Chart, Pullback, geodesics, georce

__all__ = ["Compared", "compare", "decoders"]

# Segments, tolerance, and whether the curve is polished.
SETTINGS = [(8, 1e-2, False), *((n, t, True) for n in (8, 16, 32) for t in (1e-4, 1e-9))]
SECONDS = 8.0  # CPU time of a peer, a call


class Compared(NamedTuple):
    """CPU seconds for all pairs, and median relative errors."""

    ours: float
    theirs: float
    our_error: float
    their_error: float
    setting: str


def _smooth(widths: list[int], activation: nn.Module, seed: int) -> nn.Sequential:
    """The network of the other problems with another activation."""
    plain = network(widths, seed)
    return nn.Sequential(*(activation if isinstance(x, nn.Tanh) else x for x in plain))


class _Convolutions(nn.Module):
    """Two coordinates to images of 28 x 28 by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.layers = nn.Sequential(
            nn.Linear(2, 16 * 7 * 7), nn.Tanh(), nn.Unflatten(-1, (16, 7, 7)),
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.Tanh(), nn.ConvTranspose2d(8, 1, 4, 2, 1),
        )  # fmt: skip
        for weight in self.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 4
            draw = torch.randn(weight.shape, generator=generator)
            weight.data = 1.5 * draw.double() / math.sqrt(fan)
        self.requires_grad_(False)

    def forward(self, z: Tensor) -> Tensor:
        """``(..., 2)`` to ``(..., 784)``."""
        image: Tensor = self.layers(z.reshape(-1, 2))
        return image.reshape(*z.shape[:-1], 784)


def decoders(count: int = 50, first: int = 6) -> list[Problem]:
    """The first problems, with lengths on 64 segments."""
    made = {
        "2-64-64-50 tanh": (network([2, 64, 64, 50]), 2),
        "2-128-128-784 softplus": (_smooth([2, 128, 128, 784], nn.Softplus(), 1), 2),
        "2-128-128-784 SiLU": (_smooth([2, 128, 128, 784], nn.SiLU(), 2), 2),
        "2-conv-conv-784 tanh": (_Convolutions(), 2),
        "5-128-128-200 tanh": (network([5, 128, 128, 200], 4), 5),
        "10-64-64-100 tanh": (network([10, 64, 64, 100], 5), 10),
    }
    problems = []
    for name, (decoder, dim) in list(made.items())[:first]:
        a, b = np.random.default_rng(1).uniform(-1.5, 1.5, (2, count, dim)) * math.sqrt(2 / dim)
        ends = torch.tensor(a), torch.tensor(b)
        best = geodesics(Chart(decoder, dim), *ends, num_segments=64, tolerance=1e-12)
        exact = torch.where(best.converged, best.length, torch.nan)
        problems.append(Problem(name, decoder, *ends, exact))
    return problems


def by_tensor(problem: Problem) -> Tensor:
    """GEORCE on 32 segments to a moderate tolerance."""
    metric = Pullback(problem.decoder, problem.a.shape[1])
    batch = georce(metric.metric_tensor, problem.a, problem.b, num_segments=16, tolerance=1e-6)
    return torch.where(batch.converged, batch.length, torch.nan)


def by_scipy(problem: Problem) -> Tensor:
    """L-BFGS-B on the energy of 16 chords, with scipy's own tolerances."""
    lengths = []
    count, dim = 16, problem.a.shape[1]
    t = torch.linspace(0, 1, count + 1, dtype=torch.float64)[1:-1, None]
    for a, b in zip(problem.a, problem.b, strict=True):

        def energy(flat: np.ndarray, a: Tensor = a, b: Tensor = b) -> tuple[float, np.ndarray]:
            inner = torch.tensor(flat.reshape(-1, dim), requires_grad=True)
            image = problem.decoder(torch.cat([a[None], inner, b[None]]))
            value = image.diff(dim=0).square().sum() * count / 2
            value.backward()
            return float(value.detach()), inner.grad.numpy().ravel()

        start = torch.lerp(a, b, t).numpy().ravel()
        found = minimize(energy, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
        lengths.append(math.sqrt(2 * found.fun))
    return torch.tensor(lengths, dtype=torch.float64)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _error(problem: Problem, length: Tensor) -> float:
    error = ((length - problem.exact) / problem.exact).abs()
    known = error[torch.isfinite(error)]
    return float(known.median()) if known.numel() else math.inf


def _first(problem: Problem, pairs: int) -> Problem:
    return problem._replace(**{k: getattr(problem, k)[:pairs] for k in ("a", "b", "exact")})


def _affordable(problem: Problem, solve: Callable[[Problem], Tensor], seconds: float) -> int:
    """Pairs that a peer can do in the time, by what two of them take."""
    two = _first(problem, 2)
    solve(two)  # what is compiled or remembered is so now
    return min(len(problem.a), max(2, int(2 * seconds / _seconds(lambda: solve(two)))))


def compare(
    problem: Problem,
    solve: Callable[[Problem], Tensor],
    turns: int = 3,
    seconds: float = SECONDS,
) -> Compared | None:
    """One peer on the first pairs, its time scaled to all; ours on all."""
    pairs = _affordable(problem, solve, seconds)
    part = _first(problem, pairs)
    bound = _error(part, solve(part))  # the first call of this shape, which may compile
    theirs = [_seconds(lambda: solve(part))]
    chart = Chart(problem.decoder, problem.a.shape[1])
    found = []
    for num_segments, tolerance, polish in SETTINGS:

        def ours(n: int = num_segments, t: float = tolerance, p: bool = polish) -> Tensor:
            batch = geodesics(
                chart, problem.a, problem.b, num_segments=n, tolerance=t, polish=p
            )  # fmt: skip
            return batch.length

        error = _error(problem, ours())
        if error <= bound:
            cost = min(_seconds(ours) for _ in range(2))
            found.append((cost, error, (num_segments, tolerance, polish), ours))
    if not found:
        return None
    _, error, setting, work = min(found, key=lambda entry: entry[0])
    mine = []
    for turn in range(turns):
        mine.append(_seconds(work))
        theirs += [_seconds(lambda: solve(part))] if turn else []
    scale = len(problem.a) / pairs
    note = (
        f"{problem.name}; segments {setting[0]}, tolerance {setting[1]:g}"
        f"{'' if setting[2] else ', not polished'}; {len(problem.a)} pairs,"
        f" peer on {pairs}; median relative error {error:.1e}, peer {bound:.1e}; {turns} turns,"
        f" medians {statistics.median(mine):.3g} and {scale * statistics.median(theirs):.3g}"
    )
    return Compared(min(mine), scale * min(theirs), error, bound, note)
