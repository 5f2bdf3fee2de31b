"""Training of learned potentials."""
