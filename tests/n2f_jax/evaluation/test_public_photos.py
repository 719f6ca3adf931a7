import json

import numpy as np
import pytest

from n2f_jax.evaluation import public_photos
from n2f_jax.evaluation.public_photos import (
    MissingPhotoError,
    PhotoListError,
    photo_files,
    read_dlib_landmarks,
    read_photo_list,
    read_photo_lists,
)

COMMIT = "0123456789abcdef" * 2 + "01234567"


def write_list(path, photographs, **changes):
    content = {"repository": "someone/pictures", "commit": COMMIT, "photographs": photographs} | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def test_list(tmp_path):
    path = write_list(
        tmp_path / "a.json",
        [
            {"path": "a/b.jpg"},
            {
                "path": "c.png",
                "split": "choosing",
                "person": "x",
                "faces": 2,
                "boxes": [[1, 2, 3, 4], [5, 6, 7.5, 8]],
                "unclear": [[0, 0, 9, 9]],
                "tags": ["glasses"],
            },
            {"path": "d.png", "faces": 0, "boxes": []},
        ],
        about="made up",
    )
    plain, full, empty = read_photo_list(path)
    assert (plain.name, plain.commit) == ("someone/pictures/a/b.jpg", COMMIT)
    assert plain.split is plain.person is plain.faces is plain.boxes is None
    assert plain.unclear.shape == (0, 4) and plain.tags == ()
    assert (full.split, full.person, full.faces, full.tags) == ("choosing", "x", 2, ("glasses",))
    np.testing.assert_array_equal(full.boxes, [[1, 2, 3, 4], [5, 6, 7.5, 8]])
    np.testing.assert_array_equal(full.unclear, [[0, 0, 9, 9]])
    assert empty.faces == 0 and empty.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("photographs", "changes", "message"),
    [
        ([{"path": "a.jpg", "splitt": "choosing"}], {}, "a.jpg: unknown key splitt"),
        (
            [{"path": "a.jpg", "split": "testing"}],
            {},
            "a.jpg: split 'testing' is none of choosing, reporting",
        ),
        ([{"path": "a.jpg", "faces": 2, "boxes": [[1, 2, 3, 4]]}], {}, "a.jpg: 1 boxes of 2 faces"),
        ([{"path": "a.jpg", "boxes": [[3, 2, 1, 4]]}], {}, "u1 > u0"),
        ([{"path": "a.jpg", "boxes": [[1, 2, 3]]}], {}, "a.jpg: "),
        ([{"path": "../a.jpg"}], {}, "leaves the repository"),
        ([{"split": "choosing"}], {}, "no path"),
        (["a.jpg"], {}, "a photograph is an object"),
        ([{"path": "a.jpg"}, {"path": "a.jpg"}], {}, "listed twice: a.jpg"),
        ([], {"commit": "main"}, "commit 'main' is not 40 hex digits"),
        ([], {"repository": "pictures"}, "repository 'pictures' is not owner/name"),
        ([], {"commit": None}, "no commit"),
        ([], {"comment": "x"}, "unknown key comment"),
    ],
)
def test_lists_that_cannot_be(tmp_path, photographs, changes, message):
    path = write_list(tmp_path / "a.json", photographs, **changes)
    with pytest.raises(PhotoListError) as caught:
        read_photo_list(path)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)


def test_not_json_and_no_list(tmp_path):
    with pytest.raises(PhotoListError, match="no list"):
        read_photo_lists(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(PhotoListError, match=r"a\.json: not JSON"):
        read_photo_lists(tmp_path)


def test_files_and_how_to_fetch_what_is_missing(tmp_path):
    write_list(tmp_path / "b.json", [{"path": "a/1.jpg"}, {"path": "a/2.jpg"}])
    write_list(tmp_path / "a.json", [{"path": "3.jpg"}], repository="other/faces", commit="f" * 40)
    photos = read_photo_lists(tmp_path)
    assert [photo.path for photo in photos] == ["3.jpg", "a/1.jpg", "a/2.jpg"]
    root = tmp_path / "root"
    for name in ("other/faces/3.jpg", "someone/pictures/a/1.jpg"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    with pytest.raises(MissingPhotoError) as caught:
        photo_files(photos, root)
    folder = root / "someone/pictures"
    assert str(caught.value).splitlines() == [
        f"{folder}/a/2.jpg is not there",
        "these commands bring them:",
        f"  git clone https://github.com/someone/pictures {folder} && git -C {folder} checkout {COMMIT}",
    ]
    (folder / "a/2.jpg").touch()
    assert photo_files(photos, root)[2] == folder / "a/2.jpg"


def dlib_xml(path, boxes):
    body = "".join(f"<image file='a.jpg' width='9' height='9'>{box}</image>" for box in boxes)
    path.write_text(f"<?xml version='1.0' encoding='ISO-8859-1'?><dataset><images>{body}</images></dataset>")
    return path


def box_xml(names=range(68), attributes=""):
    parts = "".join(f"<part name='{name:02d}' x='{100 + name}' y='{2 * name}'/>" for name in names)
    return f"<box top='10' left='20' width='30' height='40' {attributes}>{parts}</box>"


def test_dlib_landmarks(tmp_path):
    """Half a pixel more than dlib counts; parts by their names, whatever their order."""
    boxes = [box_xml(reversed(range(68))) + box_xml([]) + box_xml(attributes="ignore='1'")]
    images = read_dlib_landmarks(dlib_xml(tmp_path / "a.xml", boxes))
    (face,) = images["a.jpg"]
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32
    np.testing.assert_array_equal(face.points[[0, 67]], [[100.5, 0.5], [167.5, 134.5]])
    np.testing.assert_array_equal(face.box, [20, 10, 50, 50])


@pytest.mark.parametrize("names", [range(67), [*range(67), 66], range(1, 69), [*range(68), 67]])
def test_dlib_landmarks_that_are_not_68(tmp_path, names):
    path = dlib_xml(tmp_path / "a.xml", [box_xml(names)])
    with pytest.raises(PhotoListError, match=r"a\.jpg, box 0: \d+ parts"):
        read_dlib_landmarks(path)


def test_dlib_file_that_is_not_xml(tmp_path):
    (tmp_path / "a.xml").write_text("<dataset>")
    with pytest.raises(PhotoListError, match="not XML"):
        read_dlib_landmarks(tmp_path / "a.xml")


def test_the_lists_of_the_repository():
    """They read, both halves are there, no person is in both, and every photograph has its faces counted."""
    import face_finding

    photos = read_photo_lists(face_finding.LISTS)
    halves = {split: [p for p in photos if p.split == split] for split in public_photos.SPLITS}
    assert sum(map(len, halves.values())) == len(photos)
    persons = [{(p.repository, p.person) for p in half if p.person} for half in halves.values()]
    assert not persons[0] & persons[1]
    for half in halves.values():
        assert sum(photo.faces for photo in half) >= 100
    assert all(photo.boxes is not None and len(photo.boxes) == photo.faces for photo in photos)
