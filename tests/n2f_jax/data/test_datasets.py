"""CelebA-HQ-like and 300W-like folders: which faces they give, and that all of a face follows the crop."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from n2f_jax.data.celeba_hq import MAPPING_FILE, PARTITION_FILE, PseudoTruthFaces
from n2f_jax.data.manifest import ManifestError
from n2f_jax.data.preprocessed import face_id, face_path, read_face
from n2f_jax.data.pseudo_truth import PseudoTruthError, truth_path, write_truth
from n2f_jax.data.pts import read_pts, write_pts
from n2f_jax.data.w300 import AnnotatedFaces, Part, photograph
from tests.n2f_jax.data.stored import random_face, write_folder
from tests.n2f_jax.data.test_pseudo_truth import IDENTITY, truth
from tests.runtime_types import unchecked


def celeba(tmp_path, count=60, truths=None):
    ids = write_folder(tmp_path, {f"CelebA-HQ-img/{i}.jpg": [random_face(i)] for i in range(count)})
    for i in range(count) if truths is None else truths:
        write_truth(truth_path(tmp_path, ids[f"CelebA-HQ-img/{i}.jpg"][0]), truth(i))
    return {i: ids[f"CelebA-HQ-img/{i}.jpg"][0] for i in range(count)}


def test_a_face_with_its_pseudo_ground_truth(tmp_path):
    ids = celeba(tmp_path, 5)
    faces = PseudoTruthFaces(tmp_path, 24, 0.9, IDENTITY, part="all")
    assert len(faces) == 5 and faces.without_truth == 0
    (position,) = [i for i in range(5) if faces.id(i) == ids[3]]
    item, expected = faces[position], truth(3)
    for name in ("shape", "expression", "jaw", "eyelids", "rotation", "translation"):
        np.testing.assert_array_equal(item[name], getattr(expected, name))
    # The camera is the pseudo ground truth's, cut like the maps.
    stored = read_face(face_path(tmp_path, ids[3]))
    box = stored.landmarks_68.max(axis=0) - stored.landmarks_68.min(axis=0)
    scale = 24 / (box.max() * 0.9)
    np.testing.assert_allclose(item["focal"], 300 * scale, rtol=1e-5)
    centre = (stored.landmarks_68.max(axis=0) + stored.landmarks_68.min(axis=0)) / 2
    np.testing.assert_allclose(item["landmarks_2d"], (stored.landmarks_68 - centre) * scale + 12, atol=1e-3)
    np.testing.assert_allclose(item["principal_point"], (0 - centre) * scale + 12, atol=1e-3)
    assert {values.dtype for values in item.values()} == {np.dtype("float32")}


def test_faces_that_nothing_was_fitted_to_are_left_out_and_counted(tmp_path):
    ids = celeba(tmp_path, 10, truths=(2, 5))
    faces = PseudoTruthFaces(tmp_path, 24, 0.9, IDENTITY, part="all")
    assert {faces.id(i) for i in range(len(faces))} == {ids[2], ids[5]} and faces.without_truth == 8


def test_parts_by_hash_are_disjoint_and_whole(tmp_path):
    celeba(tmp_path, 120)
    parts = {
        part: PseudoTruthFaces(tmp_path, 8, 1.0, IDENTITY, part) for part in ("train", "validation", "test")
    }
    ids = {part: {faces.id(i) for i in range(len(faces))} for part, faces in parts.items()}
    assert sum(len(found) for found in ids.values()) == len(set.union(*ids.values())) == 120
    assert len(ids["train"]) > 90 and len(ids["validation"]) >= 1 and len(ids["test"]) >= 1


def test_celebas_own_parts(tmp_path):
    ids = celeba(tmp_path, 4)
    files = tmp_path / "celeba"
    files.mkdir()
    rows = [f"{i:<12d}{100 + i:<12d}{100 + i:06d}.jpg" for i in range(4)]
    (files / MAPPING_FILE).write_text("idx         orig_idx    orig_file\n" + "\n".join(rows) + "\n")
    (files / PARTITION_FILE).write_text("000100.jpg 0\n000101.jpg 2\n000102.jpg 0\n000103.jpg 1\n")
    parts = {
        p: PseudoTruthFaces(tmp_path, 8, 1.0, IDENTITY, p, files) for p in ("train", "validation", "test")
    }
    found = {p: {faces.id(i) for i in range(len(faces))} for p, faces in parts.items()}
    assert found == {"train": {ids[0], ids[2]}, "validation": {ids[3]}, "test": {ids[1]}}
    for key, name in (("data/2/rgb/00000.jpg", "2"), ("data/img/rgb/00001.jpg", None)):  # Pixel3DMM's folders
        face = random_face(9)
        (written,) = write_folder(tmp_path / "p3dmm", {key: [face]})[key]
        write_truth(truth_path(tmp_path / "p3dmm", written), truth(9))
        if name is None:
            with pytest.raises(ValueError, match="not called by a number"):
                PseudoTruthFaces(tmp_path / "p3dmm", 8, 1.0, IDENTITY, "train", files)
        else:
            assert len(PseudoTruthFaces(tmp_path / "p3dmm", 8, 1.0, IDENTITY, "train", files)) == 1
    (files / PARTITION_FILE).write_text("000100.jpg 0\n000101.jpg 7\n")
    with pytest.raises(ValueError, match=r"partition\.txt, line 2: a partition is 0, 1 or 2"):
        PseudoTruthFaces(tmp_path, 8, 1.0, IDENTITY, "train", files)
    (files / PARTITION_FILE).write_text("000100.jpg 0\n")
    with pytest.raises(ValueError, match=r"mapping\.txt, line 3: 000101\.jpg"):
        PseudoTruthFaces(tmp_path, 8, 1.0, IDENTITY, "train", files)


def test_another_head_model_is_refused_at_once(tmp_path):
    celeba(tmp_path, 3)
    other = dataclasses.replace(IDENTITY, name="flame", sha256={"faces": "11"})
    with pytest.raises(PseudoTruthError, match=r"'small', not 'flame': .*faces"):
        PseudoTruthFaces(tmp_path, 8, 1.0, other, part="all")
    for path in tmp_path.rglob("*.truth.npz"):
        path.unlink()
    with pytest.raises(PseudoTruthError, match=r"none of the 3 faces.*scripts/fit\.py"):
        PseudoTruthFaces(tmp_path, 8, 1.0, IDENTITY, part="all")
    with pytest.raises(ManifestError, match=r"scripts/preprocess\.py"):
        PseudoTruthFaces(tmp_path / "celeba", 8, 1.0, IDENTITY)


def annotated(tmp_path, keys=("afw/1.jpg",), faces=lambda i: [random_face(i)]):
    """A preprocessed folder, and .pts files that mark the last of each image's faces, off by a little."""
    write_folder(tmp_path / "faces", {f"300W/{key}": faces(i) for i, key in enumerate(keys)})
    marked = {}
    for i, key in enumerate(keys):
        face = faces(i)[-1]
        original = face.landmarks_68 / face.size * face.crop[2] + face.crop[:2]
        marked[key] = original + np.random.default_rng(i).normal(0, 3, (68, 2))
        path = (tmp_path / "300W" / key).with_suffix(".pts")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pts(path, marked[key])
    return marked


def test_annotated_landmarks_and_their_box(tmp_path):
    marked = annotated(tmp_path)
    faces = AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 32, 1.1, part="all", progress=False)
    item, face = faces[0], random_face(0)
    low, high = marked["afw/1.jpg"].min(axis=0), marked["afw/1.jpg"].max(axis=0)
    side = (high - low).max() * 1.1
    expected = (marked["afw/1.jpg"] - (low + high) / 2) * 32 / side + 16
    np.testing.assert_allclose(item["landmarks_2d"], expected, atol=1e-3)
    # The camera of the original image, cut to the same square.
    k = face.intrinsics * face.crop[2] / face.size
    np.testing.assert_allclose(item["focal"], k[0, 0] * 32 / side, rtol=1e-4)
    centre = k[:2, 2] + face.crop[:2]
    np.testing.assert_allclose(
        item["principal_point"], (centre - (low + high) / 2) * 32 / side + 16, atol=1e-2
    )
    # The normal at a mark is what the stored map has there.
    inside = np.argwhere(item["mask"] > 0)[::7]
    where = (
        ((inside[:, ::-1] + 0.5) * side / 32 + (low + high) / 2 - side / 2 - face.crop[:2])
        * 40
        / face.crop[2]
    )
    pixels = np.clip(np.round(where - 0.5).astype(int), 0, 39)
    chord = item["normals"][inside[:, 0], inside[:, 1]] - face.normals[pixels[:, 1], pixels[:, 0]]
    assert np.median(np.linalg.norm(chord, axis=-1)) < 0.05


def test_the_annotated_face_among_several(tmp_path):
    far = dataclasses.replace(random_face(50), crop=np.array([900.0, 500.0, 200.0]))
    annotated(tmp_path, ("afw/1.jpg", "ibug/2.jpg"), lambda i: [far, random_face(i)])
    faces = AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 16, 1.2, part="all", progress=False)
    assert len(faces) == 2 and all(faces.id(i).endswith("_face2") for i in range(2))


def test_parts_of_300w(tmp_path):
    keys = ["afw/1.jpg", "helen/trainset/2.jpg", "helen/testset/3.jpg", "lfpw/testset/4.png", "IBUG/5.jpg",
            "300W/01_Indoor/6.png", "mine/7.jpg", "mine/8.jpg", "mine/9.jpg"]  # fmt: skip
    annotated(tmp_path, keys)
    sizes = {
        part: len(AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 8, 1.2, part, progress=False))
        for part in get_args(Part)
    }
    assert sizes == {
        "train": 1, "validation": 1, "common": 2, "challenging": 1, "private": 1, "own-train": 2, "own-validation": 1,
        "all": 9,
    }  # fmt: skip
    with unchecked(), pytest.raises(ValueError, match="no part 'test'"):
        AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 8, 1.2, "test")


def test_what_is_held_out_of_training_is_none_of_the_tests(tmp_path):
    """Two disjoint parts of the training folders, whole photographs each, by name alone; no test file is opened."""
    numbers = [f"{1000 + i}_{face}" for i in range(30) for face in (1, 2)]
    keys = [f"afw/{number}.jpg" for number in numbers]
    keys += [f"lfpw/trainset/image_{i:04d}.png" for i in range(15)]
    tests = [
        "helen/testset/1.jpg",
        "lfpw/testset/image_0001.png",
        "ibug/image_003_1.jpg",
        "01_Indoor/a_1.png",
    ]
    annotated(tmp_path, keys + tests)
    for key in tests:  # whoever opens one fails
        (tmp_path / "300W" / key).with_suffix(".pts").unlink()
        (tmp_path / "300W" / key).with_suffix(".pts").mkdir()
        face_path(tmp_path / "faces", face_id(f"300W/{key}")).unlink()

    def read(part):
        faces = AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 8, 1.2, part, progress=False)
        assert not faces.left_out and all(np.isfinite(face["normals"]).all() for face in faces)
        return {faces.id(i) for i in range(len(faces))}

    train, validation = read("train"), read("validation")
    ids = {face_id(f"300W/{key}"): photograph(key) for key in keys}
    assert train | validation == set(ids) and not train & validation
    # 45 photographs: three are held out, with all their faces.
    assert len({ids[name] for name in validation}) == 3
    assert not {ids[name] for name in train} & {ids[name] for name in validation}
    with pytest.raises(ValueError, match=r"no face of part 'own-train'.*it holds none"):
        read("own-train")


def test_what_cannot_be_used_is_counted(tmp_path):
    keys = [f"afw/{i}.jpg" for i in range(7)]
    annotated(tmp_path, keys)
    files = [(tmp_path / "300W" / key).with_suffix(".pts") for key in keys]
    files[0].unlink()
    files[1].write_text("nothing")
    write_pts(files[2], read_pts(files[2])[:51])
    write_pts(files[3], np.where(np.arange(68)[:, None] == 5, np.nan, read_pts(files[3])))
    write_pts(files[4], read_pts(files[4]) + 1000)
    faces = AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 8, 1.2, "all", progress=False)
    assert len(faces) == 2
    assert dict(faces.left_out) == {
        "no .pts": 1, "damaged .pts": 1, "not 68 points": 1, "unmarked points": 1, "another face": 1
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"no face of part 'common'.*it holds none"):
        AnnotatedFaces(tmp_path / "faces", tmp_path / "300W", 8, 1.2, "common", progress=False)


def test_pts_files_are_menpos(tmp_path):
    """By menpo's own description: the first pixel's centre is (1, 1)."""
    write_pts(tmp_path / "a.pts", np.array([[0.5, 0.5], [10.25, 3.0]]))
    text = (tmp_path / "a.pts").read_text()
    assert text.split() == ["version:", "1", "n_points:", "2", "{", "1.000", "1.000", "10.750", "3.500", "}"]
    np.testing.assert_allclose(read_pts(tmp_path / "a.pts"), [[0.5, 0.5], [10.25, 3.0]])
    (tmp_path / "b.pts").write_bytes(
        b"\xef\xbb\xbfversion: 1\r\nn_points: 2\r\n{\r\n1 1 0\r\n2.5 nan\r\n}\r\n"
    )
    np.testing.assert_allclose(read_pts(tmp_path / "b.pts"), [[0.5, 0.5], [2.0, np.nan]])
