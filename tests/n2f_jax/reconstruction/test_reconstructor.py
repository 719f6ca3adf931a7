"""The batch stage on faces whose camera is known."""

import dataclasses
import math

import numpy as np
import pytest

from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.geometry import project
from n2f_jax.geometry.camera import project_points
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.models.pretrained import HeadModelMismatch, from_pretrained
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.prediction import predict_heads
from n2f_jax.reconstruction.reconstructor import Reconstructor
from tests.runtime_types import unchecked

from .conftest import BATCH, CROP_SCALE, SIZE, FakeFrontend, place_head

pytestmark = pytest.mark.medium

SIZES = [(480, 640), (900, 500), (300, 300), (2000, 3000)]
POSES = [((0, 0, 0), (0, 0, 0.7)), ((10, 25, -8), (0.1, 0.05, 1.2)), ((-5, -20, 3), (-0.05, 0, 0.5))]
POSES.append(((6, -12, 4), (0.3, -0.2, 0.9)))


def faces_and_cameras(model):
    return zip(
        *[place_head(model, size, *pose) for size, pose in zip(SIZES, POSES, strict=True)], strict=True
    )


def default_focals(sizes=SIZES):
    return [resolve_focal(size) for size in sizes]


def test_landmarks_give_the_camera_of_the_original_image(load, open_head):
    faces, cameras = faces_and_cameras(open_head)
    heads = load().from_faces(faces, SIZES, default_focals())
    for head, camera, face, size in zip(heads, cameras, faces, SIZES, strict=True):
        np.testing.assert_allclose(head.rotation, camera.rotation, atol=2e-3)
        np.testing.assert_allclose(head.translation, camera.translation, atol=3e-3)
        seen = project_points(head.vertices_camera, head.intrinsics)
        np.testing.assert_allclose(seen, project(head.vertices, camera), atol=2e-3 * max(size))
        np.testing.assert_allclose(head.landmarks_2d[17:], face.landmarks_68[17:], atol=1e-3 * max(size))
        assert head.landmark_gap() < 0.01
        assert head.intrinsics[:2, 2].tolist() == [size[1] / 2, size[0] / 2]
        assert (head.image_size, head.alignment, head.focal_source) == (size, "landmarks", "default")


def test_angles_name_the_pose(load, open_head):
    faces, _ = faces_and_cameras(open_head)
    for head, (degrees, _) in zip(load().from_faces(faces, SIZES, default_focals()), POSES, strict=True):
        np.testing.assert_allclose(head.angles(), degrees, atol=0.3)


def test_the_networks_camera_is_undone_from_the_crop(load, open_head):
    """Untrained, the network says (u, v, s) = (½, ½, −1.55): origin amid the crop, e^−1.55 m across."""
    faces, _ = faces_and_cameras(open_head)
    for head in load("network").from_faces(faces[1:], SIZES[1:], default_focals()[1:]):
        x0, y0, side = head.crop
        origin = project_points(head.translation[None], head.intrinsics)[0]
        np.testing.assert_allclose(origin, [x0 + side / 2, y0 + side / 2], rtol=1e-4)
        width_there = side * head.translation[2] / head.intrinsics[0, 0]
        assert width_there == pytest.approx(math.exp(-1.55), rel=1e-4)
        np.testing.assert_allclose(head.rotation, np.diag([1, -1, -1]), atol=1e-6)
        assert head.alignment == "network"


def test_landmarks_lie_on_the_mesh_and_the_contour_follows_the_view(load, open_head):
    faces, _ = faces_and_cameras(open_head)
    heads = load().from_faces(faces, SIZES, default_focals())
    for head in heads:
        in_camera = head.landmarks_3d @ head.rotation.T + head.translation
        np.testing.assert_allclose(head.landmarks_2d, project_points(in_camera, head.intrinsics), atol=0.05)
    frontal, turned = heads[0], heads[1]
    np.testing.assert_allclose(
        frontal.landmarks_3d[17:], turned.landmarks_3d[17:], atol=1e-5
    )  # mean head both
    moved = np.linalg.norm(frontal.landmarks_3d - turned.landmarks_3d, axis=-1)[:17]
    assert moved.max() > 0.005


def test_an_answer_does_not_depend_on_its_batch(load, open_head):
    faces, _ = faces_and_cameras(open_head)
    reconstructor = load()
    together = reconstructor.from_faces(faces, SIZES, default_focals())
    for i, head in enumerate(together):
        (alone,) = reconstructor.from_faces(faces[i : i + 1], SIZES[i : i + 1], default_focals()[i : i + 1])
        np.testing.assert_allclose(alone.vertices, head.vertices, atol=1e-6)
        np.testing.assert_allclose(alone.translation, head.translation, atol=1e-4)


def test_at_most_two_compilations(load, open_head):
    reconstructor = load()
    face, _ = place_head(open_head, SIZES[0])
    for count in (1, BATCH):
        reconstructor.from_faces([face] * count, SIZES[:1] * count, default_focals()[:1] * count)
    before = predict_heads._cache_size()
    for count in (1, 2, 3, 4, 5, 7):
        heads = reconstructor.from_faces([face] * count, SIZES[:1] * count, default_focals()[:1] * count)
        assert len(heads) == count
    assert predict_heads._cache_size() == before
    assert reconstructor.from_faces([], [], []) == []


def test_images_to_heads(load):
    images = [np.full((240, 320, 3), level, np.uint8) for level in (0, 100, 200)]
    reconstructor = load()
    nobody, one, two = reconstructor.reconstruct(images, focals=[None, 500.0, None])
    assert (len(nobody), len(one), len(two)) == (0, 1, 2)
    assert one[0].focal_source == "given"
    assert one[0].intrinsics[0, 0] == 500.0
    assert two[0].crop[2] > two[1].crop[2]  # the largest first
    assert two[0].translation[2] < two[1].translation[2]
    assert [len(heads) for heads in reconstructor.reconstruct(images, max_faces=1)] == [0, 1, 1]


def test_maps_without_landmarks_keep_the_networks_camera(load, open_head):
    face, camera = place_head(open_head, SIZES[0])
    reconstructor = load()
    maps = ([face.normals], [face.mask], [face.crop], SIZES[:1])
    given_focal = [default_focals()[0].pixels]
    (without,) = reconstructor.from_maps(*maps, focals=given_focal)
    expected = load("network").from_faces([face, face], SIZES[:1] * 2, default_focals()[:1] * 2)[0]
    assert without.alignment == "network"
    np.testing.assert_allclose(without.translation, expected.translation, atol=1e-6)
    np.testing.assert_allclose(without.rotation, expected.rotation, atol=1e-6)
    assert without.is_finite
    (given,) = reconstructor.from_maps(*maps, focals=given_focal, landmarks=[face.landmarks_68])
    assert given.alignment == "landmarks"
    np.testing.assert_allclose(given.translation, camera.translation, atol=3e-3)


def test_face_mesh_points_help_where_they_are_embedded(load, open_head):
    from n2f_jax.face_mesh.embedding import points_on_mean_head

    reconstructor = load()
    assert reconstructor._embedding is not None  # the asset belongs to the head that ships
    moved = dataclasses.replace(open_head, v_template=open_head.v_template * 1.1)
    assert face_mesh_embedding(moved) is None

    face, camera = place_head(open_head, SIZES[0])
    points = np.asarray(project(points_on_mean_head().astype(np.float32), camera))
    points = np.concatenate([points, np.zeros((len(points), 1))], axis=1).astype(np.float32)
    shifted = face.landmarks_68 + 0.01 * float(face.crop.side)  # 51 points that are off
    faces = [
        dataclasses.replace(face, landmarks_68=shifted),
        dataclasses.replace(face, landmarks_68=shifted, points_468=points),
    ]
    without, with_points = reconstructor.from_faces(faces, SIZES[:1] * 2, default_focals()[:1] * 2)
    error = [
        np.linalg.norm(head.translation - np.asarray(camera.translation)) for head in (without, with_points)
    ]
    assert error[1] < 0.7 * error[0]
    assert with_points.frontend_points.shape == (468, 3)


def test_saved_heads_say_how_to_project_them(load, open_head, tmp_path):
    faces, _ = faces_and_cameras(open_head)
    head = load().from_faces(faces, SIZES, default_focals())[1]
    head.save(tmp_path / "head.npz", source="photo.jpg")
    read = load_parameters(tmp_path / "head.npz")
    in_camera = read["landmarks_3d"] @ read["rotation"].T + read["translation"]
    u = in_camera @ read["intrinsics"].T
    np.testing.assert_allclose(u[:, :2] / u[:, 2:], read["landmarks_2d"], atol=0.05)
    assert read["vertices"].shape == (open_head.num_vertices, 3)
    assert (read["head_model"], read["source"], read["checkpoint"]) == ("open-head", "photo.jpg", "untrained")
    assert read["jaw_pose"].shape == (3,)
    assert read["image_size"].tolist() == list(SIZES[1])
    assert read["frontend_points"].shape == (0, 3)


def test_focal_lengths():
    assert resolve_focal((300, 400))[:2] == (480.0, "default")
    assert resolve_focal((300, 400), None, 700.0)[:2] == (700.0, "exif")
    assert resolve_focal((300, 400), 650, 700.0)[:2] == (650.0, "given")
    # A face that fills its picture was cut out of a larger one: it lies 1 m away, not 0.3 m.
    assert resolve_focal((300, 400), face_size=280.0)[:2] == (pytest.approx(2000.0), "face")
    assert resolve_focal((300, 400), face_size=40.0)[:2] == (480.0, "default")
    assert resolve_focal((300, 400), None, 700.0, 280.0)[:2] == (700.0, "exif")
    far = resolve_focal((300, 400), None, 3e5, 40.0)
    assert far[:2] == (480.0, "default") and "1050 m away" in far.note
    for wrong in (0.0, -5.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="focal"):
            resolve_focal((300, 400), wrong)


@unchecked()
def test_wrong_use_is_refused(load, checkpoint, open_head):
    reconstructor = load()
    face, _ = place_head(open_head, SIZES[0])
    small = dataclasses.replace(face, normals=np.zeros((16, 16, 3), np.float32))
    with pytest.raises(ValueError, match=f"maps of {SIZE} pixels"):
        reconstructor.from_faces([small], SIZES[:1], default_focals()[:1])
    for image in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((5, 5, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            reconstructor.detect(image)
    without = Reconstructor.from_pretrained(checkpoint, open_head, frontend=None)
    with pytest.raises(ValueError, match="front end"):
        without.detect(np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="alignment"):
        Reconstructor.from_pretrained(checkpoint, open_head, None, alignment="guess")
    with pytest.raises(ValueError, match="batch_size is at least 1"):
        Reconstructor.from_pretrained(checkpoint, open_head, None, batch_size=0)
    with pytest.raises(ValueError, match="no front end named"):
        Reconstructor.from_pretrained(checkpoint, open_head, "mesh_face")
    other = dataclasses.replace(open_head, v_template=open_head.v_template * 1.01)
    with pytest.raises(HeadModelMismatch, match="v_template"):
        Reconstructor(from_pretrained(checkpoint), other, FakeFrontend(open_head))
    assert reconstructor.inputs.crop_scale == CROP_SCALE
