"""ARKit's weights to a head's expression and back."""

import dataclasses

import jax
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.fitting import arkit
from n2f_jax.fitting.arkit import ArkitError, ArkitUnits
from n2f_jax.fitting.head_correspondence import HeadCorrespondence
from n2f_jax.frontends.blendshapes import BLENDSHAPES

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def units(open_head):
    return ArkitUnits.of_open_head(open_head)


def one(name, weight=1.0):
    weights = np.zeros((1, len(UNITS)))
    weights[0, UNITS.index(name)] = weight
    return weights


def test_names_are_arkits():
    assert len(UNITS) == 51
    assert set(UNITS) == set(BLENDSHAPES) - {"_neutral"}


def test_a_face_comes_back(units):
    faces = np.zeros((3, len(UNITS)))
    for face, parts in zip(
        faces,
        (
            {"jawOpen": 0.4, "mouthPucker": 0.5},
            {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "browInnerUp": 0.3},
            {},
        ),
        strict=True,
    ):
        for name, weight in parts.items():
            face[UNITS.index(name)] = weight
    params, left = units.to_params(faces)
    back, unexplained = units.to_weights(params)
    np.testing.assert_allclose(back, faces, atol=0.08)
    assert left.max() < 0.5 and unexplained.max() < 0.5
    assert left[2] == pytest.approx(0.0, abs=1e-4)


def test_units_move_what_they_say(units, open_head):
    """On the decoded head: the jaw down, a corner of the mouth out and up, a lid over its eye; the subject's sides."""
    names = ("jawOpen", "mouthSmileLeft", "eyeBlinkRight")
    params, _ = units.to_params(np.concatenate([one(name) for name in names]))
    marks = jax.jit(lambda p: flame_jax.landmarks68(open_head, flame_jax.decode(open_head, p)[0]))
    rest = FlameParams.resting(*(np.zeros((1, n), np.float32) for n in (open_head.num_shape, open_head.num_expression)),
                               np.array([[1, 0, 0, 0, 1, 0]], np.float32), np.zeros((1, 2), np.float32))  # fmt: skip
    moved = 1e3 * np.asarray(marks(params) - marks(rest))
    assert moved[0, 8, 1] < -15.0 and abs(moved[0, 8, 0]) < 1.0
    assert moved[1, 54, 0] > 3.0 and moved[1, 54, 1] > 3.0  # the subject's left corner is at +x
    assert abs(moved[1, 48]).max() < 1.0
    right = np.asarray(params.eyelids)[2]
    assert right[1] > 0.8 and abs(right[0]) < 0.1


def test_the_gaze_goes_both_ways(units):
    weights = one("eyeLookOutLeft", 0.5) + one("eyeLookInRight", 0.5) + one("eyeLookUpLeft", 0.2)
    eyes = arkit.eyes_of_weights(weights)
    # To the subject's left, +x: about +y.
    assert eyes[0, :, 1] == pytest.approx(np.radians([15.0, 15.0]), abs=0.02) and eyes[0, 0, 0] < 0.0
    np.testing.assert_allclose(arkit.weights_of_eyes(eyes), weights, atol=1e-6)
    back, _ = units.to_weights(units.to_params(weights)[0])
    of_gaze = [i for i, name in enumerate(UNITS) if name.startswith("eyeLook")]
    np.testing.assert_allclose(back[:, of_gaze], weights[:, of_gaze], atol=1e-5)


def test_another_model_by_its_correspondence(units, open_head):
    """The open head, turned in its frame, is another model; what moves its skin moves with it."""
    vertices = np.arange(0, open_head.num_vertices, 7)
    first = {int(v): n for n, face in enumerate(np.asarray(open_head.faces)) for v in face}
    faces = np.array([first[int(v)] for v in vertices])
    barycentric = (np.asarray(open_head.faces)[faces] == vertices[:, None]).astype(np.float64)
    found = HeadCorrespondence(
        vertices=vertices,
        faces=faces,
        barycentric=barycentric,
        weights=np.full(len(vertices), 1 / len(vertices)),
        rotation=np.eye(3),
        translation=np.zeros(3),
        contour_faces=np.zeros((1, 17), np.int64),
        contour_barycentric=np.zeros((1, 17, 3)),
        point_faces=np.zeros(0, np.int64),
        point_barycentric=np.zeros((0, 3)),
        distance=0.0,
        paired=1.0,
    )
    other = ArkitUnits.of_model(open_head, open_head, found)
    np.testing.assert_allclose(other.offsets, arkit.open_head_units()[:, vertices], atol=1e-7)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = ArkitUnits.of_model(open_head, open_head, dataclasses.replace(found, rotation=turn))
    np.testing.assert_allclose(turned.offsets[..., 0], -np.asarray(other.offsets)[..., 1], atol=1e-6)


def test_what_is_wrong_is_said(units, open_head, tmp_path, monkeypatch):
    for weights, message in (
        (np.zeros(51), "shape"),
        (np.full((1, 51), 1.5), "within 0 and 1"),
        (np.full((1, 51), np.nan), "within 0"),
    ):
        with pytest.raises(ArkitError, match=message):
            units.to_params(weights)
    fewer = arkit.open_head_units()[:, 1:]
    with monkeypatch.context() as patch, pytest.raises(ArkitError, match="not the open head"):
        patch.setattr(arkit, "open_head_units", lambda: fewer)
        ArkitUnits.of_open_head(open_head)
    (tmp_path / "units.npz").write_bytes(b"PK\x03\x04 cut off")
    monkeypatch.setattr(arkit, "ASSET", tmp_path / "units.npz")
    arkit.open_head_units.cache_clear()
    try:
        with pytest.raises(ArkitError, match="build_arkit_units"):
            arkit.open_head_units()
    finally:
        arkit.open_head_units.cache_clear()
