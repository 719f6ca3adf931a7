"""A network of the open head, asked for heads of another model: FLAME's format and GNM's."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from n2f_jax.cli.main import main
from n2f_jax.fitting import correspondence_cache
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import skin_vertices
from n2f_jax.models.calibration import from_unknowns
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.reconstructor import Reconstructor
from tests.n2f_jax.other_head import flame_arrays, gnm_arrays, other_head, true_correspondence

from .conftest import BATCH, FakeFrontend

pytestmark = pytest.mark.medium


def _write_flame(folder, open_head):
    other = other_head(open_head, 30, 10)
    np.savez(folder / "head.npz", **flame_arrays(other))
    return folder / "head.npz", other


def _write_gnm(folder, open_head):
    other = other_head(open_head, 30, 10, jaw=False, frame=False)
    arrays, text = gnm_arrays(other)
    np.savez(folder / "gnm_head.npz", **arrays)
    (folder / "head_sparse_68.txt").write_text(text, encoding="utf-8")
    return folder, other


@pytest.fixture
def image():
    return np.full((90, 120, 3), 100, np.uint8)


def test_gnm_heads_lie_where_the_open_heads_would(tmp_path, monkeypatch, checkpoint, open_head, load, image):
    path, other = _write_gnm(tmp_path, open_head)
    moved = np.asarray(flame_jax.load_head_model(path).v_template - other.v_template).mean(axis=0)
    found = dataclasses.replace(
        true_correspondence(open_head, other), rotation=np.eye(3, dtype=np.float32), translation=moved
    )
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: found)
    reconstructor = Reconstructor.from_pretrained(
        checkpoint, path, FakeFrontend(open_head), refine=0, batch_size=BATCH
    )
    ((head,),), ((own,),) = reconstructor.reconstruct([image]), load().reconstruct([image])
    model = reconstructor.head_model
    assert head.head_model == model.name == "GNM Head 3.0"
    assert (head.shape.shape, head.expression.shape) == ((30,), (15,))
    assert head.head_model_sha256 != own.head_model_sha256
    np.testing.assert_array_equal(head.faces, model.faces)
    ours, theirs = (h.vertices.astype(np.float64) @ h.rotation.T + h.translation for h in (own, head))
    faces = np.asarray(model.faces, np.int64)
    faces = faces[np.isin(faces, skin_vertices(model)).all(axis=1)]
    face = np.intersect1d(skin_vertices(open_head), np.asarray(open_head.masks["face"]))
    assert 1000 * Surface(TriangleMesh(theirs, faces)).closest(ours[face]).distance.mean() < 0.5
    inner = np.linalg.norm((own.landmarks_2d - head.landmarks_2d)[17:], axis=1)
    assert inner.mean() < 1.5, inner  # pixels of 120


def test_a_head_of_flames_format_is_refined_on_its_own_basis(
    tmp_path, monkeypatch, checkpoint, open_head, image
):
    path, other = _write_flame(tmp_path, open_head)
    found = true_correspondence(open_head, other)
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: found)
    front_end = FakeFrontend(open_head)
    reconstructor = Reconstructor.from_pretrained(checkpoint, path, front_end, refine=1, batch_size=BATCH)
    ((head,),) = reconstructor.reconstruct([image])
    assert np.isfinite(head.vertices).all() and head.shape.shape == (30,)
    params = from_unknowns(
        jnp.asarray(np.concatenate([head.shape, head.expression, head.jaw_pose, head.eyelids]))[None], 30
    )
    decoded = flame_jax.decode(reconstructor.head_model, params)[0][0]
    np.testing.assert_allclose(head.vertices, decoded, atol=2e-6)


def test_stored_heads_become_another_models(tmp_path, monkeypatch, open_head, load, image):
    path, other = _write_flame(tmp_path, open_head)
    found = true_correspondence(open_head, other)
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: found)
    ((own,),) = load().reconstruct([image])
    own.save(tmp_path / "own.npz")
    assert (
        main(
            [
                "convert",
                "coefficients",
                str(tmp_path / "own.npz"),
                "--to",
                str(path),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    report = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert 0 < report["heads"]["own"]["mean_mm"] < 0.5 and report["to"] == "another head"
    made = load_parameters(tmp_path / "out" / "own.npz")
    assert made["shape"].shape == (30,) and made["faces"].shape == other.faces.shape
    assert np.linalg.norm((made["landmarks_2d"] - own.landmarks_2d)[17:], axis=1).mean() < 1.5
    again = ["convert", "coefficients", str(tmp_path / "out" / "own.npz"), "--to", str(path)]
    assert main([*again, "--out", str(tmp_path / "again")]) == 2  # not the open head's


def test_a_model_without_landmarks_says_what_is_missing(tmp_path, checkpoint, open_head):
    arrays = {
        key: value for key, value in flame_arrays(other_head(open_head, 3, 2)).items() if "lmk" not in key
    }
    np.savez(tmp_path / "head.npz", **arrays)
    with pytest.raises(ValueError, match="no landmark embedding, by which the open head"):
        Reconstructor.from_pretrained(checkpoint, tmp_path / "head.npz", None)
