"""How well the check of found faces tells right points from wrong ones, on faces that it was not trained on.

    python scripts/benchmarks/face_confidence.py --photos ROOT --renders FOLDER [--samples FILE]

ROOT holds the repositories of ``scripts/benchmarks/public_photos`` as ``ROOT/owner/name``; FOLDER is what
``scripts/build/make_face_renders.py`` writes, with ``reporting`` in it. FILE keeps the spoilt faces between runs.

Spoilt faces: every kind of ``scripts/build/face_check/corruptions.py`` once for each face of the reporting half's
photographs, six kinds for each of 200 renders. Bad: the mean error of the inner 51 landmarks is above 12 % of the eye
distance; in photographs without annotation the points found in the clean picture are the truth. Then, with the whole
front end: faces turned by 90°, 180° and 270°; parts of photographs without faces; the photographs as they are; its
time with the check and without.

Exit code: 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "build"))

from face_check.collect import kept
from face_check.known_faces import LISTS, best_match, faceless_parts, known_photographs
from face_check.learning import area, table
from face_check.samples import Sample, random_of

from n2f_jax.data.images import read_image
from n2f_jax.evaluation.public_photos import photo_files, read_photo_lists
from n2f_jax.frontends.face_confidence import OUTPUTS, REGIONS, FaceCheck, FaceConfidence
from n2f_jax.frontends.face_landmarks import FaceLandmarker

RENDERS, OF_RENDER, PARTS = 200, 6, 200
LOOKED_AT = (
    "vladmandic/human/samples/in/stock-emotions-b-5.jpg",
    "vladmandic/human/samples/in/stock-emotions-b-6.jpg",
    *(f"vladmandic/human/samples/in/stock-emotions-a-{i}.jpg" for i in range(1, 9)),
    "serengil/deepface/tests/unit/dataset/img59.jpg",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--sheet", type=Path, help="PNG of the photographs' doubtful faces")
    options = parser.parse_args()
    samples = kept(
        options.samples,
        photos=options.photos,
        renders=options.renders,
        split="reporting",
        most_renders=RENDERS,
        of_render=OF_RENDER,
        parts=0,
    )
    report_spoilt(samples)
    report_turned(options.photos)
    report_faceless(options.photos)
    report_photographs(options.photos, options.sheet)
    report_looked_at(options.photos)
    report_time(options.photos)


def report_spoilt(samples: list[Sample]) -> None:
    """Tables of the spoilt faces: how bad ones are told, by source and by kind."""
    samples = [sample for sample in samples if sample.source != "ghost"]
    data, check = table(samples), FaceConfidence()
    pairs = zip(data.flat.astype(np.float32), data.measured, strict=True)
    found = np.array([check.probabilities(*pair) for pair in pairs])
    confidence, bad = found[:, OUTPUTS.index("all")], data.targets[:, OUTPUTS.index("all")] < 1
    checks = [FaceCheck(row[OUTPUTS.index("all")], row[OUTPUTS.index("face")], {}) for row in found]
    doubtful = np.array([one.doubtful for one in checks])
    dropped = np.array([one.ghost for one in checks])
    kinds = np.array([sample.kind for sample in data.samples])
    sources = np.array([sample.source for sample in data.samples])
    by_score = area(np.array([sample.face.score for sample in data.samples]), bad)
    print(
        f"{len(samples)} spoilt faces, nothing found in {len(samples) - len(bad)}; AUC by score alone {by_score:.3f}"
    )
    print(
        f"{'':24s}{'faces':>7s}{'bad':>6s}{'AUC':>8s}{'bad called':>12s}{'good called':>12s}{'good dropped':>13s}"
    )
    upright = ~np.isin(kinds, ["turn", "upside_down"])
    rows = [
        ("all", sources != ""),
        ("photographs", sources != "render"),
        ("  annotated", sources == "annotated"),
        ("renders", sources == "render"),
        ("all but turned", upright),
        ("  photographs", upright & (sources != "render")),
        *((kind, kinds == kind) for kind in np.unique(kinds)),
    ]
    for name, of in rows:
        print(
            f"{name:24s}{of.sum():7d}{bad[of].sum():6d}{area(confidence[of], bad[of]):8.3f}"
            f"{_share(doubtful[of & bad]):>12s}{_share(doubtful[of & ~bad]):>12s}{_share(dropped[of & ~bad]):>13s}"
        )
    for low in np.arange(0, 1, 0.2):
        of = (confidence >= low) & (confidence < low + 0.2)
        print(f"confidence {low:.1f} … {low + 0.2:.1f}: {of.sum()} faces, good {_share(~bad[of])}")
    for index, name in enumerate(REGIONS):
        hidden = data.targets[:, index] < 0.5
        auc = area(found[:, index], hidden)
        print(f"{name}: {hidden.sum()} of {len(hidden)} not half in view and in place, AUC {auc:.3f}")


def report_turned(root: Path) -> None:
    """Faces of photographs turned by quarters, through the whole front end."""
    plain, checked = FaceLandmarker(check=False), FaceLandmarker()
    counts = {turns: np.zeros(5, int) for turns in (1, 2, 3)}
    for known in known_photographs(root, "reporting", plain):
        low, high = known.landmarks.min(axis=0), known.landmarks.max(axis=0)
        reach, centre = 1.3 * (high - low).max(), (low + high) / 2
        first = np.maximum(np.floor(centre - reach), 0).astype(int)
        last = np.minimum(np.ceil(centre + reach), known.image.shape[1::-1]).astype(int)
        part, true = known.image[first[1] : last[1], first[0] : last[0]], known.landmarks - first
        for turns, count in counts.items():
            image = np.ascontiguousarray(np.rot90(part, turns))
            turned = true.copy()
            width = part.shape[1]
            for k in range(turns):
                turned = np.stack(
                    [turned[:, 1], (width if k % 2 == 0 else part.shape[0]) - turned[:, 0]], axis=1
                )
            box = np.concatenate([turned.min(axis=0), turned.max(axis=0)])
            count[0] += 1
            for column, landmarker in ((1, plain), (2, checked)):
                face = best_match(landmarker(image), box, 0.1)
                error = (
                    np.inf if face is None else np.linalg.norm(face.landmarks_68 - turned, axis=1)[17:].mean()
                )
                count[column] += error < 0.12 * known.eye_distance
                if column == 2 and face is not None and error >= 0.12 * known.eye_distance:
                    count[3 if face.doubtful else 4] += 1
    print("turned by    faces  right without  right with  wrong, doubtful  wrong, believed")
    for turns, count in counts.items():
        print(f"{90 * turns:>6d}°    " + "".join(f"{x:>12d}" for x in count))


def report_faceless(root: Path) -> None:
    """What is found where no face is."""
    rng = random_of("faceless parts")
    plain, checked = FaceLandmarker(check=False), FaceLandmarker()
    count = np.zeros(4, int)
    for _, image in faceless_parts(root, "reporting", rng, PARTS):
        faces = checked(image)
        believed = sum(not face.doubtful for face in faces)
        count += [1, len(plain(image)), len(faces) - believed, believed]
    print(
        f"{count[0]} parts without faces: {count[1]} ghosts without the check; "
        f"with it {count[2]} doubtful, {count[3]} believed"
    )


def report_photographs(root: Path, sheet: Path | None) -> None:
    """The photographs of the reporting half as they are."""
    listed = [p for p in read_photo_lists(LISTS) if p.split == "reporting" and p.boxes is not None]
    landmarker, plain = FaceLandmarker(), FaceLandmarker(check=False)
    total, before, found, doubtful, others, believed = 0, 0, 0, [], 0, 0
    for photo, file in zip(listed, photo_files(listed, root), strict=True):
        image = read_image(file)[0]
        faces, without = landmarker(image), plain(image)
        left = list(faces)
        for box in photo.boxes:
            total += 1
            before += best_match(without, box) is not None
            face = best_match(left, box, 0.3)
            if face is None:
                continue
            left = [other for other in left if other is not face]
            found += 1
            if face.doubtful:
                doubtful.append((photo.name, face, image))
        left = [face for face in left if not any(best_match([face], box, 0.1) for box in photo.unclear)]
        others += len(left)
        believed += sum(not face.doubtful for face in left)
    print(
        f"photographs as they are: {total} faces listed, found {before} without the check and {found} with it, of "
        f"which {len(doubtful)} doubtful; {others} on no listed face, of which {believed} believed"
    )
    for name, face, _ in doubtful:
        print(f"  doubtful: {name}, {face.size:.0f} px, {_said(face)}")
    if sheet is not None and doubtful:
        cv2.imwrite(
            str(sheet), np.concatenate([_drawn(face, image) for _, face, image in doubtful])[..., ::-1]
        )


def report_looked_at(root: Path) -> None:
    """What is said of photographs with hands, closed eyes and strong expressions."""
    landmarker = FaceLandmarker()
    for name in LOOKED_AT:
        for face in landmarker(read_image(root / name)[0]):
            print(f"{name.rsplit('/', 1)[-1]}: {_said(face)}")


def report_time(root: Path) -> None:
    """Processor time an image: photographs of one face, with the check and without, one after the other."""
    listed = [p for p in read_photo_lists(LISTS) if p.split == "reporting" and p.faces == 1][:20]
    images = [read_image(file)[0] for file in photo_files(listed, root)]
    without, checked = FaceLandmarker(check=False), FaceLandmarker()
    check = FaceConfidence()
    times: dict[str, list[float]] = {"without": [], "with": [], "the check": []}
    for _ in range(3):
        for image in images:
            begun = time.process_time()
            faces = without(image)
            middle = time.process_time()
            checked(image)
            times["with"].append(time.process_time() - middle)
            times["without"].append(middle - begun)
            for face in faces:
                begun = time.process_time()
                check(image, face)
                times["the check"].append(time.process_time() - begun)
    print(
        "median ms of processor time: "
        + ", ".join(f"{name} {1e3 * np.median(values):.1f}" for name, values in times.items())
    )


def _said(face):
    regions = ", ".join(f"{name} {value:.2f}" for name, value in face.region_confidence.items())
    return f"confidence {face.confidence:.2f}; {regions}" + (
        f"; turned {90 * face.turned}°" if face.turned else ""
    )


def _drawn(face, image):
    """A face and its landmarks, 192 × 384."""
    low, high = face.box[:2], face.box[2:]
    reach, centre = 0.9 * (high - low).max(), (low + high) / 2
    scale = 192 / (2 * reach)
    matrix = np.array([[scale, 0, 96 - scale * centre[0]], [0, scale, 96 - scale * centre[1]]])
    plain = cv2.warpAffine(image, matrix, (192, 192), flags=cv2.INTER_AREA)
    drawn = plain.copy()
    for u, v in face.landmarks_68 @ matrix[:, :2].T + matrix[:, 2]:
        cv2.circle(drawn, (int(u), int(v)), 1, (0, 255, 0), -1)
    return np.concatenate([plain, drawn], axis=1)


def _share(values):
    return "–" if len(values) == 0 else f"{values.mean():.3f}"


if __name__ == "__main__":
    main()
