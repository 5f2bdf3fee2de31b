"""Approximations of the noised target: Monte Carlo and learned."""
