"""Automatic checks of head meshes: inside-out skin, teeth or eyeballs through the skin, open lids.

Everything is counted in pixels of small orthographic pictures, so that what is hidden does not count.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from n2f_jax.open_head.preview import View, visible_faces

FRONT = View((0.0, -0.01, 0.0), 0.26, 320)
SIDES = (FRONT, dataclasses.replace(FRONT, yaw=0.7), dataclasses.replace(FRONT, yaw=-0.7))


@dataclasses.dataclass(frozen=True)
class HeadParts:
    """Which triangles are what. Boolean ``(F,)`` each.

    Attributes:
        faces: ``(F, 3)`` all triangles.
        region: triangles of the face region (skin).
        eyeballs, mouth_parts: triangles of the eyeballs; of teeth and tongue.
        inner: triangles of the eye sockets and the mouth cavity.
    """

    faces: Int[np.ndarray, "F 3"]
    region: np.ndarray
    eyeballs: np.ndarray
    mouth_parts: np.ndarray
    inner: np.ndarray

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> HeadParts:
        """From the arrays of ``open_head.npz``."""
        faces = arrays["f"]

        def flags(*regions: str, every: bool = True) -> np.ndarray:
            inside = np.isin(faces, np.concatenate([arrays[f"mask_{region}"] for region in regions]))
            return inside.all(axis=1) if every else inside.any(axis=1)

        return cls(
            faces,
            flags("face"),
            flags("eyeballs"),
            flags("teeth", "tongue"),
            flags("eye_sockets", "mouth_cavity", every=False),
        )


def inside_out_pixels(vertices: Float[np.ndarray, "V 3"], parts: HeadParts, view: View) -> float:
    """Share of the face's pixels where the foremost surface is seen from its back: skin folded through skin."""
    skin = parts.faces[~parts.eyeballs & ~parts.mouth_parts]
    region = parts.region[~parts.eyeballs & ~parts.mouth_parts]
    seen = visible_faces(vertices, skin, view, cull=False)
    seen = seen[seen >= 0]
    seen = seen[region[seen]]
    corners = vertices[skin[seen]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ view.rotation[2]
    return float((normal < 0).mean()) if len(seen) else 0.0


def through_skin_pixels(vertices: Float[np.ndarray, "V 3"], parts: HeadParts, view: View) -> tuple[int, int]:
    """Pixels where an eyeball, and where teeth or tongue, stand in front of outer skin that faces the viewer.

    What is seen through an opening has socket or mouth cavity behind it, not outer skin.
    """
    seen = visible_faces(vertices, parts.faces, view)
    skin_index = np.flatnonzero(~parts.eyeballs & ~parts.mouth_parts)
    skin = visible_faces(vertices, parts.faces[skin_index], view)
    outer = (skin >= 0) & ~parts.inner[skin_index[skin]]
    hit = (seen >= 0) & outer
    return int(parts.eyeballs[seen[hit]].sum()), int(parts.mouth_parts[seen[hit]].sum())


def visible_eye_pixels(vertices: Float[np.ndarray, "V 3"], parts: HeadParts, view: View) -> int:
    """Pixels that show an eyeball."""
    seen = visible_faces(vertices, parts.faces, view)
    return int(parts.eyeballs[seen[seen >= 0]].sum())


def visible_mouth_pixels(vertices: Float[np.ndarray, "V 3"], parts: HeadParts, view: View) -> int:
    """Pixels that show teeth, tongue or mouth cavity: open lips."""
    seen = visible_faces(vertices, parts.faces, view)
    seen = seen[seen >= 0]
    eye_side = vertices[parts.faces[seen]].mean(axis=1)[:, 1] > 0.0
    return int((parts.mouth_parts[seen] | (parts.inner[seen] & ~eye_side)).sum())
