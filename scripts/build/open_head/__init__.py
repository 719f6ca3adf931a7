"""Builds the free head model, ``flame_jax/assets/open_head.npz``, from MakeHuman's CC0 data."""
