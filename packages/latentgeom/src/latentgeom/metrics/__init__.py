"""Metrics, and those with closed forms."""
