"""The arrays of a FLAME-format head model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# Order of the joints in every FLAME file (kintree_table).
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LandmarkEmbedding:
    """68 landmarks (the iBUG order) as barycentric points on mesh triangles.

    Attributes:
        static_faces: ``(68,)`` triangle of each landmark when the contour is a fixed set of points.
        static_barycentric: ``(68, 3)`` its barycentric coordinates.
        dynamic_faces: ``(bins, 17)`` triangles of the jaw line seen at each yaw; ``bins`` is odd.
        dynamic_barycentric: ``(bins, 17, 3)``.

    The bins are one degree wide, as in FLAME's ``landmark_embedding.npy`` (79 bins): bin 0 is a frontal
    head, bins ``1 … 39`` a head rotated by ``−1° … −39°`` about its y axis (turned to the subject's
    right), bins ``40 … 78`` by ``+1° … +39°``; beyond that the last bin of the side holds.
    """

    static_faces: Int[Array, "68"]
    static_barycentric: Float[Array, "68 3"]
    dynamic_faces: Int[Array, "bins 17"]
    dynamic_barycentric: Float[Array, "bins 17 3"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadModel:
    """A head model in FLAME's format, a pytree of arrays.

    Units are metres and radians; the frame is FLAME's: x to the subject's left, y up, z out of the face.
    V vertices, F triangles, S shape and E expression directions, J = 5 joints (``JOINT_NAMES``).

    Attributes:
        v_template: ``(V, 3)`` mean head.
        shapedirs: ``(V, 3, S)`` displacement per unit of shape coefficient.
        exprdirs: ``(V, 3, E)`` displacement per unit of expression coefficient.
        posedirs: ``(V, 3, 9·n)`` pose correctives per element of ``R_j − I`` of the last n joints: n = J − 1 in FLAME's
            format, J where the root has some too.
        eyelids: ``(2, V, 3)`` displacement at full closure, left lid first (the subject's left).
        J_regressor: ``(J, V)`` joints from shaped vertices; not used where ``joint_template`` is there.
        weights: ``(V, J)`` linear blend skinning weights.
        faces: ``(F, 3)`` int32, counter-clockwise seen from outside.
        uv: ``(T, 2)`` texture coordinates, v up, or shape ``(0, 2)`` where the file has none.
        uv_faces: ``(F, 3)`` int32 into ``uv``, or ``(0, 3)``.
        landmarks: the 68-landmark embedding, or None where the file has none.
        masks: region name → ``(n,)`` int32 vertex indices.
        parents: parent joint of each joint, −1 for the root (static).
        name: what the model calls itself (static).
        has_pose_correctives: False where ``posedirs`` is zero and decoding leaves it out (static).
        shape_std, expression_std: standard deviation of the coefficients over people (static). FLAME's files do not
            say; 0.8 and 0.5 are what N2FNet samples (section IV.1).
        joint_template: ``(J, 3)`` joints of the mean head, for models whose joints follow the shape alone and are no
            function of the vertices (``flame_jax.gnm``); None in FLAME's format.
        joint_shapedirs: ``(J, 3, S)`` how those move per unit of shape coefficient, or None.
        origin: where this frame's origin lies in the file's own frame, metres (static): add it to vertices to have the
            file's coordinates.
    """

    v_template: Float[Array, "V 3"]
    shapedirs: Float[Array, "V 3 S"]
    exprdirs: Float[Array, "V 3 E"]
    posedirs: Float[Array, "V 3 P"]
    eyelids: Float[Array, "2 V 3"]
    J_regressor: Float[Array, "J V"]
    weights: Float[Array, "V J"]
    faces: Int[Array, "F 3"]
    uv: Float[Array, "T 2"]
    uv_faces: Int[Array, "uvF 3"]
    landmarks: LandmarkEmbedding | None
    masks: dict[str, Int[Array, " n"]]
    parents: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    name: str = dataclasses.field(metadata={"static": True})
    has_pose_correctives: bool = dataclasses.field(default=True, metadata={"static": True})
    shape_std: float = dataclasses.field(default=0.8, metadata={"static": True})
    expression_std: float = dataclasses.field(default=0.5, metadata={"static": True})
    joint_template: Float[Array, "J 3"] | None = None
    joint_shapedirs: Float[Array, "J 3 S"] | None = None
    origin: tuple[float, float, float] = dataclasses.field(default=(0.0, 0.0, 0.0), metadata={"static": True})

    @property
    def num_vertices(self) -> int:
        return self.v_template.shape[0]

    @property
    def num_faces(self) -> int:
        return self.faces.shape[0]

    @property
    def num_shape(self) -> int:
        return self.shapedirs.shape[-1]

    @property
    def num_expression(self) -> int:
        return self.exprdirs.shape[-1]
