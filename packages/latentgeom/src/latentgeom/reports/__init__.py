"""Scores, pictures and files."""
