"""The two eyelid shapes: what closes the left and the right eye."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from open_head.makehuman import MakeHumanArchive
from open_head.topology import HeadTopology


def eyelid_shapes(
    archive: MakeHumanArchive, num_base: int, topology: HeadTopology, base: Float[np.ndarray, "V 3"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3"]]:
    """Displacements at full closure, left and right (the subject's), mirror images of each other.

    MakeHuman's ``eyeBlinkLeft`` also moves vertices around the other eye, so each is masked by side.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    left = archive.face_unit("eyeBlinkLeft", num_base)[topology.source]
    right = archive.face_unit("eyeBlinkRight", num_base)[topology.source]
    # `Left` may be named from either point of view: take the side that moves more.
    if np.abs(left[base[:, 0] > 0]).sum() < np.abs(left[base[:, 0] < 0]).sum():
        left, right = right, left
    left = (left + right[topology.mirror] * flip) / 2
    skin = np.zeros(len(base), bool)
    skin[topology.parts["skin"]] = True
    left[~(skin & (base[:, 0] > 0))] = 0.0
    return left, left[topology.mirror] * flip
