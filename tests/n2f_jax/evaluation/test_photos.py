from types import SimpleNamespace

import numpy as np
import pytest

from n2f_jax.evaluation import photos


def face(centre, size, mesh_offset=0.0):
    """A stand-in for a head: 68 front-end landmarks in a box, the mesh's moved by an offset."""
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (68, 2)) * size + centre
    u, v = centre
    points[36], points[45] = (u - size / 4, v), (u + size / 4, v)
    return SimpleNamespace(frontend_landmarks=points, landmarks_2d=points + mesh_offset)


def result(name, head, annotation):
    errors = [
        photos.normalized_mean_error(p, annotation) for p in (head.frontend_landmarks, head.landmarks_2d)
    ]
    return photos.PhotoResult(name, *errors, head, annotation)


def test_the_annotated_face_is_compared_not_the_largest():
    small, large = face((50, 50), 40), face((300, 200), 150)
    assert photos.marked_head([large, small], small.frontend_landmarks + 3) is small
    assert photos.marked_head([large], small.frontend_landmarks) is None
    assert photos.marked_head([], small.frontend_landmarks) is None


def test_summary():
    good, bad = face((100, 100), 80, mesh_offset=0.4), face((100, 100), 80, mesh_offset=4.0)
    results = [result("good", good, good.frontend_landmarks), result("bad", bad, bad.frontend_landmarks)]
    summary = photos.summarize(results)
    # Outer eye corners are 40 pixels apart.
    percent = [np.sqrt(2) * offset / 40 * 100 for offset in (0.4, 4.0)]
    assert [row["mesh_all"] for row in summary["photos"]] == pytest.approx(percent)
    assert summary["median"]["mesh_all"] == pytest.approx(np.mean(percent))
    assert summary["worst_excess"] == pytest.approx(percent[1])
    table = photos.format_table(summary)
    assert len({len(line) for line in table.splitlines()}) == 1
    assert f"{percent[1]:.1f}" in table and "median" in table


def test_a_face_that_was_not_found_counts_as_wrong():
    found = face((100, 100), 80)
    missed = photos.PhotoResult("missed", None, None, None, found.frontend_landmarks)
    summary = photos.summarize([result("found", found, found.frontend_landmarks), missed])
    assert summary["worst_excess"] == float("inf") and summary["median"]["mesh_all"] == float("inf")


def test_drawing_puts_points_on_their_pixels():
    head = face((60, 40), 30)
    drawn = photos.draw_result(
        result("a", head, head.frontend_landmarks), np.zeros((80, 120, 3), np.uint8), 300
    )
    low, high = head.frontend_landmarks.min(axis=0), head.frontend_landmarks.max(axis=0)
    side = 1.5 * (high - low).max()
    u, v = ((head.landmarks_2d[67] - ((low + high) / 2 - side / 2)) * 300 / side).astype(int)
    assert tuple(drawn[v, u]) == photos._BLUE  # the mesh is drawn last
    assert drawn[0, 0].sum() == 0
