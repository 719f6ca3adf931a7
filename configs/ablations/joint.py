"""The paper's baseline (N2FNet, table 1): everything trained at once, by L_param + L_render.

The paper's, for one large GPU:
    python scripts/train.py --config=configs/ablations/joint.py --workdir=runs/joint \\
        --config.backbone_weights=dinov3-vitl16-pretrain-lvd1689m/model.safetensors
The small one, from random weights on two CPU cores:
    python scripts/train.py --config=configs/ablations/joint.py:small --workdir=runs/small/joint
What to expect: the paper reports a face CD of 1.26 mm against 1.19 of the two stages (on FLAME and Multiface, which
cannot be had here).
"""

from pathlib import Path

import ml_collections

from n2f_jax.training.config_files import read_config

_CONFIGS = Path(__file__).resolve().parents[1]


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
    stage1, stage2 = (read_config(_CONFIGS / f"{stage}.py", variant) for stage in ("stage1", "stage2"))
    config = stage1
    config.objective = "joint"
    config.loss = ml_collections.ConfigDict({"parameters": stage1.loss, "render": stage2.loss})
    config.stage_share = 1.0  # all steps of both stages
    config.optimizer.groups = (
        ("backbone/rope/.*", "frozen"),  # constants
        ("backbone/patch_embedding/.*", "patch_embedding"),
        ("backbone/.*", "backbone"),
        ("flame/.*", "flame"),
        ("camera/.*", "camera"),
    )
    config.optimizer.rates.camera = stage2.optimizer.rates.camera
    return config
