"""Portraits: where the head is, where the light comes from, and what is painted where."""

import dataclasses

import igl
import numpy as np
import pytest
import trimesh

import flame_jax
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.render import rasterize
from n2f_jax.visualization.face_paint import FacePaint
from n2f_jax.visualization.open_sky import open_sky
from n2f_jax.visualization.portrait import SKIN_TONES, Look, portrait, random_look

pytestmark = pytest.mark.medium

SIZE = HEIGHT, WIDTH = 144, 112
CAMERA = Camera(
    rotation=FRONTAL.astype(np.float64),
    translation=np.array([0.01, 0.0, 0.8]),
    focal=np.float64(360.0),
    principal_point=np.array([WIDTH / 2, HEIGHT / 2]),
)
LOOK = Look(
    skin=(0.45, 0.28, 0.20),
    key_direction=(0.0, 0.2, 1.0),
    scalp=False,
    background=(20.0, 200.0, 40.0),
    background_below=(20.0, 200.0, 40.0),
)


UP = np.array([0.0, 0.02, 0.0])


def pixels(points):
    """Pixels of points of the head frame, float (u, v)."""
    camera = points @ CAMERA.rotation.T + CAMERA.translation
    return CAMERA.focal * camera[:, :2] / camera[:, 2:] + CAMERA.principal_point


def around(picture, point, reach=1):
    """Mean colour of the pixels about a point of the picture."""
    u, v = np.floor(pixels(np.asarray(point)[None])[0]).astype(int)
    return picture[v - reach : v + reach + 1, u - reach : u + reach + 1].reshape(-1, 3).mean(axis=0)


def loop_subdivided(mesh):
    vertices, faces = igl.loop(mesh.vertices, mesh.faces)
    return TriangleMesh(np.asarray(vertices), np.asarray(faces, np.int64))


@pytest.fixture(scope="module")
def head(open_head):
    return TriangleMesh(np.asarray(open_head.v_template, np.float64), np.asarray(open_head.faces, np.int64))


@pytest.fixture(scope="module")
def landmarks(open_head):
    return np.asarray(flame_jax.landmarks68(open_head, open_head.v_template), np.float64)


@pytest.fixture(scope="module")
def paint(head, open_head):
    return FacePaint.of(head, head.vertices, open_head)


@pytest.fixture(scope="module")
def picture(head, paint):
    return portrait(head, CAMERA, SIZE, LOOK, paint)


def test_the_silhouette_is_the_rasterisers(head, picture):
    camera = (head.vertices @ CAMERA.rotation.T + CAMERA.translation).astype(np.float32)
    face = rasterize(
        camera,
        head.faces.astype(np.int32),
        np.float32(2 * CAMERA.focal),
        np.float32(2 * CAMERA.principal_point),
        (2 * HEIGHT, 2 * WIDTH),
        cull_backfaces=False,
    ).face
    covered = (np.asarray(face) >= 0).reshape(HEIGHT, 2, WIDTH, 2).mean(axis=(1, 3))
    is_background = (picture == np.array([20, 200, 40])).all(axis=-1)
    np.testing.assert_array_equal(is_background, covered == 0)
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
    assert 0.2 < covered.mean() < 0.9


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_lit_from_where_the_light_comes(head, paint, landmarks, side):
    look = dataclasses.replace(LOOK, paint=False, key_direction=(side, 0.2, 0.4), fill=0.0)
    lit = portrait(head, CAMERA, SIZE, look, paint)
    # The subject's right cheek (landmark 2) is on the picture's left, which is −x of the viewer.
    right, left = (around(lit, landmarks[[jaw, nose]].mean(axis=0)) for jaw, nose in ((2, 31), (14, 35)))
    bright, dim = (left, right) if side > 0 else (right, left)
    assert bright.sum() > 1.4 * dim.sum()


def test_irises_are_dark_and_centred(head, open_head, landmarks, picture):
    for name, corners in (("left_eyeball", (42, 45)), ("right_eyeball", (36, 39))):
        ball = head.vertices[np.asarray(open_head.masks[name])]
        centre = ball.mean(axis=0)
        front = np.array([*centre[:2], ball[:, 2].max()])
        iris = around(picture, front).sum()
        white = min(around(picture, 0.35 * front + 0.65 * landmarks[c], 0).sum() for c in corners)
        assert iris < 0.85 * white


def test_features_are_where_the_landmarks_are(landmarks, picture):
    cheek = 0.5 * (
        around(picture, landmarks[[2, 31, 41]].mean(0)) + around(picture, landmarks[[14, 35, 46]].mean(0))
    )
    forehead = around(picture, landmarks[[19, 24]].mean(axis=0) + UP)
    for lip in (landmarks[[50, 61]].mean(axis=0), landmarks[[57, 66]].mean(axis=0)):
        color = around(picture, lip, 0)
        assert color[0] / color[1:].mean() > 1.1 * cheek[0] / cheek[1:].mean()
    for brow in (19, 20, 23, 24):  # landmarks are at a brow's upper edge
        assert around(picture, landmarks[brow] - 0.2 * UP, 0).sum() < 0.6 * forehead.sum()


def test_left_and_right_are_not_swapped(head, paint, landmarks, picture):
    """One brow painted higher changes the picture on that brow's side only."""
    assert paint.eyes[0].centre[0] > 0.02 and paint.eyes[1].centre[0] < -0.02  # x to the subject's left
    higher = landmarks.copy()
    higher[22:27, 1] += 0.012  # the subject's left brow
    features = dataclasses.replace(paint.features, landmarks=higher)
    shown = portrait(head, CAMERA, SIZE, LOOK, dataclasses.replace(paint, features=features))
    changed = np.abs(shown.astype(int) - picture).sum(axis=-1) > 40
    assert changed.sum() > 20
    middle = pixels(landmarks[27:28])[0, 0]
    assert (np.nonzero(changed)[1] > middle).all()  # and that is at the picture's right


def test_a_bare_grey_head_is_grey(head, paint, picture):
    look = dataclasses.replace(random_look(np.random.default_rng(0), "grey"), paint=False)
    look = dataclasses.replace(look, background=(10.0, 10.0, 10.0), background_below=(10.0, 10.0, 10.0))
    bare = portrait(head, CAMERA, SIZE, look, None).astype(int)
    assert np.ptp(bare, axis=-1).max() <= 1
    assert bare.std() > 10
    np.testing.assert_array_equal(bare, portrait(head, CAMERA, SIZE, look, paint))
    painted = portrait(head, CAMERA, SIZE, dataclasses.replace(look, paint=True), paint).astype(int)
    assert np.ptp(painted, axis=-1).max() <= 1
    assert np.abs(painted - bare).max() > 60


def test_another_topology_gives_nearly_the_same_picture(head, open_head, picture):
    finer = loop_subdivided(head)
    assert len(finer.faces) == 4 * len(head.faces)
    other = portrait(finer, CAMERA, SIZE, LOOK, FacePaint.of(finer, head.vertices, open_head))
    difference = np.abs(other.astype(int) - picture).max(axis=-1)
    assert np.mean(difference) < 4.0
    assert np.mean(difference > 40) < 0.02


def test_a_mesh_without_eyeballs_has_eyes(head, open_head, landmarks):
    """The skin pulled over the eyes, as scanners give it: painted like eyes inside the lids."""
    closed = without_eyeballs(head, open_head)
    paint = FacePaint.of(closed, head.vertices, open_head)
    assert (paint.eye_of_face < 0).all()
    shown = portrait(closed, CAMERA, SIZE, LOOK, paint)
    for eye, corners in zip(paint.eyes, ((42, 45), (36, 39)), strict=True):
        iris = around(shown, [*eye.centre[:2], landmarks[corners[0], 2]]).sum()
        white = min(around(shown, 0.55 * landmarks[c] + 0.45 * eye.centre, 0).sum() for c in corners)
        assert iris < 0.75 * white


def without_eyeballs(head, model):
    """One surface with the eyeballs' fronts: their triangles, but joined to the skin, so no part of its own."""
    balls = np.isin(head.faces, np.asarray(model.masks["eyeballs"])).all(axis=1)
    joined = []
    skin = np.flatnonzero(~np.isin(np.arange(len(head.vertices)), np.asarray(model.masks["eyeballs"])))
    for name in ("left_eyeball", "right_eyeball"):
        ball = np.asarray(model.masks[name])
        back = ball[np.argmin(head.vertices[ball, 2])]
        nearest = skin[np.argsort(np.linalg.norm(head.vertices[skin] - head.vertices[back], axis=1))[:2]]
        joined.append([back, nearest[0], nearest[1]])
    assert balls.any()
    return TriangleMesh(head.vertices, np.concatenate([head.faces, joined]))


def test_folds_see_less_of_the_sky():
    ball = trimesh.creation.icosphere(4)
    other = ball.copy()
    other.apply_translation((2.05, 0.0, 0.0))
    pair = trimesh.util.concatenate([ball, other])
    share = open_sky(pair.vertices, pair.faces)
    x, between = pair.vertices[:, 0], np.linalg.norm(pair.vertices - [1.025, 0.0, 0.0], axis=1)
    assert share[between < 0.15].max() < 0.3
    assert share[(x < -0.5) | (x > 2.55)].min() > 0.85
    assert share.max() <= 1.0


def test_wrong_input_is_refused(head, open_head):
    with pytest.raises(ValueError, match="template_vertices"):
        FacePaint.of(head, head.vertices[:-1], open_head)
    with pytest.raises(ValueError, match="'grey' or 'skin'"):
        random_look(np.random.default_rng(0), "green")


def test_random_looks_differ_and_repeat():
    looks = [random_look(np.random.default_rng(seed), "skin") for seed in range(20)]
    assert len({look.skin for look in looks}) > len(SKIN_TONES)
    assert all(look.skin[0] > look.skin[2] and look.key_direction[2] > 0 for look in looks)
    assert looks[3] == random_look(np.random.default_rng(3), "skin")
