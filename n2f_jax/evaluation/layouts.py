"""Folders of ground truth, each listed as samples: plain, NoW's, Multiface's, 300W's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from flame_jax.files.outside import reason
from n2f_jax.data.images import IMAGE_SUFFIXES
from n2f_jax.evaluation.landmarks3d import (
    LEFT_MOUTH,
    LEFT_OUTER_EYE,
    RIGHT_MOUTH,
    RIGHT_OUTER_EYE,
    landmarks_beside,
    read_landmark_vertices,
)
from n2f_jax.mesh.reading import MESH_SUFFIXES, read_mesh
from n2f_jax.runtime.outside_values import read_table, read_text

LAYOUTS = ("auto", "plain", "now", "multiface", "300w")
NOW_LISTS = ("imagepathsvalidation.txt", "imagepathstest.txt")
# The ten subjects of the dataset's first capture stage (39 colour cameras, scripted peak expressions); the other three
# were captured in another stage by another script. docs/evaluation.md says why these are the benchmark's ten.
MULTIFACE_SUBJECTS = (
    "m--20171024--0000--002757580--GHS",
    "m--20180105--0000--002539136--GHS",
    "m--20180226--0000--6674443--GHS",
    "m--20180227--0000--6795937--GHS",
    "m--20180406--0000--8870559--GHS",
    "m--20180418--0000--2183941--GHS",
    "m--20180426--0000--002643814--GHS",
    "m--20180510--0000--5372021--GHS",
    "m--20180927--0000--7889059--GHS",
    "m--20181017--0000--002914589--GHS",
)


class LayoutError(ValueError):
    """A folder of ground truth that is not what it should be; the message says what was looked for."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measurement to make.

    Attributes:
        name: what its prediction is called, with ``/`` for folders.
        truth: the scan or mesh (300w: the annotation).
        landmarks: file of the scan's seven landmarks, or None.
        image: the photograph, or None where the layout does not say.
        group: subject or part, for figures by group.
        camera: ``.camera.json`` beside the scan (FaceScape's protocol), or None.
        regions: file of this scan's own regions beside it (``NAME.regions.npz`` or ``.json``), or None.
    """

    name: str
    truth: Path
    landmarks: Path | None = None
    image: Path | None = None
    group: str = ""
    camera: Path | None = None
    regions: Path | None = None


def list_samples(
    root: str | Path, layout: str = "auto", multiface_frames: int = 1
) -> tuple[str, list[Sample]]:
    """The layout's name and its samples in a fixed order.

    Args:
        root: the folder.
        layout: of ``LAYOUTS``; ``auto`` looks for what NoW's and Multiface's folders have and takes ``plain`` else.
        multiface_frames: frames of each segment, evenly spread.

    Raises:
        LayoutError: no such folder, or nothing in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise LayoutError(f"no folder {root}")
    if layout not in LAYOUTS:
        raise LayoutError(f"layout {layout!r}; there are {', '.join(LAYOUTS)}")
    if layout == "auto":
        layout = _detect(root)
    listing = {"plain": _plain, "now": _now, "300w": _300w}
    samples = _multiface(root, multiface_frames) if layout == "multiface" else listing[layout](root)
    if not samples:
        wanted = {
            "plain": f"meshes ({', '.join(MESH_SUFFIXES)})",
            "now": "scans listed in " + " or ".join(NOW_LISTS),
            "multiface": "m--*--GHS/tracked_mesh/SEGMENT/FRAME.obj of the ten subjects",
            "300w": ".pts or .ljson annotations",
        }
        raise LayoutError(f"{root}: no {wanted[layout]}")
    return layout, samples


def _detect(root: Path) -> str:
    if any((root / name).is_file() for name in NOW_LISTS) and (root / "scans").is_dir():
        return "now"
    if (root / "tracked_mesh").is_dir() or any(root.glob("m--*--GHS/tracked_mesh")):
        return "multiface"
    if any(root.rglob("*.pts")) and not any(
        path for path in root.rglob("*") if path.suffix.lower() in MESH_SUFFIXES
    ):
        return "300w"
    return "plain"


def _beside(path: Path, names: list[str]) -> Path | None:
    return next((found for name in names if (found := path.with_name(name)).is_file()), None)


def _plain(root: Path) -> list[Sample]:
    """``[GROUP/]NAME.obj`` with ``NAME.pp`` (or another landmark file) and, perhaps, ``NAME.camera.json`` and
    ``NAME.regions.npz`` beside it."""
    samples, seen = [], {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.suffix.lower() not in MESH_SUFFIXES or not path.is_file():
            continue
        if any(part.startswith(".") for part in relative.parts) or path.stem.endswith("regions"):
            continue
        name = relative.with_suffix("").as_posix()
        if name in seen:
            raise LayoutError(f"{path} and {seen[name]} are one sample in two formats: keep one")
        seen[name] = path
        group = relative.parts[0] if len(relative.parts) > 1 else ""
        samples.append(
            Sample(
                name,
                path,
                landmarks_beside(path),
                _beside(path, [path.stem + suffix for suffix in sorted(IMAGE_SUFFIXES)]),
                group,
                _beside(path, [f"{path.stem}.camera.json"]),
                _beside(path, [f"{path.stem}.regions.npz", f"{path.stem}.regions.json"]),
            )
        )
    return samples


def _now(root: Path) -> list[Sample]:
    """NoW's dataset folder: an image list, ``scans/SUBJECT/*.obj``, ``scans_lmks_onlypp/SUBJECT/*.pp``."""
    list_file = next((root / name for name in NOW_LISTS if (root / name).is_file()), None)
    if list_file is None:
        raise LayoutError(f"{root}: neither {' nor '.join(NOW_LISTS)}")
    images = next((root / part for part in _NOW_IMAGES if (root / part).is_dir()), None)
    samples, scans = [], {}
    for number, line in enumerate(list_file.read_text(encoding="utf-8").split("\n"), start=1):
        if not (line := line.strip()):
            continue
        parts = line.replace("\\", "/").split("/")
        if len(parts) < 3:
            raise LayoutError(f"{list_file}, line {number}: {line!r} is not SUBJECT/CHALLENGE/IMAGE")
        subject, challenge, image = parts[-3:]
        if subject not in scans:
            scan = sorted((root / "scans" / subject).glob("*.obj"))
            points = sorted((root / "scans_lmks_onlypp" / subject).glob("*.pp"))
            # A missing scan is that sample's failure, not the run's.
            scans[subject] = (
                scan[0] if scan else root / "scans" / subject / "missing.obj",
                points[0] if points else None,
            )
        photo = images / subject / challenge / image if images else None
        name = f"{subject}/{challenge}/{Path(image).stem}"
        samples.append(Sample(name, *scans[subject], photo, challenge))
    return samples


_NOW_IMAGES = (
    "NoW_Dataset/final_release_version/iphone_pictures",
    "final_release_version/iphone_pictures",
    "iphone_pictures",
)


def _multiface(root: Path, frames: int) -> list[Sample]:
    """Multiface's folders: of each segment the middle frame (or ``frames`` of them), seen by the frontal camera."""
    if frames < 1:
        raise LayoutError(f"at least one frame a segment, not {frames}")
    entities = [root] if (root / "tracked_mesh").is_dir() else sorted(root.glob("m--*--GHS"))
    samples = []
    for entity in entities:
        if entity.name not in MULTIFACE_SUBJECTS and entity != root:
            continue
        landmarks = _topology_landmarks(root, entity)
        if landmarks is None:
            raise LayoutError(
                f"{root}: no landmark_vertices.json (seven vertex indices of the tracked topology, NoW's order): "
                "Multiface has no landmarks; docs/evaluation.md says how to pick them once"
            )
        camera = frontal_camera(entity, landmarks)
        for segment in sorted(path for path in (entity / "tracked_mesh").iterdir() if path.is_dir()):
            meshes = sorted(segment.glob("*.obj"))
            for path in evenly(meshes, frames):
                image = entity / "images" / segment.name / camera / f"{path.stem}.png"
                name = f"{entity.name}/{segment.name}/{camera}/{path.stem}"
                samples.append(Sample(name, path, landmarks, image, group=entity.name))
    return samples


def _topology_landmarks(root: Path, entity: Path) -> Path | None:
    for folder in (entity, root):
        for name in ("landmark_vertices.json", "landmark_vertices.txt", "landmark_vertices.npy"):
            if (folder / name).is_file():
                return folder / name
    return None


def evenly(items: list, count: int) -> list:
    """``count`` of the items, at the middles of as many equal stretches; all if there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[int((index + 0.5) * len(items) / count)] for index in range(count)]


def read_krt(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Cameras of Multiface's ``KRT``: name → ``intrinsics (3, 3)``, ``extrinsics (3, 4)`` (world → OpenCV camera, mm).

    Raises:
        LayoutError: damaged.
    """
    cameras = {}
    try:
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        if len(lines) % 8:
            raise ValueError(f"{len(lines)} lines; a camera has 8")
        for start in range(0, len(lines), 8):
            rows = [[float(number) for number in line.split()] for line in lines[start + 1 : start + 8]]
            intrinsics, extrinsics = np.array(rows[:3]), np.array(rows[4:7])
            if intrinsics.shape != (3, 3) or extrinsics.shape != (3, 4):
                raise ValueError(f"camera {lines[start][:60]}")
            cameras[lines[start].strip()] = {"intrinsics": intrinsics, "extrinsics": extrinsics}
    except ValueError as error:
        raise LayoutError(f"{path}: not a KRT file ({reason(error)})") from error
    return cameras


def frontal_camera(entity: Path, landmark_vertices: Path) -> str:
    """The camera that sees a subject's tracked head most from the front, in its first tracked frame.

    The face's direction comes from its landmarks, so no convention of the dataset's axes is taken on trust:
    ``FRAME_transform.txt`` takes the tracked mesh to the world, ``KRT`` holds the cameras there.

    Raises:
        LayoutError: no ``KRT``, no tracked frame with its transform, or landmarks that are not of this topology.
    """
    krt = entity / "KRT"
    transforms = sorted((entity / "tracked_mesh").glob("*/*_transform.txt"))
    if not krt.is_file() or not transforms:
        raise LayoutError(
            f"{entity}: KRT and tracked_mesh/*/*_transform.txt are needed to find the frontal camera"
        )
    try:
        mesh = read_mesh(transforms[0].with_name(transforms[0].name.replace("_transform.txt", ".obj")))
        points = mesh.vertices[read_landmark_vertices(landmark_vertices)]
        head = read_table(transforms[0])[:3, :4]
        if head.shape != (3, 4):
            raise ValueError(f"{transforms[0].name} has no 3 rows of 4 numbers")
    except (OSError, ValueError, IndexError) as error:
        raise LayoutError(f"{entity}: the frontal camera cannot be found ({reason(error)})") from error
    points = points @ head[:, :3].T + head[:, 3]
    across = points[LEFT_OUTER_EYE] - points[RIGHT_OUTER_EYE]
    up = points[RIGHT_OUTER_EYE] + points[LEFT_OUTER_EYE] - points[RIGHT_MOUTH] - points[LEFT_MOUTH]
    forward = np.cross(across, up)
    forward /= np.linalg.norm(forward)
    cosines = {}
    for name, camera in read_krt(krt).items():
        rotation, translation = camera["extrinsics"][:, :3], camera["extrinsics"][:, 3]
        to_camera = -rotation.T @ translation - points.mean(axis=0)
        cosines[name] = float(forward @ to_camera / np.linalg.norm(to_camera))
    return max(cosines, key=lambda name: (cosines[name], name))


def _300w(root: Path) -> list[Sample]:
    """``NAME.pts`` (or ``.ljson``) with the image beside it."""
    samples = []
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in (".pts", ".ljson") and path.is_file():
            relative = path.relative_to(root)
            image = _beside(path, [path.stem + suffix for suffix in sorted(IMAGE_SUFFIXES)])
            group = relative.parts[0] if len(relative.parts) > 1 else ""
            samples.append(Sample(relative.with_suffix("").as_posix(), path, None, image, group))
    return samples
