"""Pixel3DMM's own folders, preprocessed: its maps, and its tracker's heads as pseudo ground truth."""

import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from flame_jax.loading import head_model_from_arrays
from n2f_jax.data.celeba_hq import PseudoTruthFaces
from n2f_jax.data.preprocessed import face_path, list_faces, read_face
from n2f_jax.data.pseudo_truth import read_truth, truth_path
from n2f_jax.frontends.registry import FrontendOptions
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.preprocessing.inputs import parse_inputs
from n2f_jax.preprocessing.run import run
from n2f_jax.preprocessing.settings import Settings
from n2f_jax.preprocessing.tracked import write_tracked_truths
from tests.flame_jax.random_model import random_arrays
from tests.n2f_jax.frontends.pixel3dmm.test_tracking import SIZE, drawn_at, frame_dict, write_frame
from tests.n2f_jax.frontends.pixel3dmm.written_folder import WINDOW, write_folder
from tests.n2f_jax.frontends.rendered_head import overlap, square

STORED = 160


class Ball:
    """A hemisphere that looks at the camera, drawn in any square of the photograph; as tests draw rendered heads."""

    centre, radius = np.array([400.0, 215.0]), 90.0
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    landmarks = centre + 0.9 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    def draw(self, crop, size):
        grid = [float(c) + (np.arange(size) + 0.5) * float(crop.side) / size for c in crop.x0y0]
        x, y = np.meshgrid((grid[0] - self.centre[0]) / self.radius, (self.centre[1] - grid[1]) / self.radius)
        mask = x**2 + y**2 < 1
        normals = np.stack([x, y, np.sqrt(np.maximum(1 - x**2 - y**2, 0))], axis=-1) * mask[..., None]
        uv = (np.stack([x, y], axis=-1) / 2 + 0.5) * mask[..., None]
        return SimpleNamespace(mask=mask.astype(np.float32), normals=normals, uv=uv)


@pytest.fixture(scope="module")
def model():
    """Random arrays of FLAME's size, whose tracked neck is at rest, so that nothing has to be folded away."""
    arrays = random_arrays(0, 5023, 60)
    arrays["mask_face"] = np.arange(500)
    return head_model_from_arrays(arrays, "random")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """PREPROCESSED_DATA and TRACKING_OUTPUT of two photographs, one of them tracked."""
    root = tmp_path_factory.mktemp("pixel3dmm")
    head = Ball()
    write_folder(root / "data" / "anna", head)
    shutil.copytree(root / "data" / "anna", root / "data" / "berta")
    contents = frame_dict(neck=0.0)
    folder = root / "tracking" / "anna_nV1_noPho_uv2000.0_n1000.0" / "checkpoint"
    folder.mkdir(parents=True)
    write_frame(folder / "00000.frame", contents)
    return root, head, contents


@pytest.fixture(scope="module")
def preprocessed(data, tmp_path_factory):
    root, _, _ = data
    out = tmp_path_factory.mktemp("out")
    settings = Settings(
        "precomputed", FrontendOptions(size=128, max_faces=1, precomputed=root / "data"), margin=1.25
    )
    summary = run(parse_inputs([str(root / "data")]), out, settings, progress=False)
    assert summary.counts == {"ok": 2, "no face": 0, "error": 0}
    return out


def test_its_maps_are_stored_in_our_crop(data, preprocessed):
    _, head, _ = data
    (name,) = [
        name for name in list_faces(preprocessed) if "anna" in read_face(face_path(preprocessed, name)).source
    ]
    face = read_face(face_path(preprocessed, name))
    expected = head.draw(square(*face.crop), STORED)
    assert face.size == STORED and overlap(face.mask, expected.mask) > 0.98
    inside = (face.mask > 0) & (expected.mask > 0)
    chord = np.linalg.norm(face.normals - expected.normals, axis=-1)[inside]
    assert np.degrees(np.median(chord)) < 0.4 and np.degrees(np.quantile(chord, 0.95)) < 2
    uv = np.abs(face.uv - (2 * expected.uv - 1))[inside]
    assert np.quantile(uv, 0.95) < 0.02
    assert set(np.unique(face.classes)) == {0, 2, 14}
    assert face.provenance["frontend"] == "precomputed" and len(face.provenance["files"]) == 4


def test_its_heads_lie_where_its_tracker_draws_them(data, preprocessed, model):
    root, _, contents = data
    arguments = (preprocessed, root / "data", root / "tracking", model)
    with pytest.raises(ValueError, match="coefficients"):  # a model with fewer than the frame has
        write_tracked_truths(*arguments[:3], head_model_from_arrays(random_arrays(0, 5023, 60, 3, 2), "few"))
    counts = write_tracked_truths(*arguments, progress=False)
    assert counts == {"written": 1, "no frame": 1}
    assert write_tracked_truths(*arguments, progress=False) == {"before": 1, "no frame": 1}
    faces = PseudoTruthFaces(preprocessed, 64, 1.4, model, part="all")
    assert len(faces) == 1 and faces.without_truth == 1
    truth, face = (read(path(preprocessed, faces.id(0))) for read, path in
                   ((read_truth, truth_path), (read_face, face_path)))  # fmt: skip

    neutral = FlameParams.neutral(model)
    eyes = jnp.asarray(contents["flame"]["eyes"][0]).reshape(neutral.eyes.shape)
    params = FlameParams(
        *map(jnp.asarray, (truth.shape, truth.expression, truth.jaw, truth.eyelids)), neutral.neck, eyes
    )
    vertices, _ = flame_jax.decode(model, params)
    k = jnp.asarray(truth.intrinsics)
    camera = Camera(jnp.asarray(truth.rotation), jnp.asarray(truth.translation), k[0, 0], k[:2, 2])
    ours = np.asarray(project(vertices, camera)) * (face.crop[2] / face.size) + face.crop[:2]
    # The tracker draws into SIZE² pixels of the crop, which is WINDOW of the photograph.
    theirs = drawn_at(contents, np.asarray(vertices)) * (WINDOW[2] / SIZE) + WINDOW[:2]
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_damage_and_doubt_are_said(data, preprocessed, model, tmp_path):
    root, _, contents = data
    for settings in ("uv2000.0", "uv1000.0"):
        folder = tmp_path / f"anna_nV1_{settings}" / "checkpoint"
        folder.mkdir(parents=True)
        write_frame(folder / "00000.frame", contents)
    folder = tmp_path / "berta_nV1" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "00000.frame").write_bytes(b"no frame")
    for path in preprocessed.rglob("*.truth.npz"):
        path.unlink()
    said = []
    counts = write_tracked_truths(
        preprocessed, root / "data", tmp_path, model, say=said.append, progress=False
    )
    assert counts == {"error": 2} and not list(preprocessed.rglob("*.truth.npz"))
    assert any("several settings" in line for line in said) and any(
        "not written by torch" in line for line in said
    )
