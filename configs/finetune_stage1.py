"""Fine-tuning, stage 1: backbone and FLAME module, L_param on faces with pseudo ground truth.

The paper's (N2FNet, IV.1), on CelebA-HQ with FLAME parameters of a tracker:
    python scripts/preprocess.py CelebA-HQ-img --frontend pixel3dmm --out runs/celeba_hq ...  # docs/preprocessing.md
    python scripts/train.py --config=configs/finetune_stage1.py --workdir=runs/finetune1 \\
        --config.init_from=runs/stage2/best --config.stored.folder=runs/celeba_hq
The small one, from the checkpoint that ships, on two CPU cores and free data:
    python scripts/build/make_finetune_data.py --out runs/finetune_data
    python scripts/train.py --config=configs/finetune_stage1.py:small --workdir=runs/small/finetune1 \\
        --config.stored.folder=runs/finetune_data/renders
What to expect: the paper reports a face CD of 1.18 mm after both stages against 1.19 before, and an NME of 5.50 % on
300W against 6.64 (on data that cannot be had here); what came out on free data is in RESULTS.md.
"""

from n2f_jax.training.presets import finetune_stage1 as get_config

__all__ = ["get_config"]
