"""Which faces the detector finds in 1920 × 1080, by size, beside another version of it; its ghosts; its time.

    python scripts/benchmarks/face_finding.py --photos ROOT [--split reporting] [--before FILE] [--repeat N] [--out DIR]

ROOT holds the repositories of ``scripts/benchmarks/public_photos`` as ``ROOT/owner/name``; where one is
missing, the error has the commands that bring it. FILE is ``n2f_jax/frontends/face_detector.py`` of another
version (``git show COMMIT:n2f_jax/frontends/face_detector.py > FILE``), measured in turns with this one.

Four sets of pictures:

- alone: a face with a known box, cut out with its surroundings, shrunk until the longer side of the box around
  its 68 landmarks (brows to chin, jaw to jaw) is 40, 60, 80, 110, 140 or 170 pixels, never enlarged, and laid
  at a random place on a plain, noisy, outdoor or blurred background; 24 faces of each size, the least used
  first.
- together: the same faces, one of each size to a canvas.
- photographs: as they are, with all that a person counted in them.
- without a face: the backgrounds, and photographs from below their lowest face.

What is drawn depends on the split alone. Found: intersection over union of a detection and the face's box is
at least 0.3. A ghost is a detection that finds no face and lies on nothing listed as unclear; twice: a second
detection of a face. Time: of one core, the median of the pictures, all versions in turns, the quickest of N.

Exit code: 0; 2 where something is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from n2f_jax.evaluation.public_photos import PublicPhoto
    from n2f_jax.frontends.face_detector import Detection

WIDTH, HEIGHT = 1920, 1080
SIZES = (40, 60, 80, 110, 140, 170)
FACES_OF_A_SIZE = 24
LISTS = Path(__file__).parent / "public_photos"
FOUND, TOUCHED = 0.3, 0.1
# Half the side of the surroundings, in sides of the face, alone on a canvas; beside others the cells are narrow.
SURROUNDINGS, NARROW = (1.3, 2.2, 4.0), 1.5
CLOSEST = 0.9  # kept even where another face is nearer
CELLS = (3, 2)
LANDSCAPE = "vladmandic/human/samples/in/background.jpg"
LEAST_REST = 200  # pixels of height and width


@dataclasses.dataclass(frozen=True)
class Face:
    """One listed face.

    Attributes:
        photo: index of its photograph.
        box: ``(4,)`` pixels of the photograph.
        others: ``(n, 4)`` what else may be a face there.
    """

    photo: int
    box: np.ndarray
    others: np.ndarray

    @property
    def size(self) -> float:
        return float((self.box[2:] - self.box[:2]).max())


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A picture whose faces are known.

    Attributes:
        name: for the table and the sheets.
        image: ``(H, W, 3)`` uint8.
        boxes: ``(n, 4)`` of its faces.
        sizes: ``(n,)`` as asked for; 0 where it is as it is.
        unclear: ``(m, 4)``.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray
    unclear: np.ndarray


def random_of(*key: object) -> np.random.Generator:
    """Random numbers that depend on the key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def usable_faces(photos: Sequence[PublicPhoto], shapes: Sequence[tuple[int, int]]) -> list[Face]:
    """Faces that can be cut out: with room around, of photographs that are not tight; in random order."""
    faces = []
    for index, (photo, (height, width)) in enumerate(zip(photos, shapes, strict=True)):
        if photo.boxes is None or "tight" in photo.tags:
            continue
        for number, box in enumerate(photo.boxes):
            room = min(box[0], box[1], width - box[2], height - box[3])
            if room >= 0.2 * (box[2:] - box[:2]).max():
                others = np.concatenate([np.delete(photo.boxes, number, axis=0), photo.unclear])
                faces.append(Face(index, box, others))
    return [faces[i] for i in random_of("order").permutation(len(faces))]


def choose_faces(faces: Sequence[Face]) -> dict[int, list[Face]]:
    """``FACES_OF_A_SIZE`` faces for each size that are at least as large, the least used first."""
    uses = {id(face): 0 for face in faces}
    chosen: dict[int, list[Face]] = {}
    for size in sorted(SIZES, reverse=True):
        large = sorted((face for face in faces if face.size >= size), key=lambda face: uses[id(face)])
        chosen[size] = large[:FACES_OF_A_SIZE]
        for face in chosen[size]:
            uses[id(face)] += 1
    return chosen


def cut_out(
    image: np.ndarray, face: Face, size: int, around: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A face with its surroundings, shrunk to a size.

    Returns:
        ``(h, w, 3)`` pixels, the face's ``(4,)`` box there, and the ``(n, 4)`` boxes of the others.
    """
    height, width = image.shape[:2]
    centre, reach = (face.box[:2] + face.box[2:]) / 2, around * face.size
    gaps = np.maximum(face.others[:, :2] - centre, centre - face.others[:, 2:]).max(axis=1)
    reach = max(min([reach, *gaps]), CLOSEST * face.size)
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach), [width, height]).astype(int)
    high = np.minimum(high, low + np.floor(np.array([WIDTH, HEIGHT]) * face.size / size).astype(int))
    part = image[low[1] : high[1], low[0] : high[0]]
    pixels = np.maximum(np.round((high - low) * size / face.size), 1).astype(int)
    shrunk = cv2.resize(part, tuple(pixels.tolist()), interpolation=cv2.INTER_AREA)
    scale = np.tile(pixels / (high - low), 2)
    others = (face.others - np.tile(low, 2)) * scale
    seen = (np.minimum(others[:, 2:], pixels) > np.maximum(others[:, :2], 0)).all(axis=1)
    return shrunk, (face.box - np.tile(low, 2)) * scale, others[seen]


def background(number: int, pictures: Sequence[np.ndarray], outdoors: np.ndarray) -> np.ndarray:
    """``(HEIGHT, WIDTH, 3)`` without faces: plain, noise, a landscape, or a blurred photograph upside down."""
    rng = random_of("background", number)
    kind = number % 4
    if kind == 0:
        return np.full((HEIGHT, WIDTH, 3), rng.integers(0, 256, 3), np.uint8)
    if kind == 1:
        grain = int(rng.choice([1, 4, 15, 60]))
        noise = rng.integers(0, 256, (-(-HEIGHT // grain), -(-WIDTH // grain), 3)).astype(np.uint8)
        return cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    if kind == 2:
        height, width = outdoors.shape[:2]
        side = rng.uniform(0.4, 1.0)
        h, w = int(side * height), int(side * height * WIDTH / HEIGHT)
        w = min(w, width)
        v, u = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        return cv2.resize(outdoors[v : v + h, u : u + w], (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    picture = pictures[rng.integers(len(pictures))]
    small = cv2.resize(picture[::-1], (WIDTH // 30, HEIGHT // 30), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 2.5)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def paste(image: np.ndarray, part: np.ndarray, low: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lays a part at a random place at or below ``low`` (2, 2): the cell's corners. Returns the place."""
    height, width = part.shape[:2]
    room = np.maximum(low[1] - low[0] - [width, height], 0)
    place = low[0] + rng.integers(0, room + 1)
    image[place[1] : place[1] + height, place[0] : place[0] + width] = part
    return place


def canvases(
    chosen: dict[int, list[Face]],
    images: Sequence[np.ndarray],
    backgrounds: Callable[[int], np.ndarray],
    together: bool,
    seed: str,
) -> Iterator[Canvas]:
    """Each chosen face alone on a canvas, or six sizes to a canvas."""
    whole = np.array([[0, 0], [WIDTH, HEIGHT]])
    if not together:
        for size, faces in chosen.items():
            for number, face in enumerate(faces):
                rng = random_of("alone", size, number, seed)
                canvas = backgrounds(number).copy()
                part, box, others = cut_out(images[face.photo], face, size, rng.choice(SURROUNDINGS))
                shift = np.tile(paste(canvas, part, whole, rng), 2)
                yield Canvas(
                    f"{size}_{number}", canvas, (box + shift)[None], np.array([size]), others + shift
                )
        return
    cell = np.array([WIDTH // CELLS[0], HEIGHT // CELLS[1]])
    for number in range(min(map(len, chosen.values()))):
        rng = random_of("together", number, seed)
        canvas = backgrounds(number).copy()
        boxes, sizes, unclear = [], [], []
        for position, size in zip(rng.permutation(len(SIZES)), SIZES, strict=True):
            face = chosen[size][number]
            part, box, others = cut_out(images[face.photo], face, size, NARROW)
            low = cell * [position % CELLS[0], position // CELLS[0]]
            shift = np.tile(paste(canvas, part, np.stack([low, low + cell]), rng), 2)
            boxes.append(box + shift)
            sizes.append(size)
            unclear.append(others + shift)
        yield Canvas(f"together_{number}", canvas, np.array(boxes), np.array(sizes), np.concatenate(unclear))


def below_faces(photo: PublicPhoto, image: np.ndarray) -> np.ndarray | None:
    """The photograph from half a face below its lowest one on; None where little is left."""
    boxes = np.concatenate([photo.boxes, photo.unclear]) if photo.boxes is not None else np.zeros((0, 4))
    sizes = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    top = int((boxes[:, 3] + sizes / 2).max(initial=0))
    rest = image[top:]
    return rest if min(rest.shape[:2]) >= LEAST_REST else None


@dataclasses.dataclass
class Counts:
    """What one detector did on one set.

    Attributes:
        asked: size → faces; 0: as they are.
        found: size → of them.
        ghosts: picture and box of each.
        missed: picture and box of each.
        twice: second detections of a face.
        seconds: of each picture.
    """

    asked: dict[int, int] = dataclasses.field(default_factory=dict)
    found: dict[int, int] = dataclasses.field(default_factory=dict)
    ghosts: list[tuple[str, list[float]]] = dataclasses.field(default_factory=list)
    missed: list[tuple[str, list[float]]] = dataclasses.field(default_factory=list)
    twice: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)

    def add(self, canvas: Canvas, boxes: Sequence[np.ndarray], seconds: float) -> None:
        """Counts the boxes of the detections of one picture."""
        from n2f_jax.geometry.boxes import box_overlap

        self.seconds.append(seconds)
        seen = np.zeros(len(canvas.boxes), int)
        for box in boxes:
            overlaps = [box_overlap(box, face) for face in canvas.boxes]
            if max(overlaps, default=0.0) >= FOUND:
                seen[int(np.argmax(overlaps))] += 1
            elif not any(lies_on(box, place) for place in canvas.unclear):
                self.ghosts.append((canvas.name, box.round(1).tolist()))
        self.twice += int(np.clip(seen - 1, 0, None).sum())
        for size, box, times in zip(canvas.sizes.tolist(), canvas.boxes, seen, strict=True):
            self.asked[size] = self.asked.get(size, 0) + 1
            self.found[size] = self.found.get(size, 0) + int(times > 0)
            if not times:
                self.missed.append((canvas.name, box.round(1).tolist()))


def lies_on(box: np.ndarray, place: np.ndarray) -> bool:
    from n2f_jax.geometry.boxes import box_overlap

    centre = (box[:2] + box[2:]) / 2
    return bool(((centre > place[:2]) & (centre < place[2:])).all()) or box_overlap(box, place) > TOUCHED


def measure(
    detectors: dict[str, Callable[[np.ndarray], list[Detection]]],
    pictures: Iterable[Canvas],
    repeat: int,
    out: Path | None,
) -> dict[str, Counts]:
    """Each detector on each picture, in turns; of ``repeat`` times, the quickest counts.

    With ``out``, pictures of what this version found go there.
    """
    counts = {name: Counts() for name in detectors}
    for canvas in pictures:
        for name, detector in detectors.items():
            seconds = []
            for _ in range(repeat):
                start = time.process_time()
                found = detector(canvas.image)
                seconds.append(time.process_time() - start)
            counts[name].add(canvas, [d.box for d in found], min(seconds))
            if out and name == "this":
                draw(canvas, found, out / f"{canvas.name}.jpg")
    return counts


def draw(canvas: Canvas, found: Sequence[Detection], path: Path) -> None:
    """Faces green, unclear places blue, detections red."""
    picture, thick = canvas.image.copy(), max(canvas.image.shape[0] // 400, 1)
    sets = (
        (canvas.boxes, (0, 200, 0)),
        (canvas.unclear, (60, 90, 255)),
        ([d.box for d in found], (235, 50, 40)),
    )
    for boxes, colour in sets:
        for box in boxes:
            low, high = (tuple(np.round(corner).astype(int).tolist()) for corner in (box[:2], box[2:]))
            cv2.rectangle(picture, low, high, colour, thick)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])


def format_table(title: str, counts: dict[str, Counts]) -> str:
    """Found of asked by size, ghosts, repetitions and milliseconds."""
    sizes = sorted(next(iter(counts.values())).asked)
    heads = [f"{size} px" if size else "faces" for size in sizes]
    if len(sizes) > 2:
        heads.append(f"{sizes[1]}–{sizes[-1]}")
    lines = [f"{title:<26}" + "".join(f"{head:>10}" for head in [*heads, "ghosts", "twice", "ms"])]
    for name, c in counts.items():
        cells = [f"{c.found[size]}/{c.asked[size]}" for size in sizes]
        if len(sizes) > 2:
            rest = sizes[1:]
            cells.append(f"{sum(c.found[size] for size in rest)}/{sum(c.asked[size] for size in rest)}")
        cells += [str(len(c.ghosts)), str(c.twice), f"{1e3 * float(np.median(c.seconds)):.0f}"]
        lines.append(f"{name:<26}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def load_module(path: Path) -> ModuleType:
    """A detector's file of another version, under a name of its own."""
    spec = importlib.util.spec_from_file_location("face_detector_before", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--photos", type=Path, required=True, metavar="ROOT", help="where the repositories lie"
    )
    parser.add_argument(
        "--split", choices=("choosing", "reporting"), default="reporting", help="default: %(default)s"
    )
    parser.add_argument("--before", type=Path, metavar="FILE", help="the detector of another version")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where face_finding.json and pictures go")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="times each picture is looked at")
    flags = parser.parse_args()

    from n2f_jax.data.images import ImageError, read_image
    from n2f_jax.evaluation.public_photos import MissingPhotoError, photo_files, read_photo_lists
    from n2f_jax.frontends import face_detector
    from n2f_jax.runtime.assets_cache import AssetError

    cv2.setNumThreads(1)
    listed = read_photo_lists(LISTS)
    photos = [photo for photo in listed if photo.split == flags.split]
    landscape = [photo for photo in listed if photo.name == LANDSCAPE]
    try:
        files = photo_files([*photos, *landscape], flags.photos)
        images = [read_image(file)[0] for file in files]
        detectors: dict[str, Callable[[np.ndarray], list[Detection]]] = {}
        if flags.before:
            before = load_module(flags.before)
            detectors["before"] = before.FaceDetector()
            detectors["before, small_faces"] = before.FaceDetector(small_faces=True)
        detectors["this"] = face_detector.FaceDetector()
        detectors["this, every_face"] = face_detector.FaceDetector(every_face=True)
        detectors["this, small_faces"] = face_detector.FaceDetector(small_faces=True)
    except (MissingPhotoError, ImageError, AssetError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    *images, outdoors = images

    faces = usable_faces(photos, [image.shape[:2] for image in images])
    chosen = choose_faces(faces)
    behind = functools.partial(background, pictures=images[::5], outdoors=outdoors)
    empty = [(f"background_{i}", behind(i)) for i in range(FACES_OF_A_SIZE)]
    for photo, image in zip(photos, images, strict=True):
        if (rest := below_faces(photo, image)) is not None:
            empty.append((f"below_{Path(photo.path).stem}", rest))
    none = np.zeros((0, 4))
    sets: dict[str, Iterable[Canvas]] = {
        "alone": canvases(chosen, images, behind, False, flags.split),
        "together": canvases(chosen, images, behind, True, flags.split),
        "photographs": (
            Canvas(Path(photo.path).stem, image, photo.boxes, np.zeros(len(photo.boxes), int), photo.unclear)
            for photo, image in zip(photos, images, strict=True)
            if photo.boxes is not None
        ),
        "without a face": (Canvas(name, image, none, np.zeros(0, int), none) for name, image in empty),
    }
    different = len({id(face) for group in chosen.values() for face in group})
    print(
        f"{flags.split}: {len(photos)} photographs, {different} different faces on canvases of {WIDTH} × {HEIGHT}"
    )
    record = {}
    for name, pictures in sets.items():
        counts = measure(
            detectors, pictures, flags.repeat, flags.out / name.replace(" ", "_") if flags.out else None
        )
        number = len(next(iter(counts.values())).seconds)
        print("\n" + format_table(f"{name} ({number} pictures)", counts), flush=True)
        record[name] = {key: dataclasses.asdict(value) for key, value in counts.items()}
    if flags.out:
        (flags.out / "face_finding.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nfaces green, unclear blue, detections red: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
