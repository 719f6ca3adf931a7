"""Stage 1: backbone and FLAME module, L_param on synthetic heads.

The paper's (N2FNet, IV.1), for one large GPU:
    python scripts/train.py --config=configs/stage1.py --workdir=runs/stage1 \
        --config.backbone_weights=dinov3-vitl16-pretrain-lvd1689m/model.safetensors
The small one, from random weights on two CPU cores:
    python scripts/train.py --config=configs/stage1.py:small --workdir=runs/small/stage1
What to expect: the paper reports a face CD of 1.19 mm after both stages (on FLAME and Multiface, which cannot be had
here). The small one takes the held-out face error to about half of the mean head's in 4,500 steps (RESULTS.md).
"""

from n2f_jax.training.presets import stage1 as get_config

__all__ = ["get_config"]
