"""A sheet of photographs of public repositories and the heads that the default makes of them, to be looked at.

    python scripts/benchmarks/photo_sheet.py --photos ROOT --out sheet.png [--count 24] [--checkpoint DIR] [--refine N]

--photos: the folder of the repositories that scripts/benchmarks/public_photos lists (a missing file says what brings
it). Photographs of one face in colour, one of each person, from the repositories in turns. Each tile: the face, the
mesh over it, and the mesh from the front, from the side and from below as it is at rest, without expression: a fault
that all heads share is seen there.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

LISTS = Path(__file__).parent / "public_photos"
_PANEL, _FOCAL = 190, 1400.0  # pixels
# Yaw and pitch of the head, degrees, in the pictures of the mesh alone.
_TURNS = ((0.0, 0.0), (75.0, 0.0), (35.0, -25.0))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--photos", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=24, metavar="N", help="default: %(default)s")
    parser.add_argument("--checkpoint", metavar="DIR", help="default: the one that ships")
    parser.add_argument("--refine", type=int, metavar="N", help="default: as n2f reconstruct")
    flags = parser.parse_args()

    import flame_jax
    from n2f_jax.evaluation.public_photos import photo_files, read_photo_lists
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT
    from n2f_jax.reconstruction.output_files import write_image
    from n2f_jax.reconstruction.pictures import HeadPaint
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.visualization.layout import FAINT, background, text_strip

    compilation_cache.enable()
    try:
        photos = chosen(read_photo_lists(LISTS), flags.count)
        files = photo_files(photos, flags.photos)
        reconstructor = Reconstructor.from_pretrained(
            flags.checkpoint or DEFAULT_CHECKPOINT, refine=flags.refine
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    model, paint = reconstructor.head_model, HeadPaint.of(reconstructor.head_model)
    found = reconstructor.reconstruct(files, max_faces=1, return_errors=True)
    cells = []
    for photo, file, heads in zip(photos, files, found, strict=True):
        if isinstance(heads, Exception) or not heads:
            print(f"{photo.name}: {heads or 'no face'}")
            continue
        head = heads[0]
        rest = flame_jax.FlameParams.neutral(model, (1,))
        rest = dataclasses.replace(rest, shape=np.asarray(head.shape, np.float32)[None])
        resting = np.asarray(flame_jax.decode(model, rest)[0])[0]
        panels = np.concatenate([*over_photo(file, head, paint), *alone(resting, head, paint)], axis=1)
        turn = ", ".join(f"{angle:+.0f}" for angle in head.angles())
        caption = f"{photo.repository.split('/')[1]} {Path(photo.path).stem}: {turn} degrees"
        cells.append(np.concatenate([panels, text_strip(caption, panels.shape[1], 26, FAINT)]))
    shown = len(cells)
    cells += [background(*cells[0].shape[:2])] * (shown % 2) if cells else [background(1, 1)] * 2
    rows = [np.concatenate(cells[i : i + 2], axis=1) for i in range(0, len(cells), 2)]
    write_image(flags.out, np.concatenate(rows))
    print(f"{shown} of {len(photos)} photographs: {flags.out}")
    return 0


def chosen(photos, count: int) -> list:
    """So many with one face each, in colour, of different persons: from the repositories in turns."""
    queues: dict[str, list] = {}
    seen = set()
    for photo in photos:
        who = photo.repository, photo.person or photo.path
        if photo.faces == 1 and who not in seen and not {"grey", "tight"} & set(photo.tags):
            seen.add(who)
            queues.setdefault(photo.repository, []).append(photo)
    picked = []
    while len(picked) < count and any(queues.values()):
        picked += [queue.pop(0) for queue in queues.values() if queue]
    return picked[:count]


def over_photo(file: Path, head, paint) -> list[np.ndarray]:
    """The face and the mesh over it."""
    from n2f_jax.data.images import read_image
    from n2f_jax.geometry.boxes import bounding_box
    from n2f_jax.reconstruction.pictures import ALPHA
    from n2f_jax.visualization.layout import fit
    from n2f_jax.visualization.overlay import View

    image = read_image(file)[0]
    view = View.around(bounding_box(head.vertices_2d), image.shape[:2], 1.0, 2 * _PANEL)
    photo, drawn = view.cut(image), paint.draw(head, view)
    shown = [photo, photo if drawn is None else drawn.clay().over(photo, ALPHA)]
    return [fit(one, (_PANEL, _PANEL)) for one in shown]


def alone(vertices: np.ndarray, head, paint) -> list[np.ndarray]:
    """The resting mesh, turned."""
    from scipy.spatial.transform import Rotation

    from n2f_jax.visualization.layout import background
    from n2f_jax.visualization.overlay import View, draw_mesh

    half = _PANEL / 2
    intrinsics = np.array([[_FOCAL, 0, half], [0, _FOCAL, half], [0, 0, 1]])
    share = 0.4 * _PANEL / _FOCAL  # of the distance, that half a head may be high
    centred = vertices - (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    distance = np.abs(centred).max() / share
    panels = []
    for yaw, pitch in _TURNS:
        turn = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
        in_camera = centred @ (np.diag([1.0, -1.0, -1.0]) @ turn).T + np.array([0.0, 0.0, distance])
        empty = background(_PANEL, _PANEL)
        drawn = draw_mesh(
            in_camera, head.faces, intrinsics, View((0.0, 0.0), 1.0, empty.shape[:2]), paint.colors
        )
        panels.append(empty if drawn is None else drawn.clay().over(empty))
    return panels


if __name__ == "__main__":
    sys.exit(main())
