"""The peer: blackjax's adaptive tempered SMC, with HMC moves adapted from the particles.

Levels, particles, moves and the rule for the step size are those of our tempered method;
the mass is the diagonal that blackjax takes. Compilation is left out of the times.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling

from diffsmc import targets
from diffsmc.targets import Target

__all__ = ["run_blackjax"]

jax.config.update("jax_enable_x64", True)
LOG_2PI = math.log(2 * math.pi)
LogDensity = Callable[[Any], Any]


def _log_density(target: Target) -> LogDensity:
    """Write one of our targets in JAX."""
    if isinstance(target, targets.Funnel):
        return lambda x: (
            -0.5 * (x[0] / 3) ** 2 - math.log(3) - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0])
            - 0.5 * (target.dim - 1) * x[0] - 0.5 * target.dim * LOG_2PI
        )  # fmt: skip
    if isinstance(target, targets.ManyWell):
        return lambda x: jnp.sum(
            0.5 * x[0::2] + 6 * x[0::2] ** 2 - x[0::2] ** 4 - 0.5 * x[1::2] ** 2
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


def _compile(target: Target, target_ess: float, num_moves: int, leapfrogs: int) -> Any:
    density, scale = _log_density(target), target.scale

    def prior(x: Any) -> Any:
        return -0.5 * jnp.sum(x**2) / scale**2 - target.dim * (0.5 * LOG_2PI + math.log(scale))

    def algorithm(step_size: Any, inverse_mass: Any) -> Any:
        parameters = {
            "step_size": step_size[None],
            "inverse_mass_matrix": inverse_mass[None],
            "num_integration_steps": jnp.array([leapfrogs]),
        }
        return blackjax.adaptive_tempered_smc(
            prior, lambda x: density(x) - prior(x), blackjax.hmc.build_kernel(), blackjax.hmc.init,
            parameters, resampling.systematic, target_ess, num_mcmc_steps=num_moves,
        )  # fmt: skip

    step = jax.jit(lambda key, state, size, mass: algorithm(size, mass).step(key, state))
    return step, algorithm(jnp.array(0.1), jnp.ones(target.dim)).init


def run_blackjax(
    target: Target,
    seeds: range,
    num_particles: int,
    target_ess: float = 0.9,
    num_moves: int = 2,
    leapfrogs: int = 10,
) -> tuple[list[float], list[int], list[float]]:
    """Give errors of log Z, gradients and seconds per gradient by seed.

    The first seed is run twice, so that no time holds a compilation.
    """
    step, init = _compile(target, target_ess, num_moves, leapfrogs)
    rows = []
    for seed in [seeds[0], *seeds]:
        key, begin = jax.random.PRNGKey(seed), time.perf_counter()
        key, first = jax.random.split(key)
        state = init(target.scale * jax.random.normal(first, (num_particles, target.dim)))
        size, log_z, count = jnp.array(0.2), 0.0, 0
        while state.tempering_param < 1:
            key, now = jax.random.split(key)
            mean = state.weights @ state.particles
            mass = state.weights @ (state.particles - mean) ** 2 + 1e-8
            state, info = step(now, state, size, mass)
            log_z, count = log_z + float(info.log_likelihood_increment), count + 1
            rate = float(jnp.mean(info.update_info.acceptance_rate))
            size = size * float(np.exp(0.5 * (rate - 0.65)))
        gradients = count * num_particles * num_moves * (leapfrogs + 1)
        seconds = (time.perf_counter() - begin) / gradients
        rows.append((log_z - float(target.log_normalizer or 0.0), gradients, seconds))
    errors, counts, speeds = zip(*rows[1:], strict=True)
    return list(errors), list(counts), list(speeds)
