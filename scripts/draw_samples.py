"""Draws a page of training samples: input normals, mask, and what was sampled.

    python scripts/draw_samples.py --config=configs/stage1.py:small --out samples.png [--num 24] [--seed 0]
    python scripts/draw_samples.py --config=configs/stage1.py --config.data.hair_share=0.5 --out samples.png
    python scripts/draw_samples.py --config=configs/stage1.py --each --out degradations.png

--each draws instead every degradation alone, at a strong setting, next to the clean map.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<stage>.py, or configs/<stage>.py:small")
_OUT = flags.DEFINE_string("out", None, "picture to write")
_NUM = flags.DEFINE_integer("num", None, "samples; 24, with --each 3", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "of the batch")
_EACH = flags.DEFINE_bool("each", False, "every degradation alone")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are given as --config.field=value")
    from PIL import Image

    from flame_jax import HeadModelError
    from n2f_jax.training.setup import SetupError, build_assets, check, load_model, sampler_config
    from n2f_jax.visualization.sample_sheet import degradation_page, sample_page

    try:
        model = load_model(_CONFIG.value)
        check(_CONFIG.value, model)
        assets, sampler = build_assets(_CONFIG.value, model), sampler_config(_CONFIG.value.data)
        draw, num = (degradation_page, _NUM.value or 3) if _EACH.value else (sample_page, _NUM.value or 24)
        page = draw(assets, sampler, num=num, seed=_SEED.value)
        Image.fromarray(page).save(_OUT.value, quality=75)
    except (SetupError, HeadModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{num} samples of {sampler.image_size}² pixels → {_OUT.value}")
    return 0


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "out"])
    app.run(main)
