"""What ``Reconstructor`` refuses, and that it says what it wants instead."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from n2f_jax.geometry.crop import Crop
from n2f_jax.geometry.focal import Focal, FocalHints
from n2f_jax.reconstruction.reconstructor import Reconstructor
from tests.runtime_types import unchecked

from .conftest import BATCH, SIZE, FakeFrontend, place_head

pytestmark = pytest.mark.medium

IMAGE = np.full((240, 320, 3), 100, np.uint8)
RGB = r"\(H, W, 3\) uint8 RGB"


@pytest.fixture(autouse=True)
def as_users_run_it():
    with unchecked():
        yield


@pytest.fixture
def face(open_head):
    return place_head(open_head, (480, 640))[0]


BAD_IMAGES = {
    "PIL": (PIL.Image.fromarray(IMAGE), TypeError, r"not a PIL image: np\.asarray\(.*convert\('RGB'\)"),
    "grey": (IMAGE[..., 0], ValueError, RGB),
    "alpha": (np.zeros((5, 5, 4), np.uint8), ValueError, RGB),
    "float": (IMAGE / 255, ValueError, f"{RGB}, not .* float64"),
    "16 bits": (IMAGE.astype(np.uint16), ValueError, RGB),
    "channels first": (np.zeros((3, 40, 50), np.uint8), ValueError, RGB),
    "no rows": (np.zeros((0, 5, 3), np.uint8), ValueError, "at least one pixel"),
    "no columns": (np.zeros((5, 0, 3), np.uint8), ValueError, "at least one pixel"),
    "none": (None, TypeError, f"{RGB} array"),
    "list": ([[[0, 0, 0]]], TypeError, f"{RGB} array"),
}
each_bad_image = pytest.mark.parametrize("image, error, message", BAD_IMAGES.values(), ids=BAD_IMAGES)


@each_bad_image
def test_an_image_that_is_none(load, image, error, message):
    reconstructor = load()
    for call in (
        reconstructor.detect,
        lambda bad: reconstructor.detect_all([IMAGE, bad]),
        lambda bad: reconstructor.reconstruct([IMAGE, bad]),
        reconstructor.frontend,
    ):
        # Called directly, a front end takes several images: those of no two axes are refused one by one.
        if call is reconstructor.frontend and (not isinstance(image, np.ndarray) or image.ndim != 3):
            continue
        with pytest.raises(error, match=message):
            call(image)


@each_bad_image
def test_the_others_have_their_heads(load, image, error, message):
    good, bad, too = load().reconstruct([IMAGE, image, IMAGE], return_errors=True)
    assert (len(good), len(too)) == (1, 1)
    assert type(bad) is error


@pytest.mark.parametrize("one", [IMAGE, "photo.jpg", Path("photo.jpg"), PIL.Image.fromarray(IMAGE)])
def test_one_image_is_no_list(load, one):
    with pytest.raises(TypeError, match=r"list of images.*write \[image\]"):
        load().reconstruct(one)
    with pytest.raises(TypeError, match=r"list of images.*write \[image\]"):
        load().detect_all(one)
    with pytest.raises(TypeError, match="list of images"):
        load().reconstruct(image for image in [IMAGE])


def test_other_sequences_of_images(load):
    for images in ((IMAGE, IMAGE), np.stack([IMAGE, IMAGE]), [jnp.asarray(IMAGE)] * 2):
        assert [len(heads) for heads in load().reconstruct(images)] == [1, 1]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_as_many_focal_lengths_and_sources_as_images(load, number):
    images = [IMAGE, IMAGE]
    for errors in (False, True):
        with pytest.raises(ValueError, match=f"2 images, but {number} focals"):
            load().reconstruct(images, [500.0] * number, return_errors=errors)
    with pytest.raises(ValueError, match=f"2 images, but {number} sources"):
        load().reconstruct(images, sources=[None] * number)
    with pytest.raises(ValueError, match=f"2 images, but {number} sources"):
        load().detect_all(images, [None] * number)


@pytest.mark.parametrize("wrong", [500.0, np.float32(500), "500", np.array(500.0)])
def test_focal_lengths_are_a_list(load, wrong):
    with pytest.raises(TypeError, match="focals is a list with one value for each of images"):
        load().reconstruct([IMAGE], wrong)


@pytest.mark.parametrize(
    "wrong",
    [0, -1.0, float("nan"), float("inf"), "500", [1.0, 2.0], True, Focal(-3.0, "given"), FocalHints(-2.0)],
)
def test_a_focal_length_is_a_positive_number(load, wrong):
    with pytest.raises(ValueError, match="a focal length is a positive number of pixels"):
        load().reconstruct([IMAGE], [wrong])
    good, bad = load().reconstruct([IMAGE, IMAGE], [400.0, wrong], return_errors=True)
    assert len(good) == 1 and isinstance(bad, ValueError)


def test_sources_and_counts(load, checkpoint, open_head):
    with pytest.raises(TypeError, match="source of an image is the path"):
        load().detect(IMAGE, 3)
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="max_faces"):
            load().reconstruct([IMAGE], max_faces=wrong)
    for name, wrong, error in (
        ("batch_size", 0, ValueError),
        ("batch_size", "8", TypeError),
        ("refine", -1, ValueError),
        ("refine", 1.5, TypeError),
    ):
        with pytest.raises(error, match=name):
            Reconstructor.from_pretrained(checkpoint, open_head, FakeFrontend(open_head), **{name: wrong})


def test_faces(load, face):
    reconstructor, sizes, focals = load(), [(480, 640)], [Focal(700.0, "given")]
    assert len(reconstructor.from_faces([face], sizes, focals)) == 1
    for faces in (face, iter([face])):
        with pytest.raises(TypeError, match="list of FrontendFace"):
            reconstructor.from_faces(faces, sizes, focals)
    with pytest.raises(TypeError, match="face 1 is a dict"):
        reconstructor.from_faces([face, {}], sizes * 2, focals * 2)
    for number in (0, 2):
        with pytest.raises(ValueError, match=f"1 faces, but {number} image_sizes"):
            reconstructor.from_faces([face], sizes * number, focals)
        with pytest.raises(ValueError, match=f"1 faces, but {number} focals"):
            reconstructor.from_faces([face], sizes, focals * number)
    with pytest.raises(TypeError, match="resolve_focal"):
        reconstructor.from_faces([face], sizes, [700.0])
    with pytest.raises(ValueError, match="positive number"):
        reconstructor.from_faces([face], sizes, [Focal(0.0, "given")])
    for size in ((480, 640, 3), (0, 640), "48", (480.5, 640), None, 480):
        with pytest.raises(ValueError, match=r"image size 0 is \(height, width\)"):
            reconstructor.from_faces([face], [size], focals)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("normals", np.zeros((16, 16, 3), np.float32), f"maps of {SIZE} pixels: normals"),
        ("normals", np.zeros((SIZE, SIZE), np.float32), f"maps of {SIZE} pixels: normals"),
        ("normals", np.zeros((SIZE, SIZE, 3), np.uint8), "floating-point numbers, not uint8"),
        ("mask", np.zeros((SIZE, SIZE, 1), np.float32), f"maps of {SIZE} pixels: mask"),
        ("mask", np.zeros((SIZE, SIZE), np.uint8), "floating-point numbers, not uint8"),
        ("landmarks_68", np.zeros((51, 2), np.float32), r"\(68, 2\), not \(51, 2\)"),
        ("points_468", np.zeros((478, 3), np.float32), r"\(468, 3\), not \(478, 3\)"),
    ],
)
def test_maps_and_points_of_faces(load, face, field, value, message):
    wrong = dataclasses.replace(face, **{field: value})
    with pytest.raises(ValueError, match=message):
        load().from_faces([wrong], [(480, 640)], [Focal(700.0, "given")])


def test_maps(load, face):
    reconstructor = load()
    maps = {
        "normals": [face.normals] * 2,
        "masks": [face.mask] * 2,
        "crops": [face.crop] * 2,
        "image_sizes": [(480, 640)] * 2,
        "focals": [None, 700.0],
        "landmarks": [face.landmarks_68] * 2,
    }
    assert len(reconstructor.from_maps(**maps)) == 2
    for name in list(maps)[1:]:
        with pytest.raises(ValueError, match=f"2 normal maps, but 1 {name}"):
            reconstructor.from_maps(**maps | {name: maps[name][:1]})
    with pytest.raises(ValueError, match=f"{SIZE} normal maps, but 2 masks"):
        reconstructor.from_maps(**maps | {"normals": face.normals})
    for crop in (
        Crop(np.zeros(2), np.float32(0)),
        Crop(np.array([0, np.nan]), np.float32(5)),
        Crop(np.zeros(2), np.float32("inf")),
    ):
        with pytest.raises(ValueError, match="square of a positive side"):
            reconstructor.from_maps(**maps | {"crops": [face.crop, crop]})
    with pytest.raises(TypeError, match="crop 0 is a tuple, not a Crop"):
        reconstructor.from_maps(**maps | {"crops": [(0, 0, 9), face.crop]})
    with pytest.raises(ValueError, match="positive number"):
        reconstructor.from_maps(**maps | {"focals": [-1.0, None]})
    with pytest.raises(TypeError, match="normal maps is wanted"):
        reconstructor.from_maps(**maps | {"normals": None})
    unmasked = maps | {"masks": None}
    assert len(reconstructor.from_maps(**unmasked)) == 2
    assert reconstructor.from_maps(**unmasked | {name: [] for name in maps if name != "masks"}) == []
    with pytest.raises(ValueError, match="normals"):
        reconstructor.from_maps(**unmasked | {"normals": [face.normals, face.normals[:7]]})


def test_batches(load):
    good = {
        "maps": jnp.zeros((BATCH, SIZE, SIZE, 3)),
        "masks": jnp.ones((BATCH, SIZE, SIZE)),
        "focal": jnp.ones(BATCH),
        "principal_point": jnp.ones((BATCH, 2)),
        "landmarks": jnp.full((BATCH, 68, 2), jnp.nan),
        "points": jnp.full((BATCH, 468, 3), jnp.nan),
        "scores": jnp.full((BATCH, 51), jnp.nan),
        "activations": jnp.full((BATCH, 2, 2048), jnp.nan),
    }
    load().predict(**good)
    for name, array in good.items():
        with pytest.raises(ValueError, match=rf"{name} is \(B"):
            load().predict(**good | {name: array[..., None]})
        with pytest.raises(ValueError, match=f"as many of each: .*{name} {BATCH - 1}"):
            load().predict(**good | {name: array[1:]})
        with pytest.raises(ValueError, match=f"{name} are floating-point numbers, not int32"):
            load().predict(**good | {name: jnp.zeros(array.shape, jnp.int32)})
        with pytest.raises(TypeError, match=f"{name} is an array, not a list"):
            load().predict(**good | {name: [1.0]})
    with pytest.raises(ValueError, match="at least one face"):
        load().predict(**{name: array[:0] for name, array in good.items()})


def test_without_a_front_end(checkpoint, open_head):
    without = Reconstructor.from_pretrained(checkpoint, open_head, frontend=None)
    for call in (without.detect, lambda image: without.reconstruct([image])):
        with pytest.raises(ValueError, match="no front end; use from_maps"):
            call(IMAGE)
