"""A page of what a front end must see: closed eyes, gaze, a photograph and its face crop, turned, hidden and no faces.

    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 10
    python scripts/benchmarks/front_end_page.py --renders face_renders --out docs/images/front_end_page.jpg

Renders are of the ICT Face Model Light; the photograph is scikit-image's astronaut (NASA, public domain).
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

_TILE = 190


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--renders", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    flags = parser.parse_args()

    from n2f_jax.frontends.face_confidence import REGIONS
    from n2f_jax.reconstruction.output_files import write_image
    from n2f_jax.reconstruction.pictures import HeadPaint
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.visualization.layout import grid

    reconstructor = Reconstructor.from_pretrained()
    paint = HeadPaint.of(reconstructor.head_model)
    pictures = [*_eyes(flags.renders / "reporting"), *_photographs()]
    tiles, captions = [], []
    for caption, image in pictures:
        (heads,) = reconstructor.reconstruct([image])
        said = "no face" if not heads else f"{heads[0].focal_source}, {heads[0].confidence:.2f}"
        if heads and heads[0].is_doubtful:
            said += " doubtful"
        if heads and heads[0].region_confidence.min() < 0.5:
            hidden = [n for n, c in zip(REGIONS, heads[0].region_confidence, strict=True) if c < 0.5]
            said += f", hidden: {', '.join(hidden)}"
        tiles += [_fit(image), _fit(_drawn(image, heads, paint))]
        captions += [caption, said]
    write_image(flags.out, grid(tiles, captions, columns=8, tile=_TILE))
    return 0


def _eyes(folder):
    """Renders whose eyes do something, the plainest of each kind."""
    from n2f_jax.benchmark.face_renders import read_face_renders
    from n2f_jax.data.images import read_image

    renders = [
        (path, r) for path, r in read_face_renders(folder) if abs(r.angles[1]) < 25 and r.face_size > 150
    ]
    kinds = {
        "closed": lambda r: -r.closure.min(),
        "left eye closed": lambda r: r.closure[1] - r.closure[0],
        "right eye closed": lambda r: r.closure[0] - r.closure[1],
        "open": lambda r: np.abs(r.closure).max() + np.abs(r.gaze[0, :2]).sum(),
        "to the subject's left": lambda r: -r.gaze[0, 0] + max(r.closure.max(), 0.1),
        "to the subject's right": lambda r: r.gaze[0, 0] + max(r.closure.max(), 0.1),
        "up": lambda r: -r.gaze[0, 1] + max(r.closure.max(), 0.1),
        "down": lambda r: r.gaze[0, 1] + max(r.closure.max(), 0.1),
    }
    for name, worth in kinds.items():
        path, _ = min(renders, key=lambda pair, worth=worth: worth(pair[1]))
        yield name, read_image(path)[0]
    for low, high in ((58, 68), (70, 82)):
        path, render = min(
            (
                (p, r)
                for p, r in read_face_renders(folder)
                if low < abs(r.angles[1]) < high and r.face_size > 150
            ),
            key=lambda pair: abs(pair[1].angles[0]),
        )
        yield f"yaw {render.angles[1]:.0f}", read_image(path)[0]


def _photographs():
    import skimage.data

    image = skimage.data.astronaut()
    yield "photograph", image
    yield "its face crop", np.ascontiguousarray(image[45:205, 145:305])
    part = np.ascontiguousarray(image[15:275, 95:355])
    yield "upside down", np.ascontiguousarray(part[::-1, ::-1])
    yield "on its side", np.ascontiguousarray(np.rot90(part))
    masked = image.copy()
    outline = np.array([[186, 132], [226, 124], [262, 132], [256, 178], [226, 192], [196, 178]], np.int32)
    cv2.fillPoly(masked, [outline], (150, 190, 215))
    yield "lower face hidden", np.ascontiguousarray(masked[15:275, 95:355])
    yield "no face", skimage.data.coffee()


def _drawn(image, heads, paint):
    from n2f_jax.reconstruction.pictures import photo_overlay

    return photo_overlay(image, heads, paint) if heads else image


def _fit(image):
    """The middle square, and of photographs the part with the head."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return cv2.resize(
        image[top : top + side, left : left + side], (_TILE, _TILE), interpolation=cv2.INTER_AREA
    )


if __name__ == "__main__":
    sys.exit(main())
