"""A head as a mesh file: Wavefront OBJ, binary glTF, PLY. Head frame (y up, face towards +z), metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from n2f_jax.mesh.colors import SKIN, srgb_to_linear
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.runtime.atomic_files import atomic_path


def write_obj(
    path: str | Path,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "T 2"] | None = None,
    uv_faces: Int[np.ndarray, "F 3"] | None = None,
) -> None:
    """Writes a Wavefront OBJ with normals and, where given, texture coordinates.

    The file's vertices are ``vertices``, one to one and in order: seams are in the ``vt`` indices.

    Args:
        path: the file.
        vertices: metres.
        faces: triangles.
        uv: v up, or None / empty.
        uv_faces: into ``uv``.
    """
    # Not by trimesh, which gives v and vt one index and so repeats vertices along seams: indices into the head
    # model's topology would not hold in the file.
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    has_uv = uv is not None and len(uv) > 0
    lines = ["# metres; y up, the face looks along +z"]
    lines += ["v {:.7g} {:.7g} {:.7g}".format(*row) for row in vertices.tolist()]
    if has_uv:
        lines += ["vt {:.6g} {:.6g}".format(*row) for row in np.asarray(uv).tolist()]
    lines += ["vn {:.4f} {:.4f} {:.4f}".format(*row) for row in _unit_normals(vertices, faces).tolist()]
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
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "T 2"] | None = None,
    uv_faces: Int[np.ndarray, "F 3"] | None = None,
    colors: UInt8[np.ndarray, "V 3"] | None = None,
    name: str = "head",
) -> None:
    """Writes ``glb_content`` of the same arguments.

    Args:
        path: the file.
        vertices, faces, uv, uv_faces, colors, name: as there.
    """
    content = glb_content(vertices, faces, uv, uv_faces, colors, name)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def glb_content(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "T 2"] | None = None,
    uv_faces: Int[np.ndarray, "F 3"] | None = None,
    colors: UInt8[np.ndarray, "V 3"] | None = None,
    name: str = "head",
) -> bytes:
    """A binary glTF 2.0 with normals, texture coordinates, vertex colours and a skin-like material.

    The first V vertices of the file are ``vertices`` in order; vertices on texture seams follow again
    (``split_seams``).

    Args:
        vertices: metres.
        faces: triangles.
        uv: v up, or None / empty.
        uv_faces: into ``uv``.
        colors: sRGB, or None for plain skin.
        name: of the node.
    """
    import trimesh

    vertices, faces = np.asarray(vertices, np.float32), np.asarray(faces)
    normals = _unit_normals(vertices, faces)
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
    return scene.export(file_type="glb", include_normals=True)


def write_ply(
    path: str | Path,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colors: UInt8[np.ndarray, "V 3"] | None = None,
) -> None:
    """Writes a binary little-endian PLY with normals and, where given, sRGB colours (with an alpha of 255).

    The file's vertices are ``vertices``, one to one and in order, as float32.

    Args:
        path: the file.
        vertices: metres.
        faces: triangles.
        colors: of the vertices, or None.
    """
    import trimesh

    mesh = trimesh.Trimesh(
        vertices,
        faces,
        vertex_normals=_unit_normals(vertices, faces),
        vertex_colors=colors,
        process=False,
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(mesh.export(file_type="ply", vertex_normal=True))


def _unit_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float32[np.ndarray, "V 3"]:
    """Vertex normals as files want them: (0, 0, 1) at a vertex without a triangle, since glTF allows no zeros."""
    normals = vertex_normals(vertices, faces)
    return np.where(normals.any(axis=1, keepdims=True), normals, [0.0, 0.0, 1.0]).astype(np.float32)


def _linear_rgba(srgb: UInt8[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "V 4"]:
    rgb = np.round(srgb_to_linear(srgb) * 255.0).astype(np.uint8)
    return np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=-1)
