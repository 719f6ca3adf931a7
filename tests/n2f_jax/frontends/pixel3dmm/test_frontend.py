"""The paper's front end whole, its networks perfect ones that read a picture in which the answer is painted."""

import cv2
import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from n2f_jax.frontends.face_landmarks import MeshedFace  # noqa: E402
from n2f_jax.frontends.pixel3dmm import frontend as module  # noqa: E402
from n2f_jax.frontends.registry import FrontendOptions, make_frontend  # noqa: E402
from n2f_jax.geometry.crop import landmark_crop  # noqa: E402

from ..rendered_head import RenderedHead, degrees_between, overlap  # noqa: E402
from ..test_farl import weights as farl_weights  # noqa: E402
from .random_checkpoint import random_network, write_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

SIZE = 160


class Painted(torch.nn.Module):
    """Reads (x, y, z) or (u, v, …) off the colours and says it in Pixel3DMM's order, mirrored in mirror images."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction, self.device = prediction, torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        first, second, third = (2 * images - 1).unbind(1)
        sign = torch.ones(len(images), 1, 1)
        sign[len(images) // 2 :] = -1
        if self.prediction == "normals":
            return {"normals": torch.stack([sign * first, -third, -second], dim=1)}
        u = torch.where(sign > 0, first, 0.015 - first)
        return {"uv_map": torch.stack([u, -second], dim=1)}


class PaintedParser(torch.nn.Module):
    """Black is background, the rest skin."""

    def forward(self, images):
        logits = torch.zeros(images.shape[0], 19, images.shape[2], images.shape[3])
        logits[:, 0] = 0.1
        logits[:, 2] = images.amax(dim=1)
        return logits, logits


class KnownFaces:
    """A face mesh that knows where the heads are."""

    def __init__(self, faces):
        self.faces = faces

    def __call__(self, image):
        return self.faces if image.any() else []


@pytest.fixture(scope="module")
def head(open_head):
    return RenderedHead(open_head)


@pytest.fixture
def painted(head, monkeypatch, tmp_path):
    """``painted('normals')`` → the front end and a photograph in whose colours the answer is."""
    torch.jit.script(PaintedParser()).save(str(tmp_path / "farl.pt"))
    (tmp_path / "normals.ckpt").write_bytes(b"n")
    (tmp_path / "uv.ckpt").write_bytes(b"u")
    monkeypatch.setattr(module, "load_network", lambda path, prediction, device: Painted(prediction))
    drawn = head.draw_photograph()

    def make(kind):
        values = np.asarray(drawn.normals) if kind == "normals" else np.asarray(drawn.uv) * 2 - 1
        values = np.concatenate([values, np.zeros((*values.shape[:2], 3 - values.shape[2]))], axis=-1)
        photo = np.rint((values + 1) / 2 * 255) * (np.asarray(drawn.mask)[..., None] > 0)
        faces = [MeshedFace(head.face_mesh_points(), 0.97, 0.9)]
        found = module.Pixel3dmmFrontend(
            tmp_path / "normals.ckpt",
            tmp_path / "uv.ckpt",
            tmp_path / "farl.pt",
            size=SIZE,
            crop_scale=1.4,
            landmarker=KnownFaces(faces),
        )
        return found, photo.astype(np.uint8)

    return make


def test_the_painted_normals_come_back(head, painted):
    """In the paper's landmark box, in the head frame, though the networks saw another square."""
    frontend, photo = painted("normals")
    ((face,), none) = frontend([photo, np.zeros_like(photo)])
    assert none == []
    landmarks = face.points_468[module.load_coarse_mesh().ibug68, :2]
    assert np.array_equal(face.landmarks_68, landmarks) and face.score == 0.97
    crop = landmark_crop(landmarks, 1.4)
    assert np.allclose(face.crop.x0y0, crop.x0y0) and np.isclose(face.crop.side, crop.side)

    expected = head.draw(crop, SIZE)
    assert overlap(face.mask, expected.mask) > 0.97
    inside = cv2.erode(np.asarray(face.mask) * np.asarray(expected.mask), np.ones((9, 9)))
    angle = degrees_between(face.normals, expected.normals, inside)
    assert np.median(angle) < 0.6 and np.percentile(angle, 95) < 5, np.percentile(angle, (50, 95, 99))
    # They are JAX's, and unit where there is a face.
    assert all(isinstance(image, jax.Array) for image in (face.normals, face.mask, face.uv, face.classes))
    assert np.allclose(np.linalg.norm(face.normals, axis=-1), face.mask, atol=1e-5)
    assert set(np.unique(face.classes)) == {0, 2}
    assert frontend.files == face.provenance.files
    assert face.provenance.files.keys() >= {"pixel3dmm_normals", "pixel3dmm_uv", "farl"}
    assert face.provenance.commit == "98b5d79"


def test_the_painted_uv_comes_back(head, painted):
    frontend, photo = painted("uv_map")
    (face,) = frontend(photo)
    expected = head.draw(face.crop, SIZE)
    inside = cv2.erode(np.asarray(face.mask) * np.asarray(expected.mask), np.ones((9, 9)))
    error = np.abs(np.asarray(face.uv) - (2 * np.asarray(expected.uv) - 1))[inside > 0]
    assert np.median(error) < 0.004 and np.percentile(error, 95) < 0.02, np.percentile(error, (50, 95, 99))
    assert (np.asarray(face.uv)[np.asarray(face.mask) == 0] == 0).all()


def test_from_files_by_name(tmp_path):
    """The registry makes it from checkpoints on disk; a photograph without a face gives none."""
    options = FrontendOptions(
        size=32,
        pixel3dmm_normals=write_checkpoint(tmp_path / "normals.ckpt", random_network(), {}),
        farl_weights=farl_weights(tmp_path / "farl.pt"),
        torch_device="cpu",
    )
    frontend = make_frontend("pixel3dmm", options)
    assert frontend(np.zeros((64, 64, 3), np.uint8)) == []
    import skimage.data

    photo = skimage.data.astronaut()
    one, (same,) = frontend([photo, photo])[0], frontend(photo)
    assert len(one) == 1 and np.allclose(one[0].normals, same.normals, atol=1e-5)
    assert same.normals.shape == (32, 32, 3) and same.uv is None
