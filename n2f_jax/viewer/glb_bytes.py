"""A coloured mesh as binary glTF in memory, without a detour: it is sent at every move of a slider."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from n2f_jax.mesh.colors import srgb_to_linear
from n2f_jax.mesh.normals import vertex_normals

_FLOAT, _BYTE, _UINT = 5126, 5121, 5125  # glTF's component types
# Linear light of each sRGB level, 0 … 255, as glTF's vertex colours are.
_LINEAR = np.round(255.0 * srgb_to_linear(np.arange(256, dtype=np.float64))).astype(np.uint8)


def glb_bytes(
    vertices: Float[np.ndarray, "N 3"],
    faces: Int[np.ndarray, "F 3"],
    colors: UInt8[np.ndarray, "N 3"],
    opacity: float = 1.0,
    lit: bool = True,
) -> bytes:
    """A matt mesh with vertex colours.

    Args:
        vertices: any frame.
        faces: triangles.
        colors: sRGB.
        opacity: of all of it, 0 … 1.
        lit: False where the colours are to be seen as they are.
    """
    points = np.ascontiguousarray(vertices, "<f4")
    rgba = np.concatenate([_LINEAR[colors], np.full((len(colors), 1), 255, np.uint8)], axis=1)
    normals = vertex_normals(vertices, faces).astype("<f4")
    parts = [
        points.tobytes(),
        normals.tobytes(),
        rgba.tobytes(),
        np.ascontiguousarray(faces, "<u4").tobytes(),
    ]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).tolist()
    material: dict[str, Any] = {
        "pbrMetallicRoughness": {
            "baseColorFactor": [1.0, 1.0, 1.0, opacity],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.8,
        },
        "alphaMode": "OPAQUE" if opacity >= 1.0 else "BLEND",
    }
    if not lit:
        material["extensions"] = {"KHR_materials_unlit": {}}
    # Of one without normals viewers show every triangle flat.
    attributes = {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}
    description: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "extensionsUsed": [*material.get("extensions", {})],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 3, "material": 0}]}],
        "materials": [material],
        "accessors": [
            {
                **{"bufferView": 0, "componentType": _FLOAT, "count": len(points), "type": "VEC3"},
                "min": points.min(axis=0).tolist(),
                "max": points.max(axis=0).tolist(),
            },
            {"bufferView": 1, "componentType": _FLOAT, "count": len(points), "type": "VEC3"},
            {
                **{"bufferView": 2, "componentType": _BYTE, "count": len(points), "type": "VEC4"},
                "normalized": True,
            },
            {"bufferView": 3, "componentType": _UINT, "count": 3 * len(faces), "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": len(part)}
            for offset, part in zip(offsets, parts, strict=False)
        ],
        "buffers": [{"byteLength": offsets[-1]}],
    }
    if lit:
        del description["extensionsUsed"]  # glTF allows no empty list
    text = json.dumps(description, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(parts)  # whole words, all of them
    total = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON") + text,
            struct.pack("<I4s", len(binary), b"BIN\0") + binary,
        ]
    )
