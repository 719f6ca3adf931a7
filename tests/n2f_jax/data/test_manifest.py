import json
import subprocess
import sys

import pytest

from n2f_jax.data.manifest import ManifestError, ManifestIndex, ManifestWriter, Record, count_statuses
from n2f_jax.data.preprocessed import list_faces


def write(folder, name, *records):
    with ManifestWriter(folder, name) as manifest:
        for record in records:
            manifest.write(record)


def test_records_come_back(tmp_path):
    record = Record(
        "set/é\udcff.jpg",
        "error",
        frame=3,
        reason="truncated",
        faces=("ab/cd/x",),
        source="/a/é.jpg",
        file=(123, 456),
        image_size=(4, 5),
        seconds=0.5,
    )
    write(tmp_path, "all", record)
    (read,) = ManifestIndex(tmp_path)
    assert read.time > 1e9
    assert read == Record(**{**record.__dict__, "time": read.time})
    assert ManifestIndex(tmp_path).find("set/é\udcff.jpg", 3) == read
    assert ManifestIndex(tmp_path).find("set/é\udcff.jpg") is None


def test_the_latest_line_counts_in_whichever_file(tmp_path):
    write(tmp_path, "b", Record("x", "error", reason="first"), Record("y", "ok", faces=("f",)))
    write(tmp_path, "a", Record("x", "no face"))
    write(tmp_path, "b", Record("x", "ok", faces=("g", "h")), Record("clip", "ok", frames=9))
    index = ManifestIndex(tmp_path)
    assert len(index) == 3 and index.find("x").faces == ("g", "h") and index.find("z") is None
    assert sorted(list_faces(tmp_path)) == ["f", "g", "h"]
    assert count_statuses(tmp_path) == {"ok": 2, "no face": 0, "error": 0, "faces": 3}


def test_an_unfinished_line_is_dropped(tmp_path):
    write(tmp_path, "all", Record("x", "ok", faces=("f",)))
    path = tmp_path / "manifest" / "all.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert len(ManifestIndex(tmp_path)) == 1  # also while the other process is still writing
    write(tmp_path, "all", Record("y", "no face"))
    assert {record.key for record in ManifestIndex(tmp_path)} == {"x", "y"}
    path.write_bytes(whole[:20])
    write(tmp_path, "all", Record("y", "no face"))
    assert [record.key for record in ManifestIndex(tmp_path)] == ["y"]


def test_damage_within_is_named(tmp_path):
    write(tmp_path, "all", Record("x", "ok"))
    path = tmp_path / "manifest" / "all.jsonl"
    path.write_bytes(b'{"nothing": 1}\n' + path.read_bytes())
    with pytest.raises(ManifestError, match=r"all\.jsonl is damaged at byte 0"):
        ManifestIndex(tmp_path)


GOOD = {"key": "set/a.png", "status": "ok", "faces": ["ab/cd/a"], "sizes": [9], "file": [1, 2], "time": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "perfect"},
        {"status": None},
        {"status": "cut off"},
        {"key": None},
        {"key": "a\0"},
        {"key": "\ud800"},
        {"faces": None},
        {"faces": ["../../etc/passwd"]},
        {"faces": ["/etc/passwd"]},
        {"faces": ["a//b"]},
        {"faces": ["a/\0"]},
        {"faces": ["x" * 300]},
        {"faces": "ab"},
        {"sizes": [1, 2]},
        {"sizes": [-1]},
        {"file": [1]},
        {"frame": -1},
        {"frame": True},
        {"frames": 1e3},
        {"image_size": [4, "5"]},
        {"time": 10**400},
        {"time": "now"},
        {"source": 3},
    ],
)
def test_values_that_no_run_writes(tmp_path, change):
    (tmp_path / "manifest").mkdir()
    path = tmp_path / "manifest" / "all.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    assert count_statuses(tmp_path)["ok"] == 1
    path.write_text(json.dumps(GOOD | change) + "\n")
    with pytest.raises(ManifestError, match=r"all\.jsonl is damaged at byte 0"):
        list(ManifestIndex(tmp_path))


def test_what_later_versions_add_is_passed_over(tmp_path):
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "all.jsonl").write_text(json.dumps(GOOD | {"mood": "good"}) + "\n")
    (record,) = ManifestIndex(tmp_path)
    assert record.faces == ("ab/cd/a",) and record.file == (1, 2)


def test_no_preprocessed_folder(tmp_path):
    with pytest.raises(ManifestError, match=r"scripts/preprocess\.py writes one"):
        list_faces(tmp_path)
    (tmp_path / "manifest").mkdir()
    assert list(list_faces(tmp_path)) == []


def test_two_processes_never_share_a_file(tmp_path):
    code = (
        "import sys; from n2f_jax.data.manifest import *\n"
        "try: ManifestWriter(sys.argv[1], 'all')\nexcept ManifestError as e: print(e)"
    )
    with ManifestWriter(tmp_path, "all"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "another process is writing" in done.stdout, done.stderr


def test_a_full_disk_is_an_error_and_the_next_run_goes_on(tmp_path):
    """/dev/full stands for it: every write there fails with ENOSPC."""
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "all.jsonl").symlink_to("/dev/full")
    with ManifestWriter(tmp_path, "all") as manifest, pytest.raises(OSError, match="No space left"):
        manifest.write(Record("x", "ok"))
