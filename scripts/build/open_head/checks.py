"""Automatic checks of head meshes: inside-out skin, teeth or tongue through the skin, open lids.

Everything is counted in pixels of small orthographic pictures, so that what is hidden does not count.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from flame_jax import HeadModel
from n2f_jax.visualization.orthographic import View, visible_faces
from open_head.posing import pose_heads

FRONT = View((0.0, -0.01, 0.0), 0.26, 320)
# From both sides, and from below, where nostrils meet the upper lip.
VIEWS = (
    FRONT,
    dataclasses.replace(FRONT, yaw=0.7),
    dataclasses.replace(FRONT, yaw=-0.7),
    dataclasses.replace(FRONT, pitch=-0.8),
)


@dataclasses.dataclass(frozen=True)
class HeadParts:
    """Which triangles are what: boolean ``(F,)`` each, beside the ``(F, 3)`` triangles themselves.

    Attributes:
        faces: all triangles.
        region: skin of the face region.
        eyeballs, mouth_parts: eyeballs; teeth and tongue.
        sockets, cavity: skin of the eye sockets and of the mouth cavity, their rims included.
    """

    faces: Int[np.ndarray, "F 3"]
    region: Bool[np.ndarray, "F"]
    eyeballs: Bool[np.ndarray, "F"]
    mouth_parts: Bool[np.ndarray, "F"]
    sockets: Bool[np.ndarray, "F"]
    cavity: Bool[np.ndarray, "F"]

    @classmethod
    def from_model(cls, model: HeadModel) -> HeadParts:
        """From the free head's masks (``eye_sockets`` and ``mouth_cavity`` among them)."""
        faces = np.asarray(model.faces)

        def corners_in(*regions: str) -> Bool[np.ndarray, "F 3"]:
            return np.isin(faces, np.concatenate([np.asarray(model.masks[region]) for region in regions]))

        return cls(
            faces,
            corners_in("face").all(axis=1),
            corners_in("eyeballs").all(axis=1),
            corners_in("teeth", "tongue").all(axis=1),
            corners_in("eye_sockets").any(axis=1),
            corners_in("mouth_cavity").any(axis=1),
        )

    @property
    def skin(self) -> Int[np.ndarray, "K"]:
        """Indices of the skin's triangles."""
        return np.flatnonzero(~self.eyeballs & ~self.mouth_parts)


def inside_out_share(vertices: Float[np.ndarray, "V 3"], parts: HeadParts, view: View) -> float:
    """Share of the face's pixels where the foremost skin is seen from its back: skin folded through skin."""
    seen = visible_faces(vertices, parts.faces[parts.skin], view, cull=False)
    seen = parts.skin[seen[seen >= 0]]
    seen = seen[parts.region[seen]]
    if len(seen) == 0:
        return 0.0
    corners = vertices[parts.faces[seen]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ view.rotation[2]
    return float((normal < 0).mean())


def mouth_through_skin(vertices: Float[np.ndarray, "V 3"], parts: HeadParts, view: View) -> int:
    """Pixels where teeth or tongue stand in front of outer skin that faces the viewer.

    What is seen through the open lips has the mouth cavity behind it, not outer skin.
    """
    seen = visible_faces(vertices, parts.faces, view)
    behind = visible_faces(vertices, parts.faces[parts.skin], view)
    outer = (behind >= 0) & ~parts.cavity[parts.skin[behind]]
    return int(parts.mouth_parts[seen[(seen >= 0) & outer]].sum())


def visible_pixels(
    vertices: Float[np.ndarray, "V 3"], parts: HeadParts, chosen: Bool[np.ndarray, "F"], view: View
) -> int:
    """Pixels that show one of the chosen triangles."""
    seen = visible_faces(vertices, parts.faces, view)
    return int(chosen[seen[seen >= 0]].sum())


def open_lid_share(
    opened: Float[np.ndarray, "V 3"], closed: Float[np.ndarray, "V 3"], parts: HeadParts, view: View = FRONT
) -> float:
    """How much of the eyeball that the open eyes show is still seen with the lids closed."""
    shown = visible_pixels(opened, parts, parts.eyeballs, view)
    return visible_pixels(closed, parts, parts.eyeballs, view) / max(shown, 1)


def defect_report(
    model: HeadModel,
    number: int,
    shape_std: float = 1.0,
    expression_std: float = 0.0,
    jaw_std: float = 0.0,
    seed: int = 5,
) -> dict[str, float]:
    """Shares of random heads with defects.

    Args:
        model: the free head.
        number: heads to draw.
        shape_std, expression_std: of the coefficients.
        jaw_std: of the jaw's opening in radians, the absolute value of a normal number.
        seed: of the draw.

    Returns:
        ``inside_out``: share of heads with over 0.2 % of the face inside out in any of ``VIEWS``;
        ``teeth_through``: with teeth or tongue through the skin at over 2 pixels of any view;
        ``lids_open_1``, ``lids_open_2``: with over 1 %, 2 % of the eyeball seen in front at closed lids;
        ``lids_open_mean``: that share averaged over heads.
    """
    rng = np.random.default_rng(seed)
    parts = HeadParts.from_model(model)
    shape = shape_std * rng.standard_normal((number, model.num_shape))
    expression = expression_std * rng.standard_normal((number, model.num_expression))
    jaw = np.zeros((number, 3))
    jaw[:, 0] = np.abs(jaw_std * rng.standard_normal(number))
    opened = pose_heads(model, shape, expression, jaw)
    closed = pose_heads(model, shape, expression, jaw, np.ones((number, 2)))
    rows = np.array(
        [
            (
                max(inside_out_share(head, parts, view) for view in VIEWS),
                max(mouth_through_skin(head, parts, view) for view in VIEWS),
                open_lid_share(head, shut, parts),
            )
            for head, shut in zip(opened, closed, strict=True)
        ]
    )
    return {
        "inside_out": float((rows[:, 0] > 0.002).mean()),
        "teeth_through": float((rows[:, 1] > 2).mean()),
        "lids_open_1": float((rows[:, 2] > 0.01).mean()),
        "lids_open_2": float((rows[:, 2] > 0.02).mean()),
        "lids_open_mean": float(rows[:, 2].mean()),
    }


def component_defects(model: HeadModel, count: int = 60, amount: float = 2.5) -> list[tuple[int, float]]:
    """Which of the first ``count`` shape components alone fold the face or push teeth through it.

    Later ones move the head by less than 0.2 mm (RMS) a unit.

    Returns:
        ``(component, coefficient)``, the latter ± ``amount``, where :func:`inside_out_share` exceeds
        0.2 % or :func:`mouth_through_skin` two pixels, from the front or from below.
    """
    parts = HeadParts.from_model(model)
    shape = np.kron(np.eye(model.num_shape)[:count], [[-amount], [amount]])
    views = (VIEWS[0], VIEWS[3])
    return [
        (row // 2, float(shape[row, row // 2]))
        for row, head in enumerate(pose_heads(model, shape=shape))
        if any(
            inside_out_share(head, parts, view) > 0.002 or mouth_through_skin(head, parts, view) > 2
            for view in views
        )
    ]
