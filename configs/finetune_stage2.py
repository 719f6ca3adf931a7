"""Fine-tuning, stage 2: the camera module, L_render with λ_lmk = 10000 on annotated photographs.

The paper's (N2FNet, IV.1), on 300W with estimated normals and masks and the dataset's 68 landmarks:
    python scripts/preprocess.py 300W --frontend pixel3dmm --out runs/300w ...  # docs/preprocessing.md
    python scripts/train.py --config=configs/finetune_stage2.py --workdir=runs/finetune2 \\
        --config.init_from=runs/finetune1/best --config.stored.folder=runs/300w --config.stored.annotations=300W
The small one, on two CPU cores, for any folder of photographs with .pts files (here of the free data, whose
landmarks the free front end predicted):
    python scripts/train.py --config=configs/finetune_stage2.py:small --workdir=runs/small/finetune2 \\
        --config.init_from=runs/small/finetune1/best --config.stored.folder=runs/finetune_data/photos_faces \\
        --config.stored.annotations=runs/finetune_data/photos
The network is chosen on a twentieth of the training photographs, which is held out (docs/training.md).
What to expect: see finetune_stage1.py.
"""

from n2f_jax.training.presets import finetune_stage2 as get_config

__all__ = ["get_config"]
