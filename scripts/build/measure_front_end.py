"""Fits what the free front end corrects and reads by: the yaw of turned heads, and the gaze of irises.

    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 10
    python scripts/build/measure_front_end.py --renders face_renders [--eyes eyes.json]

Writes profile.npz and gaze.npz of n2f_jax/frontends/assets: ridge regressions on the choosing half of the renders, and
prints what they reach there and on the reporting half. --eyes writes how far lids and gaze are off, on the reporting
half, for scripts/build/measure_point_errors.py.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

_PROFILE_RIDGE, _GAZE_RIDGE = 1e-2, 20.0
# Of gaze, one learns only from what can be seen.
_MOST_YAW, _MOST_CLOSURE = np.radians(50.0), 0.6
_GROUPS = ("choosing", "reporting")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--renders", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the package's assets")
    parser.add_argument("--eyes", type=Path, metavar="FILE")
    flags = parser.parse_args()

    from n2f_jax import frontends
    from n2f_jax.runtime.atomic_files import atomic_path

    out = flags.out or Path(frontends.__file__).parent / "assets"
    found = {group: _look(flags.renders / group) for group in _GROUPS}
    profile = {version: _fit_profile(found["choosing"], version) for version in ("v1", "v2")}
    gaze = _fit_gaze(found["choosing"])
    about = np.str_(
        f"ridge regressions on {len(found['choosing'])} renders of 50 heads of the ICT Face Model Light "
        "(scripts/build/measure_front_end.py)"
    )
    for name, arrays in (("profile.npz", profile), ("gaze.npz", gaze)):
        with atomic_path(out / name) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, about=about, **arrays)
    for group in _GROUPS:
        _report(group, found[group], profile, gaze)
    eyes = _eye_errors(found["reporting"], gaze)
    print(f"lids and gaze, reporting: {eyes}")
    if flags.eyes:
        flags.eyes.write_text(json.dumps({version: eyes for version in ("v1", "v2")}) + "\n")
    return 0


def _look(folder):
    """For each render: what is known, and the largest face's points by both networks, with the features of its eyes."""
    from tqdm import tqdm

    from n2f_jax.benchmark.face_renders import read_face_renders
    from n2f_jax.data.images import read_image
    from n2f_jax.frontends.eyes import EyeReader, eye_closure
    from n2f_jax.frontends.face_landmarks import FaceLandmarker
    from n2f_jax.frontends.profile import on_axes, upright_axes

    landmarkers = [
        FaceLandmarker(landmarks=version, eyes=False, newer=True, check=False, profiles=False)
        for version in ("v1", "v2")
    ]
    reader, found = EyeReader(), []
    for path, render in tqdm(read_face_renders(folder), desc=folder.name):
        image, _ = read_image(path)
        truth = render.pixels(render.points, image.shape[:2])
        faces = [landmarker(image) for landmarker in landmarkers]
        if not all(faces):
            continue
        first, second = faces[0][0], faces[1][0]
        if np.linalg.norm(first.points[:, :2] - truth, axis=1).mean() > 0.5 * render.face_size:
            continue
        axes = upright_axes(first.points_478)
        features = reader.features(image, first.points_478.astype(np.float64), first.blendshapes)
        points = {"v1": first.points, "v2": second.points}
        newer = {"v1": first.points_478[:468], "v2": second.points_478[:468]}
        turned = {
            version: (on_axes(points[version], axes), on_axes(newer[version], axes)) for version in points
        }
        closure = [eye_closure(first.points_478, first.blendshapes, side) for side in (0, 1)]
        found.append((render, turned, axes, features, closure))
    return found


def _seen_rotation(render, axes):
    """The head's rotation seen along the ray to the face, and upright as the points were made."""
    from scipy.spatial.transform import Rotation

    ray = render.landmarks[17:].mean(axis=0)
    ray /= np.linalg.norm(ray)
    axis = np.cross(ray, [0.0, 0.0, 1.0])
    sine = np.linalg.norm(axis)
    to_z = Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arcsin(sine)).as_matrix()
    plane = np.eye(3)
    plane[:2, :2] = axes
    return plane @ to_z @ render.rotation


def _fit_profile(found, version):
    from n2f_jax.frontends.profile import yaw_features
    from n2f_jax.geometry.camera import pitch_yaw_roll

    rows, targets = [], []
    for render, turned, axes, *_ in found:
        features, sign = yaw_features(*turned[version])
        rows.append(features)
        targets.append(sign * pitch_yaw_roll(_seen_rotation(render, axes))[1])
    rows, targets = np.array(rows), np.array(targets)
    return np.linalg.solve(rows.T @ rows + _PROFILE_RIDGE * np.eye(rows.shape[1]), rows.T @ targets)


def _gaze_rows(found):
    """Features of each eye with those of the other, and outward yaw and pitch in the frame of the points' head."""
    from n2f_jax.frontends.profile import points_rotation

    rows, targets, usable, yaws = [], [], [], []
    for render, turned, axes, features, _ in found:
        rotation = _seen_rotation(render, axes)
        estimated = points_rotation(turned["v1"][1])
        for side, outward in ((0, 1.0), (1, -1.0)):
            gaze = estimated.T @ rotation @ render.gaze[side]
            rows.append(features[side])
            targets.append([outward * np.arctan2(gaze[0], gaze[2]), np.arcsin(gaze[1])])
            yaw = np.radians(render.angles[1])
            usable.append(abs(yaw) < _MOST_YAW and render.closure[side] < _MOST_CLOSURE)
            yaws.append(yaw)
    return np.array(rows), np.array(targets), np.array(usable)


def _fit_gaze(found):
    rows, targets, usable = _gaze_rows(found)
    rows, targets = rows[usable], targets[usable]
    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    design = np.concatenate([np.ones((len(rows), 1)), (rows - mean) / std], axis=1)
    penalty = _GAZE_RIDGE * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    weights = np.linalg.solve(design.T @ design + penalty, design.T @ targets)
    return {
        "mean": mean.astype(np.float32),
        "std": std.astype(np.float32),
        "weights": weights.astype(np.float32),
    }


def _eye_errors(found, gaze):
    """σ of lids' closure and of each angle of the common gaze (robust: from the median), yaw below 40°."""
    features, targets, _ = _gaze_rows(found)
    answer = gaze["weights"][0] + (features - gaze["mean"]) / gaze["std"] @ gaze["weights"][1:]
    error = np.degrees(answer - targets).reshape(-1, 2, 2)
    error[:, 1, 0] *= -1
    renders = [render for render, *_ in found]
    frontal = np.array([abs(render.angles[1]) < 40 for render in renders])
    open_eyes = np.array([render.closure.max() < 0.35 for render in renders])
    # Lids that meet leave a fifth of the distance between the renders' landmarks.
    true = np.clip(np.array([render.closure for render in renders]) / 0.8, -0.3, 1.0)
    lids = (np.array([closure for *_, closure in found]) - true)[frontal]
    return {
        "closure_std": round(float(np.sqrt((lids**2).mean())), 3),
        "gaze_std_deg": round(1.4826 * float(np.median(np.abs(error.mean(axis=1)[frontal & open_eyes]))), 2),
    }


def _report(group, found, profile, gaze):
    from n2f_jax.frontends.profile import points_rotation, yaw_features
    from n2f_jax.geometry.camera import pitch_yaw_roll

    for version, weights in profile.items():
        rows = []
        for render, turned, axes, *_ in found:
            true = pitch_yaw_roll(_seen_rotation(render, axes))[1]
            features, sign = yaw_features(*turned[version])
            before = pitch_yaw_roll(points_rotation(turned[version][0]))[1]
            rows.append(np.degrees([abs(true), abs(before - true), abs(sign * features @ weights - true)]))
        rows = np.array(rows)
        parts = []
        for low, high in ((0, 30), (30, 60), (60, 75), (75, 90)):
            inside = rows[(rows[:, 0] >= low) & (rows[:, 0] < high)]
            parts.append("{}-{}°: {:.1f} -> {:.1f}".format(low, high, *np.median(inside[:, 1:], axis=0)))
        print(f"{group}: yaw error of {version}, median, found -> corrected: {'; '.join(parts)}")
    features, targets, _ = _gaze_rows(found)
    answer = gaze["weights"][0] + (features - gaze["mean"]) / gaze["std"] @ gaze["weights"][1:]
    error = np.degrees(answer - targets).reshape(-1, 2, 2)
    error[:, 1, 0] *= -1
    error = np.linalg.norm(error.mean(axis=1), axis=1)
    renders = [render for render, *_ in found]
    yaw = np.array([abs(render.angles[1]) for render in renders])
    open_eyes = np.array([render.closure.max() < 0.35 for render in renders])
    inside = error[(yaw < 30) & open_eyes]
    print(
        f"{group}: gaze error, both eyes open, yaw below 30°: median {np.median(inside):.2f}°, n {len(inside)}"
    )


if __name__ == "__main__":
    sys.exit(main())
