"""Targets: unnormalised log-densities with gradients, log Z and samples where known."""
