"""The layout of Live Link Face's tables, and what angles mean."""

import csv

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.fitting.arkit import eyes_of_weights
from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.reconstruction.arkit_files import read_weights
from n2f_jax.reconstruction.live_link_face import COLUMNS, VALUES, face_values, timecode, write_table

# The header of a recording of the app.
HEADER = next(
    csv.reader(
        [
            "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,"
            "EyeSquintLeft,EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,"
            "EyeSquintRight,EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,"
            "MouthRight,MouthLeft,MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,"
            "MouthDimpleRight,MouthStretchLeft,MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,"
            "MouthShrugUpper,MouthPressLeft,MouthPressRight,MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,"
            "MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,"
            "CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,HeadYaw,HeadPitch,HeadRoll,"
            "LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
        ]
    )
)


def faces(weights=None, turn=None, eyes=None):
    """Values of one face; ``turn`` in axes to the subject's left, up and out of the face."""
    weights = np.zeros((1, 51)) if weights is None else weights
    turn = np.eye(3) if turn is None else turn
    return face_values(weights, (FRONTAL @ turn)[None], np.zeros((1, 2, 3)) if eyes is None else eyes)


def named(values, name):
    return float(values[0, VALUES.index(name)])


def test_a_table_has_the_apps_columns_and_comes_back(tmp_path):
    assert ("Timecode", "BlendShapeCount", *COLUMNS) == tuple(HEADER)
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=(4, 51))
    eyes = rng.normal(size=(4, 2, 3)) * 0.1
    values = face_values(weights, np.tile(FRONTAL, (4, 1, 1)), eyes)
    values[2] = np.nan  # nobody
    write_table(tmp_path / "blendshapes.csv", [0.0, 1 / 30, 2 / 30, 3723.5], values)
    rows = list(csv.reader((tmp_path / "blendshapes.csv").read_text().splitlines()))
    assert rows[0] == HEADER and all(len(row) == 63 and row[1] == "61" for row in rows[1:])
    assert [row[0] for row in rows[1:]] == ["00:00:00:00.000", "00:00:00:02.000", "01:02:03:30.000"]
    # JawLeft of ours is JawLeft of theirs, wherever it stands.
    assert float(rows[1][HEADER.index("JawLeft")]) == pytest.approx(weights[0, UNITS.index("jawLeft")])
    names, again = read_weights(tmp_path / "blendshapes.csv")
    assert names[0] == "00:00:00:00.000"
    np.testing.assert_allclose(again, weights[[0, 1, 3]], atol=1e-9)


def test_the_apps_own_rows_without_a_face_are_passed_over(tmp_path):
    row = "12:00:00:0{}.000,61," + ",".join(["0.25"] * 52 + ["-0.1"] * 9)
    path = tmp_path / "app.csv"
    path.write_text("\n".join([",".join(HEADER), row.format(1), "12:00:00:02.000,0", row.format(3)]) + "\n")
    names, weights = read_weights(path)
    assert names == ["12:00:00:01.000", "12:00:00:03.000"] and (weights == 0.25).all()


def test_head_angles_have_the_apps_signs():
    turn = lambda axis, degrees: Rotation.from_rotvec(np.radians(degrees) * np.eye(3)[axis]).as_matrix()  # noqa: E731
    # +20° about the axis up turns the face to the subject's left, about the axis to the left downwards, about the
    # one out of the face the top of the head to the subject's right.
    assert turn(1, 20)[0, 2] > 0 and turn(0, 20)[1, 2] < 0 and turn(2, 20)[0, 1] < 0
    for axis, name in ((1, "HeadYaw"), (0, "HeadPitch"), (2, "HeadRoll")):
        values = faces(turn=turn(axis, 20))
        others = {"HeadYaw", "HeadPitch", "HeadRoll"} - {name}
        sign = 1.0 if name == "HeadPitch" else -1.0
        assert named(values, name) == pytest.approx(sign * np.radians(20))
        assert all(named(values, other) == pytest.approx(0.0, abs=1e-9) for other in others)
    whole = turn(1, -30) @ turn(0, 15) @ turn(2, -10)
    np.testing.assert_allclose(faces(turn=whole)[0, 52:55], np.radians([30, 15, 10]), atol=1e-9)


def test_eye_angles_go_with_the_look_weights_as_in_the_apps_recordings():
    # There the left eye's yaw falls and the right eye's rises as each looks out, and pitch falls as it looks up.
    for name, column, sign in (
        ("eyeLookOutLeft", "LeftEyeYaw", -1),
        ("eyeLookInLeft", "LeftEyeYaw", 1),
        ("eyeLookOutRight", "RightEyeYaw", 1),
        ("eyeLookUpLeft", "LeftEyePitch", -1),
        ("eyeLookDownRight", "RightEyePitch", 1),
    ):
        weights = np.zeros((1, 51))
        weights[0, UNITS.index(name)] = 0.5
        assert sign * named(faces(weights, eyes=eyes_of_weights(weights)), column) > 0.2


def test_moments():
    assert timecode(0.0) == "00:00:00:00.000" and timecode(59.9999999) == "00:01:00:00.000"
    assert timecode(86399.5) == "23:59:59:30.000" and timecode(1.01) == "00:00:01:00.600"
