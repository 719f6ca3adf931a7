"""One photo to a FLAME head in one feed-forward pass, in JAX."""

__version__ = "0.2.0"
