"""Pictures of reconstructions."""

from n2f_jax.visualization.layout import grid
from n2f_jax.visualization.picture import head_picture, mesh_colors, photo_overlay

__all__ = ["grid", "head_picture", "mesh_colors", "photo_overlay"]
