"""What runs leave for later runs, damaged at random: a reader gives its own error, or something that can be used.

``FUZZ_EXAMPLES=1000`` (``make fuzz``) looks longer, at other cases each time.
"""

import copy
import dataclasses
import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from n2f_jax.data.manifest import CUT_OFF, STATUSES, ManifestError, ManifestIndex, Record, count_statuses
from n2f_jax.data.preprocessed import StoredFaceError, face_path, list_faces, read_face, write_face
from n2f_jax.data.pseudo_truth import PseudoTruthError, read_truth, write_truth
from n2f_jax.preprocessing.settings import FILE, Settings, SettingsError, settle
from n2f_jax.reconstruction.head_file import KEYS, load_parameters, save_parameters
from n2f_jax.reconstruction.summary import Entry, Summary
from n2f_jax.reconstruction.summary_file import SummaryError, read_entries
from tests.n2f_jax.data.stored import random_face
from tests.n2f_jax.data.test_pseudo_truth import truth

pytestmark = pytest.mark.medium

FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "20")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # else the same cases at every run
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Values that a field of JSON may be found with.
VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, "", "..", "../x", "/x", "a/b", "a\0b", "\ud800", "\udcff", "x" * 300, [], {}]
    ),
    st.sampled_from(
        [0, -1, 1e308, 10**400, float("nan"), float("inf"), [[]], [None], {"npz": None}, {"": ""}]
    ),
    st.sampled_from([*STATUSES, CUT_OFF, "done", "failed", "not reached"]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)


def places(content, before=()):
    """Every place in a value of JSON, as its keys."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield (*before, key)
        yield from places(value, (*before, key))


@st.composite
def changed_json(draw, content):
    """A copy with one to three values changed or taken away."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        if not (there := list(places(content))):
            break
        *before, last = draw(st.sampled_from(there))
        holder = content
        for key in before:
            holder = holder[key]
        if draw(st.integers(0, 4)) == 0:
            del holder[last]
        else:
            holder[last] = draw(VALUES)
    return content


@st.composite
def changed_bytes(draw, content):
    """Cut short, with bytes changed, or a piece left out or repeated."""
    content = bytearray(content)
    position = st.integers(0, len(content) - 1)
    for _ in range(draw(st.integers(1, 4))):
        start = min(draw(position), len(content))
        kind = draw(st.sampled_from(["cut", "change", "leave out", "repeat"]))
        if kind == "cut":
            del content[start:]
        elif kind == "change":
            content[start : start + 1] = draw(st.binary(min_size=1, max_size=3))
        elif kind == "leave out":
            del content[start : start + draw(st.integers(1, 40))]
        else:
            content[start:start] = content[start : start + draw(st.integers(1, 40))]
    return bytes(content)


@st.composite
def changed_archive(draw, content):
    """A zip archive in which one member was changed, and its checksum with it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    if draw(st.integers(0, 9)) == 0:
        del members[name]
    elif name.endswith(".json"):
        members[name] = text_of(draw(changed_json(json.loads(members[name]))))
    else:
        members[name] = draw(changed_bytes(members[name]))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return stream.getvalue()


def text_of(content):
    return json.dumps(content).encode()


def face(name):
    figures = {"score": 0.9, "confidence": None, "region_confidence": {"nose": 0.5}, "crop": [0.0, 1.0, 2.0]}
    figures |= {"focal": 9.0, "focal_source": "exif", "alignment": "network", "distance_metres": 1.0}
    figures |= {"pitch_yaw_roll_degrees": [1.0, None, 2.0], "landmark_gap_percent": 1.0}
    return {"files": {"npz": f"{name}.npz", "obj": f"{name}.obj"}} | figures


def entry(name, **values):
    return dataclasses.asdict(Entry(f"/photos/{name}.png", name, **values))


SUMMARY = {
    "photos": [
        entry(
            "a",
            status="done",
            faces=[face("a")],
            sizes={"a.npz": 1},
            image_size=[4, 5],
            overlay="a_overlay.jpg",
        ),
        entry("b", status="no face"),
        entry("c"),
    ],
    "earlier": [entry("d", status="doubtful", faces=[face("d"), face("d_face2")])],
}

RECORDS = [
    Record(
        "set/a.png",
        "ok",
        faces=("ab/cd/a",),
        sizes=(9,),
        file=(1, 2),
        image_size=(4, 5),
        source="/a.png",
        time=1.0,
    ),
    Record("set/b.mp4", "ok", frame=3, faces=("ab/cd/b",), time=2.0, seconds=0.5),
    Record("set/b.mp4", "cut off", frames=4, reason="it says 9 frames", time=3.0),
    Record("set/c.png", "error", reason="truncated", time=4.0),
]


def check_summary(path, content):
    path.write_bytes(content)
    try:
        entries = read_entries(path)
    except SummaryError as error:
        assert str(path) in str(error)
        return
    found = list(entries.values())
    for photo in found:
        for name in (photo.name, *photo.files()):
            assert (path.parent / name).parent == path.parent and name not in ("", ".", "..")
    summary = Summary(found, {})
    summary.table().encode("utf-8")
    json.loads(summary.to_json())
    for photo in found:  # as a resumed run does
        for name in photo.files():
            (path.parent / name).exists()


@FUZZ
@given(content=changed_json(SUMMARY).map(text_of) | changed_bytes(text_of(SUMMARY)))
def test_summaries(tmp_path, content):
    check_summary(tmp_path / "summary.json", content)


def check_manifest(folder, content):
    (folder / "manifest").mkdir(exist_ok=True)
    (folder / "manifest" / "all.jsonl").write_bytes(content)
    try:
        index = ManifestIndex(folder)
    except ManifestError as error:
        assert "all.jsonl" in str(error)
        return
    for record in index:
        assert index.find(record.key, record.frame) == record
        for name in record.faces:
            assert face_path(folder, name).resolve().is_relative_to(folder)
    assert sum(count_statuses(folder).values()) >= 0
    assert len(list(list_faces(folder))) == len(list_faces(folder))


LINES = [json.loads(record.to_line()) for record in RECORDS]


@FUZZ
@given(
    content=changed_json(LINES).map(lambda lines: b"".join(text_of(line) + b"\n" for line in lines))
    | changed_bytes(b"".join(record.to_line() for record in RECORDS))
)
def test_manifests(tmp_path, content):
    check_manifest(tmp_path, content)


@FUZZ
@given(
    content=changed_json({"root": Settings().description()}).map(lambda content: text_of(content.get("root")))
    | changed_bytes(text_of(Settings().description()))
)
def test_settings(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    try:
        settle(tmp_path, Settings())
    except SettingsError as error:
        assert str(tmp_path) in str(error)


READERS = {
    "a.face.zip": (read_face, StoredFaceError),
    "a.truth.npz": (read_truth, PseudoTruthError),
    "head.npz": (load_parameters, ValueError),
}


def write_archives(folder):
    """One of each archive that is read again."""
    write_face(folder / "a.face.zip", random_face(size=16))
    write_truth(folder / "a.truth.npz", truth())
    sizes = {"V": 4, "F": 3, "S": 3, "E": 2, "P": 0, "I": 0}
    values = {key: np.zeros([sizes.get(n, n) for n in shape], np.float32) for key, (shape, _) in KEYS.items()}
    save_parameters(folder / "head.npz", values)


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(data=st.data())
def test_archives(tmp_path, name, data):
    whole = tmp_path / "whole"
    if not whole.exists():
        whole.mkdir()
        write_archives(whole)
    content = (whole / name).read_bytes()
    read, error = READERS[name]
    (tmp_path / name).write_bytes(data.draw(changed_bytes(content) | changed_archive(content)))
    try:
        read(tmp_path / name)
    except error as found:
        assert name in str(found)
