"""Tables of ARKit's weights, and ``n2f convert arkit`` both ways."""

import csv

import numpy as np
import pytest

from n2f_jax.cli.main import main
from n2f_jax.fitting.arkit import UNITS
from n2f_jax.reconstruction import arkit_files
from n2f_jax.reconstruction.arkit_files import EXPRESSION_KEYS, ArkitTableError, read_weights, write_weights
from n2f_jax.reconstruction.head_file import KEYS, save_parameters

pytestmark = pytest.mark.medium

SIZES = {"V": 3, "F": 1, "S": 300, "E": 100, "P": 0, "I": 0}


def save_head(path, **values):
    """A head file in which nothing but the expression matters."""
    made = {
        key: np.zeros([SIZES.get(n, n) for n in shape], np.float32) if shape else f"no {key}"
        for key, (shape, _) in KEYS.items()
    }
    save_parameters(path, made | values)


def test_heads_to_a_table_and_back(tmp_path, capsys):
    table, expressions, again = tmp_path / "in.csv", tmp_path / "faces.npz", tmp_path / "again.csv"
    table.write_text(
        "Timecode,BlendshapeCount,JawOpen,MouthSmileLeft,MouthSmileRight,EyeLookOutLeft\n"
        "00:00:01,61,0.4,0,0,0\n00:00:02,61,0,0.6,0.6,0.5\n"
    )
    assert main(["convert", "arkit", str(table), "--out", str(expressions)]) == 0
    with np.load(expressions, allow_pickle=False) as stored:
        made = dict(stored)
    assert set(made) == set(EXPRESSION_KEYS)
    assert list(made["names"]) == ["00:00:01", "00:00:02"]
    assert made["jaw_pose"][0, 0] > 0.05 and abs(made["jaw_pose"][1]).max() < 0.05
    assert made["eyes_pose"][1, 0, 1] == pytest.approx(np.radians(15.0), abs=1e-3)
    heads = []
    for i in range(2):
        heads.append(str(tmp_path / f"head{i}.npz"))
        of_head = ("expression", "jaw_pose", "eyelids", "eyes_pose")
        save_head(heads[-1], **{key: made[key][i] for key in of_head})
    assert main(["convert", "arkit", *heads, "--out", str(again)]) == 0
    assert "2 rows" in capsys.readouterr().out
    rows = list(csv.DictReader(again.open()))
    assert [row["name"] for row in rows] == ["head0", "head1"]
    assert set(rows[0]) == {"name", *UNITS, "tongueOut", "left_mm"}
    assert float(rows[0]["jawOpen"]) == pytest.approx(0.4, abs=0.05)
    assert float(rows[1]["mouthSmileLeft"]) == pytest.approx(0.6, abs=0.08)
    assert float(rows[1]["eyeLookOutLeft"]) == pytest.approx(0.5, abs=1e-3)
    assert main(["convert", "arkit", *heads, "--live-link", "--out", str(again)]) == 0
    of_app = list(csv.DictReader(again.open()))
    assert len(of_app) == 2 and len(of_app[0]) == 63
    for row, same in zip(of_app, rows, strict=True):
        for name in ("jawOpen", "mouthSmileLeft", "eyeLookOutLeft"):
            assert float(row[name[0].upper() + name[1:]]) == pytest.approx(float(same[name]), abs=1e-4)


def test_a_table_comes_back(tmp_path):
    weights = np.random.default_rng(0).uniform(size=(3, len(UNITS)))
    write_weights(tmp_path / "w.csv", ["a", "b, c", "d"], weights, np.zeros(3))
    names, back = read_weights(tmp_path / "w.csv")
    assert names == ["a", "b, c", "d"]
    np.testing.assert_allclose(back, weights, atol=5e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("name,nose\na,1\n", "no column has a name of ARKit's"),
        ("name,jawOpen,jawLeft\na,0.5\n", "line 2: a weight is missing"),
        ("name,jawOpen\na,0.5\nb,wide\n", "line 3: a weight is missing or no number"),
        ("name,jawOpen\na,0.5\nb,nan\n", "line 3: weights lie within"),
        ("name,jawOpen\na,7\n", "line 2: weights lie within"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, message):
    path = tmp_path / "w.csv"
    path.write_text(text)
    with pytest.raises(ArkitTableError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)


def test_what_the_command_does_not_take(tmp_path, capsys):
    table = tmp_path / "w.csv"
    table.write_text("jawOpen\n0.5\n")
    for arguments, message in (
        ([table, "--out", tmp_path / "x.csv"], "a .npz file is written"),
        ([table, table, "--out", tmp_path / "x.npz"], "one table at a time"),
        ([tmp_path / "none.npz", "--out", tmp_path / "x.csv"], "none.npz"),
    ):
        assert main(["convert", "arkit", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    save_head(tmp_path / "other.npz", expression=np.zeros(50, np.float32), head_model="other")
    assert main(["convert", "arkit", str(tmp_path / "other.npz"), "--out", str(tmp_path / "x.csv")]) == 2
    assert "--head-model" in capsys.readouterr().err
    assert arkit_files.TONGUE not in UNITS
