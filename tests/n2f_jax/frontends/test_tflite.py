"""The front end without LiteRT, as on Intel Macs. The networks must be in the cache."""

import pickle
import sys

import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends import tflite
from n2f_jax.frontends.face_landmarks import FaceLandmarker
from n2f_jax.frontends.face_networks import ACTIVATIONS, FaceNetwork
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, asset_path

BLENDSHAPES = "face_blendshapes.tflite"


@pytest.fixture
def without_litert(monkeypatch):
    monkeypatch.setattr(tflite, "available_runtime", lambda: "jax")
    for name in [name for name in sys.modules if name.startswith("ai_edge_litert")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)  # importing it fails


def test_without_litert_the_answer_is_the_same(without_litert):
    portrait = np.ascontiguousarray(skimage.data.astronaut()[20:260, 110:340])
    (face,) = FaceLandmarker(turns=False)(portrait)
    with pytest.raises(ImportError, match="ai-edge-litert"):
        FaceLandmarker(runtime="litert")
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "ai_edge_litert")
        (expected,) = FaceLandmarker(turns=False, runtime="litert")(portrait)
    assert np.abs(face.points - expected.points).max() < 0.02
    np.testing.assert_allclose(face.blendshapes, expected.blendshapes, atol=1e-3)
    assert face.activations.shape == (2, 2048) and np.std(expected.activations) > 1
    np.testing.assert_allclose(face.activations, expected.activations, atol=0.01)
    np.testing.assert_allclose(face.eyes.gaze, expected.eyes.gaze, atol=1e-3)
    assert abs(face.confidence - expected.confidence) < 1e-3


def test_a_network_is_copied_by_its_file():
    network = tflite.open_network(asset_path(FACE_LANDMARKER, BLENDSHAPES), runtime="jax")
    value = np.random.default_rng(0).uniform(size=(146, 2)).astype(np.float32)
    (scores,) = network.named(value).values()
    (again,) = pickle.loads(pickle.dumps(network)).named(value).values()
    np.testing.assert_array_equal(scores, again)
    scores[:] = 0  # the caller's own


@pytest.mark.parametrize("runtime", ["litert", "jax"])
def test_activations_are_of_the_crop_and_of_the_mirrored_one(runtime):
    network = FaceNetwork("v2", runtime=runtime)
    crop = np.ascontiguousarray(skimage.data.astronaut()[20:276, 100:356]).astype(np.float32) / 255
    seen, mirrored, once = network(crop), network(crop[:, ::-1]), network(crop, mirrored=False)
    np.testing.assert_allclose(mirrored.activations, seen.activations[::-1], atol=1e-4)
    np.testing.assert_array_equal(once.activations[0], seen.activations[0])
    assert np.isnan(once.activations[1]).all()
    assert FaceNetwork("v1", runtime=runtime)(crop[:192, :192]).activations is None
    again = pickle.loads(pickle.dumps(network._network)).named(crop)
    np.testing.assert_array_equal(again[f"tensor_{ACTIVATIONS}"].ravel(), seen.activations[0])


def test_an_unknown_runtime():
    with pytest.raises(ValueError, match="networks run in litert or jax, not 'tpu'"):
        tflite.open_network(asset_path(FACE_LANDMARKER, BLENDSHAPES), runtime="tpu")
