"""The correction on the surface, trained together with the network (not in the paper; docs/training.md).

The small one, from the checkpoint that ships, on two CPU cores:
    python scripts/train.py --config=configs/correction.py --workdir=runs/correction
One for a large GPU, from the paper's two stages:
    python scripts/train.py --config=configs/correction.py:paper --workdir=runs/correction \\
        --config.init_from=runs/stage2/best
What its answers are worth is measured afterwards: scripts/build/carry_over_checkpoint.py --keep-layers.
"""

from n2f_jax.training.presets import correction as get_config

__all__ = ["get_config"]
