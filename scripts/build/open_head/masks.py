"""Region masks: vertex indices of face, eyes, nose, mouth, ears, neck, scalp and the inner parts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from open_head.makehuman import MakeHumanArchive
from open_head.topology import HeadTopology


def _moved(archive, names, num_base, topology, share):
    """Vertices that the targets move by more than a share of their largest displacement."""
    moved = np.zeros(len(topology.source), bool)
    for name in names:
        length = np.linalg.norm(archive.target(name, num_base)[topology.source], axis=-1)
        moved |= length > share * length.max()
    return moved


def region_masks(
    archive: MakeHumanArchive,
    num_base: int,
    topology: HeadTopology,
    vertices: Float[np.ndarray, "V 3"],
    eyelids: Float[np.ndarray, "V 3"],
) -> dict[str, Int[np.ndarray, "n"]]:
    """Region name → vertex indices; left and right regions are mirror images.

    ``vertices`` is the mean head in FLAME's frame, ``eyelids`` the sum of both eyelid shapes. Ears, nose and
    lips are what MakeHuman's targets for them move; the face ends at a hairline and at the edge of the jaw.
    """
    skin = np.zeros(len(vertices), bool)
    skin[topology.parts["skin"]] = True
    x, y, z = vertices.T
    left = x > 0
    ears = skin & _moved(archive, ["ears/l-ear-trans-up", "ears/r-ear-trans-up"], num_base, topology, 0.5)
    nose = skin & _moved(
        archive, ["nose/nose-scale-depth-incr", "nose/nose-volume-incr"], num_base, topology, 0.25
    )
    lips = ["mouth/mouth-lowerlip-volume-incr", "mouth/mouth-upperlip-volume-incr"]
    mouth = skin & _moved(archive, lips, num_base, topology, 0.15)
    eyes = skin & (np.linalg.norm(eyelids, axis=-1) > 5e-4)
    eye = vertices[topology.parts["left_eyeball"]].mean(axis=0)
    chin = vertices[skin & (np.abs(x) < 1e-6) & (z > eye[2] - 0.03)]
    chin_y = chin[:, 1].min()
    lobe = vertices[ears & left]
    lobe = lobe[np.argmin(lobe[:, 1])]
    # The jaw's lower edge: from the chin up and back to the ear lobe, seen from the side.
    along = (eye[2] + 0.005 - z) / (eye[2] + 0.005 - lobe[2])
    edge = chin_y + 0.004 + np.clip(along, 0, 1) * (lobe[1] - 0.012 - chin_y)
    behind = z < lobe[2] + 0.004
    top = y > eye[1] + 0.065 - 0.25 * np.clip(eye[2] - 0.01 - z, 0, 0.08)
    # Mouth cavity and eye sockets are seen through the openings and count as face.
    inner = np.zeros(len(vertices), bool)
    for part in ("left_socket", "right_socket", "mouth_cavity"):
        inner[topology.parts[part]] = True
    neck = skin & ~ears & ~inner & (y < np.where(behind, lobe[1] - 0.01, edge))
    scalp = skin & ~ears & ~inner & ~neck & (behind | top)
    face = skin & ~ears & ~neck & ~scalp
    regions = {
        "face": face,
        "eyes": eyes & face,
        "nose": nose & face & ~eyes,
        "mouth": mouth & face,
        "left_ear": ears & left,
        "right_ear": ears & ~left,
        "neck": neck,
        "scalp": scalp,
    }
    masks = {name: np.flatnonzero(mask) for name, mask in regions.items()}
    parts = topology.parts
    masks["left_eyeball"], masks["right_eyeball"] = parts["left_eyeball"], parts["right_eyeball"]
    masks["eyeballs"] = np.union1d(parts["left_eyeball"], parts["right_eyeball"])
    masks["teeth"] = np.union1d(parts["upper_teeth"], parts["lower_teeth"])
    masks["tongue"] = parts["tongue"]
    masks["eye_sockets"] = np.union1d(parts["left_socket"], parts["right_socket"])
    masks["mouth_cavity"] = parts["mouth_cavity"]
    return {name: index.astype(np.int32) for name, index in masks.items()}
