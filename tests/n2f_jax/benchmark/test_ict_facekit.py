"""The ICT Face Model Light, from files of its format that are made here: no part of the model is in the repository."""

import json

import numpy as np
import pytest

from n2f_jax.benchmark import ict_facekit
from n2f_jax.benchmark.ict_facekit import MODES, NUM_IDENTITY, draw_head, load_ict_facekit
from n2f_jax.mesh.triangle_mesh import MeshError

NAMES = ("browInnerUp_L", "browInnerUp_R", "eyeLookUp_L", "jawOpen", "PupilDilate_L")
VERTICES, FACES = 80, np.array([[0, 1, 2], [2, 1, 3]])


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {
        "neutral": rng.normal(0.0, 0.1, (VERTICES, 3)),
        "identity": rng.normal(0.0, 0.001, (NUM_IDENTITY, VERTICES, 3)),
        "expression": rng.normal(0.0, 0.01, (len(NAMES), VERTICES, 3)),
        "landmarks_68": np.arange(68),
    }


def obj(vertices):
    lines = ["v {:.6f} {:.6f} {:.6f}".format(*row) for row in 100.0 * vertices]
    return "\n".join([*lines, *("f {} {} {}".format(*row) for row in FACES + 1)]) + "\n"


def test_its_own_folder_and_an_archive_are_the_same_model(arrays, tmp_path, monkeypatch):
    whole = ict_facekit._SHOWN
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    neutral = arrays["neutral"]
    (folder / "generic_neutral_mesh.obj").write_text(obj(neutral))
    for number, shape in enumerate(arrays["identity"]):
        (folder / f"identity{number:03d}.obj").write_text(obj(neutral + shape))
    for name, shape in zip(NAMES, arrays["expression"], strict=True):
        (folder / f"{name}.obj").write_text(obj(neutral + shape))
    (folder / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": list(range(68))}))
    np.savez(tmp_path / "ict.npz", faces=FACES, expression_names=NAMES, **arrays)
    models = [load_ict_facekit(folder), load_ict_facekit(tmp_path / "ict.npz")]
    order = [models[0].expression_names.index(name) for name in NAMES]
    for one, other in (
        (models[0].mesh.vertices, models[1].mesh.vertices),
        (models[0].identity, models[1].identity),
        (models[0].expression[order], models[1].expression),
        (models[0].landmarks_68, models[1].landmarks_68),
    ):
        np.testing.assert_allclose(one, other, atol=1e-7)
    # Of the whole model the transparent shells and the teeth are left out, in every shape.
    monkeypatch.setattr(ict_facekit, "_SHOWN", np.r_[0:70, 75:200])
    part = load_ict_facekit(folder)
    np.testing.assert_array_equal(
        part.mesh.vertices, np.delete(models[0].mesh.vertices, range(70, 75), axis=0)
    )
    np.testing.assert_array_equal(part.identity, np.delete(models[0].identity, range(70, 75), axis=1))
    assert len(whole) == 17202


def test_heads_are_drawn_by_number(arrays, tmp_path):
    np.savez(tmp_path / "ict.npz", faces=FACES, expression_names=NAMES, **arrays)
    model = load_ict_facekit(tmp_path / "ict.npz")
    heads = [draw_head(model, number, seed=3) for number in range(12)]
    np.testing.assert_array_equal(heads[5][0].vertices, draw_head(model, 5, seed=3)[0].vertices)
    assert np.abs(heads[0][0].vertices - draw_head(model, 0, seed=4)[0].vertices).max() > 1e-4
    # Every third head is at rest: its halves of modes add up to it.
    halves = [
        draw_head(model, 3, 3, MODES[name])[0].vertices - model.mesh.vertices for name in ("even", "odd")
    ]
    assert all(np.abs(half).max() > 1e-4 for half in halves)
    np.testing.assert_allclose(heads[3][0].vertices - model.mesh.vertices, sum(halves), atol=1e-12)
    for number, (head, weights) in enumerate(heads):
        assert bool(weights) == bool(number % 3)
        assert not any(name.startswith(("eyeLook", "PupilDilate")) for name in weights)
        assert ("browInnerUp_L" in weights) == ("browInnerUp_R" in weights)
        assert all(0.15 < weight < 1.0 for weight in weights.values())
        own = head.vertices - model.mesh.vertices
        for name, weight in weights.items():
            own = own - weight * model.expression[NAMES.index(name)]
        # What is left is the identity: coefficients of unit variance.
        found = np.linalg.lstsq(model.identity.reshape(NUM_IDENTITY, -1).T, own.ravel(), rcond=None)[0]
        assert 0.7 < found.std() < 1.35


def test_what_is_not_the_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="ICT-VGL/ICT-FaceKit"):
        load_ict_facekit(tmp_path / "missing")
    np.savez(tmp_path / "other.npz", vertices=np.zeros(3))
    with pytest.raises(MeshError, match="not the ICT Face Model Light"):
        load_ict_facekit(tmp_path / "other.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MeshError, match="not the ICT Face Model Light"):
        load_ict_facekit(tmp_path / "empty")
