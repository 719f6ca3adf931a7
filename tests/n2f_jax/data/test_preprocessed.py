import dataclasses
import errno
import io
import json
import math
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from n2f_jax.data.manifest import ManifestWriter, Record
from n2f_jax.data.preprocessed import (
    StoredFaceError,
    face_id,
    face_path,
    list_faces,
    read_face,
    write_face,
)
from tests.n2f_jax.data.stored import random_face
from tests.runtime_types import unchecked


def angles_deg(a, b):
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


def test_what_is_read_is_what_was_written(tmp_path):
    face = random_face()
    path = tmp_path / "ab" / "cd" / "x.face.zip"
    write_face(path, face)
    read = read_face(path)
    for field in ("crop", "landmarks_68", "intrinsics", "mask", "classes"):
        np.testing.assert_array_equal(getattr(read, field), getattr(face, field), err_msg=field)
    for field in ("focal_source", "image_size", "source", "frame", "score", "provenance"):
        assert getattr(read, field) == getattr(face, field)
    inside = face.mask > 0
    # 255 levels over 2: at most half a level in each of three components.
    assert angles_deg(read.normals, face.normals)[inside].max() < math.degrees(math.sqrt(3) / 255)
    np.testing.assert_allclose(np.linalg.norm(read.normals, axis=-1)[inside], 1, atol=1e-6)
    assert (read.normals[~inside] == 0).all()
    np.testing.assert_allclose(read.uv, face.uv, atol=1.01 / 65535)
    assert (read.uv[~inside] == 0).all()
    assert {read.normals.dtype, read.mask.dtype, read.uv.dtype, read.landmarks_68.dtype} == {
        np.dtype("float32")
    }


def test_the_png_holds_x_y_z_as_red_green_blue(tmp_path):
    face = random_face()
    write_face(tmp_path / "x.face.zip", face)
    with zipfile.ZipFile(tmp_path / "x.face.zip") as archive:
        normals = np.asarray(Image.open(io.BytesIO(archive.read("normals.png"))))  # Pillow's order is RGB
        mask = np.asarray(Image.open(io.BytesIO(archive.read("mask.png"))))
    np.testing.assert_array_equal(normals, np.rint((face.normals + 1) * 127.5).astype(np.uint8))
    np.testing.assert_array_equal(mask, 255 * face.mask)


def test_what_is_left_out_stays_out(tmp_path):
    landmarks = np.full((68, 2), np.nan, np.float32)
    face = random_face(uv=None, classes=None, frame=7, score=math.nan, landmarks_68=landmarks)
    write_face(tmp_path / "x.face.zip", face)
    read = read_face(tmp_path / "x.face.zip")
    assert read.uv is None and read.classes is None and read.frame == 7 and math.isnan(read.score)
    assert np.isnan(read.landmarks_68).all()


def test_normals_outside_the_mask_are_not_stored(tmp_path):
    face = random_face()
    spill = np.broadcast_to(np.array([0, 0, 1], np.float32), face.normals.shape)
    write_face(tmp_path / "x.face.zip", dataclasses.replace(face, normals=spill))
    read = read_face(tmp_path / "x.face.zip")
    assert (read.normals[face.mask == 0] == 0).all() and (read.normals[face.mask > 0, 2] > 0.99).all()


def test_the_same_face_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_face(tmp_path / f"{name}.face.zip", random_face(3))
    assert (tmp_path / "a.face.zip").read_bytes() == (tmp_path / "b.face.zip").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normals": np.zeros((40, 40, 3), np.float32)}, "length 0.000"),
        ({"normals": np.zeros((40, 39, 3), np.float32)}, "normals is"),
        ({"landmarks_68": np.zeros((98, 2), np.float32)}, "landmarks_68 is"),
        ({"crop": np.array([0, 0, 0.0])}, "side 0"),
        ({"crop": np.array([0, np.nan, 5])}, "not finite"),
        ({"mask": np.full((40, 40), 255, np.float32)}, "0 … 1"),
        ({"classes": np.zeros((40, 40), np.int64)}, "uint8"),
        ({"uv": np.full((40, 40, 2), 1.5, np.float32)}, "−1 … 1"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        write_face(tmp_path / "x.face.zip", random_face(**change))
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "x.face.zip"
    write_face(path, random_face())
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:]):
        path.write_bytes(content)
        with pytest.raises(StoredFaceError, match=r"x\.face\.zip"):
            read_face(path)
    with pytest.raises(StoredFaceError, match="No such file"):
        read_face(tmp_path / "missing.face.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("face.json", json.dumps({"format": "n2f-jax/face", "format_version": 99}))
    with pytest.raises(StoredFaceError, match="99, not"):
        read_face(path)


def test_a_full_disk_leaves_the_old_face(tmp_path, monkeypatch):
    path = tmp_path / "x.face.zip"
    write_face(path, random_face(0))
    before = path.read_bytes()

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_face(path, random_face(1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_ids_spread_and_never_meet():
    ids = {face_id(f"set/{i}/photo.jpg") for i in range(2000)}
    assert len(ids) == 2000
    assert len({i[:2] for i in ids}) == 256
    assert face_id("set/a.jpg") != face_id("set/a.png") != face_id("set/A.jpg")
    assert face_id("v/clip.mp4", 3) != face_id("v/clip.mp4") and "clip-000003" in face_id("v/clip.mp4", 3)
    assert face_id("set/a.jpg", number=2) == face_id("set/a.jpg") + "_face2"
    assert "/anna-00000-" in face_id("data/anna/rgb/00000.jpg")
    assert face_id("set/../ü b*?.jpg").split("/")[-1].startswith("__b__-")
    # They decide where files lie, so they may never change: the first digits of the SHA-256 of the key.
    assert face_id("photos/astronaut.png") == "7f/1d/astronaut-7f1df4b4c8762978"


def test_faces_are_listed_alike_however_many_processes_wrote_them(tmp_path):
    keys = [f"set/{i}.jpg" for i in range(50)]

    def write(folder, shards, order):
        for shard in range(shards):
            with ManifestWriter(folder, f"{shard}-of-{shards}") as manifest:
                for key in order[shard::shards]:
                    count = int(key[4:-4]) % 3
                    faces = tuple(face_id(key, number=n + 1) for n in range(count))
                    manifest.write(Record(key, "ok" if faces else "no face", faces=faces))

    write(tmp_path / "one", 1, keys)
    write(tmp_path / "many", 4, keys[::-1])
    one, many = list_faces(tmp_path / "one"), list_faces(tmp_path / "many")
    expected = sorted(
        (face_id(key, number=n + 1) for key in keys for n in range(int(key[4:-4]) % 3)),
        key=lambda face: (face.split("-")[1][:16], face),
    )
    assert list(one) == list(many) == [one[i] for i in range(len(one))] == expected
    assert one[-1] == expected[-1] and one[3:7] == expected[3:7]
    with pytest.raises(IndexError):
        one[len(one)]
    assert face_path(tmp_path, one[0]).parent.parent.parent == tmp_path
