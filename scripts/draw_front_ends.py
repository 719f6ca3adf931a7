"""Draws what Pixel3DMM and FaRL see of a photograph, beside our own head there; with their files, also what they say.

    python scripts/draw_front_ends.py photo.jpg --out page.png
    python scripts/draw_front_ends.py photo.jpg --out page.png \
        --pixel3dmm_normals normals.ckpt [--pixel3dmm_uv uv.ckpt] [--farl_weights FILE]

Without the files the page shows how their pictures have to look (docs/front_ends.md).
"""

import sys
from pathlib import Path

from absl import app, flags

_OUT = flags.DEFINE_string("out", None, "picture to write")
_NORMALS = flags.DEFINE_string("pixel3dmm_normals", None, "Pixel3DMM's normals.ckpt")
_UV = flags.DEFINE_string("pixel3dmm_uv", None, "Pixel3DMM's uv.ckpt")
_FARL = flags.DEFINE_string("farl_weights", None, "FaRL's parser; default: where facer keeps it")


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        raise app.UsageError("one photograph")
    from PIL import Image

    from n2f_jax.data.images import read_image
    from n2f_jax.frontends.registry import FrontendOptions, make_frontend
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.reconstruction.front_end_sheet import front_end_sheet
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime.assets_cache import AssetError

    try:
        image, info = read_image(argv[1])
        reconstructor = Reconstructor.from_pretrained()
        faces = reconstructor.detect(image)[:1]
        if not faces:
            raise ValueError(f"no face in {argv[1]}")
        size = image.shape[:2]
        (head,) = reconstructor.from_faces(faces, [size], [resolve_focal(size, exif=info.focal)])
        frontend = None
        if _NORMALS.value:
            options = FrontendOptions(
                max_faces=1,
                pixel3dmm_normals=Path(_NORMALS.value),
                pixel3dmm_uv=_UV.value and Path(_UV.value),
                farl_weights=_FARL.value and Path(_FARL.value),
            )
            frontend = make_frontend("pixel3dmm", options)
        page = front_end_sheet(image, faces[0], head, reconstructor.head_model, frontend)
        Image.fromarray(page).save(_OUT.value, quality=85)
    except (ValueError, OSError, AssetError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{argv[1]} → {_OUT.value}")
    return 0


if __name__ == "__main__":
    flags.mark_flag_as_required("out")
    app.run(main)
