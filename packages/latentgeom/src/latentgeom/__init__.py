"""Latent spaces whose distances mean something.

Metrics are pulled back through a decoder, or chosen first and trained into it.
"""

__version__ = "0.1.0"
