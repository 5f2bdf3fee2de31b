"""Observations: which are learnt, which are held out."""
