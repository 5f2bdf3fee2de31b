"""What a density returns is checked before anything runs: slips are one typed line."""

import math

import numpy as np
import pytest
import torch
from test_methods import Counted
from torch.distributions import HalfNormal, Normal, constraints

import diffsmc
from diffsmc import (
    RWM,
    Automatic,
    DensityError,
    Diffusion,
    ImproperTargetError,
    LogDensity,
    MixtureDiffusion,
    MixtureFit,
    NonFiniteLogDensityError,
    Parameter,
    Posterior,
    ReferenceMixture,
    Tempering,
)
from diffsmc.targets.checking import check_density, check_proper
from diffsmc.targets.target import tolerate

CONSTANT = torch.tensor([1.0, 2.0, 0.5])  # single precision
SMALL = MixtureFit(num_chains=24, search_moves=9, revisit_chains=24, revisit_moves=6)
METHODS = {
    "automatic": Automatic(),
    "tempering": Tempering(0.5),
    "random walk": Tempering(0.5, move=RWM()),
    "mixture": ReferenceMixture(SMALL),
    "diffusion": Diffusion(num_steps=4),
    "mixture diffusion": MixtureDiffusion(ReferenceMixture(SMALL)),
}


def square(x):
    return -0.5 * x.square().sum(-1)


def noisy(x):
    return square(x) + 1e-3 * torch.randn(x.shape[:-1], generator=NOISE, dtype=x.dtype)


def failing(x):
    return square(x) + torch.linalg.cholesky(x[..., 0].reshape(-1, 1, 1)).sum()


def one_point(x):
    return -0.5 * x @ torch.eye(3, dtype=x.dtype) @ x


def slope_of_infinity(x):
    root = (x[..., 0] - x[..., 0]).sqrt()
    return torch.where(x[..., 0] > 0, root, 0.0) + square(x)


NOISE = torch.Generator().manual_seed(0)
SLIPS = {
    "forgets the batch": (lambda x: -0.5 * x.square().sum(), r"got shape \(\) for points"),
    "keeps the axis": (
        lambda x: -0.5 * x.square().sum(-1, keepdim=True), r"got shape \(2, 3, 1\) for points"),
    "no sum": (lambda x: -0.5 * x.square(), r"got shape \(2, 3, 3\) for points"),
    "transposed": (lambda x: square(x).mT, r"got shape \(3, 2\) for points of shape"),
    "sums over points": (lambda x: -0.5 * x.square().sum(0), r"got shape \(3, 3\) for points"),
    "numpy": (lambda x: square(x).detach().numpy(), "got numpy.ndarray, expected a torch.Tensor"),
    "python": (lambda x: float(square(x).sum()), "got float, expected a torch.Tensor"),
    "nothing": (lambda x: None, "got NoneType, expected"),
    "single": (lambda x: square(x).float(), "got torch.float32, expected torch.float64"),
    "whole numbers": (lambda x: square(x).long(), "got torch.int64, expected torch.float64"),
    "wrong device": (
        lambda x: square(x).to("meta"), "got device meta, expected device cpu"),
    "sparse": (lambda x: square(x).to_sparse(), "got torch.sparse_coo, expected a torch.Tensor"),
    "python for one point": (
        lambda x: square(x) if x.dim() > 1 else float(square(x)), "got float, expected"),
    "single for one point": (
        lambda x: square(x) if x.dim() > 1 else square(x).float(), "got torch.float32, expected"),
    "half cut off": (
        lambda x: square(x[..., :2]) + square(x[..., 2:].detach()),
        "a gradient of zero along some coordinates though its values change"),
    "centred by the batch": (
        lambda x: square(x - x.mean(tuple(range(x.dim() - 1)))), "for the same point alone"),
    "noise": (noisy, "two values at the same points"),
    "exception": (failing, "_LinAlgError"),
    "one point": (one_point, r"got shape \(2, 3, 3\) .* LogDensity\(..., vectorize=True\)"),
    "other columns": (lambda x: square(x) + x[..., 7], "got IndexError"),
    "numpy inside": (
        lambda x: torch.as_tensor(-0.5 * (x.detach().numpy() ** 2).sum(-1)), "a gradient of zero"),
    "NaN branch": (
        slope_of_infinity,
        "a NaN gradient at a point of finite density"),
    "NaN": (lambda x: x[..., 0].sqrt() + square(x), "got nan at step 0"),
    "infinite": (lambda x: torch.where(x[..., 0] > 0, torch.inf, square(x)), "got inf at step 0"),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_typed_line_on_every_method(slip, method, generator):
    function, line = SLIPS[slip]
    gradient = method != "random walk"
    if slip in {"numpy inside", "NaN branch", "half cut off"} and not gradient:
        return  # random walks need no gradient
    target = LogDensity(function, 3)
    with pytest.raises(DensityError, match=line) as caught:
        METHODS[method].run(target, 2, 20, generator=generator)
    assert isinstance(caught.value, NonFiniteLogDensityError) == (slip in {"NaN", "infinite"})
    assert caught.value.function == f"log-density {function.__name__}"
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"log-density {function.__name__}")


def test_the_error_names_function_shapes_and_cure():
    def posterior_density(x):
        return -x.square().sum()

    with pytest.raises(DensityError) as caught:
        diffsmc.sample(posterior_density, 3, progress=False)
    error = caught.value
    assert error.function == "log-density posterior_density"
    assert error.expected == "shape (2, 3)"
    assert "vectorize=True" in error.cure
    assert isinstance(error, ValueError)


Y = torch.tensor([0.3, 1.2, -0.5], dtype=torch.float64)
SPACE = {"mu": Parameter(), "tau": Parameter(constraints.positive)}


def prior(p):
    return Normal(0.0, 2.0).log_prob(p["mu"]) + HalfNormal(1.0).log_prob(p["tau"])


def likelihood(p):
    return Normal(p["mu"][..., None], p["tau"][..., None]).log_prob(Y).sum(-1)


def failing_in_two_lines(value):
    raise RuntimeError("first line\nsecond line")


# what was a log-prior or a log-likelihood, spoiled
SPOILED = {
    "scalar": (torch.sum, r"got shape \(\) for points of shape \(2, 3, 2\), expected shape"),
    "keepdim": (lambda v: v[..., None], r"got shape \(2, 3, 1\) for points of shape"),
    "transposed": (lambda v: v.mT, r"got shape \(3, 2\) for points of shape \(2, 3, 2\)"),
    "numpy": (lambda v: v.detach().numpy(), "got numpy.ndarray, expected a torch.Tensor of shape"),
    "python": (lambda v: float(v.sum()), "got float, expected a torch.Tensor of shape"),
    "single": (torch.Tensor.float, "got torch.float32, expected torch.float64"),
    "wrong device": (lambda v: v.to("meta"), "got device meta, expected device cpu"),
    "exception": (failing_in_two_lines, r"got RuntimeError \(first line\) for points of shape"),
    "batch": (lambda v: v - v.mean(), "among others and 0 for the same point alone"),
    "NaN": (lambda v: v * torch.nan, "got nan at step 0"),
    "NaN branch": (
        lambda v: v + torch.where(v > -1e9, 0 * v, (0 * v).sqrt()), "got a NaN gradient"),
    "cut off": (torch.Tensor.detach, "got a gradient of zero though its values change"),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slip", SPOILED)
@pytest.mark.parametrize("which", ["log-prior", "log-likelihood"])
def test_a_slip_in_either_part_of_a_posterior_is_one_typed_line(which, slip, method, generator):
    """The other part would hide most by broadcasting, and lend its gradient."""
    spoil, line = SPOILED[slip]
    if slip in {"NaN branch", "cut off"} and method == "random walk":
        return  # random walks need no gradient

    def spoiled(p):
        return spoil(prior(p) if which == "log-prior" else likelihood(p))

    parts = (spoiled, likelihood) if which == "log-prior" else (prior, spoiled)
    typed = NonFiniteLogDensityError if slip == "NaN" else DensityError
    with pytest.raises(typed, match=line) as caught:
        METHODS[method].run(Posterior(SPACE, *parts), 2, 20, generator=generator)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{which} spoiled")


def test_a_change_by_rounding_is_no_gradient_cut_off():
    def first(x):
        return square(x[..., :1]) + 1e-12 * x[..., 1].detach()

    check_density(LogDensity(first, 2))


@pytest.mark.parametrize(
    ("functions", "line"),
    [
        ((lambda p: prior(p).sum(), likelihood), r"log-prior <lambda>: got shape \(\)"),
        ((prior, lambda p: likelihood(p).sum()), r"log-likelihood <lambda>: got shape \(\)"),
        ((prior, lambda p: likelihood(p)[..., None]), r"log-likelihood .*: got shape \(2, 3, 1\)"),
        ((lambda p: prior(p).float(), likelihood), "log-prior .*: got torch.float32"),
        ((prior, lambda p: likelihood(p).detach().numpy()), "log-likelihood .*: got numpy.ndarray"),
        ((prior, lambda p: likelihood({"mu": p["nu"], **p})), "log-likelihood .*: got KeyError"),
        ((prior, lambda p: torch.zeros_like(p["mu"])), "no observations"),
    ],
)
def test_prior_and_likelihood_are_checked_each(functions, line, generator):
    """Broadcasting would hide a scalar log-likelihood behind the log-prior."""
    target = Posterior(SPACE, *functions)
    with pytest.raises(ValueError, match=line):
        Tempering(0.5).run(target, 2, 20, generator=generator)


def test_a_good_density_passes_and_is_counted():
    calls = 0

    def density(x):
        nonlocal calls
        calls += x[..., 0].numel()
        return square(x)

    assert check_density(LogDensity(density, 2)) == calls
    check_density(Posterior(SPACE, prior, likelihood))


def test_functions_of_one_point_are_vectorized(generator):
    target = LogDensity(one_point, 3, vectorize=True)
    x = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(target.log_prob(x), square(x))
    value, grad = target.log_prob_and_grad(x)
    torch.testing.assert_close(value, square(x))
    torch.testing.assert_close(grad, -x)
    assert target.log_prob(x[0, 0]).shape == ()
    one = Automatic().run(target, 4, 200, generator=generator).evidence()
    assert abs(one.log_normalizer - 1.5 * math.log(2 * math.pi)) < 0.02


@pytest.mark.parametrize("vectorize", [False, True])
def test_exceptions_of_single_points_are_minus_infinity(vectorize, generator):
    """A Cholesky factor of [[1, x], [x, 1]] exists for |x| < 1 alone: half the mass of x is out."""

    def density(x):
        one, off = torch.ones_like(x[..., 0]), x[..., 0]
        matrix = torch.stack([torch.stack([one, off], -1), torch.stack([off, one], -1)], -2)
        factor = torch.linalg.cholesky(matrix)
        return square(x) - 0.0 * factor.sum((-1, -2))

    error = torch.linalg.LinAlgError
    target = LogDensity(density, 2, vectorize=vectorize, reject=(error,))
    x = torch.tensor([[0.5, 0.0], [1.5, 0.0], [-0.2, 3.0], [-2.0, 0.1]], dtype=torch.float64)
    value, grad = target.log_prob_and_grad(x)
    assert (value == -torch.inf).tolist() == [False, True, False, True]
    torch.testing.assert_close(value[::2], square(x[::2]))
    torch.testing.assert_close(grad[::2], -x[::2])
    assert bool((grad[1::2] == 0).all())
    method = Tempering(0.5, move=RWM(), num_moves=3, adapt_islands=None)
    result = method.run(target, 4, 100, generator=generator)
    truth = math.log(2 * math.pi) + math.log(math.erf(1 / math.sqrt(2)))
    one = result.evidence()
    assert abs(one.log_normalizer - truth) < 4 * one.standard_error + 0.05


def test_bad_points_cost_few_calls():
    calls = 0

    def density(x):
        nonlocal calls
        calls += 1
        if bool((x[..., 0] > 99).any()):
            raise ArithmeticError
        return square(x)

    x = torch.zeros(1024, 2, dtype=torch.float64)
    x[700, 0] = 100.0
    value = tolerate(density, (ArithmeticError,), x)
    assert int((value == -torch.inf).sum()) == 1
    assert value[700] == -torch.inf
    assert calls <= 1 + 2 * 10


def test_other_exceptions_are_not_swallowed(generator):
    def density(x):
        if x.shape[0] > 5:
            raise KeyError("late")
        return square(x)

    target = LogDensity(density, 2, reject=(ArithmeticError,))
    with pytest.raises(KeyError, match="late"):
        target.log_prob(torch.zeros(9, 2, dtype=torch.float64))


def test_nan_at_a_proposed_point_is_counted_and_told(generator):
    """NaN far out: the answer stands, and says so."""

    def density(x):
        return torch.where(x[..., 0] > 3.2, torch.nan, square(x))

    target = LogDensity(density, 2, scale=0.5)
    mixture = ReferenceMixture(MixtureFit(num_chains=100))
    for method in (METHODS["tempering"], mixture, METHODS["random walk"], METHODS["automatic"]):
        result = method.run(target, 4, 400, generator=generator)
        count = sum(int(info.invalid.sum()) for info in result.history)
        told = [line for line in result.diagnose() if "the log-density was NaN at" in line]
        assert (count > 0) == bool(told)
        one = result.evidence()
        assert abs(one.log_normalizer - math.log(2 * math.pi)) < 4 * one.standard_error + 0.02
    assert count > 0


def test_a_function_that_is_constant_in_pieces_has_no_gradient(generator):
    """The indicator of a square: log Z = log 4; a step twice as high on its right half."""

    def box(x):
        inside = (x.abs() < 1).all(-1)
        return torch.where(inside, x.new_zeros(()), -torch.inf)

    def step(x):
        return box(x) + math.log(2) * (x[..., 0] > 0)

    for density, truth in ((box, math.log(4)), (step, math.log(6))):
        one = Automatic().run(LogDensity(density, 2), 4, 300, generator=generator).evidence()
        assert abs(one.log_normalizer - truth) < 4 * one.standard_error + 0.03


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: LogDensity(square, 0), "dim must be at least 1, got 0"),
        (lambda: LogDensity(square, 2, scale=-1.0), "scale must be positive"),
        (lambda: LogDensity(square, 2, scale=[1.0, 0.0]), "scale must be positive"),
        (lambda: LogDensity(square, 2, scale=[1.0, 1.0, 1.0]), "scale must be a number, 2 numbers"),
        (lambda: LogDensity(square, 2, scale=math.nan), "scale must be positive"),
        (lambda: LogDensity(square, 2, location=[0.0]), "location must be 2 finite numbers"),
        (lambda: LogDensity(square, 2, names=["a"]), "names must be 2"),
        (lambda: LogDensity(3, 2), "function must be callable, got int"),
        (lambda: Posterior({}, prior, likelihood), "space must have at least one parameter"),
        (lambda: diffsmc.HMC(0), "num_leapfrogs must be at least 1, got 0"),
        (lambda: diffsmc.HMC(target_acceptance=2.0), "target_acceptance must be between 0 and 1"),
        (lambda: diffsmc.RWM(0.0), "target_acceptance must be between 0 and 1"),
        (lambda: diffsmc.HMC(jitter=1.5), "jitter must be"),
        (lambda: Tempering(num_moves=-1), "num_moves must be at least 0, got -1"),
        (lambda: Tempering(target_ess=1.5), "target_ess must be between 0 and 1"),
        (lambda: Tempering(chain_length=0), "chain_length must be at least 1"),
        (lambda: Tempering(adapt_islands=0), "adapt_islands must be at least 1"),
        (lambda: Tempering(base_scale=0.0), "base_scale must be positive"),
        (lambda: Tempering(levels=[0.0, 0.5]), "levels must rise from 0 to 1"),
        (lambda: MixtureFit(num_chains=0), "num_chains must be at least 1"),
        (lambda: Automatic(budget=3), "budget must be at least 200"),
        (lambda: diffsmc.LogisticRegression([], []), "features must have rows and columns"),
        (lambda: diffsmc.LinearRegression([], []), "features must have rows and columns"),
        (lambda: diffsmc.sample(square, progress=False), "dim is needed"),
        (lambda: diffsmc.sample(square, 2, seed=-1), "seed must be a whole number"),
        (lambda: diffsmc.sample(square, 2, seed=2**70), "seed must be a whole number"),
        (lambda: diffsmc.sample(np.zeros(3), 2), "target must be a Target or a function"),
        (lambda: diffsmc.sample(square, 2, num_islands=0, progress=False), "num_islands must be"),
        (
            lambda: diffsmc.sample(square, 2, max_evaluations=500, progress=False),
            "500 evaluations .* are spent",
        ),
    ],
)
def test_absurd_values_are_refused(make, line):
    with pytest.raises(ValueError, match=line):
        make()


def test_a_density_that_rises_where_nobody_would_go_is_not_called_improper():
    """Errors of an unstable recursion grow like 3^200: any scale of the noise is too small."""
    y = torch.linspace(-1, 1, 200, dtype=torch.float64).sin()

    def prior(p):
        return -0.5 * (p["mu"].square() + p["theta"].square()) - 2 * torch.log1p(p["sigma"])

    def likelihood(p):
        errors = [y[0] - p["mu"]]
        for value in y[1:]:
            errors.append(value - p["mu"] - p["theta"] * errors[-1])
        scale = p["sigma"][..., None]
        return (-0.5 * (torch.stack(errors, -1) / scale).square() - scale.log()).sum(-1)

    space = {"mu": Parameter(), "theta": Parameter(),
             "sigma": Parameter(constraints.positive)}  # fmt: skip
    target = Posterior(space, prior, likelihood, 3.0)
    lines = torch.eye(3, dtype=torch.float64)
    wild = torch.tensor([0.0, 3.0, 0.0]).double().expand(3, 3)
    with pytest.raises(ImproperTargetError):
        check_proper(target, lines, wild)
    counted = Counted(target)
    assert check_proper(counted) == counted.count
