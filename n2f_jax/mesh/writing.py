"""A head as a mesh file: Wavefront OBJ, binary glTF, PLY. Head frame (y up, face towards +z), metres."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from flame_jax import JOINT_NAMES, HeadModel
from n2f_jax.runtime.atomic_files import atomic_path

FORMATS = ("obj", "glb", "ply")
SKIN = (221, 178, 153)  # sRGB
# Regions that are not skin, by HeadModel.masks; later entries win.
IRIS = (92, 72, 58)
# Seen from the eyeball's centre an iris spans about 23° to each side; its colour fades out over one triangle.
IRIS_DEGREES = 17.0
REGION_COLORS = {"eyeballs": (236, 234, 230), "teeth": (226, 219, 200), "tongue": (190, 104, 104)}


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals ``(V, 3)``, float32; (0, 0, 1) for a vertex without a triangle."""
    vertices = np.asarray(vertices, np.float64)
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], cross)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(length > 0, normals / np.maximum(length, 1e-300), [0.0, 0.0, 1.0]).astype(np.float32)


def region_colors(model: HeadModel) -> np.ndarray:
    """A plain sRGB colour for every vertex ``(V, 3)`` uint8: skin, what is not skin by region, and irises."""
    colors = np.tile(np.asarray(SKIN, np.uint8), (model.num_vertices, 1))
    for region, color in REGION_COLORS.items():
        if region in model.masks:
            colors[np.asarray(model.masks[region])] = color
    vertices = np.asarray(model.v_template)
    joints = np.asarray(model.J_regressor) @ vertices
    for region in ("left_eyeball", "right_eyeball"):
        if region in model.masks:
            ball = np.asarray(model.masks[region])
            forward = vertices[ball] - joints[JOINT_NAMES.index(region.replace("ball", ""))]
            cosine = forward[:, 2] / np.maximum(np.linalg.norm(forward, axis=-1), 1e-9)
            colors[ball[cosine > math.cos(math.radians(IRIS_DEGREES))]] = IRIS
    return colors


def write_obj(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray | None = None,
    uv_faces: np.ndarray | None = None,
) -> None:
    """Writes a Wavefront OBJ with normals and, where given, texture coordinates.

    The file's vertices are ``vertices``, one to one and in order: seams are in the ``vt`` indices.

    Args:
        path: the file.
        vertices: ``(V, 3)`` metres.
        faces: ``(F, 3)``.
        uv: ``(T, 2)``, v up, or None / empty.
        uv_faces: ``(F, 3)`` into ``uv``.
    """
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    has_uv = uv is not None and len(uv) > 0
    lines = ["# metres; y up, the face looks along +z"]
    lines += ["v {:.7g} {:.7g} {:.7g}".format(*row) for row in vertices.tolist()]
    if has_uv:
        lines += ["vt {:.6g} {:.6g}".format(*row) for row in np.asarray(uv).tolist()]
    lines += ["vn {:.4f} {:.4f} {:.4f}".format(*row) for row in vertex_normals(vertices, faces).tolist()]
    if has_uv:
        table = np.stack([faces, np.asarray(uv_faces), faces], axis=-1) + 1
        lines += ["f {}/{}/{} {}/{}/{} {}/{}/{}".format(*row) for row in table.reshape(-1, 9).tolist()]
    else:
        table = np.stack([faces, faces], axis=-1) + 1
        lines += ["f {}//{} {}//{} {}//{}".format(*row) for row in table.reshape(-1, 6).tolist()]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def split_seams(faces: np.ndarray, uv_faces: np.ndarray, num_vertices: int) -> tuple[np.ndarray, ...]:
    """One index for position and texture, as glTF needs.

    The first ``num_vertices`` rows stay the model's vertices in order (each with one of its texture
    coordinates); further texture coordinates of a vertex on a seam get rows appended.

    Returns:
        ``faces (F, 3)`` into the new rows, ``vertex_of (N,)`` and ``uv_of (N,)``: each row's vertex and
        texture coordinate; ``uv_of`` is 0 for a vertex that no triangle uses.
    """
    faces, uv_faces = np.asarray(faces, np.int64), np.asarray(uv_faces, np.int64)
    pairs, inverse = np.unique(
        np.stack([faces.ravel(), uv_faces.ravel()], axis=-1), axis=0, return_inverse=True
    )
    vertex, first = np.unique(pairs[:, 0], return_index=True)
    row = np.full(len(pairs), -1)
    row[first] = vertex
    extra = np.flatnonzero(row < 0)
    row[extra] = num_vertices + np.arange(len(extra))
    vertex_of = np.concatenate([np.arange(num_vertices), pairs[extra, 0]])
    uv_of = np.zeros(len(vertex_of), np.int64)
    uv_of[row] = pairs[:, 1]
    return row[inverse.ravel()].reshape(faces.shape).astype(np.int32), vertex_of, uv_of


def write_glb(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray | None = None,
    uv_faces: np.ndarray | None = None,
    colors: np.ndarray | None = None,
    name: str = "head",
) -> None:
    """Writes a binary glTF 2.0 with normals, texture coordinates, vertex colours and a skin-like material.

    The first V vertices of the file are ``vertices`` in order; vertices on texture seams follow again
    (``split_seams``).

    Args:
        path: the file.
        vertices: ``(V, 3)`` metres.
        faces: ``(F, 3)``.
        uv: ``(T, 2)``, v up, or None / empty.
        uv_faces: ``(F, 3)`` into ``uv``.
        colors: ``(V, 3)`` uint8 sRGB, or None for plain skin.
        name: of the node.
    """
    import trimesh

    vertices, faces = np.asarray(vertices, np.float32), np.asarray(faces)
    normals = vertex_normals(vertices, faces)
    if colors is None:
        colors = np.tile(np.asarray(SKIN, np.uint8), (len(vertices), 1))
    if uv is not None and len(uv) > 0:
        faces, vertex_of, uv_of = split_seams(faces, uv_faces, len(vertices))
        texture = np.asarray(uv, np.float32)[uv_of]
    else:
        vertex_of, texture = np.arange(len(vertices)), None
    # glTF's vertex colours are linear and multiply the material's.
    material = trimesh.visual.material.PBRMaterial(
        name="skin", baseColorFactor=[1.0, 1.0, 1.0, 1.0], metallicFactor=0.0, roughnessFactor=0.6
    )
    visual = trimesh.visual.TextureVisuals(uv=texture, material=material)
    visual.vertex_attributes["color"] = _linear_rgba(colors[vertex_of])
    mesh = trimesh.Trimesh(
        vertices=vertices[vertex_of],
        faces=faces,
        vertex_normals=normals[vertex_of],
        visual=visual,
        process=False,
    )
    scene = trimesh.Scene({name: mesh})
    with atomic_path(path) as temporary:
        temporary.write_bytes(scene.export(file_type="glb", include_normals=True))


def _linear_rgba(srgb: np.ndarray) -> np.ndarray:
    value = np.asarray(srgb, np.float64) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    rgb = np.round(linear * 255.0).astype(np.uint8)
    return np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=-1)


def write_ply(
    path: str | Path, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None = None
) -> None:
    """Writes a binary little-endian PLY with normals and, where given, ``(V, 3)`` uint8 colours."""
    vertices, faces = np.asarray(vertices, np.float32), np.asarray(faces)
    fields = [(axis, "<f4") for axis in ("x", "y", "z", "nx", "ny", "nz")]
    names = {"<f4": "float", "u1": "uchar"}
    if colors is not None:
        fields += [(channel, "u1") for channel in ("red", "green", "blue")]
    rows = np.zeros(len(vertices), fields)
    normals = vertex_normals(vertices, faces)
    for axis, field in enumerate("xyz"):
        rows[field], rows["n" + field] = vertices[:, axis], normals[:, axis]
    if colors is not None:
        for channel, field in enumerate(("red", "green", "blue")):
            rows[field] = colors[:, channel]
    triangles = np.zeros(len(faces), [("count", "u1"), ("index", "<i4", (3,))])
    triangles["count"], triangles["index"] = 3, faces
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property {names[kind]} {field}" for field, kind in fields]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    with atomic_path(path) as temporary:
        temporary.write_bytes(
            "\n".join(header).encode("ascii") + b"\n" + rows.tobytes() + triangles.tobytes()
        )
