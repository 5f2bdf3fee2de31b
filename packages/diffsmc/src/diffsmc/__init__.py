"""Sampling unnormalised densities by denoising diffusion and sequential Monte Carlo."""

__version__ = "0.1.0"
