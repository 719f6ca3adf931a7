"""In which head frame a front end's normals are, and the turn from there to a head model's frame.

A head frame is its model's own: x to the subject's left, y up, z out of the face, but how far the mean head nods in it
is up to who made it. A network was trained on the normals of one model, and has to be shown those of others turned.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from flame_jax import HeadModel
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.models.face_mesh_places import FaceMeshPlaces

FLAME_VERTICES, FLAME_TRIANGLES = 5023, 9976
# Degrees about x from the open head's frame to FLAME's, in which the mean head looks up a little: the open head was
# registered (``fitting.head_correspondence``) to the public templates in FLAME's topology. TF_FLAME's data/template.ply
# gives −6.7, head_template.obj, as DECA and others have it, −7.7; turns about the other axes are below 0.3°.
FLAME_NOD = -7.2
_OPEN_HEAD, _FLAME = "the open head's", "FLAME's"
# Whose frame normals are in, by front end (``frontends.FRONTENDS``). Pixel3DMM's network was trained on those of
# FLAME's mesh at rest.
_FRAMES = MappingProxyType({"face_mesh": _OPEN_HEAD, "pixel3dmm": _FLAME, "precomputed": _FLAME})


def has_flames_mesh(model: HeadModel) -> bool:
    """Whether a model is one of FLAME's releases, by its mesh: those share their frame."""
    return (model.num_vertices, model.num_faces) == (FLAME_VERTICES, FLAME_TRIANGLES)


def open_head_to_flame() -> Float[np.ndarray, "3 3"]:
    """The open head's frame to FLAME's, as far as it can be known without FLAME's file (``FLAME_NOD``)."""
    return Rotation.from_euler("x", FLAME_NOD, degrees=True).as_matrix().astype(np.float32)


def map_rotations(
    model: HeadModel,
    places: FaceMeshPlaces | None = None,
    to_flame: Float[np.ndarray, "3 3"] | None = None,
) -> dict[str, Float[np.ndarray, "3 3"]]:
    """Turns ``R`` of front ends' normals, ``R·n``, into a head model's frame, by front end.

    Left out are front ends whose normals are in that frame already, those that are not known, and all of them where the
    model's frame is not: of a model other than the open head and FLAME without ``places``.

    Args:
        model: the head model.
        places: of the face mesh on it, where it is not the open head and they are known.
        to_flame: the open head's frame to FLAME's, where FLAME's file is at hand and was registered to; None:
            ``open_head_to_flame``.
    """
    to_flame = open_head_to_flame() if to_flame is None else to_flame
    flame = has_flames_mesh(model)
    if places is not None:
        to_model = places.rotation
    elif face_mesh_embedding(model) is not None:
        to_model = np.eye(3, dtype=np.float32)
    elif flame:
        to_model = to_flame
    else:
        return {}
    turns = {_OPEN_HEAD: to_model, _FLAME: np.eye(3, dtype=np.float32) if flame else to_model @ to_flame.T}
    found = {name: turns[frame] for name, frame in _FRAMES.items()}
    return {name: turn for name, turn in found.items() if not np.array_equal(turn, np.eye(3))}
