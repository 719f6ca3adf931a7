"""How fast the evaluator measures, and how fast the reconstruction pipeline runs.

    python scripts/benchmarks/evaluation_speed.py scans [--vertices 50000] [--scans 8] [--images 1]
    python scripts/benchmarks/evaluation_speed.py pipeline [PHOTO …] [--repeat 10]

``scans``: synthetic scans of random heads (0.1 mm noise) as .obj files with NoW's landmark files, measured on one core
under the NoW protocol by the code of scripts/evaluate.py: reading, cleaning, cropping, aligning, distances and records.
``--images`` predictions share a scan, as in NoW's dataset (about 17).

``pipeline``: FPS as the paper has it, images per second of the whole pipeline, warm, one at a time: reading the photo,
front end, network with decoding and pose, with each stage's share. Default photograph: scikit-image's astronaut.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from n2f_jax.runtime.threads import THREAD_VARIABLES


def measure_scans(
    folder: Path, num_scans: int, images: int, num_vertices: int, protocol: str
) -> dict[str, float]:
    """Scans a second of one process, by the code of ``scripts/evaluate.py``, pictures left out.

    The first sample warms up (imports, the head model) and is not counted.

    Args:
        folder: for the synthetic scans and the records.
        num_scans: counted ones.
        images: predictions of each scan.
        num_vertices: of each scan.
        protocol: of ``protocols.PROTOCOLS``.
    """
    import numpy as np

    from n2f_jax.evaluation.layouts import list_samples
    from n2f_jax.evaluation.phantoms import write_now_dataset
    from n2f_jax.evaluation.protocols import Settings
    from n2f_jax.evaluation.records import MEASURED, make_tasks
    from n2f_jax.evaluation.run import measure_all
    from n2f_jax.evaluation.truths import read_truth

    methods = write_now_dataset(folder / "data", num_scans + 1, images, num_vertices)
    _, samples = list_samples(folder / "data")
    tasks = make_tasks(samples, {"near": methods["near"]}, folder / "out", Settings(protocol, "mm"))
    measure_all(tasks[:images], progress=False)
    start, cpu = time.perf_counter(), time.process_time()
    records = measure_all(tasks[images:], progress=False)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    if bad := [record for record in records if record["status"] != MEASURED]:
        raise RuntimeError(f"{len(bad)} samples were not measured: {bad[0]['message']}")
    truth = read_truth(samples[-1].truth, samples[-1].landmarks, "mm")
    return {
        "protocol": protocol,
        "measurements": len(records),
        "scan_vertices": len(truth.mesh.vertices),
        "aligned_vertices": float(np.mean([record["notes"]["aligned_vertices"] for record in records])),
        "seconds": wall,
        "cpu_seconds": cpu,
        "per_second": len(records) / wall,
        "per_cpu_second": len(records) / cpu,
    }


def format_scans(figures: dict) -> str:
    """The line that ``scripts/benchmarks/evaluation_speed.py scans`` prints."""
    return (
        f"{figures['protocol']}: {figures['measurements']} measurements of {figures['scan_vertices']} scan vertices "
        f"({figures['aligned_vertices']:.0f} aligned) in {figures['seconds']:.1f} s: "
        f"{figures['per_second']:.1f} a second, {figures['per_cpu_second']:.1f} a second of one core's time"
    )


def measure_pipeline(photos: Sequence[Path] | None = None, repeat: int = 10) -> dict[str, float]:
    """Images a second of the whole pipeline, one image at a time, warm, and milliseconds of each stage.

    The paper's FPS: "the number of face images reconstructed a second" (section IV.3). Stages: reading the file, front
    end (detector, landmarks, normal map), network (with decoding, pose and the result's way back to NumPy).

    Args:
        photos: each must show a face; None for scikit-image's astronaut.
        repeat: passes over all of them after one that compiles.
    """
    import numpy as np

    from n2f_jax.data.images import read_image
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    with tempfile.TemporaryDirectory() as folder:
        if photos is None:
            from PIL import Image
            from skimage import data

            photos = [Path(folder) / "astronaut.png"]
            Image.fromarray(data.astronaut()).save(photos[0])
        reconstructor = Reconstructor.from_pretrained(batch_size=1)
        times = {"read": [], "front end": [], "network": []}
        for turn in range(repeat + 1):
            for path in photos:
                start = time.perf_counter()
                image, info = read_image(path)
                seen = time.perf_counter()
                faces = reconstructor.detect(image)[:1]
                found = time.perf_counter()
                if not faces:
                    raise ValueError(f"{path}: no face was found")
                size = image.shape[:2]
                focal = resolve_focal(size, None, info.focal, reconstructor.face_size(faces))
                heads = reconstructor.from_faces(faces, [size], [focal])
                assert np.isfinite(heads[0].vertices).all()
                done = time.perf_counter()
                if turn:
                    for name, value in zip(times, (seen - start, found - seen, done - found), strict=True):
                        times[name].append(value)
    stages = {name: 1000.0 * float(np.mean(values)) for name, values in times.items()}
    total = np.sum(list(times.values()), axis=0)
    return {
        "images": len(total),
        "fps": float(1.0 / total.mean()),
        "fps_median": float(1.0 / np.median(total)),
        "milliseconds": stages,
    }


def format_pipeline(figures: dict) -> str:
    """The lines that ``scripts/benchmarks/evaluation_speed.py pipeline`` prints."""
    stages = ", ".join(f"{name} {value:.1f} ms" for name, value in figures["milliseconds"].items())
    return (
        f"{figures['fps']:.1f} images a second (by the median {figures['fps_median']:.1f}), whole pipeline, warm, "
        f"one at a time, {figures['images']} images\n{stages}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    scans = commands.add_parser("scans")
    scans.add_argument("--vertices", type=int, default=50_000, help="of each scan; default: %(default)s")
    scans.add_argument("--scans", type=int, default=8, help="default: %(default)s")
    scans.add_argument("--images", type=int, default=1, help="predictions of each scan; default: %(default)s")
    scans.add_argument("--protocol", default="now", choices=("now", "now-metric", "paper"))
    pipeline = commands.add_parser("pipeline")
    pipeline.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    pipeline.add_argument(
        "--repeat", type=int, default=10, help="passes over the photos; default: %(default)s"
    )
    pipeline.add_argument("--json", type=Path, help="also write the figures here")
    flags = parser.parse_args()

    if flags.command == "scans":
        # One core, and libraries that know it; they read this as they are imported.
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        if flags.command == "scans":
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            with tempfile.TemporaryDirectory() as folder:
                figures = measure_scans(
                    Path(folder), flags.scans, flags.images, flags.vertices, flags.protocol
                )
            print(format_scans(figures))
        else:
            figures = measure_pipeline(flags.photos or None, flags.repeat)
            print(format_pipeline(figures))
            if flags.json:
                flags.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
