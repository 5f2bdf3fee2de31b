"""Autoregressive diffusion for discrete data, guided exactly by discriminators and sequential Monte Carlo."""

__version__ = "0.1.0"
