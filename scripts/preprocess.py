"""Photographs, folders and videos through a front end onto the disk, for fitting and fine-tuning.

    python scripts/preprocess.py PHOTO_OR_FOLDER_OR_VIDEO … --out DIR
    python scripts/preprocess.py '/data/celeba/**/*.jpg' --out DIR --shard 3/16 --workers 8

Each face becomes one file, NAME.face.zip: head-frame normals, mask, landmarks, camera (docs/preprocessing.md). A
line for every image goes to DIR/manifest/. The same command again resumes; the shards of one
DIR may run at once, on any hosts. An input is called after its last folder; NAME=PATH gives it another name.

Pixel3DMM's own output: --frontend precomputed --precomputed=PREPROCESSED_DATA takes its maps instead of making them,
and --tracking=TRACKING_OUTPUT --head_model=FLAME its heads as pseudo ground truth.

Exit code: 0 every image gave a face; 1 some did not, or the disk is full; 2 wrong usage, or not one image could be
read; 130 interrupted.
"""

import sys
from pathlib import Path

from absl import app, flags

_OUT = flags.DEFINE_string("out", None, "folder to fill; made if needed")
_FRONTEND = flags.DEFINE_string(
    "frontend", "face_mesh", "face_mesh, pixel3dmm or precomputed (docs/front_ends.md)"
)
_SIZE = flags.DEFINE_integer("size", 256, "side of the network's input, pixels", lower_bound=8)
_CROP_SCALE = flags.DEFINE_float("crop_scale", 1.4, "side of the network's crop over the landmarks' box")
_MARGIN = flags.DEFINE_float("margin", 1.25, "side of what is stored over the network's crop")
_MAX_FACES = flags.DEFINE_integer("max_faces", 1, "the largest of each image; 0 for all", lower_bound=0)
_FOCAL = flags.DEFINE_float(
    "focal", None, "pixels, for all images; default: EXIF, else 1.2 times the longer side"
)
_FRAME_STEP = flags.DEFINE_integer("frame_step", 1, "of a video every n-th frame", lower_bound=1)
_SHARD = flags.DEFINE_string("shard", "0/1", "i/n: this process does part i of n, from 0")
_WORKERS = flags.DEFINE_integer("workers", 0, "processes; 0: in this one", lower_bound=0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "images that the front end gets at once", lower_bound=1)
_NORMALS = flags.DEFINE_string("pixel3dmm_normals", None, "Pixel3DMM's normals.ckpt")
_UV = flags.DEFINE_string("pixel3dmm_uv", None, "Pixel3DMM's uv.ckpt")
_FARL = flags.DEFINE_string("farl_weights", None, "FaRL's TorchScript file")
_PRECOMPUTED = flags.DEFINE_string("precomputed", None, "folder that Pixel3DMM's scripts wrote")
_TRACKING = flags.DEFINE_string(
    "tracking", None, "folder of Pixel3DMM's tracker; needs --precomputed, --head_model"
)
_HEAD_MODEL = flags.DEFINE_string("head_model", None, "the FLAME model of --tracking (docs/flame.md)")
_DEVICE = flags.DEFINE_string(
    "torch_device", None, "cpu, cuda, cuda:1, …; default: the GPU if PyTorch sees one"
)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {text}: i/n with i from 0 to n − 1 is meant, as 0/4 … 3/4")
    return int(index), int(count)


def main(argv: list[str]) -> int:
    if len(argv) < 2:
        raise app.UsageError("at least one photograph, folder, pattern or video is needed")
    import flame_jax
    from n2f_jax.data.manifest import ManifestError, count_statuses
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.preprocessing.inputs import parse_inputs
    from n2f_jax.preprocessing.run import run, stop_on_sigterm
    from n2f_jax.preprocessing.settings import Settings
    from n2f_jax.preprocessing.tracked import write_tracked_truths
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.assets_cache import AssetError
    from n2f_jax.runtime.output_folder import EXIT_NOTHING, OutputError
    from n2f_jax.runtime.worker_pool import WorkerError

    compilation_cache.enable()
    paths = {
        "pixel3dmm_normals": _NORMALS.value,
        "pixel3dmm_uv": _UV.value,
        "farl_weights": _FARL.value,
        "precomputed": _PRECOMPUTED.value,
    }
    options = FrontendOptions(
        size=_SIZE.value,
        crop_scale=_CROP_SCALE.value,
        max_faces=_MAX_FACES.value or None,
        torch_device=_DEVICE.value,
        **{name: Path(path) if path else None for name, path in paths.items()},
    )
    try:
        shard = _shard(_SHARD.value)
        if _TRACKING.value and not (_PRECOMPUTED.value and _HEAD_MODEL.value):
            raise ValueError(
                "--tracking needs --precomputed (Pixel3DMM's PREPROCESSED_DATA) and --head_model (FLAME)"
            )
        settings = Settings(_FRONTEND.value, options, _MARGIN.value, _FOCAL.value, _FRAME_STEP.value)
        with stop_on_sigterm():
            summary = run(
                parse_inputs(argv[1:]),
                _OUT.value,
                settings,
                shard=shard,
                workers=_WORKERS.value,
                batch_size=_BATCH_SIZE.value,
            )
        tracked = None
        if _TRACKING.value and not (summary.stopped or summary.interrupted):
            model = flame_jax.load_head_model(_HEAD_MODEL.value)
            tracked = write_tracked_truths(
                _OUT.value, _PRECOMPUTED.value, _TRACKING.value, model, shard=shard
            )
        merged = count_statuses(_OUT.value)
    except (ValueError, OSError, ImportError, AssetError, ManifestError, OutputError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_NOTHING
    print(summary.text())
    if tracked is not None:
        print("tracked heads: " + ", ".join(f"{count} {name}" for name, count in tracked.items()))
    print(f"{_OUT.value}, all shards: " + ", ".join(f"{count} {name}" for name, count in merged.items()))
    return summary.exit_code


if __name__ == "__main__":
    flags.mark_flags_as_required(["out"])
    app.run(main)
