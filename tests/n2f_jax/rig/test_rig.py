"""Rigs as their files have them, read by the specification, against our decoder."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flame_jax import FlameParams, decode
from n2f_jax.export.track_rig import chosen_frames, write_track_rig
from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.geometry.camera import project_points
from n2f_jax.mesh.glb import read_glb
from n2f_jax.rig.camera import PhotoCamera
from n2f_jax.rig.from_head import RigOptions, RigReport, write_head_rig
from n2f_jax.rig.rig import Rig
from n2f_jax.rig.skeleton import four_weights
from n2f_jax.rig.writing import Animation, Skin, write_rig

from .conftest import NUM_EXPRESSION, made_head, made_track, random_motion, random_params
from .gltf_evaluation import Gltf

pytestmark = pytest.mark.medium

WITHIN = 1e-5  # metres: a hundredth of a millimetre
POSES = 20


def decoded(model, params, motion=None):
    vertices = np.asarray(
        jax.jit(decode, static_argnames="eyelids")(model, params, eyelids="before")[0], float
    )
    if motion is None:
        return vertices
    return np.einsum("bij,bvj->bvi", motion[0], vertices) + motion[1][:, None]


@pytest.fixture(scope="module")
def posed(model, units, shape, tmp_path_factory):
    """A file with all kinds of targets whose animation goes through random poses, and what they are."""
    params, motion = random_params(POSES, shape), random_motion(POSES)
    expression = np.asarray(params.expression)
    four = dataclasses.replace(
        model, weights=jnp.asarray(np.array(model.weights)).at[:20].set(model.weights[20])
    )
    rig = Rig.of(four, shape, units, expression, captured=(expression[0], np.asarray(params.eyelids)[0]))
    path = tmp_path_factory.mktemp("rig") / "posed.glb"
    seconds = np.arange(POSES) / 24.0
    write_rig(path, rig, Skin(), animation=Animation(seconds, rig.pose(params, motion), "poses"))
    return Gltf(path), rig, four, params, motion, seconds


def test_posed_vertices_are_the_decoders(posed):
    gltf, rig, model, params, motion, seconds = posed
    wanted = decoded(model, params, motion)
    for vertices, moment in zip(wanted, seconds, strict=True):
        moment = float(np.float32(moment))  # as the file has it
        got = gltf.vertices(moment)
        assert np.abs(got[: model.num_vertices] - vertices).max() < WITHIN
    assert rig.error_mm(params, rig.pose(params, motion), motion)[1] < 1e3 * WITHIN
    weights = np.stack([gltf.state(moment)[2] for moment in seconds])
    assert weights.min() >= 0.0  # programs clip at 0 and 1, the correctives' R − I aside
    assert weights[:, : len(UNITS) + 2 + 2 * NUM_EXPRESSION].max() <= 1.0


def test_between_frames_signed_weights_blend_as_the_values_do(posed):
    gltf, rig, _, params, _, seconds = posed
    middle = gltf.state(float(seconds[:2].mean()))[2]
    first = rig.targets.names.index("expression_000_plus")
    own = middle[first : first + 2 * NUM_EXPRESSION].reshape(-1, 2) @ [1.0, -1.0] * rig.reach
    np.testing.assert_allclose(own, np.asarray(params.expression)[:2].mean(axis=0), atol=1e-4)


def test_arkits_52_by_name_are_the_decoders_heads(posed, units, shape):
    gltf, rig, model, *_ = posed
    assert tuple(gltf.names[:52]) == (*UNITS, "tongueOut")
    still = {name: [0, 0, 0, 1] for name in ("root", "neck", "jaw", "left_eye", "right_eye")}
    params, _ = units.to_params(np.eye(len(UNITS)))
    rows = jnp.broadcast_to(jnp.asarray(shape, jnp.float32), (len(UNITS), len(shape)))
    wanted = decoded(model, dataclasses.replace(params, shape=rows))
    # The animation's first frame is where the file opens; its nodes' places belong to an expression.
    at_root = gltf.matrices(*gltf.state()[:2])[gltf.node("root")][:3, 3] - rig.skeleton.joints[0]
    for number, name in enumerate(UNITS):
        moved = gltf.attribute("POSITION") + gltf.array(gltf.primitive["targets"][number]["POSITION"])
        assert np.abs(moved[: model.num_vertices] - wanted[number]).max() < WITHIN, name
    assert not gltf.array(gltf.primitive["targets"][51]["POSITION"]).any()
    bare = gltf.vertices(turns=still, weights={"captured": 1.0})[: model.num_vertices] - at_root
    expected = rig.vertices + rig.targets.offsets[52]
    assert np.abs(bare - expected).max() < 3e-3  # but for the joints' places


def test_the_file_is_what_the_specification_asks_for(posed, tmp_path):
    gltf, rig, model, *_ = posed
    description = gltf.json
    for accessor in description["accessors"]:
        view = description["bufferViews"][accessor["bufferView"]]
        assert view.get("byteOffset", 0) % 4 == 0
    positions = description["accessors"][gltf.primitive["attributes"]["POSITION"]]
    points = gltf.attribute("POSITION")
    np.testing.assert_array_equal(positions["min"], points.min(axis=0))
    np.testing.assert_array_equal(positions["max"], points.max(axis=0))
    np.testing.assert_allclose(gltf.attribute("WEIGHTS_0").sum(axis=1), 1.0, atol=1e-6)
    assert gltf.attribute("JOINTS_0").max() < len(description["skins"][0]["joints"])
    np.testing.assert_allclose(np.linalg.norm(gltf.attribute("NORMAL"), axis=1), 1.0, atol=1e-5)
    mesh = description["meshes"][0]
    assert len(mesh["weights"]) == len(gltf.names) == len(gltf.primitive["targets"]) == len(rig.targets.names)
    assert all(set(target) == {"POSITION", "NORMAL"} for target in gltf.primitive["targets"])
    assert gltf.faces.max() < len(points)
    uv = gltf.attribute("TEXCOORD_0")
    np.testing.assert_allclose(
        1.0 - uv[gltf.faces[:, :, None], [[0, 1]]][..., 1],
        np.asarray(model.uv)[model.uv_faces][..., 1],
        atol=1e-6,
    )
    # As a mesh it reads as any other, at rest.
    path = tmp_path / "rest.glb"
    write_rig(path, rig, Skin())
    vertices, faces = read_glb(path.read_bytes())
    np.testing.assert_allclose(vertices[: model.num_vertices], rig.vertices, atol=1e-6)
    np.testing.assert_array_equal(faces, gltf.faces)
    at_rest = Gltf(path)
    np.testing.assert_allclose(at_rest.vertices(), vertices, atol=1e-6)
    assert "textures" not in at_rest.json


def test_normals_of_targets_are_those_of_the_moved_head(posed):
    from n2f_jax.mesh.normals import vertex_normals

    gltf, rig, model, *_ = posed
    number = gltf.names.index("mouthSmileLeft")
    moved = gltf.attribute("NORMAL") + gltf.array(gltf.primitive["targets"][number]["NORMAL"])
    wanted = vertex_normals(rig.vertices + rig.targets.offsets[number], np.asarray(model.faces))
    used = wanted.any(axis=1)
    np.testing.assert_allclose(moved[: model.num_vertices][used], wanted[used], atol=3e-5)


def test_four_weights_a_vertex():
    weights = np.array([[0.1, 0.2, 0.3, 0.15, 0.25], [0.0, 1.0, 0.0, 0.0, 0.0]])
    joints, shares, lost = four_weights(weights)
    assert joints.tolist() == [[2, 4, 1, 3], [1, 0, 0, 0]]
    np.testing.assert_allclose(shares, [[0.3 / 0.9, 0.25 / 0.9, 0.2 / 0.9, 0.15 / 0.9], [1, 0, 0, 0]])
    assert lost == pytest.approx(0.1)
    assert four_weights(np.ones((1, 2)) / 2)[1].tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_what_four_weights_cost_is_said(model, shape):
    params = random_params(3, shape)
    rig = Rig.of(model, shape, None, np.asarray(params.expression))
    assert rig.skeleton.dropped == pytest.approx(0.01)
    rms, most = rig.error_mm(params, rig.pose(params))
    assert 0.01 < most < 5.0 and rms < most
    assert "1.0 % of a vertex's weights" in RigReport(3, rms, most, rig.skeleton.dropped, None).lines()[1]


def test_a_head_lies_over_its_photograph(model, units, shape, tmp_path):
    head = made_head(model, shape, center=(97.0, 41.0))
    report = write_head_rig(tmp_path / "head.glb", model, units, [head], [], RigOptions(camera=True))
    gltf = Gltf(tmp_path / "head.glb")
    in_camera = head["vertices"].astype(float) @ head["rotation"].T + head["translation"]
    wanted = project_points(in_camera, head["intrinsics"])
    got = gltf.pixels(gltf.vertices(), 120, 160)[: model.num_vertices]
    # Five joints at the first vertices; and glTF has the principal point in the middle.
    off = np.array(report.camera.off_centre)
    assert off.tolist() == [17.0, -19.0]
    np.testing.assert_allclose(got[20:] + off, wanted[20:], atol=0.01)
    extras = gltf.json["cameras"][0]["extras"]
    assert extras["shift_x"] == -17.0 / 120 and extras["shift_y"] == -19.0 / 120
    assert "off the middle" in report.lines()[-1]
    weights = dict(zip(gltf.names, gltf.json["meshes"][0]["weights"], strict=True))
    assert weights["captured"] == 1.0 and weights["jawOpen"] == 0.0
    # Without a camera it opens at rest.
    write_head_rig(tmp_path / "rest.glb", model, units, [head], [], RigOptions())
    rest = Gltf(tmp_path / "rest.glb")
    assert "cameras" not in rest.json
    np.testing.assert_allclose(rest.vertices(), rest.attribute("POSITION"), atol=1e-6)
    assert rest.json["asset"]["extras"]["head_model_sha256"] == head["head_model_sha256"]


def test_pixels_that_are_no_squares():
    camera = PhotoCamera(np.array([[200.0, 0, 80], [0, 100.0, 60], [0, 0, 1]]), (120, 160))
    assert camera.yfov == pytest.approx(2 * np.arctan(0.6)) and camera.aspect == pytest.approx(0.8 / 1.2)


@pytest.mark.parametrize("targets", ["both", "expression"])
def test_a_track_moves_as_it_was_tracked(model, units, shape, tmp_path, targets):
    four = dataclasses.replace(
        model, weights=jnp.asarray(np.array(model.weights)).at[:20].set(model.weights[20])
    )
    track = made_track(four, shape)
    path = tmp_path / "track.glb"
    options = RigOptions(targets=targets, camera=True)
    report = write_track_rig(path, four, units, track, None, options)
    assert report.most_mm < 1e3 * WITHIN
    gltf = Gltf(path)
    there = np.flatnonzero(track["status"])
    params = FlameParams.neutral(four, (len(there),))
    assert len(there) == 10 and ("jawOpen" in gltf.names) == (targets == "both")
    from n2f_jax.tracking.track_file import frame_params

    params = frame_params(track, there)
    in_camera = decoded(four, params, (track["rotation"][there], track["translation"][there]))
    for vertices, seconds in zip(in_camera, track["seconds"][there], strict=True):
        got = gltf.vertices(float(np.float32(seconds)))[: four.num_vertices]
        assert np.abs(got - vertices * [1.0, -1.0, -1.0]).max() < WITHIN
    (animation,) = gltf.json["animations"]
    for sampler in animation["samplers"]:
        values = gltf.array(sampler["output"])
        if values.ndim == 2 and values.shape[1] == 4:
            assert (np.einsum("ij,ij->i", values[1:], values[:-1]) >= 0.0).all()


def test_a_track_by_arkits_weights_alone(model, units, shape, tmp_path):
    track = made_track(model, shape, frames=6)
    report = write_track_rig(tmp_path / "t.glb", model, units, track, None, RigOptions())
    gltf = Gltf(tmp_path / "t.glb")
    assert not any(name.startswith("expression") for name in gltf.names)
    weights = gltf.state(float(track["seconds"][0]))[2]
    assert weights[:51].max() > 0.05 and weights.min() >= 0.0 and weights.max() <= 1.0
    nodes = {channel["target"]["node"] for channel in gltf.json["animations"][0]["channels"]}
    assert nodes == {gltf.node("head"), gltf.node("root")}
    assert 0.0 < report.rms_mm < 10.0


def test_frames_for_the_texture(model, shape):
    track = made_track(model, shape, frames=13)
    track["eyelids"][:], track["jaw_pose"][:] = 0.0, 0.0
    assert chosen_frames(track) == [6, 12, 0] or chosen_frames(track) == [6, 0, 12]
    track["status"][:] = 0
    assert chosen_frames(track) == []
    with pytest.raises(ValueError, match="no frame with a head"):
        write_track_rig("x.glb", model, None, track, None, RigOptions("expression"))


def test_quaternions_and_json_survive(posed):
    gltf, _, _, _, motion, seconds = posed
    turns, _, _ = gltf.state(float(np.float32(seconds[7])))
    root = gltf.node("root")
    assert (Rotation.from_quat(turns[root]).inv() * Rotation.from_matrix(motion[0][7])).magnitude() < 1e-5
    assert json.dumps(gltf.json["asset"]).count("n2f-jax") == 1
