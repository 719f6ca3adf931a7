"""A differentiable triangle renderer in pure JAX."""

from n2f_jax.render.antialias import antialias_mask
from n2f_jax.render.head_maps import FaceMaps, render_head, render_mesh_maps
from n2f_jax.render.rasterizer import Fragments, rasterize
from n2f_jax.render.shading import (
    face_normals,
    normalize,
    shade,
    shade_directions,
    vertex_normals,
)
from n2f_jax.render.topology import FACE_REGIONS, HeadTopology, MeshTopology, face_neighbors

__all__ = [
    "FACE_REGIONS",
    "FaceMaps",
    "Fragments",
    "HeadTopology",
    "MeshTopology",
    "antialias_mask",
    "face_neighbors",
    "face_normals",
    "normalize",
    "rasterize",
    "render_head",
    "render_mesh_maps",
    "shade",
    "shade_directions",
    "vertex_normals",
]
