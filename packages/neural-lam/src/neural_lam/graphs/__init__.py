"""Meshes over a grid, the edges that connect them, and the graph that they make."""
