"""Stage 2: the camera module, L_render on synthetic heads; backbone and FLAME module frozen.

The paper's (N2FNet, IV.1):
    python scripts/train.py --config=configs/stage2.py --workdir=runs/stage2 --config.init_from=runs/stage1/best
The small one, on two CPU cores:
    python scripts/train.py --config=configs/stage2.py:small --workdir=runs/small/stage2 \
        --config.init_from=runs/small/stage1/best
What to expect: the small one finds the 68 landmarks to 1.6 % of the crop's side and the rotation to 2.6° (RESULTS.md);
shape and expression stay what stage 1 made them, bit for bit.
"""

import ml_collections

from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.models.n2fnet import n2fnet_config
from n2f_jax.training.losses import RenderLossConfig
from n2f_jax.training.setup import as_config_dict


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
    if variant not in ("paper", "small"):
        raise ValueError(f"configs/stage2.py has the variants paper and small, not {variant!r}")
    small = variant == "small"
    config = ml_collections.ConfigDict()
    config.seed = 0x5A6E2
    config.objective = "render"
    config.head_model = ""
    config.backbone_weights = ""
    config.from_scratch = False
    config.init_from = ""  # stage 1's <workdir>/best

    config.data = as_config_dict(SyntheticConfig())
    config.model = as_config_dict(n2fnet_config("tiny" if small else "L"))
    size = ml_collections.FieldReference(config.model.input_size)
    config.model.input_size = size
    config.data.image_size = size
    config.loss = as_config_dict(RenderLossConfig())

    config.batch_size = 16
    config.total_steps = 200_000  # of both stages
    config.stage_share = 0.25

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.groups = (
        ("backbone/.*", "frozen"),
        ("flame/.*", "frozen"),
        ("camera/.*", "camera"),
    )
    config.optimizer.rates = ml_collections.ConfigDict({"camera": 1e-4})
    config.optimizer.name = "adam"
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0
    config.optimizer.warmup_steps = 1000  # open in the paper
    config.optimizer.final_fraction = 0.0

    config.parallel = ml_collections.ConfigDict()
    config.parallel.devices = 0  # all there are
    config.parallel.fsdp = False  # split large parameters over the devices
    config.parallel.accumulation_steps = 1
    config.not_finite = "stop"  # or "skip" such a step

    config.log_every = 50
    config.save_dtype = "float32"  # of the matrices in <workdir>/best
    config.validation = ml_collections.ConfigDict()
    config.validation.every = 2500
    config.validation.num_heads = 512
    config.validation.batch_size = 16
    config.validation.seed = 1
    config.validation.best_by = "loss"
    config.checkpoint = ml_collections.ConfigDict({"every": 1000, "keep": 2})

    if small:
        config.data.front_end_share = 0.5
        config.data.crop_centre_jitter = 0.03
        config.data.crop_scale_jitter = 0.05
        config.data.closed_eyes_share = 0.1
        config.data.point_noise = 0.008
        config.data.point_z_scale = 0.06
        config.batch_size = 32
        config.save_dtype = "bfloat16"  # what ships
        # The camera is what the landmarks say; mask and normals also answer for errors of the frozen shape.
        config.loss.lambda_lmk = 1000.0
        config.total_steps = 2000
        config.optimizer.name = "muon"
        config.optimizer.rates.camera = 1e-3
        config.optimizer.b2 = 0.99
        config.optimizer.clip_norm = 1.0
        config.optimizer.warmup_steps = 50
        config.validation.every = 100
        config.validation.num_heads = 256
        config.validation.batch_size = 32
        config.checkpoint.every = 100
    return config
