r"""Geodesics between given end points: batched Newton on the discrete energy.

The nodes of all curves move together to the minimum of

.. math::

    E = \tfrac12 \sum_i |f(z_{i+1}) - f(z_i)|^2, \qquad
    \nabla_i E = J_i^\top s_i, \quad s_i = 2 f(z_i) - f(z_{i-1}) - f(z_{i+1}) .

The Hessian is block tridiagonal, :math:`D_i = 2 J_i^\top J_i + \partial^2 \langle s_i, f \rangle`
and :math:`U_i = -J_i^\top J_{i+1}`; where it is not positive definite its second term is left
out (Gauss-Newton) and a damping :math:`\lambda J_i^\top J_i` grows until the energy falls.
Coarse curves are solved first and prolonged; converged curves leave the batch.

The **polish** then solves the geodesic equation :math:`J_i^\top X''(t_i) = 0` with
:math:`X''` by sixth-order differences, preconditioned by the factored second-order Hessian
(deferred correction).  Its symbol exceeds ours at most by :math:`68/45` at the highest
frequency, so the error falls at least by one half each time.

References:
    Arvanitidis, Hansen & Hauberg (2018), Latent Space Oddity, for the energy;
    Pereyra (1968), Iterated Deferred Corrections for Nonlinear Boundary Value Problems.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentgeom import curves
from latentgeom.block_tridiagonal import Factorization, factorize, substitute
from latentgeom.immersion import Immersion, hessian, jacobian
from latentgeom.metric import check_points

__all__ = ["GeodesicBatch", "check_segments", "geodesics", "initial_curves"]

_SHRINK, _GROW, _FIRST = 0.1, 10.0, 1e-3  # damping after success, failure, first failure
_POLISH_STEPS = 25
_LOOSE = 1e-3  # decrement at which a coarse curve is prolonged
_CONJUGATE = 0.02  # last pivot, relative to the mass, below which end points are conjugate


class GeodesicBatch(NamedTuple):
    """Curves and what is known about them.

    Arguments:
        points: Nodes, ``(B, T + 1, n)``.
        length: Lengths, ``(B,)``.
        error_estimate: Estimated absolute error of the lengths, ``(B,)``.
        converged: Whether the curve is a regular minimum of its energy, ``(B,)``; false
            too where the Hessian is singular, as between conjugate points (antipodes).
            The length may then be NaN, where not even a first curve could be drawn.
        iterations: Newton steps over all levels, ``(B,)``.
    """

    points: Tensor
    length: Tensor
    error_estimate: Tensor
    converged: Tensor
    iterations: Tensor


class _State(NamedTuple):
    nodes: Tensor
    energy: Tensor
    damping: Tensor
    decrement: Tensor
    iterations: Tensor


class _System(NamedTuple):
    gradient: Tensor
    mass: Tensor
    diagonal: Tensor
    upper: Tensor


def initial_curves(immersion: Immersion, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    """Straight lines in the coordinates, projected, ``(B, T + 1, n)``."""
    t = torch.linspace(0, 1, num_segments + 1, dtype=a.dtype, device=a.device)[:, None]
    return _pin(immersion.projx(torch.lerp(a.unsqueeze(-2), b.unsqueeze(-2), t)), a, b)


def _pin(nodes: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a.unsqueeze(-2), nodes[..., 1:-1, :], b.unsqueeze(-2)], -2)


def _system(immersion: Immersion, nodes: Tensor) -> _System:
    """Gradient, mass blocks and Newton Hessian of the energy at the inner nodes."""
    image, columns = jacobian(immersion, nodes)
    force = -curves.second_difference(image)
    plain = _gauss_newton(force, columns)
    bend = hessian(immersion, nodes[:, 1:-1], force)
    return plain._replace(diagonal=plain.diagonal + bend)


def _gauss_newton_system(immersion: Immersion, nodes: Tensor) -> _System:
    """The same without second derivatives: a third of the cost, enough for coarse curves."""
    image, columns = jacobian(immersion, nodes)
    return _gauss_newton(-curves.second_difference(image), columns)


def _gauss_newton(force: Tensor, columns: Tensor) -> _System:
    inner = columns[:, 1:-1]
    mass = inner.mT @ inner
    gradient = (inner.mT @ force.unsqueeze(-1)).squeeze(-1)
    return _System(gradient, mass, 2 * mass, -inner[:, :-1].mT @ inner[:, 1:])


def _damped_factors(system: _System, damping: Tensor) -> Factorization:
    """Factors of Newton's Hessian, of Gauss-Newton's for the chains where it is indefinite."""
    damped = damping[:, None, None, None] * system.mass
    factors = factorize(system.diagonal + damped, system.upper)
    if bool(factors.positive.all()):
        return factors
    keep = factors.positive[:, None, None, None]
    return factorize(torch.where(keep, system.diagonal, 2 * system.mass) + damped, system.upper)


def _newton_step(immersion: Immersion, state: _State, system: _System) -> _State:
    """One damped step of every curve; refused where the energy would grow."""
    factors = _damped_factors(system, state.damping)
    step = -substitute(factors, system.gradient)
    moved = _moved(immersion, state.nodes, step)
    energy = curves.energy(immersion.embed(moved))
    slack = 4 * torch.finfo(energy.dtype).eps * state.energy
    accepted = factors.positive & (energy <= state.energy + slack)
    decrement = -(system.gradient * step).sum((-1, -2)) / state.energy.clamp(min=_tiny(step))
    return _State(
        torch.where(accepted[:, None, None], moved, state.nodes),
        torch.where(accepted, energy, state.energy),
        torch.where(accepted, state.damping * _SHRINK, (state.damping * _GROW).clamp(min=_FIRST)),
        torch.where(accepted, decrement, torch.inf),
        state.iterations + 1,
    )


def _moved(immersion: Immersion, nodes: Tensor, step: Tensor) -> Tensor:
    inner = immersion.retract(nodes[:, 1:-1], step)
    return torch.cat([nodes[:, :1], inner, nodes[:, -1:]], 1)


def _start(immersion: Immersion, nodes: Tensor) -> _State:
    energy = curves.energy(immersion.embed(nodes))
    unknown = torch.full_like(energy, torch.inf)
    count = torch.zeros_like(energy, dtype=torch.long)
    return _State(nodes, energy, torch.zeros_like(energy), unknown, count)


def _relax(
    immersion: Immersion,
    state: _State,
    tolerance: float,
    max_iterations: int,
    build: Callable[[Immersion, Tensor], _System] = _system,
) -> _State:
    """Newton until the relative decrement of the energy is below ``tolerance``."""
    active = ((state.energy > 0) & torch.isfinite(state.energy)).nonzero().squeeze(-1)
    for _ in range(max_iterations):
        if active.numel() == 0:
            break
        part = _State(*(x[active] for x in state))
        part = _newton_step(immersion, part, build(immersion, part.nodes))
        state = _State(*(x.index_copy(0, active, y) for x, y in zip(state, part, strict=True)))
        active = active[part.decrement > tolerance]
    return state


def _polish(immersion: Immersion, nodes: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Deferred correction to sixth order; nodes, and whether they converged to a minimum."""
    system = _system(immersion, nodes)
    factors = factorize(system.diagonal, system.upper)
    scale = curves.energy(immersion.embed(nodes)).clamp(min=_tiny(nodes))
    done = torch.zeros_like(scale, dtype=torch.bool)
    for _ in range(_POLISH_STEPS):
        image, columns = jacobian(immersion, nodes)
        force = -curves.second_difference(image, order=6)
        gradient = (columns[:, 1:-1].mT @ force.unsqueeze(-1)).squeeze(-1)
        step = -substitute(factors, gradient)
        nodes = torch.where(done[:, None, None], nodes, _moved(immersion, nodes, step))
        done = done | (-(gradient * step).sum((-1, -2)) <= tolerance * scale)
        if bool(done.all()):
            break
    return nodes, done & _is_regular(factors, system.mass)


def _is_regular(factors: Factorization, mass: Tensor) -> Tensor:
    r"""Positive definite, and no end point conjugate to the other within the discretisation.

    The last pivot is :math:`\sin L / \sin (L - h)` times the mass on a unit sphere: it
    vanishes with the Jacobi field, and is about one in flat space.
    """
    pivot = factors.cholesky[-1].diagonal(dim1=-2, dim2=-1).square()
    smallest = (pivot / mass[:, -1].diagonal(dim1=-2, dim2=-1)).amin(-1)
    return factors.positive & (smallest > _CONJUGATE)


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny


@torch.no_grad()
def geodesics(
    immersion: Immersion,
    a: Tensor,
    b: Tensor,
    *,
    num_segments: int = 32,
    polish: bool = True,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
    initial: Tensor | None = None,
) -> GeodesicBatch:
    """Geodesics of the metric that ``immersion`` induces.

    Coinciding end points give length zero.  Beyond the cut locus the minimum found is the
    one that the initial curve leads to; see :func:`spread`.

    Arguments:
        immersion: Map into Euclidean space.
        a: Start points, ``(B, n)``.
        b: End points, ``(B, n)``.
        num_segments: Segments ``T`` of the curves, a multiple of 4 and at least 8.
        polish: Sixth-order correction; without it the length is Richardson's
            ``(4 L_T - L_{T/2}) / 3`` of the second-order curves.
        tolerance: Largest relative decrease of the energy still to be expected.
        max_iterations: Newton steps per level.
        initial: Curves to start from, ``(B, S + 1, n)`` with any ``S``; straight lines if none.

    Returns:
        Curves with lengths, error estimates and flags.
    """
    _check(immersion, a, b, num_segments)
    coarse = num_segments // 4
    if initial is None:
        nodes = initial_curves(immersion, a, b, coarse)
    else:
        nodes = _pin(immersion.projx(curves.resample(initial, coarse)), a, b)
    state = _start(immersion, nodes)
    state = _relax(immersion, state, _LOOSE, max_iterations, _gauss_newton_system)
    enough = _LOOSE if polish else tolerance
    middle = _relax(immersion, _refined(immersion, state), enough, max_iterations)
    fine = _relax(immersion, _refined(immersion, middle), tolerance, max_iterations)
    if polish:
        return _polished(immersion, fine, tolerance)
    return _richardson(immersion, middle, fine, tolerance)


def check_segments(a: Tensor, b: Tensor, num_segments: int) -> None:
    """Refuse end points of different shapes and unusable numbers of segments."""
    if num_segments < curves.MIN_SEGMENTS or num_segments % 4:
        raise ValueError(f"num_segments must be a multiple of 4 from 8 on, got {num_segments}")
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"end points must be (B, n) twice, got {(*a.shape,)} and {(*b.shape,)}")


def _check(immersion: Immersion, a: Tensor, b: Tensor, num_segments: int) -> None:
    check_segments(a, b, num_segments)
    for name, points in (("a", a), ("b", b)):
        check_points(points, immersion.num_coordinates, name)
        immersion.check(points, name)


def _refined(immersion: Immersion, state: _State) -> _State:
    nodes = curves.prolong(state.nodes)
    nodes = _pin(immersion.projx(nodes), state.nodes[:, 0], state.nodes[:, -1])
    return _start(immersion, nodes)._replace(iterations=state.iterations)


def _polished(immersion: Immersion, state: _State, tolerance: float) -> GeodesicBatch:
    nodes, regular = _polish(immersion, state.nodes, tolerance)
    image = immersion.embed(nodes)
    length = curves.smooth_length(image, order=8)
    # Two orders lower than the nodes' own error, which no rule that reads them can see.
    estimate = (length - curves.smooth_length(image, order=4)).abs()
    return _batch(state, nodes, length, estimate, regular, tolerance)


def _richardson(
    immersion: Immersion, middle: _State, fine: _State, tolerance: float
) -> GeodesicBatch:
    system = _system(immersion, fine.nodes)
    regular = _is_regular(factorize(system.diagonal, system.upper), system.mass)
    half, full = (curves.chord_length(immersion.embed(s.nodes)) for s in (middle, fine))
    estimate = (full - half).abs() / 3
    return _batch(fine, fine.nodes, full + (full - half) / 3, estimate, regular, tolerance)


def _batch(
    state: _State,
    nodes: Tensor,
    length: Tensor,
    estimate: Tensor,
    regular: Tensor,
    tolerance: float,
) -> GeodesicBatch:
    moving = state.energy != 0  # NaN counts as moving, and as not converged
    converged = (state.decrement <= tolerance) & regular & torch.isfinite(length)
    zero = torch.zeros_like(length)
    return GeodesicBatch(
        nodes,
        torch.where(moving, length, zero),
        torch.where(moving, estimate, zero),
        converged | ~moving,
        state.iterations,
    )
