"""Curves relaxed to the minimum of their energy."""
