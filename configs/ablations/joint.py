"""The paper's baseline (N2FNet, table 1): everything trained at once, by L_param + L_render.

The paper's, for one large GPU:
    python scripts/train.py --config=configs/ablations/joint.py --workdir=runs/joint \\
        --config.backbone_weights=dinov3-vitl16-pretrain-lvd1689m/model.safetensors
The small one, from random weights on two CPU cores:
    python scripts/train.py --config=configs/ablations/joint.py:small --workdir=runs/small/joint
What to expect: the paper reports a face CD of 1.26 mm against 1.19 of the two stages (on FLAME and Multiface, which
cannot be had here).
"""

from n2f_jax.training.presets import joint as get_config

__all__ = ["get_config"]
