"""What Pixel3DMM wrote of a rendered head gives the head back, and whatever is missing or foreign is named."""

import shutil

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from n2f_jax.frontends.files import FrontendFileError
from n2f_jax.frontends.pixel3dmm.folder import Pixel3dmmFolder
from n2f_jax.frontends.pixel3dmm.tracking import camera_in_photo
from n2f_jax.frontends.registry import FrontendOptions, make_frontend
from n2f_jax.geometry import crop_camera, project
from n2f_jax.geometry.crop import landmark_crop

from .pixel3dmm.written_folder import WINDOW, write_folder
from .rendered_head import IMAGE_SIZE, RenderedHead, degrees_between, overlap, square

pytestmark = pytest.mark.medium

SIZE = 512  # as Pixel3DMM's maps, so that the renderer compiles once
PHOTO = np.zeros((*IMAGE_SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def head(open_head):
    return RenderedHead(open_head)


@pytest.fixture(scope="module")
def data(head, tmp_path_factory):
    """``PREPROCESSED_DATA`` with ``anna`` in it."""
    root = tmp_path_factory.mktemp("preprocessed")
    write_folder(root / "anna", head)
    return root


def frontend(root, size=SIZE):
    return make_frontend("precomputed", FrontendOptions(size=size, crop_scale=1.4, precomputed=root))


def test_the_rendered_head_comes_back(head, data):
    (face,) = frontend(data)(PHOTO, data / "photos" / "anna.jpg")
    crop = landmark_crop(head.landmarks, 1.4)
    assert np.allclose(face.landmarks_68, head.landmarks, atol=1e-3)
    assert np.allclose(face.crop.x0y0, crop.x0y0, atol=1e-3) and float(face.crop.side) == pytest.approx(
        float(crop.side), abs=1e-3
    )
    expected = head.draw(crop, SIZE)
    assert overlap(face.mask, expected.mask) > 0.98
    inside = cv2.erode(np.asarray(face.mask) * np.asarray(expected.mask), np.ones((9, 9)))
    angle = degrees_between(face.normals, expected.normals, inside)
    # 8 bits are a fifth of a degree; at the lips and lids the surface jumps.
    assert np.median(angle) < 0.2 and np.percentile(angle, 95) < 1, np.percentile(angle, (50, 95, 99))
    uv = np.abs(np.asarray(face.uv) - (2 * np.asarray(expected.uv) - 1))[inside > 0]
    assert np.median(uv) < 0.004 and np.percentile(uv, 95) < 0.01, np.percentile(uv, (50, 95, 99))
    # Cut off fractions (half a step is 0.004) are made up for: no bias towards −1. z has one from the jumps.
    bias = (np.asarray(face.normals) - expected.normals)[inside > 0].mean(axis=0)
    assert np.abs(bias[:2]).max() < 5e-4, bias
    assert np.isnan(face.score) and face.points_468 is None
    assert face.provenance.frontend == "precomputed" and len(face.provenance.files["normals"]) == 64


def test_several_at_once_and_where_each_is_found(head, data, tmp_path):
    """By its own name, in ``rgb/`` and ``cropped/``, or as one file of a folder that was done together."""
    root, photos = tmp_path / "data", tmp_path / "party"
    photos.mkdir()
    names = ("a.jpg", "b.png", "notes.txt")
    for name in names:
        (photos / name).touch()
    shutil.copytree(data / "anna", root / "anna")
    shutil.copytree(data / "anna", root / "party")
    for file in [*(root / "party").rglob("00000.*")]:
        file.rename(file.with_stem("00001"))  # b.png's; PIPNet found nothing in a.jpg

    find = frontend(root, 32)
    by_name, of_rgb, of_folder = find(
        [PHOTO] * 3, [tmp_path / "anna.jpg", root / "anna" / "rgb" / "00000.jpg", photos / "b.png"]
    )
    for (face,) in (of_rgb, of_folder):
        assert np.array_equal(face.normals, by_name[0].normals)
    (alone,) = frontend(root / "anna", 32)(PHOTO, tmp_path / "anna.jpg")
    assert np.array_equal(alone.mask, by_name[0].mask)

    (crop,) = find(np.zeros((512, 512, 3), np.uint8), root / "anna" / "cropped" / "00000.jpg")
    x0, y0, side = WINDOW
    assert np.allclose(crop.landmarks_68 * side / 512 + [x0, y0], head.landmarks, atol=1e-3)
    assert overlap(crop.mask, by_name[0].mask) == 1

    with pytest.raises(FrontendFileError, match=r"00000\.png is missing: run scripts/network_inference"):
        find(PHOTO, photos / "a.jpg")
    with pytest.raises(FrontendFileError, match="looked for bob/ with one frame, and for elsewhere/"):
        find(PHOTO, tmp_path / "elsewhere" / "bob.jpg")
    with pytest.raises(FrontendFileError, match="give its source"):
        find(PHOTO)


def test_without_uv(head, data, tmp_path):
    shutil.copytree(data / "anna", tmp_path / "anna")
    (tmp_path / "anna" / "p3dmm" / "uv_map" / "00000.png").unlink()
    (face,) = frontend(tmp_path, 32)(PHOTO, tmp_path / "anna.jpg")
    assert face.uv is None and face.classes.shape == (32, 32)


def test_without_any_segmentation_the_normals_tell_the_mask(head, data, tmp_path):
    shutil.copytree(data / "anna", tmp_path / "anna")
    shutil.rmtree(tmp_path / "anna" / "seg_og")
    (face,) = frontend(tmp_path, 128)(PHOTO, tmp_path / "anna.jpg")
    (parsed,) = frontend(data, 128)(PHOTO, data / "anna.jpg")
    assert face.classes is None and face.provenance.mask == "told by the normals"
    assert overlap(face.mask, parsed.mask) > 0.9
    both = np.asarray(face.mask * parsed.mask) > 0
    np.testing.assert_allclose(np.asarray(face.normals)[both], np.asarray(parsed.normals)[both], atol=1e-6)
    for maps in (face.normals, face.uv):
        assert not np.asarray(maps)[np.asarray(face.mask) == 0].any()


def damage(folder, kind):
    if kind == "segmentation":
        (folder / "seg_og" / "00000.png").unlink()
    elif kind == "landmarks":
        (folder / "PIPnet_landmarks" / "00000.npy").unlink()
    elif kind == "68 landmarks":
        np.save(folder / "PIPnet_landmarks" / "00000.npy", np.zeros((68, 2)))
    elif kind == "cut off":
        (folder / "p3dmm" / "normals" / "00000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    elif kind == "sizes":
        Image.new("L", (256, 256)).save(folder / "seg_og" / "00000.png")
    elif kind == "crop":
        np.save(folder / "crop_ymin_ymax_xmin_xmax.npy", np.array([-5, 300, 10, 320]))
    elif kind == "no crop":
        (folder / "crop_ymin_ymax_xmin_xmax.npy").write_text("0 1 2 3")
    elif kind == "gray":
        Image.new("L", (512, 512)).save(folder / "p3dmm" / "normals" / "00000.png")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("segmentation", "seg_og.*is missing: run scripts/run_facer_segmentation.py"),
        ("landmarks", r"PIPnet_landmarks.*is missing: scripts/run_preprocessing.py"),
        ("68 landmarks", "does not hold PIPNet's 98"),
        ("cut off", "normals.*damaged: run scripts/network_inference.py"),
        ("sizes", "256 × 256 pixels, the normals 512 × 512"),
        ("crop", "which is not in an image of 640 × 480"),
        ("no crop", "four numbers"),
        ("gray", "8-bit RGB"),
    ],
)
def test_what_is_wrong_is_named(data, tmp_path, kind, message):
    shutil.copytree(data / "anna", tmp_path / "anna")
    damage(tmp_path / "anna", kind)
    with pytest.raises(FrontendFileError, match=message):
        frontend(tmp_path, 32)(PHOTO, tmp_path / "anna.jpg")


def test_another_photograph_is_refused(data, tmp_path):
    turned = np.zeros((640, 480, 3), np.uint8)
    with pytest.raises(FrontendFileError, match="turned by EXIF"):
        frontend(data, 32)(turned, tmp_path / "anna.jpg")
    with pytest.raises(FrontendFileError, match="--precomputed=DIR"):
        make_frontend("precomputed", FrontendOptions())


def test_a_tracked_camera_in_the_photograph(head, data):
    """The tracker's camera of the crop, carried to the photograph, projects as the photograph's own."""
    x0, y0, side = WINDOW
    window = Pixel3dmmFolder(data / "anna").window(IMAGE_SIZE)
    tracked = crop_camera(head.camera, square(x0, y0, side), 256)
    found = camera_in_photo(tracked, 256, window)
    points = jnp.asarray(head.model.v_template[:200])
    assert np.allclose(project(points, found), project(points, head.camera), atol=0.01)
