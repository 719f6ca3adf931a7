"""What the viewer shows, without a window: the mesh over its photograph, what sliders do, colours, errors to a scan."""

import io
import json

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

import flame_jax
from n2f_jax.evaluation.regions import template_of
from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.geometry.camera import project_points
from n2f_jax.mesh.colors import linear_to_srgb
from n2f_jax.mesh.writing import write_ply
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.viewer import controls
from n2f_jax.viewer.colors import UNKNOWN, confidence_colors, region_weights
from n2f_jax.viewer.glb_bytes import glb_bytes
from n2f_jax.viewer.scan import Scan
from n2f_jax.viewer.sources import ViewError, open_source
from n2f_jax.viewer.state import CLAY, CONFIDENCE, ERROR, NORMALS, ViewerState

from .conftest import CONFIDENCE as SAID
from .conftest import SIZE

pytestmark = pytest.mark.medium


@pytest.fixture
def state(heads, open_head):
    return ViewerState(open_head, open_source(heads))


def test_the_mesh_is_the_files_under_the_photographs_camera(state, heads):
    values = load_parameters(heads / "left.npz")
    mesh = state.mesh()
    np.testing.assert_allclose(state.vertices(), values["vertices"], atol=1e-6)
    posed = values["vertices"] @ values["rotation"].T + values["translation"]
    np.testing.assert_allclose(mesh.vertices[: mesh.num_head], posed, atol=1e-6)
    assert len(mesh.vertices) > mesh.num_head and mesh.faces.max() == len(mesh.vertices) - 1


def test_every_pixel_of_the_photograph_lies_behind_what_the_camera_saw_there(state, heads):
    """Also where the camera's axis is not in the middle: the plane's own pixels are the photograph's."""
    backdrop, head = state.backdrop(), state.source.head(0)
    mesh = state.mesh()
    seen = project_points(mesh.vertices, head.intrinsics)
    # From the camera, along the ray, onto the plane; then where on the plane that is.
    depth = backdrop.centre[2]
    hit = mesh.vertices * (depth / mesh.vertices[:, 2:])
    across = (hit - backdrop.centre)[:, :2] / [backdrop.width, backdrop.height] + 0.5
    np.testing.assert_allclose(across * SIZE[::-1], seen, atol=2e-3)
    assert mesh.vertices[:, 2].max() < depth
    # A window of any shape holds the whole photograph.
    for aspect in (0.5, 1.0, 2.0):
        half = np.tan(state.field_of_view(aspect) / 2)
        reach = np.abs(backdrop.corners[:, :2] / backdrop.corners[:, 2:]).max(axis=0)
        assert reach[1] <= half * 1.0001 and reach[0] <= half * aspect * 1.0001
        assert max(reach[1] / half, reach[0] / (half * aspect)) > 0.999


def test_each_control_moves_its_own_number_and_reset_brings_all_back(state):
    before, vertices = state.values(), state.mesh().vertices
    assert len(before) == len(state.controls) == 30
    for one in state.controls:
        value = before[one.name] + (0.1 if one.name == "distance" else 0.5)
        state.set(one.name, value)
        after = state.values()
        changed = {name for name in before if abs(after[name] - before[name]) > 1e-9}
        assert changed == {one.name} and after[one.name] == pytest.approx(value)
        assert np.abs(state.mesh().vertices - vertices).max() > 1e-5, one.name
        state.reset()
        np.testing.assert_array_equal(state.mesh().vertices, vertices)
    with pytest.raises(KeyError):
        state.set("nose", 1.0)


def test_what_the_controls_mean(state):
    """The jaw opens downwards, eyes go with the gaze, lids close, and distance keeps the place in the picture."""
    head = state.source.head(0)
    chin = state.vertices()[:, 1].argmin()
    model = state.model
    lower = np.asarray(model.masks["teeth"])
    at = state.vertices()[lower, 1].min()
    state.set("jaw opens", controls.read(head, "jaw opens") + 20)
    assert state.vertices()[lower, 1].min() < at - 0.01
    state.reset()
    apart = state._edited.eyes_pose[0] - state._edited.eyes_pose[1]
    state.set("gaze left", 30.0)
    gaze = Rotation.from_rotvec(state._edited.eyes_pose).as_matrix()[:, :, 2]
    assert (gaze[:, 0] > 0.4).all()  # the subject's left is +x
    state.set("gaze down", 20.0)
    gaze = Rotation.from_rotvec(state._edited.eyes_pose).as_matrix()[:, :, 2]
    assert (gaze[:, 1] < -0.2).all()
    np.testing.assert_allclose(state._edited.eyes_pose[0] - state._edited.eyes_pose[1], apart, atol=1e-12)
    state.reset()
    origin = project_points(state._edited.translation[None], head.intrinsics)
    state.set("distance", 2.0)
    np.testing.assert_allclose(project_points(state._edited.translation[None], head.intrinsics), origin)
    assert state.backdrop().centre[2] > state.mesh().vertices[:, 2].max()
    state.relax()
    neutral = flame_jax.FlameParams.neutral(model)
    assert not state._edited.expression.any() and state.values()["shape 1"] == pytest.approx(head.shape[0])
    assert neutral.expression.shape == state._edited.expression.shape and chin >= 0


def test_heads_are_chosen_and_those_of_another_model_refused(state):
    first = state.mesh().vertices
    state.set("jaw opens", 30.0)
    state.select(1)
    assert np.abs(state.mesh().vertices - first).max() > 0.05
    state.select(0)
    np.testing.assert_array_equal(state.mesh().vertices, first)  # moves by hand are gone
    with pytest.raises(IndexError):
        state.select(2)
    other = flame_jax.model.HeadModel(
        **{**vars(state.model), "shapedirs": state.model.shapedirs[..., :9]},
    )
    with pytest.raises(ViewError, match="--head-model"):
        ViewerState(other, state.source)


def test_a_track_goes_by_its_moments_and_lost_frames_show_nothing(track, open_head):
    state = ViewerState(open_head, open_source(track))
    assert state.is_track
    assert [state.frame_at(t) for t in (-1.0, 0.0, 0.15, 0.69, 0.7, 9.0)] == [0, 0, 1, 3, 4, 5]
    first = state.mesh().vertices
    state.select(2)
    assert (
        state.mesh() is None and state.backdrop() is None and state.values() == {} and "lost" in state.text()
    )
    state.set("jaw opens", 3.0), state.reset(), state.relax()
    assert state.rendered_normals() is None and state.input_normals() is None
    state.select(5)
    assert np.abs(state.mesh().vertices - first).max() > 0.01


def test_colours_by_confidence_are_those_of_the_nearest_region(state):
    weights = region_weights(state.model)
    landmarks = np.asarray(flame_jax.landmarks68(state.model, state.model.v_template))
    vertices = np.asarray(state.model.v_template)
    state.coloring = CONFIDENCE
    colors = state.mesh().colors[: state.model.num_vertices].astype(int)
    for number, (name, indices) in enumerate(REGIONS.items()):
        point = landmarks[indices[len(indices) // 2]]
        vertex = np.linalg.norm(vertices - point, axis=1).argmin()
        assert weights[vertex].argmax() == number, name
        red, green, _ = colors[vertex]
        assert (red > green) == (SAID[number] < 0.5), name
    back = vertices[:, 2].argmin()
    assert tuple(colors[back]) == UNKNOWN
    unknown = confidence_colors(weights, np.full(6, np.nan))
    assert (unknown == UNKNOWN).all()
    with pytest.raises(ValueError, match="no colours"):
        state.coloring = "rainbow"
    with pytest.raises(ValueError, match="no colours"):
        state.coloring = ERROR  # there is no scan


def test_normals_as_pictures_and_as_colours(state):
    """Input and rendered normals are of one crop, and near each other where both see the face."""
    given, drawn = state.input_normals(), state.rendered_normals()
    assert given.shape == drawn.shape == (256, 256, 3)
    both = given.any(axis=-1) & drawn.any(axis=-1)
    assert both.mean() > 0.1
    n, m = (picture[both] / 127.5 - 1.0 for picture in (given, drawn))
    cosine = (n * m).sum(axis=-1) / np.linalg.norm(n, axis=-1) / np.linalg.norm(m, axis=-1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 35
    state.set("jaw opens", 30.0)
    assert (state.rendered_normals() != drawn).any() and (state.input_normals() == given).all()
    state.coloring = NORMALS
    front = np.asarray(state.model.v_template)[:, 2].argmax()
    assert state.mesh().colors[front][2] > 200  # out of the face is blue


def test_errors_to_a_scan(heads, open_head, tmp_path):
    """A scan that is the head with a nose 4 mm further out, in millimetres and another pose: only the nose is red."""
    source, template = open_source(heads), template_of(open_head)
    vertices = ViewerState(open_head, source).vertices()
    nose = np.zeros(len(vertices), bool)
    nose[template.regions["nose"]] = True
    moved = vertices + 0.004 * nose[:, None] * [0, 0, 1]
    turn = Rotation.from_euler("xyz", [0.4, -0.3, 0.2]).as_matrix()
    path = tmp_path / "scan.ply"
    write_ply(path, 1000 * (moved @ turn.T) + 50, np.asarray(open_head.faces))
    state = ViewerState(open_head, source, Scan.read(path, template))
    state.coloring = ERROR
    errors = state.errors_mm()
    face = np.setdiff1d(template.regions["face"], template.regions["nose"])
    assert np.nanmean(errors[face]) < 0.5 and np.nanmean(errors[nose]) > 1.0
    assert np.isnan(np.delete(errors, template.visible)).all()
    assert "mm from the scan" in state.text()
    tip = vertices[:, 2].argmax()
    colors = state.mesh().colors.astype(int)
    assert colors[tip][0] > colors[tip][2] and np.median(colors[face][:, 2]) > 100
    # The scan is shown over the head, in the camera's frame.
    gap = np.linalg.norm(state.scan_in_view() - state.mesh().vertices[template.visible], axis=1)
    assert np.median(gap) < 1e-3
    state.set("shape 1", state.values()["shape 1"] + 2.0)
    assert np.nanmean(state.errors_mm()[face]) > np.nanmean(errors[face]) + 0.3


def test_the_coloured_mesh_is_glb_that_others_read(state):
    state.coloring = CONFIDENCE
    mesh = state.mesh()
    for opacity, lit in ((1.0, True), (0.4, False)):
        data = glb_bytes(mesh.vertices, mesh.faces, mesh.colors, opacity, lit)
        read = trimesh.load(io.BytesIO(data), file_type="glb", process=False, force="mesh")
        np.testing.assert_array_equal(read.vertices.astype(np.float32), mesh.vertices)
        np.testing.assert_array_equal(read.faces, mesh.faces)
        length = int.from_bytes(data[12:16], "little")
        description, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
        place = description["bufferViews"][description["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
        stored = binary[place["byteOffset"] :][: place["byteLength"]]
        linear = np.frombuffer(stored, np.uint8).reshape(-1, 4)[:, :3] / 255.0
        np.testing.assert_allclose(linear_to_srgb(linear), mesh.colors, atol=14)
    outside = state.mesh(outside_only=True)
    assert len(outside.faces) < len(mesh.faces)
    state.coloring = CLAY
    assert state.mesh().colors[state.is_eyeball.nonzero()[0]].mean() > 230
