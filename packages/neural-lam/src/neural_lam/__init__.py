"""Graph-based weather forecasting on any domain: deterministic, latent-variable and diffusion models."""

__version__ = "1.0.0"
