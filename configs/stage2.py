"""Stage 2: the camera module, L_render on synthetic heads; backbone and FLAME module frozen.

The paper's (N2FNet, IV.1):
    python scripts/train.py --config=configs/stage2.py --workdir=runs/stage2 --config.init_from=runs/stage1/best
The small one, on two CPU cores:
    python scripts/train.py --config=configs/stage2.py:small --workdir=runs/small/stage2 \
        --config.init_from=runs/small/stage1/best
What to expect: the small one finds the 68 landmarks to 1.6 % of the crop's side and the rotation to 2.6° (RESULTS.md);
shape and expression stay what stage 1 made them, bit for bit, also in what is saved (docs/training.md).
"""

from n2f_jax.training.presets import stage2 as get_config

__all__ = ["get_config"]
