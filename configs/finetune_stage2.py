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
What to expect: see finetune_stage1.py.
"""

from pathlib import Path

import ml_collections

from n2f_jax.training.config_files import read_config
from n2f_jax.training.setup import as_config_dict
from n2f_jax.training.stored import StoredConfig


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
    config = read_config(Path(__file__).with_name("stage2.py"), variant)
    small = variant == "small"
    config.init_from = ""  # fine-tuning stage 1's <workdir>/best

    parts = {"part": "all", "validation_part": "all"} if small else {"validation_part": "common"}
    config.stored = as_config_dict(StoredConfig(kind="annotated", **parts))
    config.data.front_end_share = 0.0

    config.loss.lambda_lmk = 10_000.0
    # Open in the paper. 4,000 steps see 300W's 3,148 training faces 20 times.
    config.total_steps = 4000
    config.stage_share = 1.0
    config.optimizer.warmup_steps = 200
    config.validation.every = 200
    config.checkpoint.every = 200
    if small:
        # The free front end's mask is that of its own mesh, not the face region that is drawn.
        config.loss.lambda_s = 0.0
        config.batch_size = 16
        config.total_steps = 200
        config.optimizer.rates.camera = 1e-4
        config.optimizer.warmup_steps = 20
        config.validation.every = 50
        config.validation.batch_size = 16
        config.checkpoint.every = 50
        config.save_dtype = "bfloat16"
    return config
