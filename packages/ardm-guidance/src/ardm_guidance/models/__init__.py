"""Autoregressive diffusion models: orders, networks, the bound and sampling."""
