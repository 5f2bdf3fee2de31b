"""GEORCE compiled by JAX: all pairs at once, until no curve's energy falls any more.

The steps of a curve solve the problem with frozen metric tensors in closed form; a line search
halves them until the energy falls.  The tensor is taken at the start of each step, as in the
paper, and the number of iterations is bounded.

References:
    Rygaard & Hauberg (2025), GEORCE: A Fast New Control Algorithm for Computing Geodesics.
"""

import math
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from problems import Problem
from torch import Tensor, nn

__all__ = ["cheapest"]

jax.config.update("jax_enable_x64", True)

SETTINGS = [(5, 2), (10, 2), (10, 5), (20, 5)]  # segments and iterations
DIGIT = 0.1  # median relative error
ACTIVATIONS = {nn.Tanh: jnp.tanh, nn.Softplus: jax.nn.softplus, nn.SiLU: jax.nn.silu}


def _layer(layer: nn.Module) -> Callable[[jax.Array], jax.Array]:
    """One layer of a torch network on a single point."""
    if type(layer) in ACTIVATIONS:
        return ACTIVATIONS[type(layer)]
    if isinstance(layer, nn.Unflatten):
        return lambda x: x.reshape(layer.unflattened_size)
    weight = jnp.asarray(layer.weight.detach().numpy())
    bias = 0.0 if layer.bias is None else jnp.asarray(layer.bias.detach().numpy())
    if isinstance(layer, nn.Linear):
        return lambda x: weight @ x + bias
    # A transposed convolution is one of the image with zeros in between.
    kernel = jnp.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
    edge = [(k - 1 - p,) * 2 for k, p in zip(layer.kernel_size, layer.padding, strict=True)]

    def convolve(x: jax.Array) -> jax.Array:
        wide = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), edge, layer.stride)
        return wide[0] + bias[:, None, None]

    return convolve


def _translated(problem: Problem) -> Callable[[jax.Array], jax.Array]:
    """The decoder of a problem in JAX, on a single point; checked on one."""
    layers = [_layer(x) for x in getattr(problem.decoder, "layers", problem.decoder)]

    def decode(z: jax.Array) -> jax.Array:
        for layer in layers:
            z = layer(z)
        return z.ravel()

    there = problem.decoder(problem.a[:1])[0].numpy()
    if not np.allclose(decode(jnp.asarray(problem.a[0].numpy())), there, atol=1e-10):
        raise RuntimeError(f"{problem.name}: the translated decoder differs")
    return decode


def _solver(
    decode: Callable[[jax.Array], jax.Array], segments: int, iterations: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Lengths of the images of curves between single points."""

    def tensor(z: jax.Array) -> jax.Array:
        columns = jax.jacfwd(decode)(z)
        return columns.T @ columns

    def energy(a: jax.Array, u: jax.Array) -> jax.Array:
        points = a + jnp.cumsum(u, 0) - u
        return jax.vmap(lambda z, step: step @ tensor(z) @ step)(points, u).sum()

    def step(a: jax.Array, b: jax.Array, u: jax.Array) -> jax.Array:
        points = a + jnp.cumsum(u, 0) - u
        tensors = jax.vmap(tensor)(points)
        slope = jax.vmap(jax.grad(lambda z, s: s @ tensor(z) @ s))(points, u).at[0].set(0.0)
        later = slope.sum(0) - jnp.cumsum(slope, 0)
        inverse = jnp.linalg.inv(tensors)
        pushed = jnp.einsum("tij,tj->ti", inverse, later)
        multiplier = jnp.linalg.solve(inverse.sum(0), 2 * (a - b) - pushed.sum(0))
        target = -(jnp.einsum("tij,j->ti", inverse, multiplier) + pushed) / 2
        before = energy(a, u)

        def worse(fraction: jax.Array) -> jax.Array:
            falls = energy(a, u + fraction * (target - u)) < before
            return ~falls & (fraction > 1e-3)

        fraction = jax.lax.while_loop(worse, lambda fraction: fraction / 2, 1.0)
        return u + jnp.where(fraction > 1e-3, fraction, 0.0) * (target - u)

    def length(a: jax.Array, b: jax.Array) -> jax.Array:
        start = jnp.broadcast_to((b - a) / segments, (segments, len(a)))
        u = jax.lax.fori_loop(0, iterations, lambda _, u: step(a, b, u), start)
        points = jnp.concatenate([a[None], a + jnp.cumsum(u, 0)])
        fine = points[:-1, None] + jnp.linspace(0, 1, 8, endpoint=False)[:, None] * u[:, None]
        image = jax.vmap(decode)(jnp.concatenate([fine.reshape(-1, len(a)), b[None]]))
        return jnp.linalg.norm(jnp.diff(image, axis=0), axis=1).sum()

    return jax.jit(jax.vmap(length))


def _answer(solve: Callable[..., jax.Array], problem: Problem) -> Tensor:
    a, b = (jnp.asarray(x.numpy()) for x in (problem.a, problem.b))
    return torch.from_numpy(np.array(solve(a, b)))


def cheapest(problem: Problem) -> tuple[Callable[[Problem], Tensor], str]:
    """The cheapest setting with a digit in the median, and its name."""
    decode, found = _translated(problem), []
    for segments, iterations in SETTINGS:
        work = partial(_answer, _solver(decode, segments, iterations))
        error = ((work(problem) - problem.exact) / problem.exact).abs().nanmedian()
        start = time.process_time()
        work(problem)
        seconds = time.process_time() - start if error <= DIGIT else math.inf
        found.append((seconds, (segments, iterations), work))
    seconds, (segments, iterations), work = min(found, key=lambda entry: entry[0])
    if not math.isfinite(seconds):
        raise RuntimeError(f"{problem.name}: no setting of compiled GEORCE has a digit")
    return work, f"{segments} segments, {iterations} iterations"
