import json

import numpy as np
import pytest

from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks


def points(n=68):
    return np.random.default_rng(0).uniform(10, 90, (n, 2))


def test_pts_count_from_one(tmp_path):
    lines = "\n".join(f"{u + 0.5} {v + 0.5}" for u, v in points())
    path = tmp_path / "a.pts"
    path.write_text("version: 1\nn_points:  68\n{\n" + lines + "\n}\n")
    np.testing.assert_allclose(read_landmarks(path), points(), atol=1e-9)


def test_ljson_is_row_first_and_counts_pixel_centres_from_zero(tmp_path):
    stored = [[v - 0.5, u - 0.5] for u, v in points()]
    path = tmp_path / "a.ljson"
    path.write_text(json.dumps({"groups": {"LJSON": {"landmarks": {"points": stored}}}, "version": 3}))
    np.testing.assert_allclose(read_landmarks(path), points(), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.pts", "version: 1\nn_points: 3\n{\n1 2\n3 4\n}"),
        ("a.pts", "version: 1\nn_points: 2\n{\n1 2\n3 4\n"),
        ("a.pts", "version: 1\nn_points: 2\n{\n1 2\n3 x\n}"),
        ("a.ljson", "{}"),
        ("a.txt", "1 2"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        read_landmarks(tmp_path / name)


def test_error_is_relative_to_the_outer_eye_corners():
    annotated = points()
    annotated[36], annotated[45] = (20.0, 50.0), (60.0, 50.0)
    moved = annotated + np.array([2.0, 0.0])
    moved[:17] += [2.0, 0.0]
    errors = normalized_mean_error(moved, annotated)
    assert errors["inner"] == pytest.approx(2 / 40 * 100)
    assert errors["all"] == pytest.approx((51 * 2 + 17 * 4) / 68 / 40 * 100)
    with pytest.raises(ValueError, match="68"):
        normalized_mean_error(annotated[:51], annotated[:51])
