"""Latent spaces whose distances mean something: metrics pulled back, or chosen first and trained into the decoder."""

__version__ = "0.1.0"
