"""The paper's network without segmentation (N2FNet, IV): normals of the whole head, no face mask.

The paper's two stages, for one large GPU:
    python scripts/train.py --config=configs/ablations/no_segmentation.py:stage1 \\
        --workdir=runs/no_segmentation/stage1 \\
        --config.backbone_weights=dinov3-vitl16-pretrain-lvd1689m/model.safetensors
    python scripts/train.py --config=configs/ablations/no_segmentation.py:stage2 \\
        --workdir=runs/no_segmentation/stage2 --config.init_from=runs/no_segmentation/stage1/best
The small ones, from random weights on two CPU cores: stage1-small and stage2-small in place of stage1 and stage2.
What to expect: the paper reports a face CD of 1.21 mm without segmentation against 1.18 with it, on FLAME and
Multiface, which cannot be had here; what came out on the open head is in RESULTS.md. The free front end has no
normals beyond the face, so the small variants train on full renders alone; what to compare them with is
configs/stage1.py:small and stage2.py:small with --config.data.front_end_share=0.
"""

from pathlib import Path

import ml_collections

from n2f_jax.training.config_files import stage_config


def get_config(variant: str = "stage1") -> ml_collections.ConfigDict:
    config = stage_config(Path(__file__).resolve().parents[1], variant)
    config.data.masked = False
    config.data.front_end_share = 0.0
    return config
