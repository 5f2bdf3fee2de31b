"""Forecast stores, their scores and their pictures."""
