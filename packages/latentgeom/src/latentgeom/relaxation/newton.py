r"""Curves relaxed to the minimum of their energy: batched, damped, with an active set.

All inner nodes move together.  With the stiffness :math:`K` of the elements
(:mod:`latentgeom.relaxation.elements`)

.. math::

    E = \tfrac12 \sum_{ij} K_{ij} \langle f(z_i), f(z_j) \rangle, \qquad
    \nabla_i E = J_i^\top s_i, \quad s_i = \sum_j K_{ij} f(z_j), \qquad
    H_{ij} = K_{ij} J_i^\top J_j + \delta_{ij}\, \partial^2 \langle s_i, f \rangle .

The Hessian is block tridiagonal, a block an element.  Where it is not positive definite its
second term is left out (Gauss-Newton), and a damping grows until the energy falls.  The second
term costs more than everything else and changes slowly: it is renewed every few steps only.
Curves that have converged leave the batch.  In many dimensions the blocks are never formed
(:mod:`latentgeom.relaxation.matrix_free`).

References:
    Nocedal & Wright (2006), Numerical Optimization, chapters 7 and 10.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from latentgeom.immersions.immersion import Immersion, hessian, jacobian
from latentgeom.relaxation import matrix_free
from latentgeom.relaxation.block_tridiagonal import Factorization, factorize, substitute
from latentgeom.relaxation.elements import Grid

__all__ = [
    "MAX_FORMED",
    "Outcome",
    "assemble",
    "by_element",
    "diagonal_mass",
    "relax",
    "verified",
]

_SHRINK, _GROW, _FIRST = 0.1, 10.0, 1e-3  # damping after success, failure, first failure
_LARGEST = 1.0  # damping above which a small step says nothing about convergence
_RENEW = 4  # steps between two evaluations of the second derivatives
_SUSPECT = 0.3  # last pivot below which the last step is judged anew
_UNDAMPED = 1e-6  # damping that changes neither pivots nor decrements
_LAST = (0, 0, 0, 0, 0, 1)  # padding that adds the last node
MAX_FORMED = 50  # coordinates up to which blocks are formed and factored


class Outcome(NamedTuple):
    """Curves as relaxation leaves them.

    Arguments:
        inner: Inner nodes, ``(B, N - 1, n)``.
        image: Images of all nodes, ``(B, N + 1, D)``.
        energy: Energies, ``(B,)``.
        decrement: Relative decrease that the last step was to bring, ``(B,)``.
        pivot: How far the Hessian is from singular, below zero where indefinite, ``(B,)``.
        damping: Damping of the last step, ``(B,)``; it flatters decrement and pivot.
        iterations: Steps, ``(B,)``.
    """

    inner: Tensor
    image: Tensor
    energy: Tensor
    decrement: Tensor
    pivot: Tensor
    damping: Tensor
    iterations: Tensor

    def take(self, chosen: Tensor) -> "Outcome":
        """The same for some of the curves."""
        return Outcome(*(x[chosen] for x in self))


class _Active(NamedTuple):
    """Curves that still move; ``rows`` says which they are."""

    rows: Tensor
    inner: Tensor
    image: Tensor
    columns: Tensor
    bend: Tensor
    energy: Tensor
    damping: Tensor

    def take(self, chosen: Tensor) -> "_Active":
        return _Active(*(x[chosen] for x in self))


class _System(NamedTuple):
    gradient: Tensor
    mass: Tensor
    diagonal: Tensor
    upper: Tensor


def by_element(grid: Grid, blocks: Tensor) -> Tensor:
    """Blocks of the nodes 1 to N, ``(B, N, d, d)``, on the diagonal of their elements'."""
    batch, count, d, _ = blocks.shape
    p = grid.degree
    apart = blocks.reshape(batch, -1, p, d, 1, d)
    eye = torch.eye(p, dtype=blocks.dtype, device=blocks.device)
    return (apart * eye[:, None, :, None]).reshape(batch, count // p, p * d, p * d)


def assemble(grid: Grid, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Newton Hessian at the nodes 1 to N, a block an element.

    Arguments:
        grid: Elements of the curves.
        columns: Jacobians at these nodes, ``(B, N, D, d)``.

    Returns:
        Diagonal blocks ``(B, E, p d, p d)`` and blocks above them ``(B, E - 1, p d, p d)``.
    """
    batch, _, _, d = columns.shape
    shared = columns[:, :, : grid.free]
    slopes = shared.reshape(batch, -1, grid.degree, shared.shape[2], d).transpose(2, 3).flatten(3)
    weight = grid.stiffness.repeat_interleave(d, 0).repeat_interleave(d, 1)
    gram = slopes.mT @ slopes
    diagonal = gram * weight[d:, d:]
    diagonal[:, :-1, -d:, -d:] += weight[0, 0] * gram[:, :-1, -d:, -d:]
    upper = torch.zeros_like(diagonal[:, :-1])
    upper[:, :, -d:] = weight[:d, d:] * (slopes[:, :-1, :, -d:].mT @ slopes[:, 1:])
    return diagonal, upper


def _system(grid: Grid, part: _Active) -> _System:
    """Gauss-Newton system; the last node is fixed and gets an identity."""
    batch, d = len(part.columns), part.columns.shape[-1]
    padded = nn.functional.pad(part.columns, _LAST)
    diagonal, upper = assemble(grid, padded)
    if grid.free is not None:
        attached = part.columns[:, :, grid.free :]
        diagonal += by_element(grid, nn.functional.pad(grid.spring * attached.mT @ attached, _LAST))
    diagonal[:, -1].diagonal(dim1=-2, dim2=-1)[:, -d:] = 1.0
    pull = (part.columns.mT @ grid.force(part.image).unsqueeze(-1)).squeeze(-1)
    gradient = nn.functional.pad(pull, (0, 0, 0, 1)).reshape(batch, -1, grid.degree * d)
    return _System(gradient, diagonal_mass(grid, diagonal, d), diagonal, upper)


def diagonal_mass(grid: Grid, diagonal: Tensor, d: int) -> Tensor:
    """What single nodes contribute to the blocks, in whose measure curves are damped."""
    eye = torch.eye(grid.degree, dtype=diagonal.dtype, device=diagonal.device)
    return diagonal * eye.repeat_interleave(d, 0).repeat_interleave(d, 1)


def _direct_step(grid: Grid, part: _Active) -> matrix_free.Step:
    """Damped Newton; Gauss-Newton for the curves where the Hessian is indefinite."""
    system = _system(grid, part)
    damped = system.diagonal + part.damping[:, None, None, None] * system.mass
    bend, d = by_element(grid, nn.functional.pad(part.bend, _LAST)), part.bend.shape[-1]
    factors = factorize(damped + bend, system.upper)
    pivot = torch.where(factors.positive, _last_pivot(factors, system.mass, d), -1.0)
    if not bool(factors.positive.all()):
        bend = torch.where(factors.positive[:, None, None, None], bend, 0.0)
        factors = factorize(damped + bend, system.upper)
    step = -substitute(factors, system.gradient)
    gain = -(step * system.gradient).sum((-1, -2)) / part.energy
    delta = step.reshape(len(step), -1, d)[:, :-1]
    return matrix_free.Step(delta, torch.where(factors.positive, gain, torch.inf), pivot)


def _last_pivot(factors: Factorization, mass: Tensor, d: int) -> Tensor:
    r"""Pivot of the last inner node, relative to its mass.

    With nodes :math:`h` apart it is :math:`\sin L / 2 \sin (L - h)` on a unit sphere: it
    vanishes with the Jacobi field, and is about one half in flat space.
    """
    blocks = [factor.diagonal(dim1=-2, dim2=-1) for factor in factors.cholesky[-2:]]
    own = _last_block(mass, d)
    factor, info = torch.linalg.cholesky_ex(own)
    # Pivots against pivots: against the diagonal, stretched coordinates would look conjugate.
    ratio = (torch.cat(blocks, -1)[:, -2 * d : -d] / factor.diagonal(dim1=-2, dim2=-1)).square()
    return torch.where(info == 0, ratio.amin(-1), -1.0)


def _last_block(mass: Tensor, d: int) -> Tensor:
    """Mass of the last inner node, ``(B, d, d)``; the node after it is fixed."""
    if mass.shape[-1] > d:
        return mass[:, -1, -2 * d : -d, -2 * d : -d]
    return mass[:, -2]


def _step(immersion: Immersion, grid: Grid, part: _Active) -> matrix_free.Step:
    if immersion.dim <= MAX_FORMED:
        return _direct_step(grid, part)
    return matrix_free.step(immersion, grid, part.inner, part.image, part.damping)


def _unit(part: _Active) -> Tensor:
    """What the images' rounding makes of a length."""
    size: Tensor = torch.linalg.vector_norm(part.image, dim=-1).amax(-1)
    return 4 * torch.finfo(size.dtype).eps * part.image.shape[1] * size


def _slack(part: _Active) -> Tensor:
    """Growth of the energy that may be rounding."""
    return _unit(part) * (2 * part.energy).sqrt() + torch.finfo(part.energy.dtype).eps * part.energy


def _rounded(step: matrix_free.Step, part: _Active) -> matrix_free.Step:
    """No decrement where it is below rounding."""
    lost = step.decrement * part.energy <= _unit(part).square()
    return step._replace(decrement=torch.where(lost, 0.0, step.decrement))


def _evaluated(immersion: Immersion, inner: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Images of all nodes, those of the ends being known, and Jacobians at the inner ones."""
    if immersion.dim <= MAX_FORMED:
        image, columns = jacobian(immersion, inner)
    else:
        image, columns = immersion.embed(inner), inner[..., :0, None]
    return _between(ends, image), columns


def _between(ends: Tensor, image: Tensor) -> Tensor:
    return torch.cat([ends[:, :1], image, ends[:, -1:]], 1)


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition.reshape(-1, *[1] * (x.ndim - 1)), x, y)


def _advance(immersion: Immersion, grid: Grid, part: _Active, step: matrix_free.Step) -> _Active:
    """Take the step where the energy falls, and damp more where it doesn't."""
    inner = immersion.retract(part.inner, step.delta)
    image, columns = _evaluated(immersion, inner, part.image)
    energy = grid.energy(image)
    accepted = torch.isfinite(step.decrement) & (energy <= part.energy + _slack(part))
    damping = part.damping * _SHRINK
    taken = _Active(part.rows, inner, image, columns, part.bend, energy, damping)
    if bool(accepted.all()):
        return taken
    refused = part._replace(damping=(part.damping * _GROW).clamp(min=_FIRST))
    return _Active(*(_where(accepted, x, y) for x, y in zip(taken, refused, strict=True)))


def _last_step(
    immersion: Immersion, grid: Grid, part: _Active, step: matrix_free.Step, count: int
) -> Outcome:
    """The step after which no other is needed: no Jacobian is asked for any more."""
    inner = immersion.retract(part.inner, step.delta)
    image = _between(part.image, immersion.embed(inner))
    energy = grid.energy(image)
    better = energy <= part.energy + _slack(part)
    return Outcome(
        _where(better, inner, part.inner),
        _where(better, image, part.image),
        torch.where(better, energy, part.energy),
        step.decrement,
        step.pivot,
        part.damping,
        torch.full_like(part.rows, count),
    )


def _stored(outcome: Outcome, index: Tensor, part: Outcome) -> Outcome:
    return Outcome(*(x.index_copy(0, index, y) for x, y in zip(outcome, part, strict=True)))


def _beginning(immersion: Immersion, grid: Grid, nodes: Tensor) -> tuple[Outcome, _Active]:
    inner = nodes[:, 1:-1]
    image, columns = _evaluated(immersion, inner, immersion.embed(nodes[:, [0, -1]]))
    energy = grid.energy(image)
    unknown = torch.full_like(energy, torch.inf)
    count = torch.zeros_like(energy, dtype=torch.long)
    outcome = Outcome(inner, image, energy, unknown, unknown, torch.zeros_like(energy), count)
    index = ((energy > 0) & torch.isfinite(energy)).nonzero().squeeze(-1)
    bend = columns.new_zeros(*inner.shape[:2], *2 * [columns.shape[-1]])
    state = (inner, image, columns, bend, energy, torch.zeros_like(energy))
    return outcome, _Active(index, *(x[index] for x in state))


def relax(
    immersion: Immersion,
    grid: Grid,
    nodes: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    newton: bool = True,
) -> Outcome:
    """Move the inner nodes of all curves to the minimum of the energy.

    Arguments:
        immersion: Map into Euclidean space.
        grid: Elements of the curves.
        nodes: Curves to start from, ``(B, N + 1, n)``; their ends stay.
        tolerance: Largest relative decrease of the energy still to be expected.
        max_iterations: Steps.
        newton: Whether to use second derivatives.

    References:
        Marquardt (1963), An Algorithm for Least-Squares Estimation of Nonlinear Parameters, for
        the damping.
    """
    outcome, part = _beginning(immersion, grid, nodes)
    for count in range(1, max_iterations + 1):
        if part.rows.numel() == 0:
            break
        if newton and count % _RENEW == 1 and immersion.dim <= MAX_FORMED:
            part = part._replace(bend=hessian(immersion, part.inner, grid.force(part.image)))
        step = _rounded(_step(immersion, grid, part), part)
        done = (step.decrement <= tolerance) & (part.damping <= _LARGEST)
        ended = done.nonzero().squeeze(-1)
        if ended.numel():
            finished = part.take(ended)
            last = _last_step(immersion, grid, finished, step.take(ended), count)
            outcome = _stored(outcome, finished.rows, last)
            if ended.numel() == done.numel():
                return outcome
            going = (~done).nonzero().squeeze(-1)
            part, step = part.take(going), step.take(going)
        if part.rows.numel():
            part = _advance(immersion, grid, part, step)
    if part.rows.numel():
        unknown = torch.full_like(part.energy, torch.inf)
        count_ = torch.full_like(part.rows, max_iterations)
        rest = Outcome(part.inner, part.image, part.energy, unknown, unknown, part.damping, count_)
        outcome = _stored(outcome, part.rows, rest)
    return outcome


def verified(immersion: Immersion, grid: Grid, outcome: Outcome) -> Outcome:
    """Outcomes with the pivots and decrements of Newton's exact, undamped step.

    What relaxation saw is kept where it used neither damping nor old second derivatives
    near singularity; elsewhere both are computed anew, since a damped step is small for its
    damping and an indefinite Hessian's step isn't Newton's.
    """
    pivot = outcome.pivot
    if immersion.dim > MAX_FORMED:
        pivot = matrix_free.smallest_ritz_value(immersion, grid, outcome.inner, outcome.image)
        suspect = outcome.damping > _UNDAMPED
    else:
        suspect = (pivot < _SUSPECT) | (outcome.damping > _UNDAMPED)
    suspect = suspect & torch.isfinite(outcome.decrement)
    outcome = outcome._replace(pivot=pivot)
    rows = suspect.nonzero().squeeze(-1)
    if rows.numel() == 0:
        return outcome
    part = _undamped(immersion, grid, outcome.take(rows), rows)
    step = _rounded(_step(immersion, grid, part), part)
    if immersion.dim <= MAX_FORMED:
        pivot = pivot.index_copy(0, rows, step.pivot)
    decrement = outcome.decrement.index_copy(0, rows, step.decrement)
    return outcome._replace(pivot=pivot, decrement=decrement)


def _undamped(immersion: Immersion, grid: Grid, outcome: Outcome, rows: Tensor) -> _Active:
    inner, image, energy = outcome.inner, outcome.image, outcome.energy
    if immersion.dim > MAX_FORMED:
        columns = bend = inner[..., :0, None]
    else:
        columns = jacobian(immersion, inner)[1]
        bend = hessian(immersion, inner, grid.force(image))
    return _Active(rows, inner, image, columns, bend, energy, torch.zeros_like(energy))
