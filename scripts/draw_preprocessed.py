"""Draws a page of stored faces: photograph, normals, mask, landmarks, and what the network is shown.

    python scripts/draw_preprocessed.py --folder DIR --out page.png [--num 6] [--first 0]

--truth also draws the heads that the pseudo ground truth says, of the open head model or of --head_model.
"""

import sys

from absl import app, flags

_FOLDER = flags.DEFINE_string("folder", None, "preprocessed folder")
_OUT = flags.DEFINE_string("out", None, "picture to write")
_NUM = flags.DEFINE_integer("num", 6, "faces", lower_bound=1)
_FIRST = flags.DEFINE_integer("first", 0, "number of the first one", lower_bound=0)
_SIZE = flags.DEFINE_integer("size", 128, "side of the network's input, pixels", lower_bound=8)
_CROP_SCALE = flags.DEFINE_float("crop_scale", 1.4, "side of the network's crop over the landmarks' box")
_TRUTH = flags.DEFINE_bool("truth", False, "draw the pseudo ground truth too")
_HEAD_MODEL = flags.DEFINE_string(
    "head_model", None, "that the pseudo ground truth belongs to; default: the open head"
)


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    from PIL import Image

    import flame_jax
    from n2f_jax.data.manifest import ManifestError
    from n2f_jax.data.preprocessed import list_faces
    from n2f_jax.visualization.stored_sheet import stored_page

    try:
        faces = list_faces(_FOLDER.value)[_FIRST.value : _FIRST.value + _NUM.value]
        if not faces:
            raise ValueError(f"{_FOLDER.value} has no face number {_FIRST.value}")
        model = None
        if _TRUTH.value:
            path = _HEAD_MODEL.value
            model = flame_jax.load_head_model(path) if path else flame_jax.load_open_head()
        size, crop_scale = _SIZE.value, _CROP_SCALE.value
        page = stored_page(_FOLDER.value, faces, crop_scale=crop_scale, size=size, head_model=model)
        Image.fromarray(page).save(_OUT.value, quality=85)
    except (ManifestError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(faces)} faces → {_OUT.value}")
    return 0


if __name__ == "__main__":
    flags.mark_flags_as_required(["folder", "out"])
    app.run(main)
