"""Where the face mesh's points lie on the head model of a network that is not the open head's; saved with the network.

The open head's own places ship (``face_mesh.embedding``); another model's come with its correspondence, which is found
anew on every machine and may differ by a hair: a network goes on with those that it was trained with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array, Float, Int

from n2f_jax.models.surface import NUM_FACE_MESH_POINTS
from n2f_jax.runtime.outside_values import is_rotation


@dataclasses.dataclass(frozen=True)
class FaceMeshPlaces:
    """The face mesh's 468 points on a head model.

    Attributes:
        faces: ``(468,)`` the model's triangle under each.
        barycentric: ``(468, 3)`` there.
        rotation: ``(3, 3)`` the open head's frame, in which the face mesh's normal maps are, to the model's.
    """

    faces: Int[np.ndarray, "468"]
    barycentric: Float[np.ndarray, "468 3"]
    rotation: Float[np.ndarray, "3 3"]

    def arrays(self) -> dict[str, np.ndarray]:
        """As a checkpoint stores them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def places_from_arrays(arrays: Mapping[str, Array | np.ndarray], num_faces: int) -> FaceMeshPlaces:
    """The other way.

    Args:
        arrays: by name.
        num_faces: of the head model.

    Raises:
        ValueError: an array is missing, of a wrong shape or kind, not finite or outside the model; or the rotation is
            none. The message names it.
    """
    found = {}
    expected = {
        "faces": ("i", (NUM_FACE_MESH_POINTS,)),
        "barycentric": ("f", (NUM_FACE_MESH_POINTS, 3)),
        "rotation": ("f", (3, 3)),
    }
    for name, (kind, shape) in expected.items():
        value = np.asarray(arrays[name]) if name in arrays else np.zeros(0)
        if value.shape != shape or value.dtype.kind != kind:
            raise ValueError(f"{name} is missing or not of shape {shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} is not finite")
        found[name] = value.astype(np.int32 if kind == "i" else np.float32)
    if found["faces"].min() < 0 or found["faces"].max() >= num_faces:
        raise ValueError(f"faces lie outside 0 … {num_faces - 1}")
    rotation = found["rotation"].astype(np.float64)
    if not is_rotation(rotation, 1e-3):
        raise ValueError("rotation is none")
    return FaceMeshPlaces(**found)
