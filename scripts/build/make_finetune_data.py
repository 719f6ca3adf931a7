"""Makes small sets to try fine-tuning on, free of licences: heads with exact parameters, photographs with landmarks.

    python scripts/build/make_finetune_data.py --out finetune_data [--num_renders 512] [--size 128]

    OUT/renders          preprocessed: sampled open heads as the free front end sees them, each with its parameters as
                         pseudo ground truth; stands in for CelebA-HQ (stage 1)
    OUT/photos           two portraits in the public domain, varied, with the front end's landmarks as .pts files
    OUT/photos_faces     the same, preprocessed; with OUT/photos it stands in for 300W (stage 2)

The same command again goes on where it stopped. Exit code 0; 2 where something is missing.
"""

import sys
from pathlib import Path

from absl import app, flags

_OUT = flags.DEFINE_string("out", None, "folder to fill; made if needed")
_RENDERS = flags.DEFINE_integer("num_renders", 512, "sampled heads", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 128, "side of the network's input, pixels", lower_bound=8)
_CROP_SCALE = flags.DEFINE_float("crop_scale", 1.4, "side of the network's crop over the landmarks' box")
_SEED = flags.DEFINE_integer("seed", 0, "of the sampled heads")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.data.manifest import ManifestError, count_statuses
    from n2f_jax.preprocessing.open_sets import write_photo_set, write_rendered_set
    from n2f_jax.runtime.assets_cache import AssetError
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.runtime.output_folder import OutputError
    from n2f_jax.preprocessing.inputs import parse_inputs
    from n2f_jax.preprocessing.run import run
    from n2f_jax.preprocessing.settings import Settings

    compilation_cache.enable()
    out, size, crop_scale = Path(_OUT.value), _SIZE.value, _CROP_SCALE.value
    options = FrontendOptions(size=size, crop_scale=crop_scale, max_faces=1)
    try:
        write_rendered_set(out / "renders", _RENDERS.value, size, crop_scale=crop_scale, seed=_SEED.value)
        photos = write_photo_set(out / "photos", size, crop_scale)
        run(parse_inputs([str(photos)]), out / "photos_faces", Settings(options=options))
    except (ValueError, OSError, ImportError, AssetError, ManifestError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in ("renders", "photos_faces"):
        print(f"{out / name}: {count_statuses(out / name)['faces']} faces")
    return 0


if __name__ == "__main__":
    flags.mark_flags_as_required(["out"])
    app.run(main)
