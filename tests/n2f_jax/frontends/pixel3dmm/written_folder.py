"""A folder as Pixel3DMM's scripts leave it, its predictions those of a perfect network: a rendered head."""

import numpy as np
from PIL import Image

from n2f_jax.frontends.face_classes import CLASS_IDS
from n2f_jax.frontends.wflw import WFLW_TO_IBUG68

from ..rendered_head import IMAGE_SIZE, square

WINDOW = (262, 77, 280)  # x0, y0, side
SIZE = 512


def eight_bits(values):
    """Pixel3DMM's way to a PNG: the fraction is cut off."""
    return ((np.clip(values, -1, 1) + 1) / 2 * 255).astype(np.uint8)


def write_folder(folder, head, frame="00000", window=WINDOW, uv=True):
    """Everything that our reader looks at; returns the folder."""
    x0, y0, side = window
    maps = head.draw(square(x0, y0, side), SIZE)
    mask = np.asarray(maps.mask) > 0
    for name in ("rgb", "cropped", "seg_og", "p3dmm/normals", "p3dmm/uv_map", "PIPnet_landmarks"):
        (folder / name).mkdir(parents=True, exist_ok=True)

    # The network predicts something everywhere; where there is no face, anything.
    normals = np.where(mask[..., None], maps.normals, [0, 0, 1])
    Image.fromarray(eight_bits(normals)).save(folder / "p3dmm" / "normals" / f"{frame}.png")
    if uv:
        u, v = np.moveaxis(np.asarray(maps.uv), -1, 0)
        third = np.zeros_like(u)
        image = np.stack([2 * u - 1, 2 * (1 - v) - 1, third], axis=-1)
        Image.fromarray(eight_bits(np.where(mask[..., None], image, 0))).save(
            folder / "p3dmm" / "uv_map" / f"{frame}.png"
        )
    classes = np.where(mask, CLASS_IDS["face"], CLASS_IDS["hair"]).astype(np.uint8)
    classes[:40] = 20  # beyond the parser's crop
    Image.fromarray(classes).save(folder / "seg_og" / f"{frame}.png")
    points = np.zeros((98, 2))
    points[WFLW_TO_IBUG68] = (head.landmarks - [x0, y0]) / side
    np.save(folder / "PIPnet_landmarks" / f"{frame}.npy", points)
    np.save(folder / "crop_ymin_ymax_xmin_xmax.npy", np.array([y0, y0 + side, x0, x0 + side]))
    photo = Image.new("RGB", IMAGE_SIZE[::-1])
    photo.save(folder / "rgb" / f"{frame}.jpg")
    photo.crop((x0, y0, x0 + side, y0 + side)).resize((SIZE, SIZE)).save(folder / "cropped" / f"{frame}.jpg")
    return folder
