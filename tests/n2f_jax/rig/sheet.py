"""``python -m tests.n2f_jax.rig.sheet person.glb sheet.png``: a rig as its file has it, posed, from all sides."""

import io
import sys
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from n2f_jax.mesh.colors import linear_to_srgb, srgb_to_linear
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.render import MeshTopology, rasterize, render_mesh_maps
from n2f_jax.visualization.layout import BACKGROUND, grid
from n2f_jax.visualization.mesh_sheet import look_at

from .gltf_evaluation import Gltf

SIZE = 512
SIDES = {"front": 0.0, "its left": -75.0, "its right": 75.0, "behind": 180.0}


def turn(x=0.0, y=0.0):
    return Rotation.from_euler("XY", (x, y), degrees=True).as_quat()


def draw(rig, image, vertices, yaw, frame):
    """Textured, with a little light from the front; ``frame`` are the vertices that fill the picture."""
    turned = vertices @ Rotation.from_euler("Y", yaw, degrees=True).as_matrix().T
    centre = (frame.min(axis=0) + frame.max(axis=0)) / 2
    still, focal, _ = look_at(frame, 0.0, 0.0, SIZE)
    points, _, _ = look_at(turned - centre, 0.0, 0.0, SIZE)
    points = (turned - centre) * [1.0, -1.0, -1.0] + [0.0, 0.0, still[:, 2].mean()]
    points = jnp.asarray(points, jnp.float32)
    topology = MeshTopology.from_faces(rig.faces, uv=rig.attribute("TEXCOORD_0"))
    center = jnp.full(2, SIZE / 2)
    _, welded = np.unique(rig.attribute("POSITION"), axis=0, return_inverse=True)
    first = np.zeros(welded.max() + 1, int)
    first[welded.reshape(-1)] = np.arange(len(welded))
    normals = vertex_normals(turned[first], welded.reshape(-1)[rig.faces])[welded.reshape(-1)]
    maps = render_mesh_maps(
        points, jnp.asarray(normals, jnp.float32), topology, jnp.float32(focal), center, SIZE
    )
    seen = np.asarray(rasterize(points, topology.faces, jnp.float32(focal), center, (SIZE, SIZE)).face) >= 0
    uv = np.asarray(maps.uv, np.float32) * np.float32(image.shape[0]) - 0.5
    albedo = srgb_to_linear(cv2.remap(image, uv[..., 0], uv[..., 1], cv2.INTER_LINEAR))
    light = 0.62 + 0.38 * np.clip(np.asarray(maps.normals) @ np.array([-0.25, 0.35, 0.90]), 0.0, 1.0)
    return np.where(seen[..., None], linear_to_srgb(albedo * light[..., None]), BACKGROUND).astype(np.uint8)


def main(path, out):
    rig = Gltf(path)
    image = np.asarray(Image.open(io.BytesIO(rig.texture())).convert("RGB"))
    still = rig.vertices(turns={name: turn() for name in ("root", "neck", "jaw")}, weights={})
    frame = still - rig.matrices(*rig.state()[:2])[rig.node("root")][:3, 3]
    shown = []

    def show(caption, yaw=0.0, weights=None, **turns):
        posed = {name: turn() for name in ("root", "neck", "jaw", "left_eye", "right_eye")} | turns
        vertices = rig.vertices(turns=posed, weights=weights or {})
        vertices = vertices - rig.matrices(*rig.state()[:2])[rig.node("root")][:3, 3]
        shown.append((draw(rig, image, vertices, yaw, frame), caption))

    for side, yaw in SIDES.items():
        show(side, yaw)
    show("jaw's joint 15°", jaw=turn(15.0))
    show("jawOpen", weights={"jawOpen": 1.0})
    show("eyeBlinkLeft, eyeBlinkRight", weights={"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    show("eyeBlinkLeft", weights={"eyeBlinkLeft": 1.0})
    show("mouthSmileLeft, mouthSmileRight", weights={"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0})
    show("eyes' joints 20° to its left", left_eye=turn(0.0, 20.0), right_eye=turn(0.0, 20.0))
    show("browInnerUp, mouthPucker", weights={"browInnerUp": 1.0, "mouthPucker": 1.0})
    show("neck's joint 25° to its left", neck=turn(0.0, 25.0), jaw=turn(8.0))
    Image.fromarray(
        grid([picture for picture, _ in shown], [text for _, text in shown], columns=4, tile=SIZE)
    ).save(Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
