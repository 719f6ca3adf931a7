"""Finds the face mesh's 468 points and the 68 landmarks on the open head and writes both assets.

Needs MediaPipe's wheel (its table of triangles) and the cache that ``scripts/fetch_assets.py`` fills. Run
again when the open head's shape changes, then build the open head once more, which takes the landmarks in:

    pip download --no-deps --only-binary=:all: --python-version 311 --platform manylinux_2_28_x86_64 \
        mediapipe==0.10.21
    python scripts/build/embed_landmarks.py --wheel mediapipe-0.10.21-*.whl
"""

import argparse
from pathlib import Path

import numpy as np
from face_mesh_embedding.placing import SurfacePlacer
from face_mesh_embedding.topology_source import read_triangles

import flame_jax
from n2f_jax.frontends.face_landmarks import FaceLandmarker

BUILD = Path(__file__).resolve().parent
MESH = BUILD.parents[1] / "n2f_jax/face_mesh/assets/face_mesh_topology.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, required=True, help="mediapipe 0.10.21's manylinux wheel")
    parser.add_argument("--landmarks", type=Path, default=BUILD / "open_head/landmarks.npz")
    parser.add_argument("--mesh", type=Path, default=MESH)
    options = parser.parse_args()
    triangles = read_triangles(options.wheel)
    model = flame_jax.load_open_head()
    placer = SurfacePlacer(
        model, FaceLandmarker(average_mirrored=False, landmarks="v1", newer=False, eyes=False, check=False)
    )
    np.savez_compressed(options.landmarks, **placer.landmark_arrays())
    provenance = (
        "triangles: FACEMESH_TESSELATION of mediapipe 0.10.21 (Apache-2.0); "
        f"embedding: scripts/build/embed_landmarks.py on {model.name}, {len(placer.scores)} views"
    )
    np.savez_compressed(options.mesh, **placer.mesh_arrays(triangles), provenance=np.array(provenance))
    spread = np.percentile(placer.spread * 1e3, [50, 90])
    print(f"{len(placer.scores)} views, lowest face score {min(placer.scores):.2f}")
    print(f"spread over the views: median {spread[0]:.1f} mm, 90 % below {spread[1]:.1f} mm")
    print(f"wrote {options.landmarks} and {options.mesh}")


if __name__ == "__main__":
    main()
