"""The paper's input ablation (N2FNet, IV): UV maps beside normals, five channels.

The paper's two stages, for one large GPU:
    python scripts/train.py --config=configs/ablations/uv_normals.py:stage1 \\
        --workdir=runs/uv_normals/stage1 \\
        --config.backbone_weights=dinov3-vitl16-pretrain-lvd1689m/model.safetensors
    python scripts/train.py --config=configs/ablations/uv_normals.py:stage2 \\
        --workdir=runs/uv_normals/stage2 --config.init_from=runs/uv_normals/stage1/best
The small ones, from random weights on two CPU cores: stage1-small and stage2-small in place of stage1 and stage2.
What to expect: the paper reports a face CD of 1.26 mm with both against 1.18 with normals alone, on FLAME and
Multiface, which cannot be had here; what came out on the open head is in RESULTS.md. The free front end has no
UV, so the small variants train on full renders alone; what to compare them with is configs/stage1.py:small and
stage2.py:small with --config.data.front_end_share=0.
"""

from n2f_jax.training.presets import uv_normals as get_config

__all__ = ["get_config"]
