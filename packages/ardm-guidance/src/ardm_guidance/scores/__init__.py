"""Scores, reports and pictures of generated molecules."""
