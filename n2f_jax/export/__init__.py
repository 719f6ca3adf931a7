"""Reconstructed heads as files."""

from n2f_jax.export.meshes import FORMATS, region_colors, write_glb, write_obj, write_ply
from n2f_jax.export.parameters import KEYS, load_parameters, save_parameters

__all__ = [
    "FORMATS",
    "KEYS",
    "load_parameters",
    "region_colors",
    "save_parameters",
    "write_glb",
    "write_obj",
    "write_ply",
]
