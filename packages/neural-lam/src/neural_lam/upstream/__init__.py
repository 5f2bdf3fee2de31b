"""Graphs and weights of the upstream project."""
