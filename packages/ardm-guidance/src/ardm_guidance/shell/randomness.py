r"""Random numbers as a function of a key.

``seed_everything`` gives every rank the same stream, so noise drawn from it repeats over
ranks and depends on how many there are. Here a number is a function of
(seed, step, sample index, position): the same on one device and on many, and the same
after a resume. The function is SplitMix64 applied along the key,

.. math:: z = x + 0x9E3779B97F4A7C15,\quad
   z \leftarrow (z \oplus (z \gg 30))\,0xBF58476D1CE4E5B9,\quad
   z \leftarrow (z \oplus (z \gg 27))\,0x94D049BB133111EB,\quad
   z \leftarrow z \oplus (z \gg 31),

in wrapping 64-bit integers, on whatever device the sample indices live on.

References:
    Steele, Lea & Flood (2014), Fast splittable pseudorandom number generators.
"""

import math

import torch
from torch import Tensor

__all__ = ["keyed_generator", "keyed_normal", "keyed_uniform"]


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(z: Tensor, bits: int) -> Tensor:
    # torch shifts signed integers arithmetically; the mask makes the shift logical.
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    z = x + _GOLDEN
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


_ALL = (1 << 64) - 1


def _mix_int(x: int) -> int:
    """As :func:`_mix`, on the host."""
    z = (x + _GOLDEN) & _ALL
    z = ((z ^ (z >> 30)) * _FIRST) & _ALL
    z = ((z ^ (z >> 27)) * _SECOND) & _ALL
    return z ^ (z >> 31)


def _words(seed: int, step: int, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    key = torch.zeros_like(index, dtype=torch.int64)
    for part in (seed, step, index):
        key = _mix(key ^ part)
    position = torch.arange(math.prod(shape), device=index.device) * _GOLDEN
    return _mix(key.unsqueeze(-1) + position).reshape(*index.shape, *shape)


def keyed_uniform(
    seed: int,
    step: int,
    index: Tensor,
    shape: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Uniform numbers in the open interval :math:`(0, 1)`.

    Arguments:
        seed: Seed of the run.
        step: Optimisation step (or epoch, or any counter).
        index: Index of each sample in its data set, ``(B,)``.
        shape: Shape of the numbers of one sample.
        dtype: Floating-point type.

    Returns:
        ``(B, *shape)`` on the device of ``index``.
    """
    # As many bits as the mantissa holds, and half a step so that 0 and 1 are never reached.
    bits = 52 if dtype == torch.float64 else 23
    return (_shift(_words(seed, step, index, shape), 64 - bits).to(dtype) + 0.5) * 2.0**-bits


def keyed_normal(
    seed: int,
    step: int,
    index: Tensor,
    shape: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal numbers, by the inverse distribution function of `keyed_uniform`.

    References:
        Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3.
    """
    uniform = keyed_uniform(seed, step, index, shape, torch.float64)
    normal: Tensor = torch.special.ndtri(uniform)
    return normal.to(dtype)


def keyed_generator(seed: int, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of ``(seed, *key)``."""
    word = 0
    for part in (seed, *key):
        word = _mix_int(word ^ (part & _ALL))
    return torch.Generator(device).manual_seed(word >> 1)
