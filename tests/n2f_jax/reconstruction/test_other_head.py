"""A network of the open head, asked for heads of another model: FLAME's format and GNM's."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import flame_jax
from n2f_jax.cli.main import main
from n2f_jax.data.preprocessed import StoredFace
from n2f_jax.data.pseudo_truth import read_truth, truth_path
from n2f_jax.data.sampler import SyntheticConfig, make_batch
from n2f_jax.face_mesh.map_frames import open_head_to_flame
from n2f_jax.fitting import correspondence_cache
from n2f_jax.geometry.camera import intrinsics_matrix
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import skin_vertices
from n2f_jax.models.calibration import from_unknowns
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.render import HeadTopology
from tests.n2f_jax import other_head as made
from tests.n2f_jax.other_head import flame_arrays, gnm_arrays, other_head, true_correspondence

from ..data.stored import write_folder
from .conftest import BATCH, CROP_SCALE, SIZE, FakeFrontend

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
    with pytest.raises(ValueError, match="no landmarks, by which one model is laid over"):
        Reconstructor.from_pretrained(checkpoint, tmp_path / "head.npz", None)


def test_a_model_to_itself_needs_no_correspondence(tmp_path, monkeypatch, open_head, load, image, capsys):
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: pytest.fail("registers"))
    ((own,),) = load().reconstruct([image])
    own.save(tmp_path / "own.npz")
    assert main(["convert", "coefficients", str(tmp_path / "own.npz"), "--out", str(tmp_path / "out")]) == 0
    assert "0.00 mm from the given face" in capsys.readouterr().out
    there, back = (load_parameters(tmp_path / name) for name in ("own.npz", "out/own.npz"))
    np.testing.assert_array_equal(there["shape"], back["shape"])


def test_normals_are_turned_into_the_other_frame(tmp_path, monkeypatch, checkpoint, open_head):
    """Of a perfect normal map in the open head's frame refinement finds the head; left as it is, it is 3.5° off."""
    path, other = _write_flame(tmp_path, open_head)
    found = true_correspondence(open_head, other)
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: found)
    reconstructor = Reconstructor.from_pretrained(checkpoint, path, None, refine=1, batch_size=1)
    np.testing.assert_array_equal(reconstructor.normals_rotation, found.rotation)
    seen = []
    monkeypatch.setattr(
        "n2f_jax.reconstruction.prediction.refine_heads",
        lambda model, tables, anchors, observation, start, prior, config: seen.append(observation) or start,
    )
    size = reconstructor.inputs.size
    maps = np.zeros((1, size, size, 3), np.float32)
    maps[..., 2] = 1.0
    crop = jnp.full(1, 40.0), jnp.full((1, 2), size / 2)
    nowhere = jnp.full((1, 68, 2), jnp.nan), jnp.full((1, 468, 3), jnp.nan)
    reconstructor.predict(jnp.asarray(maps), jnp.ones((1, size, size)), *crop, *nowhere)
    np.testing.assert_allclose(seen[0].normals[0, 0, 0], found.rotation[:, 2], atol=1e-6)


def test_a_folder_is_fitted_with_another_head_model(tmp_path, monkeypatch, checkpoint, open_head, capsys):
    """``n2f fit FOLDER --head-model``: pseudo truth in the model's coefficients, and never in two models'.

    The model's frame is turned by 44° against the open head's, in which the stored normals are: fitted to normals that
    were not turned, a head could not be right. The second face is the first as Pixel3DMM would give it, the third says
    not whose it is.
    """
    turn = Rotation.from_euler("xy", [30.0, 33.0], degrees=True).as_matrix()
    monkeypatch.setattr(made, "FRAME", (turn, made.FRAME[1]))
    path, other = _write_flame(tmp_path, open_head)
    found = true_correspondence(open_head, other)
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: found)
    config = SyntheticConfig(image_size=40, crop_scale=CROP_SCALE * 40 / SIZE)
    make = jax.jit(make_batch, static_argnums=(3, 4))
    batch = jax.device_get(make(jax.random.key(1), open_head, HeadTopology.from_model(open_head), config, 1))
    face = StoredFace(
        normals=batch["normals"][0],
        mask=batch["mask"][0],
        crop=np.array([10.0, 20.0, 400.0]),
        landmarks_68=batch["landmarks_2d"][0],
        intrinsics=np.asarray(intrinsics_matrix(batch["camera"]), np.float64)[0],
        focal_source="given",
        image_size=(500, 500),
        source="0.png",
    )
    of_pixel3dmm = dataclasses.replace(
        face, normals=face.normals @ open_head_to_flame().T, provenance={"frontend": "pixel3dmm"}
    )
    untold = dataclasses.replace(of_pixel3dmm, provenance={})
    folder = tmp_path / "faces"
    ((name, *others),) = write_folder(folder, {"images/0.png": [face, of_pixel3dmm, untold]}).values()
    arguments = ["fit", str(folder), "--checkpoint", str(checkpoint), "--steps", "6", "--batch-size", "1"]
    assert main([*arguments, "--head-model", str(path)]) == 0
    assert "3 written" in capsys.readouterr().out
    truth = read_truth(truth_path(folder, name))
    assert truth.head_model.name == "another head" and truth.shape.shape == (30,)
    assert truth.errors["normals_deg"] < 8 and truth.errors["landmarks_px"] < 4
    # The head's pose in its own frame.
    wanted = np.asarray(batch["camera"].rotation[0]) @ turn.T
    off = Rotation.from_matrix(truth.rotation @ wanted.T).magnitude()
    assert np.degrees(off) < 4
    alike, untold = (read_truth(truth_path(folder, each)) for each in others)
    apart = [
        np.degrees(Rotation.from_matrix(one.rotation @ truth.rotation.T).magnitude())
        for one in (alike, untold)
    ]
    differ = [np.sqrt(np.mean((one.shape - truth.shape) ** 2)) for one in (alike, untold)]
    # Normals are stored in 8 bits; what is turned loses other fractions.
    assert apart[0] < 0.6 and differ[0] < 0.15, (apart, differ)
    assert apart[1] > 1.5 and differ[1] > 0.3, (apart, differ)
    assert main([*arguments, "--head-model", str(path)]) == 0
    assert "3 before" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "fitted with the head model 'another head', not 'open-head'" in capsys.readouterr().err
