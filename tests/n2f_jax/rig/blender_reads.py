"""Run by Blender's Python (``bpy``): what Blender makes of a rig, as an ``.npz``.

    python blender_reads.py person.glb out.npz FRAMES HEIGHT WIDTH

``vertices (FRAMES, V, 3)`` in glTF's axes, at 24 frames a second from 0; with a camera in the file ``pixels (V, 2)`` of
frame 0, the lens shifted as the camera's extras say.
"""

import sys

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

path, out = sys.argv[1:3]
frames, height, width = map(int, sys.argv[3:])
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.fps = 24
bpy.ops.import_scene.gltf(filepath=path)
(head,) = [thing for thing in bpy.data.objects if thing.type == "MESH" and thing.data.shape_keys]
names = [key.name for key in head.data.shape_keys.key_blocks][1:]
bones = [bone.name for thing in bpy.data.objects if thing.type == "ARMATURE" for bone in thing.data.bones]


def world():
    evaluated = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", points)
    evaluated.to_mesh_clear()
    matrix = np.array(evaluated.matrix_world)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


vertices = []
for frame in range(frames):
    scene.frame_set(frame)
    x, y, z = world().T
    vertices.append(np.stack([x, z, -y], axis=1))  # Blender's z is up
found = {"vertices": np.stack(vertices), "names": np.array(names), "bones": np.array(bones)}
cameras = [thing for thing in bpy.data.objects if thing.type == "CAMERA"]
if cameras:
    scene.frame_set(0)
    (camera,) = cameras
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = width, height
    camera.data.shift_x, camera.data.shift_y = camera.data["shift_x"], camera.data["shift_y"]
    seen = [world_to_camera_view(scene, camera, Vector(point)) for point in world().tolist()]
    found["pixels"] = np.array([(point.x * width, (1.0 - point.y) * height) for point in seen])
np.savez(out, **found)
