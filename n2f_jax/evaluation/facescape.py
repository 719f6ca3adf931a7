"""FaceScape's benchmark: cylindrical maps of two meshes in one camera frame, aligned in depth only.

Zhu, Yang, Guo, Zhang, Wang, Huang, Wu, Shen, Yang, Cao: "FaceScape: 3D Facial Dataset and Benchmark for Single-View 3D
Face Reconstruction", section 6, and its code, github.com/zhuhao-nju/facescape, folder benchmark. Written anew from what
they do; ``docs/evaluation.md`` names the differences. Millimetres inside, because their constants are.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from n2f_jax.evaluation.metrics import angles_between
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.normals import face_normals, unit_face_normals
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

MAP_SIZE = 256
HALF_HEIGHT_MM = 150.0
# Neighbouring map pixels further apart are not joined to a surface.
MAX_STEP_MM = 15.0


@dataclasses.dataclass(frozen=True)
class CylinderMap:
    """What rays from a vertical axis see of a mesh: its outermost surface.

    Attributes:
        radius: ``(256, 256)`` distance from the axis in mm by height (downwards) and angle; 0 where nothing is.
        normal: ``(256, 256, 3)`` of the triangle seen, unit; zero where nothing is.
    """

    radius: np.ndarray
    normal: np.ndarray


def _intersector(mesh: TriangleMesh):
    import trimesh

    try:
        from trimesh.ray.ray_pyembree import RayMeshIntersector
    except ImportError as error:
        raise ImportError('this needs embreex: pip install "n2f-jax[evaluation]"') from error
    return RayMeshIntersector(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), scale_to_box=True)


def first_hits(mesh: TriangleMesh, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """First triangle that each ray meets, and where.

    Embree (float32) says which triangle; the point is the ray's with that triangle's plane, in float64.

    Returns:
        ``(n,)`` indices of the rays that hit, ``(n,)`` triangles, ``(n,)`` distances along the rays (in units of
        their directions' length).
    """
    triangle = np.asarray(_intersector(mesh).intersects_first(origins, directions))
    ray = np.flatnonzero(triangle >= 0)
    triangle = triangle[ray]
    corner = mesh.vertices[mesh.faces[triangle, 0]]
    normal = face_normals(mesh.vertices, mesh.faces[triangle])
    along = np.einsum("ij,ij->i", normal, directions[ray])
    good = np.abs(along) > 1e-12 * np.linalg.norm(normal, axis=1)
    ray, triangle = ray[good], triangle[good]
    distance = np.einsum("ij,ij->i", normal[good], corner[good] - origins[ray]) / along[good]
    return ray, triangle, distance


def cylinder_map(mesh: TriangleMesh) -> CylinderMap:
    """Map of a mesh in millimetres whose head's centre is the origin and whose y axis is the cylinder's.

    FaceScape shoots from the axis outwards and keeps the last hit; here rays come from outside and keep the first,
    which is the same surface.
    """
    size = MAP_SIZE
    angle = np.arange(size) * (2.0 * np.pi / (size - 1))
    outward = np.stack([-np.sin(angle), np.zeros(size), -np.cos(angle)], axis=-1)
    height = np.linspace(HALF_HEIGHT_MM, -HALF_HEIGHT_MM, size)
    far = 2.0 * float(np.abs(mesh.vertices).max()) + 1.0
    directions = np.broadcast_to(outward, (size, size, 3)).reshape(-1, 3)
    origins = far * directions + np.repeat(height, size)[:, None] * np.array([0.0, 1.0, 0.0])
    ray, triangle, distance = first_hits(mesh, origins, -directions)
    radius = far - distance
    seen = radius > 0  # what lies beyond the axis belongs to the opposite ray
    ray, triangle, radius = ray[seen], triangle[seen], radius[seen]
    radii, normals = np.zeros(size * size), np.zeros((size * size, 3))
    radii[ray] = radius
    normals[ray] = unit_face_normals(mesh.vertices, mesh.faces[triangle])
    return CylinderMap(radii.reshape(size, size), normals.reshape(size, size, 3))


def map_surface(radius: np.ndarray) -> TriangleMesh:
    """The surface of a radius map: quads between pixels less than 15 mm apart.

    As in FaceScape's code a pixel where nothing is counts as radius 0, so around the crown, less than 15 mm from the
    axis, the surface is joined to the axis. Triangles without area are left out.
    """
    size = MAP_SIZE
    angle = np.arange(size) * (2.0 * np.pi / (size - 1))
    height = np.linspace(HALF_HEIGHT_MM, -HALF_HEIGHT_MM, size)
    vertices = np.stack(
        [
            -radius * np.sin(angle),
            np.broadcast_to(height[:, None], (size, size)),
            -radius * np.cos(angle),
        ],
        axis=-1,
    ).reshape(-1, 3)
    here, right, below, across = radius[:-1, :-1], radius[:-1, 1:], radius[1:, :-1], radius[1:, 1:]
    joined = here > 0
    for neighbour in (right, below, across):
        joined &= np.abs(here - neighbour) < MAX_STEP_MM
    index = (np.arange(size - 1)[:, None] * size + np.arange(size - 1))[joined]
    faces = np.concatenate(
        [
            np.stack([index, index + 1, index + size], axis=-1),
            np.stack([index + size + 1, index + size, index + 1], axis=-1),
        ]
    )
    if len(faces) == 0:
        return TriangleMesh(np.zeros((0, 3)), faces)
    return clean(TriangleMesh(vertices, faces))[0]


def depth_shift(truth: TriangleMesh, prediction: TriangleMesh, perspective: bool) -> tuple[float, float]:
    """How much deeper the truth is than the prediction where both are seen, and the truth's mean depth there.

    The shift minimises the summed absolute difference of two 256² depth maps, so it is their median difference
    (FaceScape searches for it numerically). The maps cover the truth's box in the image.

    Args:
        truth, prediction: OpenCV camera frame (z forward).
        perspective: False: parallel rays along z.

    Raises:
        MeshError: the two do not overlap in the image, or lie behind the camera.
    """
    depth = truth.vertices[:, 2]
    if perspective and (depth.min() <= 0 or prediction.vertices[:, 2].min() <= 0):
        raise MeshError(
            "a mesh lies behind the camera: FaceScape's protocol needs both in the camera's frame"
        )
    image = truth.vertices[:, :2] / depth[:, None] if perspective else truth.vertices[:, :2]
    low, high = image.min(axis=0), image.max(axis=0)
    cells = (np.arange(MAP_SIZE) + 0.5) / MAP_SIZE
    grid = np.stack(np.meshgrid(*(low[i] + cells * (high[i] - low[i]) for i in (0, 1))), axis=-1)
    grid = grid.reshape(-1, 2)
    ones, zeros = np.ones((len(grid), 1)), np.zeros((len(grid), 1))
    if perspective:
        origins, directions = np.zeros((len(grid), 3)), np.concatenate([grid, ones], axis=1)
        near = 0.0
    else:
        near = min(depth.min(), prediction.vertices[:, 2].min()) - 1.0
        origins = np.concatenate([grid, near * ones], axis=1)
        directions = np.concatenate([zeros, zeros, ones], axis=1)
    maps = []
    for mesh in (truth, prediction):
        ray, _, distance = first_hits(mesh, origins, directions)
        seen = np.full(len(grid), np.nan)
        seen[ray] = near + distance
        maps.append(seen)
    both = np.isfinite(maps[0]) & np.isfinite(maps[1])
    if not both.any():
        raise MeshError("truth and prediction do not overlap in the image: they are not in one camera frame")
    return float(np.median((maps[0] - maps[1])[both])), float(maps[0][both].mean())


def align_depth(truth: TriangleMesh, prediction: TriangleMesh, perspective: bool = True) -> TriangleMesh:
    """The prediction moved in depth only: scaled about the camera's centre, or shifted where rays are parallel."""
    shift, mean = depth_shift(truth, prediction, perspective)
    if not perspective:
        return TriangleMesh(prediction.vertices + np.array([0.0, 0.0, shift]), prediction.faces)
    if mean - shift <= 0:
        raise MeshError("no depth at which the prediction would meet the truth")
    return prediction.scaled(mean / (mean - shift))


def chamfer(a: TriangleMesh, b: TriangleMesh) -> float:
    """Mean distance of every vertex of each surface from the other surface, all vertices pooled."""
    to_b = Surface(b).closest(a.vertices).distance
    to_a = Surface(a).closest(b.vertices).distance
    return float(np.concatenate([to_b, to_a]).mean())


def measure(
    truth: TriangleMesh,
    prediction: TriangleMesh,
    head_centre: np.ndarray,
    head_rotation: np.ndarray,
    perspective: bool = True,
) -> dict[str, float]:
    """FaceScape's figures of one reconstruction.

    ``cr`` is the share of the truth's map where the prediction is there at all. ``mne_rad`` is the mean angle between
    the normals of the triangles seen. FaceScape's code adds 1 to every component of the normals before it compares
    them, which makes angles smaller; ``mne_published_rad`` repeats that, to stand beside published figures.

    Args:
        truth, prediction: millimetres, OpenCV camera frame.
        head_centre: ``(3,)`` where the cylinder's axis runs, camera frame, mm.
        head_rotation: ``(3, 3)`` upright head (y along the axis) → camera.
        perspective: the camera's rays are not parallel.

    Raises:
        MeshError: the meshes do not meet in the image or on the cylinder.
    """
    if len(truth.faces) == 0:
        raise MeshError("FaceScape's protocol needs a ground truth with triangles, not a point cloud")
    prediction = align_depth(truth, prediction, perspective)
    maps = [
        cylinder_map(TriangleMesh((mesh.vertices - head_centre) @ head_rotation, mesh.faces))
        for mesh in (truth, prediction)
    ]
    there = maps[0].radius > 0
    both = there & (maps[1].radius > 0)
    if not both.any():
        raise MeshError("truth and prediction do not meet on the cylinder")
    surfaces = [map_surface(one.radius * both) for one in maps]
    if any(len(surface.faces) == 0 for surface in surfaces):
        raise MeshError("too little of the cylinder is covered by both meshes")
    normals = [one.normal[both] for one in maps]
    return {
        "cd_mm": chamfer(*surfaces),
        "mne_rad": float(np.mean(angles_between(*normals))),
        "mne_published_rad": float(np.mean(angles_between(normals[0] + 1.0, normals[1] + 1.0))),
        "cr": float(both.sum() / there.sum()),
    }
