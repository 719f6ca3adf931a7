"""What rendering needs to know of a mesh's connectivity, computed once on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flame_jax import HeadModel

# The mask table: the face parser's classes {skin, brows, eyes, nose, inner mouth, lips} (FaRL's {2, 6–13})
# are these regions of a head model. Names a model lacks are skipped ('face' must be there).
FACE_REGIONS = (
    "face",
    "eyes",
    "eye_region",
    "nose",
    "mouth",
    "lips",
    "eyeballs",
    "left_eyeball",
    "right_eyeball",
    "teeth",
    "tongue",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeshTopology:
    """Connectivity of a triangle mesh for rendering. A pytree: pass it through ``jax.jit`` as an argument.

    Attributes:
        faces: ``(F, 3)`` int32, counter-clockwise seen from outside.
        neighbors: ``(F, 3)`` int32, the face across edge (corner k, corner k + 1), −1 at a border.
        region: ``(F,)`` bool, the triangles that make the mask.
        corner_uv: ``(F, 3, 2)`` texture coordinates of the corners; zeros where the mesh has none.
    """

    faces: Int[Array, "F 3"]
    neighbors: Int[Array, "F 3"]
    region: Bool[Array, " F"]
    corner_uv: Float[Array, "F 3 2"]

    @classmethod
    def from_faces(
        cls,
        faces: np.ndarray,
        region: np.ndarray | None = None,
        uv: np.ndarray | None = None,
        uv_faces: np.ndarray | None = None,
    ) -> MeshTopology:
        """Topology of any mesh; ``region`` (F,) bool defaults to all faces, ``uv_faces`` to ``faces``."""
        faces = np.asarray(faces, np.int32).reshape(-1, 3)
        count = faces.shape[0]
        region = np.ones(count, bool) if region is None else np.asarray(region, bool)
        corner_uv = np.zeros((count, 3, 2), np.float32)
        if uv is not None and np.asarray(uv).shape[0]:
            corner_uv = np.asarray(uv, np.float32)[np.asarray(faces if uv_faces is None else uv_faces)]
        return cls(
            faces=jnp.asarray(faces),
            neighbors=jnp.asarray(face_neighbors(faces)),
            region=jnp.asarray(region),
            corner_uv=jnp.asarray(corner_uv),
        )

    @classmethod
    def from_model(cls, model: HeadModel, regions: Iterable[str] | None = FACE_REGIONS) -> MeshTopology:
        """Topology of a head model. The mask is made of the triangles whose corners all lie in ``regions``
        (names of ``model.masks``), or of the whole head for ``regions=None``.

        Raises:
            ValueError: the model has no ``'face'`` region although ``regions`` asks for it.
        """
        faces = np.asarray(model.faces)
        region = None
        if regions is not None:
            regions = tuple(regions)
            known = [name for name in regions if name in model.masks]
            if ("face" in regions and "face" not in known) or not known:
                raise ValueError(
                    f"head model {model.name!r} has no 'face' region: its masks are {sorted(model.masks)}, "
                    f"wanted {regions}; load it with its masks, or pass regions=None for the whole head"
                )
            region = vertices_in(model, known)[faces].all(axis=1)
        return cls.from_faces(faces, region, np.asarray(model.uv), np.asarray(model.uv_faces))


def vertices_in(model: HeadModel, regions: Iterable[str]) -> Bool[np.ndarray, " V"]:
    """Which vertices of a head model lie in any of the regions; names that the model lacks are skipped."""
    inside = np.zeros(model.num_vertices, bool)
    for name in regions:
        if name in model.masks:
            inside[np.asarray(model.masks[name])] = True
    return inside


# The name the head's topology goes by elsewhere.
HeadTopology = MeshTopology


def face_neighbors(faces: np.ndarray) -> np.ndarray:
    """``(F, 3)`` the face on the other side of edge (corner k, corner k + 1), −1 where there is none.

    Only a neighbour that runs along the edge the other way counts (consistent winding); where more than two
    faces meet at an edge, it is a border to all of them.
    """
    faces = np.asarray(faces, np.int64)
    count = faces.shape[0]
    if count == 0:
        return np.zeros((0, 3), np.int32)
    start = faces.reshape(-1)
    stop = np.roll(faces, -1, axis=1).reshape(-1)
    base = int(faces.max()) + 1
    forward, backward = start * base + stop, stop * base + start
    order = np.argsort(forward, kind="stable")
    ordered = forward[order]
    left = np.searchsorted(ordered, backward, side="left")
    right = np.searchsorted(ordered, backward, side="right")
    unique_self = np.searchsorted(ordered, forward, side="right") - np.searchsorted(
        ordered, forward, side="left"
    )
    match = (right - left == 1) & (unique_self == 1)
    neighbor = np.where(match, order[np.minimum(left, order.size - 1)] // 3, -1)
    return neighbor.reshape(count, 3).astype(np.int32)
