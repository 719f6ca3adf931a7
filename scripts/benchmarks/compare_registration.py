"""Compares registration of the open head to meshes with trimesh's non-rigid ICP: distance of the scan's face, and time.

    python scripts/benchmarks/compare_registration.py BENCHMARK --heads 20

BENCHMARK: of scripts/make_benchmark.py --meshes. Both start from the same landmarks. Distances run from the truth's
visible face (and ears, nose …) to the registered skin, in the scan's own frame: no alignment follows. trimesh's is
nricp_amberg (Amberg, Romdhani, Vetter 2007) with its default steps, on the open head's skin placed by the landmarks.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

METHODS = ("coefficients", "coefficients and offsets", "trimesh nricp_amberg")
REGIONS = ("face", "eyes", "nose", "mouth", "ears")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("--heads", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--group", default="", metavar="NAME", help="one subfolder's heads")
    flags = parser.parse_args()

    from n2f_jax.benchmark.files import head_names, read_settings
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    try:
        names = head_names(read_settings(flags.benchmark), flags.heads, flags.group)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    register = _methods()
    figures: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    for name in names:
        scan, landmarks, regions = _read(flags.benchmark, name)
        for method in METHODS:
            begin = time.perf_counter()
            skin = register[method](scan, landmarks)
            seconds = time.perf_counter() - begin
            figures[method].append([*_distances(scan, skin, regions), seconds])
            print(f"{name}, {method}: face {figures[method][-1][0]:.3f} mm, {seconds:.1f} s", flush=True)
    print(f"\n| {len(names)} heads, mm | {' | '.join(REGIONS)} | seconds, median |")
    print("|---" * (len(REGIONS) + 2) + "|")
    for method, rows in figures.items():
        table = np.array(rows)
        cells = [f"{value:.3f}" for value in table[:, :-1].mean(axis=0)]
        print(f"| {method} | {' | '.join(cells)} | {np.median(table[:, -1]):.1f} |")
    return 0


def _methods() -> dict:
    import trimesh

    import flame_jax
    from n2f_jax.evaluation.regions import template_of
    from n2f_jax.fitting.registration import Registrar, RegistrationConfig
    from n2f_jax.geometry.alignment import procrustes
    from n2f_jax.mesh.triangle_mesh import TriangleMesh, part_of
    from n2f_jax.metrics.skin import skin_vertices

    model = flame_jax.load_open_head()
    template = template_of(model)
    registrars = {
        METHODS[0]: Registrar(model),
        METHODS[1]: Registrar(model, RegistrationConfig(offsets=True)),
    }

    def ours(method: str):
        def register(scan: TriangleMesh, landmarks: np.ndarray) -> TriangleMesh:
            found = registrars[method](scan, landmarks)
            return template.visible_part(found.similarity.apply(found.vertices))

        return register

    faces = np.asarray(model.faces)
    embedding = (
        faces[np.asarray(model.landmarks.static_faces)],
        np.asarray(model.landmarks.static_barycentric),
    )
    own = np.einsum("nc,nci->ni", embedding[1], template.mesh.vertices[embedding[0]])[17:]

    def amberg(scan: TriangleMesh, landmarks: np.ndarray) -> TriangleMesh:
        placed = procrustes(own, landmarks[17:], scaling=True)
        # Without the eyeballs' fronts: a part that meets nothing makes its system singular.
        skin = part_of(
            TriangleMesh(placed.apply(template.mesh.vertices), template.mesh.faces), skin_vertices(model)
        )
        source, target = (trimesh.Trimesh(m.vertices, m.faces, process=False) for m in (skin, scan))
        # Landmarks on the skin's own triangles, whose vertices are numbered anew.
        points = placed.apply(own)
        _, _, triangle = trimesh.proximity.closest_point(source, points)
        weights = trimesh.triangles.points_to_barycentric(source.triangles[triangle], points)
        moved = trimesh.registration.nricp_amberg(
            source, target, source_landmarks=(triangle, weights), target_positions=landmarks[17:]
        )
        return TriangleMesh(np.asarray(moved), skin.faces)

    return {METHODS[0]: ours(METHODS[0]), METHODS[1]: ours(METHODS[1]), METHODS[2]: amberg}


def _read(folder: Path, name: str):
    from n2f_jax.mesh.reading import read_mesh

    with np.load(folder / f"heads/{name}.regions.npz", allow_pickle=False) as stored:
        regions = {region: stored[region] for region in REGIONS}
    landmarks = np.load(folder / f"heads/{name}.npy", allow_pickle=False).astype(np.float64)
    return read_mesh(folder / f"heads/{name}.ply"), landmarks, regions


def _distances(scan, skin, regions) -> list[float]:
    from n2f_jax.mesh.closest_points import Surface
    from n2f_jax.mesh.normals import vertex_areas

    surface, areas = Surface(skin), vertex_areas(scan.vertices, scan.faces)
    return [
        1000.0
        * float(np.average(surface.closest_of_any_order(scan.vertices[index]).distance, weights=areas[index]))
        for index in regions.values()
    ]


if __name__ == "__main__":
    sys.exit(main())
