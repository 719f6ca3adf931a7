"""What the stages share (model, sampler, optimiser, validation): for a config of your own to start from.

from n2f_jax.training.presets import common

def get_config(variant="small"):
    config = common(variant)
    config.objective = ...
    return config
"""

from n2f_jax.training.presets import common as get_config

__all__ = ["get_config"]
