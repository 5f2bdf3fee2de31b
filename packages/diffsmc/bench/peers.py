"""The peers and our tempered method, made from the same settings.

- *blackjax*: its adaptive tempered SMC with HMC moves, waste-free or not. The step size follows
  the acceptance and the mass the weighted particles, both outside of it, as its documentation
  does and by the rules of our own moves. Gradients: one a particle and level that starts the
  moves, and one a leapfrog step; the log-densities of its weights are not counted against it.
- *particles*: its adaptive waste-free tempering with random-walk moves. Log-densities count.

Compilation is left out of the times.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("XLA_FLAGS", FLAGS)

import blackjax  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from blackjax.smc import resampling  # noqa: E402
from blackjax.smc.waste_free import waste_free_smc  # noqa: E402
from cases import mode_mass_error  # noqa: E402

import diffsmc  # noqa: E402
from diffsmc import Target  # noqa: E402
from diffsmc.methods.method import Method  # noqa: E402
from diffsmc.methods.tempering import Tempering  # noqa: E402
from diffsmc.shell.randomness import keyed_generator  # noqa: E402
from diffsmc.smc.adaptation import dense_mass, diagonal_mass  # noqa: E402
from diffsmc.smc.moves import HMC  # noqa: E402

__all__ = ["Blackjax", "Ours", "Outcome", "Particles", "RandomWalk", "Tempered"]

jax.config.update("jax_enable_x64", True)
LOG_2PI = math.log(2 * math.pi)
LogDensity = Callable[[Any], Any]


class Outcome(NamedTuple):
    """One run: log Z, mode-mass error, evaluations of the target, levels, CPU seconds."""

    log_normalizer: float
    mode_mass_error: float
    evaluations: int
    levels: int
    seconds: float


@dataclass(frozen=True)
class Tempered:
    """Settings of tempered SMC by HMC, for us and for blackjax.

    ``chain_length`` above 1 is waste-free and replaces ``num_moves``; ``spread`` is ours alone.
    """

    leapfrogs: int = 10
    num_moves: int = 2
    chain_length: int = 1
    target_ess: float = 0.9
    target_acceptance: float = 0.65
    dense: bool = True
    spread: float = 0.0

    def evaluations(self, levels: int, num_particles: int) -> float:
        """Count evaluations, the start's included."""
        moves = 1 - 1 / self.chain_length if self.chain_length > 1 else self.num_moves
        return num_particles * (1 + levels * moves * self.leapfrogs)

    def plain(self) -> dict[str, Any]:
        """Give values that JSON can hold."""
        return asdict(self)


class Ours:
    """Our tempered method, or any other of ours."""

    name = "diffsmc"

    def __init__(
        self, target: Target, settings: Tempered | None, method: Method | None = None
    ) -> None:
        self.target, self.method = target, method or tempering(settings or Tempered())

    def run(self, seed: int, num_particles: int) -> Outcome:
        """Run one island that adapts in its only pass."""
        begin = time.process_time()
        with torch.no_grad():
            result = self.method.run(self.target, 1, num_particles, generator=keyed_generator(seed))
        seconds = time.process_time() - begin
        error = mode_mass_error(
            self.target, result.particles[0].double(), result.log_weights[0].softmax(-1)
        )
        levels = len(result.history)
        return Outcome(
            float(result.log_normalizers[0]), error, result.num_evaluations, levels, seconds
        )


def tempering(settings: Tempered, **options: Any) -> Tempering:
    """Make our method of the settings."""
    move = HMC(
        settings.leapfrogs,
        target_acceptance=settings.target_acceptance,
        spread=settings.spread,
    )
    return Tempering(
        settings.target_ess,
        move=move,
        num_moves=settings.num_moves,
        mass=dense_mass if settings.dense else diagonal_mass,
        chain_length=settings.chain_length,
        adapt_islands=None,
        **options,
    )


def _log_density(target: Target) -> LogDensity:
    """Write one of our targets in JAX."""
    if isinstance(target, diffsmc.Funnel):
        return lambda x: (
            -0.5 * (x[0] / 3) ** 2 - math.log(3) - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0])
            - 0.5 * (target.dim - 1) * x[0] - 0.5 * target.dim * LOG_2PI
        )  # fmt: skip
    if isinstance(target, diffsmc.ManyWell):
        return lambda x: jnp.sum(
            0.5 * x[0::2] + 6 * x[0::2] ** 2 - x[0::2] ** 4 - 0.5 * x[1::2] ** 2
        )
    if isinstance(target, diffsmc.LogisticRegression):
        design, labels = jnp.asarray(target.design.numpy()), jnp.asarray(target.labels.numpy())
        return lambda x: (
            jnp.sum(labels * (design @ x) - jnp.logaddexp(0.0, design @ x))
            - 0.5 * jnp.sum(x**2) / target.scale**2
            - target.dim * (0.5 * LOG_2PI + math.log(target.scale))
        )
    return _mixture_density(target)


def _mixture_density(target: Any) -> LogDensity:
    means, scales = jnp.asarray(target.means.numpy()), jnp.asarray(target.scales.numpy())
    constant = jnp.log(jnp.asarray(target.masses.numpy())) - target.dim * jnp.log(scales)
    d, nu = target.dim, getattr(target, "freedom", None)

    def density(x: Any) -> Any:
        square = jnp.sum((x - means) ** 2, -1) / scales**2
        if nu is None:
            parts = -0.5 * square - 0.5 * d * LOG_2PI
        else:
            front = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
            parts = front - (nu + d) / 2 * jnp.log1p(square / nu)
        return jax.scipy.special.logsumexp(parts + constant)

    return density


class Blackjax:
    """blackjax's adaptive tempered SMC."""

    name = "blackjax 1.7.1"

    def __init__(self, target: Target, settings: Tempered) -> None:
        self.target, self.settings = target, settings
        self._compiled: dict[int, Any] = {}

    def algorithm(self, num_particles: int, step_size: Any, inverse_mass: Any) -> Any:
        """Make the sampler for a step size and an inverse mass."""
        target, settings = self.target, self.settings
        density, scale = _log_density(target), target.scale

        def prior(x: Any) -> Any:
            constant = target.dim * (0.5 * LOG_2PI + math.log(scale))
            return -0.5 * jnp.sum(x**2) / scale**2 - constant

        parameters = {
            "step_size": step_size[None],
            "inverse_mass_matrix": inverse_mass[None],
            "num_integration_steps": jnp.array([settings.leapfrogs]),
        }
        options: dict[str, Any] = {"num_mcmc_steps": settings.num_moves}
        if settings.chain_length > 1:
            strategy = waste_free_smc(num_particles, settings.chain_length)
            options = {"num_mcmc_steps": None, "update_strategy": strategy}
        return blackjax.adaptive_tempered_smc(
            prior, lambda x: density(x) - prior(x), blackjax.hmc.build_kernel(), blackjax.hmc.init,
            parameters, resampling.systematic, settings.target_ess, **options,
        )  # fmt: skip

    def _step(self, num_particles: int) -> Any:
        """Compile a step with its adaptation; the first call with a size compiles it."""
        settings = self.settings

        def moments(state: Any) -> Any:
            centred = state.particles - state.weights @ state.particles
            if not settings.dense:
                return state.weights @ centred**2 + 1e-8
            return (state.weights[:, None] * centred).T @ centred + 1e-8 * jnp.eye(centred.shape[1])

        def step(key: Any, state: Any, size: Any) -> Any:
            sampler = self.algorithm(num_particles, size, moments(state))
            state, info = sampler.step(key, state)
            rate = jnp.mean(info.update_info.acceptance_rate)
            size = size * jnp.exp(rate - settings.target_acceptance)
            return state, size, info.log_likelihood_increment

        if num_particles not in self._compiled:
            self._compiled = {num_particles: jax.jit(step)}
            self._once(0, num_particles, most_levels=1)
        return self._compiled[num_particles]

    def _once(self, seed: int, num_particles: int, most_levels: int = 400) -> Any:
        target, step = self.target, self._step(num_particles)
        key, first = jax.random.split(jax.random.PRNGKey(seed))
        start = target.scale * jax.random.normal(first, (num_particles, target.dim))
        state = blackjax.smc.tempered.init(start)
        size, log_z, levels = jnp.array(0.8 * target.dim**-0.25), 0.0, 0
        while state.tempering_param < 1 and levels < most_levels:
            key, now = jax.random.split(key)
            state, size, increment = step(now, state, size)
            log_z, levels = log_z + float(increment), levels + 1
        return state, log_z, levels

    def run(self, seed: int, num_particles: int) -> Outcome:
        """Run once, compiled before."""
        self._step(num_particles)
        begin = time.process_time()
        state, log_z, levels = self._once(seed, num_particles)
        seconds = time.process_time() - begin
        settings = self.settings
        wasteless = settings.chain_length > 1
        starts = num_particles // settings.chain_length
        moves = settings.chain_length - 1 if wasteless else settings.num_moves
        gradients = levels * starts * (1 + moves * settings.leapfrogs)
        error = mode_mass_error(
            self.target,
            torch.from_numpy(np.array(state.particles)),
            torch.from_numpy(np.array(state.weights)),
        )
        return Outcome(log_z, error, gradients, levels, seconds)


@dataclass(frozen=True)
class RandomWalk:
    """Settings of the package particles."""

    chain_length: int = 10
    target_ess: float = 0.5

    def evaluations(self, levels: int, num_particles: int) -> float:
        """Count evaluations, the start's included."""
        return num_particles * (1 + levels * (1 - 1 / self.chain_length))

    def plain(self) -> dict[str, Any]:
        """Give values that JSON can hold."""
        return asdict(self)


class Particles:
    """The package particles: adaptive tempering, waste-free, random walks.

    Its densities are evaluated by our targets, so its time is not compared.
    """

    name = "particles 0.4"

    def __init__(self, target: Target, settings: RandomWalk) -> None:
        self.target, self.settings = target, settings

    def run(self, seed: int, num_particles: int) -> Outcome:
        """Run once."""
        import particles
        from particles import distributions, smc_samplers

        target, settings, count = self.target, self.settings, [0]
        normals = [distributions.Normal(scale=target.scale) for _ in range(target.dim)]
        prior = distributions.StructDist({"x": distributions.IndepProd(*normals)})
        constant = target.dim * (0.5 * LOG_2PI + math.log(target.scale))

        class Model(smc_samplers.StaticModel):  # type: ignore[misc]
            def loglik(self, theta: Any, t: Any = None) -> Any:
                x = np.ascontiguousarray(theta["x"])
                count[0] += len(x)
                value = target.log_prob(torch.from_numpy(x)).numpy()
                return value + 0.5 * (x**2).sum(1) / target.scale**2 + constant

        np.random.seed(seed)  # noqa: NPY002 - what the package draws from
        sampler = smc_samplers.AdaptiveTempering(
            model=Model(data=np.zeros(1), prior=prior),
            wastefree=True, len_chain=settings.chain_length, ESSrmin=settings.target_ess,
        )  # fmt: skip
        run = particles.SMC(fk=sampler, N=num_particles // settings.chain_length, verbose=False)
        begin = time.process_time()
        run.run()
        seconds = time.process_time() - begin
        points = torch.from_numpy(np.ascontiguousarray(run.X.theta["x"]))
        error = mode_mass_error(target, points, torch.from_numpy(run.wgts.W))
        return Outcome(float(run.logLt), error, count[0], int(run.t), seconds)
