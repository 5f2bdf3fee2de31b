"""Paths of densities from a base to the target."""
