import sys

import face_finding
import numpy as np
import pytest


def test_a_face_is_cut_out_at_its_size():
    image = np.zeros((400, 600, 3), np.uint8)
    image[100:180, 300:360] = 255
    neighbour = np.array([[420.0, 100.0, 480.0, 180.0]])
    face = face_finding.Face(0, np.array([300.0, 100.0, 360.0, 180.0]), neighbour)
    part, box, others = face_finding.cut_out(image, face, 40, 1.0)
    assert (box[2:] - box[:2]).max() == pytest.approx(40, abs=0.5)
    (v, u) = np.nonzero(part[..., 0] > 127)
    found = [u.min(), v.min(), u.max() + 1, v.max() + 1]
    np.testing.assert_allclose(found, box, atol=1)
    assert part.shape[0] == 80 and len(others) == 0  # it ends before the neighbour
    _, _, others = face_finding.cut_out(image, face, 40, 4.0)
    assert len(others) == 0
    near = face_finding.Face(0, face.box, neighbour - [50, 0, 50, 0])
    _, box, others = face_finding.cut_out(image, near, 40, 4.0)
    np.testing.assert_allclose(others[0] - box, [35, 0, 35, 0], atol=0.5)


def test_the_least_used_faces_are_chosen():
    sizes = [200.0] * 30 + [50.0] * 30
    faces = [face_finding.Face(i, np.array([0, 0, s, s]), np.zeros((0, 4))) for i, s in enumerate(sizes)]
    chosen = face_finding.choose_faces(faces)
    assert {len(group) for group in chosen.values()} == {face_finding.FACES_OF_A_SIZE}
    assert all(face.size >= size for size, group in chosen.items() for face in group)
    assert {face.photo for group in chosen.values() for face in group} >= {*range(30), *range(30, 54)}


def test_counts():
    faces, unclear = np.array([[0, 0, 40, 40], [100, 0, 160, 60.0]]), np.array([[300, 0, 400, 100.0]])
    canvas = face_finding.Canvas("a", np.zeros((100, 400, 3), np.uint8), faces, np.array([40, 60]), unclear)
    found = np.array([[2, 0, 42, 40], [0, 5, 40, 45], [200, 0, 240, 40], [320, 20, 360, 60.0]])
    counts = face_finding.Counts()
    counts.add(canvas, found, 0.01)
    assert counts.found == {40: 1, 60: 0} and counts.asked == {40: 1, 60: 1} and counts.twice == 1
    assert counts.ghosts == [("a", [200.0, 0.0, 240.0, 40.0])]
    assert counts.missed == [("a", [100.0, 0.0, 160.0, 60.0])]
    table = face_finding.format_table("title", {"this": counts})
    assert [len(line) for line in table.splitlines()] == [len(table.splitlines()[0])] * 2
    assert table.splitlines()[1].split() == ["this", "1/1", "0/1", "1", "1", "10"]


def test_missing_photographs_say_how_to_fetch_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["face_finding.py", "--photos", str(tmp_path)])
    assert face_finding.main() == 2
    assert "git clone https://github.com/serengil/deepface" in capsys.readouterr().err
