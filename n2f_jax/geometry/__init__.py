"""Cameras and crops."""

from n2f_jax.geometry.camera import (
    FRONTAL,
    Camera,
    frontal_rotation,
    intrinsics_matrix,
    project,
    project_camera_points,
    to_camera,
)
from n2f_jax.geometry.crop import Crop, crop_camera, crop_image, from_crop, landmark_crop, to_crop

__all__ = [
    "FRONTAL",
    "Camera",
    "Crop",
    "crop_camera",
    "crop_image",
    "from_crop",
    "frontal_rotation",
    "intrinsics_matrix",
    "landmark_crop",
    "project",
    "project_camera_points",
    "to_camera",
    "to_crop",
]
