"""Made-up ground truth in NoW's folders: scans of random heads, and predictions of them with known errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import visible_vertices


@dataclasses.dataclass(frozen=True)
class Phantom:
    """One random head and what its scanner saw.

    Attributes:
        head: decoded, metres, the head model's topology.
        landmarks: ``(68, 3)`` metres.
        scan: points evenly spread over the visible skin and joined to triangles, noise on top, millimetres.
    """

    head: TriangleMesh
    landmarks: np.ndarray
    scan: TriangleMesh


def make_phantom(
    rng: np.random.Generator, num_vertices: int = 50_000, noise_mm: float = 0.1, coefficients=None
) -> Phantom:
    """A random open head and a scan of it with about ``num_vertices`` vertices (never fewer).

    Args:
        rng: draws shape (N(0, 0.8²)) and noise.
        num_vertices: the visible mesh is refined until it has as many, longest edges first.
        noise_mm: standard deviation of each coordinate.
        coefficients: ``(S,)`` shape instead of a random one.
    """
    import jax.numpy as jnp

    import flame_jax

    model = flame_jax.load_open_head()
    if coefficients is None:
        coefficients = rng.normal(0.0, 0.8, model.num_shape)
    shape = jnp.asarray(coefficients, jnp.float32)
    params = dataclasses.replace(flame_jax.FlameParams.neutral(model), shape=shape)
    decoded, _ = flame_jax.decode(model, params)
    landmarks = np.asarray(flame_jax.landmarks68(model, decoded), np.float64)
    faces = np.asarray(model.faces, np.int64)
    hidden = np.ones(model.num_vertices, bool)
    hidden[visible_vertices(model)] = False
    head = TriangleMesh(np.asarray(decoded, np.float64), faces)
    skin, _, _ = clean(TriangleMesh(head.vertices, faces[~hidden[faces].any(axis=1)]))
    dense = refined(skin, num_vertices)
    scan = TriangleMesh(
        1000.0 * dense.vertices + rng.normal(0.0, noise_mm, dense.vertices.shape), dense.faces
    )
    return Phantom(head, landmarks, scan)


def refined(mesh: TriangleMesh, num_vertices: int) -> TriangleMesh:
    """The mesh with edges halved, longest first, until it has at least ``num_vertices`` vertices; same surface."""
    vertices, faces = mesh.vertices, mesh.faces
    while len(vertices) < num_vertices:
        edges = np.sort(faces[:, [[1, 2], [2, 0], [0, 1]]], axis=-1).reshape(-1, 2)
        unique, edge_of = np.unique(edges, axis=0, return_inverse=True)
        length = np.linalg.norm(vertices[unique[:, 0]] - vertices[unique[:, 1]], axis=1)
        edge_of = edge_of.reshape(-1, 3)
        # Each triangle asks for its longest edge; an edge is halved where all its triangles ask for it.
        asked = edge_of[np.arange(len(faces)), length[edge_of].argmax(axis=1)]
        users = np.bincount(edge_of.ravel(), minlength=len(unique))
        agreed = np.flatnonzero(np.bincount(asked, minlength=len(unique)) == users)
        wanted = num_vertices - len(vertices)
        chosen = agreed[np.argsort(-length[agreed], kind="stable")][:wanted]
        middle = np.full(len(unique), -1)
        middle[chosen] = len(vertices) + np.arange(len(chosen))
        vertices = np.concatenate([vertices, vertices[unique[chosen]].mean(axis=1)])
        split = np.flatnonzero(middle[asked] >= 0)
        opposite = length[edge_of[split]].argmax(axis=1)
        a, b, c = (faces[split, (opposite + shift) % 3] for shift in range(3))
        half = middle[asked[split]]
        keep = np.delete(faces, split, axis=0)
        faces = np.concatenate([keep, np.stack([a, b, half], axis=-1), np.stack([a, half, c], axis=-1)])
    return TriangleMesh(vertices, faces)


def write_scan(path: Path, scan: TriangleMesh) -> None:
    """A plain ``.obj``: scanners' files have neither normals nor textures that matter here."""
    import trimesh

    mesh = trimesh.Trimesh(scan.vertices, scan.faces, process=False)
    mesh.export(path, include_normals=False, include_color=False, digits=5)


def write_picked_points(path: Path, points: np.ndarray) -> None:
    """MeshLab's ``.pp``, as NoW's annotations are."""
    rows = [
        f' <point active="1" name="{number}" y="{y:.6f}" z="{z:.6f}" x="{x:.6f}"/>'
        for number, (x, y, z) in enumerate(points.tolist())
    ]
    head = ["<!DOCTYPE PickedPoints>", "<PickedPoints>", " <DocumentData>", " </DocumentData>"]
    path.write_text("\n".join([*head, *rows, "</PickedPoints>"]) + "\n", encoding="ascii")


# Methods that a made-up dataset can have predictions of, and how much of the truth's coefficients each knows.
METHODS = {"exact": 1.0, "near": 0.7, "mean": 0.0}


def write_now_dataset(
    root: Path,
    num_scans: int,
    images: int,
    num_vertices: int = 50_000,
    seed: int = 0,
    methods: Sequence[str] = ("near", "mean"),
) -> dict[str, Path]:
    """A folder like NoW's, and predictions: heads with a share of the truth's coefficients.

    Args:
        root: made if needed.
        num_scans: subjects.
        images: of each subject; predictions of one method and subject are all the same.
        num_vertices: of each scan.
        seed: of shapes and noise.
        methods: of ``METHODS``.

    Returns:
        Predictions' folder by method.
    """
    from n2f_jax.evaluation.landmarks3d import SEVEN_OF_68

    rng = np.random.default_rng(seed)
    lines = []
    folders = {method: root / "predictions" / method for method in methods}
    for number in range(num_scans):
        subject = f"subject{number:03d}"
        coefficients = rng.normal(0.0, 0.8, 300)
        phantom = make_phantom(rng, num_vertices, coefficients=coefficients)
        predictions = {m: make_phantom(rng, 0, 0.0, METHODS[m] * coefficients) for m in methods}
        for folder in ("scans", "scans_lmks_onlypp"):
            (root / folder / subject).mkdir(parents=True, exist_ok=True)
        write_scan(root / "scans" / subject / "scan.obj", phantom.scan)
        points = 1000.0 * phantom.landmarks[list(SEVEN_OF_68)]
        write_picked_points(root / "scans_lmks_onlypp" / subject / "scan.pp", points)
        for image in range(images):
            challenge = ("multiview_neutral", "multiview_expressions", "selfie")[image % 3]
            lines.append(f"{subject}/{challenge}/IMG_{image:04d}.jpg")
            for method, prediction in predictions.items():
                folder = folders[method] / subject / challenge
                folder.mkdir(parents=True, exist_ok=True)
                np.savez(
                    folder / f"IMG_{image:04d}.npz",
                    vertices=prediction.head.vertices.astype(np.float32),
                    faces=prediction.head.faces.astype(np.int32),
                    landmarks_3d=prediction.landmarks.astype(np.float32),
                )
    (root / "imagepathsvalidation.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    return folders
