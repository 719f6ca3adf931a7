"""How good and how fast tracks are: rendered clips of heads that are not ours, videos, and the speed of one.

    python scripts/build/make_face_clips.py --model ICT-FaceKit/FaceXModel --out face_clips --people 5 --frames 80
    python scripts/benchmarks/tracking.py --clips face_clips/reporting --model ICT-FaceKit/FaceXModel --out results
    python scripts/benchmarks/tracking.py --videos a.mp4 b.mp4 --frames 100 --out results [--online]
    python scripts/benchmarks/tracking.py --speed clip.mp4 --out results [--online]

Accuracy, of the track and of `n2f reconstruct` frame by frame (the default, focal length given to both unless
--unknown-focal): *shape*, surface distance of the neutral face, rigid and up to scale, of the one identity and of the
frames' median; *points*, root mean square error of the face mesh's 468 points in the head frame after one rigid
alignment of the whole clip, and of their motion (each point less its mean); *jitter*, root mean square second
difference of these points from frame to frame, in mm, beside the truth's own; the same in pixels, projected.

Videos, of which no truth is known, of the track and frame by frame: *reprojection*, root mean square distance of the
51 inner landmarks of the mesh from the front end's, and *jitter*, root mean square second difference of the mesh's from
frame to frame, beside that of the front end's own; both in percent of the face (the longer side of the box of its 68
landmarks, in the mean over the frames that both have).

Speed: seconds by stage from file to finished track, compiled programs in the cache (the second run counts).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ALIGNED_BY = (36, 39, 42, 45, 33, 48, 54)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--clips", type=Path, metavar="DIR", help="of scripts/build/make_face_clips.py")
    parser.add_argument("--model", type=Path, metavar="PATH", help="FaceXModel, or an .npz; with --clips")
    parser.add_argument("--unknown-focal", action="store_true", help="estimate it")
    parser.add_argument("--videos", type=Path, nargs="+", metavar="CLIP", help="without a truth")
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="of each; default: %(default)s")
    parser.add_argument("--speed", type=Path, metavar="CLIP", help="time the tracking of a video")
    parser.add_argument("--online", action="store_true", help="frame by frame instead")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where tracking.json goes")
    flags = parser.parse_args()
    if not (flags.clips or flags.speed or flags.videos) or (flags.clips and not flags.model):
        parser.error("name --clips and --model, --videos, or --speed")

    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    results = {}
    try:
        if flags.speed:
            results["speed"] = speed(flags.speed, flags.online)
        if flags.videos:
            results["videos"] = videos(flags.videos, flags.frames, flags.online)
        if flags.clips:
            results["accuracy"] = accuracy(flags.clips, flags.model, flags.unknown_focal, flags.online)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        name = f"tracking{'_online' if flags.online else ''}{'_focal' if flags.unknown_focal else ''}.json"
        (flags.out / name).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def speed(path: Path, online: bool) -> dict:
    """Seconds by stage and frames a second of the second of two runs."""
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.tracking.clips import open_clip
    from n2f_jax.tracking.run import TrackOptions, track_clip

    reconstructor = Reconstructor.from_pretrained(refine=0)
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            clip = open_clip(path)
            begin, processor = time.perf_counter(), time.process_time()
            if online:
                from n2f_jax.tracking.online import track_online

                summary = track_online(clip, Path(folder), reconstructor, TrackOptions()).summary
            else:
                summary = track_clip(clip, Path(folder), reconstructor, TrackOptions()).summary
            wall, processor = time.perf_counter() - begin, time.process_time() - processor
    result = {
        "frames": summary["frames"],
        "image_size": summary["image_size"],
        "frames_per_second": summary["frames"] / wall,
        "processor_seconds_per_frame": processor / summary["frames"],
        "seconds_by_stage": summary["seconds_by_stage"],
    }
    print(json.dumps(result, indent=1), flush=True)
    return result


def videos(paths: list[Path], most: int, online: bool) -> dict:
    """Reprojection and jitter of the first frames of each, and their means."""
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    tracker, framewise = Reconstructor.from_pretrained(refine=0), Reconstructor.from_pretrained()
    rows = {}
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            write_first_frames(path, Path(folder), most)
            track = run_tracker(Path(folder), tracker, None, online)
            # Both with the track's focal length: which one is right nobody knows.
            heads = framewise_heads(Path(folder), framewise, float(track["intrinsics"][0, 0]))
        both = np.array([head is not None for head in heads]) & (track["status"] != 0)
        seen = np.asarray(track["frontend_landmarks"], np.float64)
        both &= np.isfinite(seen).all(axis=(1, 2))
        of_frames = np.full((len(heads), 68, 2), np.nan)
        for row in np.flatnonzero(both):
            of_frames[row] = heads[row].landmarks_2d
        face = float(np.mean(np.ptp(seen[both], axis=1).max(axis=1)))
        rows[path.name] = {
            name: {
                "reprojection": 100 * _rms((points - seen)[both][:, 17:]) / face,
                "jitter": 100 * _jitter(points[:, 17:], both) / face,
            }
            for name, points in (
                ("track", np.asarray(track["landmarks_2d"], np.float64)),
                ("frames", of_frames),
                ("front end", seen),
            )
        } | {"frames_seen": int(both.sum()), "frames_read": len(heads), "face_pixels": face}
        print(f"{path.name}: {json.dumps(rows[path.name])}", flush=True)
    mean = {
        name: {
            key: float(np.mean([row[name][key] for row in rows.values()]))
            for key in ("reprojection", "jitter")
        }
        for name in ("track", "frames", "front end")
    }
    print(f"mean: {json.dumps(mean)}")
    return {"clips": rows, "mean": mean}


def write_first_frames(path: Path, folder: Path, most: int) -> None:
    """The first frames of a clip as PNG."""
    import itertools

    from PIL import Image

    from n2f_jax.tracking.clips import open_clip

    for frame in itertools.islice(open_clip(path).frames(), most):
        Image.fromarray(frame.image).save(folder / f"{frame.index:06d}.png", compress_level=1)


def accuracy(folder: Path, model_path: Path, unknown_focal: bool, online: bool) -> dict:
    """Figures of every clip, and their means."""
    import flame_jax
    from n2f_jax.benchmark.ict_facekit import load_ict_facekit
    from n2f_jax.benchmark.sequences import annotation_of, read_sequences
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    model = flame_jax.load_open_head()
    annotation = annotation_of(load_ict_facekit(model_path))
    tracker = Reconstructor.from_pretrained(refine=0)
    framewise = Reconstructor.from_pretrained()
    rows = {}
    for path, truth in read_sequences(folder):
        focal = None if unknown_focal else truth.focal
        measure = Measure(model, annotation, truth)
        track = run_tracker(path, tracker, focal, online)
        heads = framewise_heads(path, framewise, focal)
        rows[path.name] = {
            "track": measure.track(track),
            "frames": measure.heads(heads),
            "truth": measure.truth_jitter(),
            "lost": int((track["status"] == 0).sum()),
            "focal_ratio": float(track["intrinsics"][0, 0] / truth.focal),
        }
        line = {
            name: {key: round(value, 3) for key, value in rows[path.name][name].items()}
            for name in ("track", "frames", "truth")
        }
        print(f"{path.name}: {json.dumps(line)}, focal × {rows[path.name]['focal_ratio']:.2f}", flush=True)
    mean = {
        name: {
            key: float(np.mean([row[name][key] for row in rows.values()]))
            for key in next(iter(rows.values()))[name]
        }
        for name in ("track", "frames", "truth")
    }
    for name, figures in mean.items():
        print(f"mean, {name}: {json.dumps({key: round(value, 3) for key, value in figures.items()})}")
    for kind in ("rigid_mm", "scaled_mm"):
        ratios = [row["track"][kind] / row["frames"][kind] for row in rows.values()]
        print(f"shape, {kind}: track over frames' median {np.mean(ratios):.3f}")
    return {"clips": rows, "mean": mean}


def run_tracker(path: Path, reconstructor, focal: float | None, online: bool) -> dict:
    """The track of a clip's first person."""
    from n2f_jax.tracking.clips import open_clip
    from n2f_jax.tracking.run import TrackOptions, track_clip

    with tempfile.TemporaryDirectory() as folder:
        options = TrackOptions(focal=focal, overlay=False)
        if online:
            from n2f_jax.tracking.online import track_online

            return track_online(open_clip(path), Path(folder), reconstructor, options).track
        return track_clip(open_clip(path), Path(folder), reconstructor, options).track


def framewise_heads(path: Path, reconstructor, focal: float | None) -> list:
    """The largest head of every frame as a photograph's; None where there is none."""
    from n2f_jax.tracking.clips import open_clip

    images = [frame.image for frame in open_clip(path).frames()]
    heads = []
    for start in range(0, len(images), reconstructor.batch_size):
        part = images[start : start + reconstructor.batch_size]
        found = reconstructor.reconstruct(part, [focal] * len(part), max_faces=1)
        heads += [one[0] if one else None for one in found]
    return heads


class Measure:
    """Figures of one clip against its truth.

    Args:
        model: the head model.
        annotation: of the truth's meshes.
        truth: what is known of the clip.
    """

    def __init__(self, model, annotation, truth):
        from n2f_jax.face_mesh.embedding import face_mesh_embedding

        self._model, self._annotation, self._truth = model, annotation, truth
        triangles, self._barycentric = (np.asarray(x) for x in face_mesh_embedding(model))
        self._corners = np.asarray(model.faces)[triangles]

    def track(self, track: dict) -> dict[str, float]:
        """Of a track."""
        from n2f_jax.tracking.offline import decoded
        from n2f_jax.tracking.track_file import batches

        there = np.flatnonzero(track["status"] != 0)
        vertices = np.concatenate(
            [np.asarray(decoded(self._model, track, there[rows])[0]) for rows in batches(len(there), 16)]
        )
        shape = self.shape(np.asarray(track["shape"]))
        return shape | self._motion(
            there, vertices, np.asarray(track["rotation"])[there], np.asarray(track["translation"])[there]
        )

    def heads(self, heads: list) -> dict[str, float]:
        """Of separate heads; the shape's error is the median of every eighth."""
        there = np.array([i for i, head in enumerate(heads) if head is not None])
        found = [heads[i] for i in there]
        shapes = [self.shape(head.shape) for head in found[::8]]
        shape = {key: float(np.median([one[key] for one in shapes])) for key in shapes[0]}
        arrays = (
            np.stack([getattr(h, name) for h in found]) for name in ("vertices", "rotation", "translation")
        )
        return shape | self._motion(there, *arrays)

    def truth_jitter(self) -> dict[str, float]:
        """The truth's own."""
        points = self._truth.points.astype(np.float64)
        rows = np.arange(len(points))
        return {
            "jitter_mm": 1000 * _jitter(points),
            "jitter_px": _jitter(self._pixels(points, self._truth.rotation, self._truth.translation)),
            "frames": float(len(rows)),
        }

    def shape(self, shape: np.ndarray) -> dict[str, float]:
        """Of a neutral head of these coefficients."""
        import dataclasses

        import jax.numpy as jnp

        import flame_jax
        from n2f_jax.evaluation.surface import measure
        from n2f_jax.mesh.closest_points import Surface
        from n2f_jax.mesh.triangle_mesh import TriangleMesh, part_of
        from n2f_jax.metrics.skin import skin_vertices

        resting = flame_jax.FlameParams.neutral(self._model)
        vertices, _ = flame_jax.decode(
            self._model, dataclasses.replace(resting, shape=jnp.asarray(shape, jnp.float32))
        )
        landmarks = np.asarray(flame_jax.landmarks68(self._model, vertices), np.float64)[list(ALIGNED_BY)]
        mesh = TriangleMesh(np.asarray(vertices, np.float64), np.asarray(self._model.faces))
        truth = TriangleMesh(self._truth.rest.astype(np.float64), self._truth.faces)
        figures = measure(
            Surface(part_of(mesh, skin_vertices(self._model))),
            landmarks,
            truth,
            self._annotation.landmarks_on(truth.vertices)[list(ALIGNED_BY)],
            {"face": self._annotation.regions["face"]},
        ).figures
        return {
            "rigid_mm": figures["face/metric_mm"],
            "scaled_mm": figures["face/scaled_mm"],
            "size": figures["size_ratio"],
        }

    def _motion(self, rows, vertices, rotation, translation) -> dict[str, float]:
        from n2f_jax.geometry.alignment import procrustes

        points = np.einsum(
            "bnkc,nk->bnc",
            vertices[:, self._corners].astype(np.float64),
            self._barycentric.astype(np.float64),
        )
        truth = self._truth.points[rows].astype(np.float64)
        similarity = procrustes(points.reshape(-1, 3), truth.reshape(-1, 3))
        placed = similarity.apply(points.reshape(-1, 3)).reshape(points.shape)
        moving = (placed - placed.mean(axis=0)) - (truth - truth.mean(axis=0))
        pixels = self._pixels(points, rotation.astype(np.float64), translation.astype(np.float64))
        of_truth = self._pixels(truth, self._truth.rotation[rows], self._truth.translation[rows])
        return {
            "points_mm": 1000 * _rms(placed - truth),
            "motion_mm": 1000 * _rms(moving),
            "jitter_mm": 1000 * _jitter(placed),
            "points_px": _rms(pixels - of_truth),
            "jitter_px": _jitter(pixels),
        }

    def _pixels(self, points, rotation, translation):
        in_camera = np.einsum("bij,bnj->bni", rotation, points) + translation[:, None]
        return self._truth.focal * in_camera[..., :2] / in_camera[..., 2:]


def _rms(offsets: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(offsets**2, axis=-1))))


def _jitter(points: np.ndarray, there: np.ndarray | None = None) -> float:
    """Of frames that are there with both neighbours; None: all are."""
    there = np.ones(len(points), bool) if there is None else there
    three = there[:-2] & there[1:-1] & there[2:]
    return _rms(np.diff(points, 2, axis=0)[three]) if three.any() else 0.0


if __name__ == "__main__":
    sys.exit(main())
