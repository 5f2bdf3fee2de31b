"""Gaussians and mixtures of them: where paths start."""
