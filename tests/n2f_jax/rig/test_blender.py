"""Rigs in Blender, an independent reader: ``make test-slow``, or N2F_BLENDER_PYTHON=PYTHON with bpy installed there."""

import dataclasses
import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

import flame_jax
from flame_jax import decode
from flame_jax.decoder import joint_transforms, skin
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.geometry.camera import project_points
from n2f_jax.rig.camera import PhotoCamera
from n2f_jax.rig.from_head import RigOptions, write_head_rig
from n2f_jax.rig.rig import Pose, Rig
from n2f_jax.rig.writing import Animation, Skin, write_rig

from .conftest import made_head, random_motion, random_params

pytestmark = pytest.mark.slow

POSES = 20
WITHIN_MM = 0.01


@pytest.fixture(scope="module")
def blender():
    """``blender(path, frames, height, width)`` → what Blender made of a rig."""
    python = os.environ.get("N2F_BLENDER_PYTHON")
    if not python:
        pytest.skip("N2F_BLENDER_PYTHON names no Python with bpy")

    def read(path, frames=1, height=100, width=100):
        out = path.with_suffix(".npz")
        script = Path(__file__).with_name("blender_reads.py")
        command = [python, str(script), str(path), str(out), str(frames), str(height), str(width)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        with np.load(out) as stored:
            return dict(stored)

    return read


def off_mm(got, wanted):
    """Largest distance of each frame; vertices on seams come again after the others."""
    return 1e3 * np.linalg.norm(got[:, : wanted.shape[1]] - wanted, axis=-1).max(axis=1)


def test_random_poses_of_joints_and_own_targets_are_the_decoders(model, shape, blender, tmp_path):
    model = dataclasses.replace(model, weights=flame_jax.load_open_head().weights)
    params, motion = random_params(POSES, shape), random_motion(POSES)
    rig = Rig.of(model, shape, None, np.asarray(params.expression))
    path = tmp_path / "poses.glb"
    write_rig(
        path, rig, Skin(), animation=Animation(np.arange(POSES) / 24.0, rig.pose(params, motion), "poses")
    )
    wanted = np.asarray(jax.jit(decode, static_argnames="eyelids")(model, params, eyelids="before")[0], float)
    wanted = np.einsum("bij,bvj->bvi", motion[0], wanted) + motion[1][:, None]
    found = blender(path, POSES)
    assert list(found["bones"]) == list(flame_jax.JOINT_NAMES)
    off = off_mm(found["vertices"], wanted)
    print(f"{POSES} poses, joints and the model's own targets: {off.max():.5f} mm")
    assert off.max() < WITHIN_MM


def test_what_joints_that_stay_cost():
    """Who poses the joints by hand leaves them where they are; the decoder's follow the expression."""
    model = flame_jax.load_open_head()
    rng = np.random.default_rng(4)
    params = random_params(POSES, rng.normal(size=model.num_shape))
    expression = rng.normal(size=(POSES, model.num_expression))
    params = dataclasses.replace(params, expression=jax.numpy.asarray(expression, jax.numpy.float32))
    rig = Rig.of(model, np.asarray(params.shape)[0], None, expression)
    pose = rig.pose(params)
    still = np.broadcast_to(rig.at_rest().translations, pose.translations.shape)
    rms, most = rig.error_mm(params, dataclasses.replace(pose, translations=still))
    print(f"{POSES} random expressions, joints' places at rest: {rms:.3f} mm, at most {most:.3f}")
    assert most < 1.0


def test_random_poses_of_joints_and_arkits_targets(blender, tmp_path):
    """The open head, all 52 at random weights, joints at random: morph targets add up before skinning."""
    model = flame_jax.load_open_head()
    rng = np.random.default_rng(2)
    shape = rng.normal(size=model.num_shape)
    units = ArkitUnits.of_open_head(model)
    rig = Rig.of(model, shape, units)
    motion = random_motion(POSES, 1)
    turns = np.stack([random_motion(POSES, 7 + joint)[0] for joint in range(5)], axis=1)
    rest = rig.at_rest()
    weights = rng.uniform(size=(POSES, 52)) * (rng.uniform(size=(POSES, 52)) < 0.3)
    weights[0] = 0.0
    weights[0, list(rig.targets.names).index("jawOpen")] = 1.0
    places = np.tile(rest.translations, (POSES, 1, 1))
    places[:, 0] = motion[1]
    pose = Pose(turns, places, weights)
    path = tmp_path / "arkit.glb"
    write_rig(path, rig, Skin(), animation=Animation(np.arange(POSES) / 24.0, pose, "poses"))
    found = blender(path, POSES)
    assert list(found["names"]) == list(rig.targets.names) and len(found["names"]) == 52

    # The decoder's own steps, with the sum of the displacements in place of its blendshapes.
    moved = rig.vertices + np.einsum("bk,kvc->bvc", weights, rig.targets.offsets)
    joints = np.tile(rig.skeleton.joints, (POSES, 1, 1))
    to_jax = lambda x: jax.numpy.asarray(x, jax.numpy.float32)  # noqa: E731
    world, posed = joint_transforms(to_jax(turns), to_jax(joints), model.parents)
    wanted = np.asarray(skin(to_jax(moved), model.weights, world, to_jax(joints), posed), float)
    wanted = wanted + (motion[1] - rig.skeleton.joints[0])[:, None]
    off = off_mm(found["vertices"], wanted)
    print(f"{POSES} poses, joints and ARKit's targets: {off.max():.5f} mm")
    assert off.max() < WITHIN_MM


def test_a_head_lies_over_its_photograph_with_the_lens_shifted(model, shape, units, blender, tmp_path):
    height, width = 120, 160
    for center in ((80.0, 60.0), (97.0, 41.0)):
        head = made_head(model, shape, (height, width), center=center)
        head["intrinsics"][0, 0] = head["intrinsics"][1, 1]  # Blender has square pixels
        path = tmp_path / f"{center[0]}.glb"
        write_head_rig(path, model, units, [head], [], RigOptions(camera=True))
        in_camera = head["vertices"].astype(float) @ head["rotation"].T + head["translation"]
        wanted = project_points(in_camera, head["intrinsics"])
        found = blender(path, 1, height, width)["pixels"][: len(wanted)]
        off = np.abs(found - wanted)[20:].max()  # the first vertices have five joints
        print(f"principal point {center}: {off:.5f} pixels")
        assert off < 0.01
    assert PhotoCamera(head["intrinsics"], (height, width)).off_centre == (17.0, -19.0)
