"""What the renderer makes of a mesh: triangles, normals, depth, texture coordinates, mask and its derivative."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation

from flame_jax.files.outside import read_regular_file, reason
from n2f_jax.geometry import FRONTAL
from n2f_jax.mesh.reading import MAX_MESH_BYTES, read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError
from n2f_jax.render import FaceMaps, MeshTopology, rasterize, render_mesh_maps, vertex_normals
from n2f_jax.visualization.layout import BACKGROUND, grid
from n2f_jax.visualization.overlay import normals_to_rgb

PANELS = (
    "triangles",
    "normals",
    "depth",
    "texture coordinates",
    "mask, close up",
    "mask, by a shift to the right",
)
_SHIFT = 0.01  # of the mesh's radius
_CHECKS = 32


@dataclasses.dataclass(frozen=True)
class TexturedMesh:
    """A mesh of triangles with what texture coordinates it has.

    Attributes:
        vertices: ``(V, 3)`` y up; any unit.
        faces: ``(F, 3)`` counter-clockwise seen from outside.
        uv: ``(V, 2)`` or None.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"] | None


def read_textured_mesh(path: str | Path) -> TexturedMesh:
    """Any mesh file that ``mesh.reading.read_mesh`` reads, with its texture coordinates.

    Raises:
        MeshError: not such a file, or broken.
    """
    plain = read_mesh(path)
    if Path(path).suffix.lower() in (".obj", ".glb", ".ply"):
        import trimesh

        # With texture coordinates vertices are split along seams, which ``read_mesh`` takes care not to do.
        # From memory, so that it names no other files; what ``read_mesh`` has read is as large as it says.
        try:
            data = io.BytesIO(read_regular_file(path, MAX_MESH_BYTES, "mesh files"))
            kind = Path(path).suffix.lower().lstrip(".")
            loaded = trimesh.load(data, file_type=kind, process=False, force="mesh")
        except Exception as error:  # the library has its own ways to say that a file is broken
            raise MeshError(
                f"{path}: its texture coordinates cannot be read ({type(error).__name__}: {reason(error)})"
            ) from error
        uv = getattr(loaded.visual, "uv", None)
        if uv is not None and len(uv) == len(loaded.vertices):
            return TexturedMesh(np.asarray(loaded.vertices), np.asarray(loaded.faces), np.asarray(uv))
    return TexturedMesh(plain.vertices, plain.faces, None)


def open_head_mesh() -> TexturedMesh:
    """The open head at rest, split along its texture's seams."""
    import flame_jax
    from n2f_jax.mesh.writing import split_seams

    model = flame_jax.load_open_head()
    faces, uv_faces = np.asarray(model.faces), np.asarray(model.uv_faces)
    faces, vertex_of, uv_of = split_seams(faces, uv_faces, model.num_vertices)
    return TexturedMesh(np.asarray(model.v_template)[vertex_of], faces, np.asarray(model.uv)[uv_of])


def look_at(
    vertices: Float[np.ndarray, "V 3"], yaw: float, pitch: float, size: int
) -> tuple[Float[np.ndarray, "V 3"], float, float]:
    """Vertices in the frame of a camera that sees the whole mesh, its focal length, and the mesh's radius.

    Args:
        vertices: y up.
        yaw, pitch: degrees by which the mesh is turned: to its left, and forwards.
        size: side of the image, pixels.
    """
    center = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = max(float(np.linalg.norm(vertices - center, axis=1).max()), 1e-12)
    rotation = FRONTAL @ Rotation.from_euler("XY", (pitch, yaw), degrees=True).as_matrix()
    distance = 4.0 * radius
    points = (vertices - center) @ rotation.T
    focal = 0.47 * size * math.sqrt(distance**2 - radius**2) / radius
    return points + np.array([0.0, 0.0, distance]), focal, radius


def mesh_sheet(
    mesh: TexturedMesh, yaw: float = 25.0, pitch: float = 5.0, size: int = 512
) -> UInt8[np.ndarray, "H W 3"]:
    """Six panels of ``PANELS``; triangles seen from inside are not drawn."""
    points, focal, radius = look_at(mesh.vertices, yaw, pitch, size)
    points, faces = jnp.asarray(points, jnp.float32), jnp.asarray(mesh.faces, jnp.int32)
    topology = MeshTopology.from_faces(mesh.faces, uv=mesh.uv)
    center, near = jnp.full(2, size / 2), 0.01 * radius
    focal = jnp.float32(focal)

    # Vertices split along a texture's seams have one normal.
    _, welded = np.unique(mesh.vertices, axis=0, return_inverse=True)
    welded = jnp.asarray(welded.reshape(-1), jnp.int32)

    @jax.jit
    def draw(points: jax.Array, topology: MeshTopology) -> FaceMaps:
        merged = jnp.zeros_like(points).at[welded].set(points)
        normals = vertex_normals(merged, welded[topology.faces])[welded]
        return render_mesh_maps(points, normals, topology, focal, center, size, antialias=True, near=near)

    def shifted(x: jax.Array) -> jax.Array:
        return draw(points + jnp.stack([x, 0.0 * x, 0.0 * x])[None], topology).mask

    maps = jax.device_get(draw(points, topology))
    face = np.asarray(rasterize(points, faces, focal, center, (size, size), near=near).face)
    _, slope = jax.jvp(shifted, (jnp.zeros(()),), (jnp.full((), _SHIFT * radius),))
    seen = face >= 0
    panels = [
        _triangles(face),
        np.where(seen[..., None], normals_to_rgb(maps.normals * np.array([1.0, -1.0, -1.0])), BACKGROUND),
        _depth(maps.depth, seen),
        _checks(maps.uv, seen) if mesh.uv is not None else np.tile(np.array(BACKGROUND), (size, size, 1)),
        _close_up(maps.mask),
        _signed(np.asarray(slope)),
    ]
    captions = list(PANELS)
    if mesh.uv is None:
        captions[3] = "no texture coordinates"
    return grid([panel.astype(np.uint8) for panel in panels], captions, columns=3, tile=size)


def _triangles(face):
    colors = np.random.default_rng(0).integers(60, 256, (int(face.max()) + 2, 3))
    colors[-1] = BACKGROUND
    return colors[face]


def _depth(depth, seen):
    if not seen.any():
        return np.tile(np.array(BACKGROUND), (*seen.shape, 1))
    near, far = depth[seen].min(), depth[seen].max()
    share = 1.0 - (depth - near) / max(far - near, 1e-12)
    colors = cv2.applyColorMap((255 * np.clip(share, 0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(seen[..., None], colors, BACKGROUND)


def _checks(uv, seen):
    checks = np.floor(_CHECKS * uv).astype(int).sum(axis=-1) % 2
    colors = np.stack([uv[..., 0], uv[..., 1], 0.5 + 0 * uv[..., 0]], -1).clip(0, 1) * 255
    return np.where(seen[..., None], colors * (0.55 + 0.45 * checks[..., None]), BACKGROUND)


def _close_up(mask):
    """A twelfth of the image about the leftmost border pixel of the middle row, enlarged without smoothing."""
    size = mask.shape[0]
    side = max(8, size // 12)
    row = size // 2
    column = int(np.argmax(mask[row] > 0.5))
    top, left = (int(np.clip(x - side // 2, 0, size - side)) for x in (row, column))
    part = (255 * np.clip(mask[top : top + side, left : left + side], 0, 1)).astype(np.uint8)
    return np.repeat(cv2.resize(part, (size, size), interpolation=cv2.INTER_NEAREST)[..., None], 3, axis=-1)


def _signed(values):
    """Red where the mask grows, blue where it shrinks."""
    share = np.clip(values / max(np.abs(values).max(), 1e-12), -1, 1)[..., None]
    warm, cold, base = np.array([255, 90, 60]), np.array([70, 130, 255]), np.array(BACKGROUND)
    return base + np.where(share > 0, share * (warm - base), -share * (cold - base))
