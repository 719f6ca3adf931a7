"""Cameras, crops, boxes, focal lengths and the alignment of points."""

from n2f_jax.geometry.camera import (
    FRONTAL,
    Camera,
    frontal_rotation,
    intrinsics_matrix,
    project,
    project_camera_points,
    to_camera,
)
from n2f_jax.geometry.crop import (
    Crop,
    crop_camera,
    crop_image,
    crop_intrinsics,
    from_crop,
    landmark_crop,
    to_crop,
)

__all__ = [
    "FRONTAL",
    "Camera",
    "Crop",
    "crop_camera",
    "crop_image",
    "crop_intrinsics",
    "from_crop",
    "frontal_rotation",
    "intrinsics_matrix",
    "landmark_crop",
    "project",
    "project_camera_points",
    "to_camera",
    "to_crop",
]
