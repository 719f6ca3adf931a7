"""Names, files, folders and summaries as they should not be: nothing is lost, run for nothing, or silent."""

import errno
import json
import os
import resource
from types import SimpleNamespace

import numpy as np
import pytest

from n2f_jax.reconstruction import batch_run, pictures
from n2f_jax.reconstruction.batch_run import RunOptions, run
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.output_files import write_image
from n2f_jax.reconstruction.photos import find_photos, output_names
from n2f_jax.visualization.layout import text_strip

from .fakes import MeanReconstructor, save_photo

FAST = RunOptions(formats=("npz",), picture=False)


@pytest.fixture
def reconstructor(open_head):
    return MeanReconstructor(open_head)


def quiet_run(photos, out, reconstructor, options=FAST):
    said = []
    summary = run(photos, out, reconstructor, options, say=said.append, progress=False)
    summary.said = said
    return summary


def written(out):
    return {path.name for path in out.iterdir()}


def test_two_runs_into_one_folder(tmp_path, reconstructor, monkeypatch):
    """The second is refused and the first is whole, also when the second begins in the middle of it."""
    one, two = save_photo(tmp_path / "a/me.png"), save_photo(tmp_path / "b/me.png")
    out, refused = tmp_path / "out", []

    def meanwhile(*arguments, **options):
        with pytest.raises(RuntimeError, match="another process is writing to"):
            quiet_run([two], out, MeanReconstructor(reconstructor.head_model))
        refused.append(True)
        return MeanReconstructor.reconstruct(reconstructor, *arguments, **options)

    monkeypatch.setattr(reconstructor, "reconstruct", meanwhile)
    assert quiet_run([one], out, reconstructor).exit_code == 0 and refused
    monkeypatch.undo()
    quiet_run([two], out, reconstructor)
    assert written(out) == {"me.npz", "me_png.npz", "summary.json"}
    assert len(json.loads((out / "summary.json").read_text())["earlier"]) == 1


@pytest.mark.parametrize("length", [0, -1])
def test_an_output_that_was_cut_short_is_made_again(tmp_path, reconstructor, length):
    photos = [save_photo(tmp_path / f"{i}.png") for i in range(2)]
    out = tmp_path / "out"
    quiet_run(photos, out, reconstructor)
    whole = (out / "1.npz").read_bytes()
    (out / "1.npz").write_bytes(whole[:length])
    again = quiet_run(photos, out, reconstructor)
    assert [entry.resumed for entry in again.entries] == [True, False]
    load_parameters(out / "1.npz")


def test_a_limit_on_the_size_of_files_stops_the_run(tmp_path, reconstructor):
    photos = [save_photo(tmp_path / f"{i}.png") for i in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        summary = quiet_run(photos, tmp_path / "out", reconstructor)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert reconstructor.seen == ["0.png"] and summary.exit_code == 1
    assert os.strerror(errno.EFBIG) in summary.stopped and "stopped" in summary.said[-1]
    assert written(tmp_path / "out") == {"summary.json"}
    assert quiet_run(photos, tmp_path / "out", reconstructor).exit_code == 0


def test_a_picture_that_finds_the_disk_full_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        for name in ("a.png", "a.jpg"):
            with pytest.raises(OSError) as error:
                write_image(tmp_path / name, noise)
            assert error.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not written(tmp_path)


def test_a_folder_that_is_gone_stops_the_run(tmp_path, reconstructor, monkeypatch):
    photos = [save_photo(tmp_path / f"{i}.png") for i in range(3)]
    out = tmp_path / "out"

    def gone(*arguments, **options):
        out.rename(tmp_path / "elsewhere")
        return MeanReconstructor.reconstruct(reconstructor, *arguments, **options)

    monkeypatch.setattr(reconstructor, "reconstruct", gone)
    summary = quiet_run(photos, out, reconstructor)
    assert reconstructor.seen == ["0.png"] and "No such file" in summary.stopped and summary.exit_code == 1


NAMES = [
    pytest.param(b"caf\xe9.png", id="no UTF-8"),
    pytest.param(b"two\nlines.png", id="line end"),
    pytest.param(b"x" * 245 + b".png", id="long"),
    pytest.param("é".encode() * 125 + b".png", id="long in bytes"),
    pytest.param(b"\x1b[31mred.png", id="escape sequence"),
    pytest.param(b"..png", id="a dot"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_cannot_be_printed_or_are_long(tmp_path, reconstructor, name):
    photo = save_photo(tmp_path / "photos" / os.fsdecode(name))
    black = save_photo(tmp_path / "black.png", level=0)
    out = tmp_path / "out"
    options = RunOptions(formats=("npz", "obj"), picture=False)
    summary = quiet_run(find_photos([photo, black]), out, reconstructor, options)
    assert {entry.status for entry in summary.entries} == {"done", "no face"}
    entry = next(entry for entry in summary.entries if entry.status == "done")
    assert entry.name.isprintable() and written(out) == {*entry.files(), "summary.json"}
    again = quiet_run([photo], out, reconstructor, options)
    assert again.entries[0].resumed and again.entries[0].name == entry.name
    json.loads((out / "summary.json").read_bytes().decode("utf-8"))
    for text in (summary.table(), again.table(), *summary.said):
        text.encode("utf-8")
        assert all(line.isprintable() for line in text.split("\n"))


def test_a_name_is_printed_safely_when_something_is_wrong(tmp_path, reconstructor):
    (photo := tmp_path / "\x1b]0;title\x07.png").write_bytes(b"no picture")
    summary = quiet_run([photo], tmp_path / "out", reconstructor)
    assert r"\x1b]0;title\x07.png: failed" in summary.said[0] and "\x1b" not in summary.table()


def test_pictures_of_a_name_that_cannot_be_printed(tmp_path, reconstructor, monkeypatch):
    """The texts in them alone: drawing heads would have to be compiled."""
    paint = SimpleNamespace(of=lambda model: None)
    monkeypatch.setattr(pictures, "HeadPaint", paint)
    monkeypatch.setattr(pictures, "head_picture", lambda *a, **o: text_strip(a[3], 300, 30))
    monkeypatch.setattr(pictures, "photo_overlay", lambda image, heads, paint: image)
    photo = save_photo(tmp_path / os.fsdecode(b"\xff\n\x1b.png"), size=(90, 120))
    summary = quiet_run([photo], tmp_path / "out", reconstructor, RunOptions(formats=("npz",)))
    assert summary.exit_code == 0, summary.table()
    assert written(tmp_path / "out") == {*summary.entries[0].files(), "sheet.png", "summary.json"}


def test_long_names_stay_apart(tmp_path):
    photos = [tmp_path / "f" / f"{'x' * 240}{i}.png" for i in range(3)]
    names = output_names(photos)
    assert len(set(names)) == 3 and max(map(len, names)) < 230


def test_a_photograph_that_became_a_link_in_a_circle(tmp_path, reconstructor):
    photo, other = save_photo(tmp_path / "a.png"), save_photo(tmp_path / "b.png")
    quiet_run([photo], tmp_path / "out", reconstructor)
    photo.unlink()
    photo.symlink_to(photo.name)
    assert quiet_run([other], tmp_path / "out", reconstructor).exit_code == 0
    assert quiet_run([photo, other], tmp_path / "out", reconstructor).exit_code == 1


def test_names_are_settled_before_any_work(tmp_path, reconstructor, monkeypatch):
    """What a killed run has written is its own photograph's, whatever the next run is given."""
    one, two = save_photo(tmp_path / "a/me.png"), save_photo(tmp_path / "b/me.png", size=(8, 8))
    out = tmp_path / "out"

    def killed(self, entry, image, heads):
        write(self, entry, image, heads)
        raise SystemExit  # nothing more is written

    write = batch_run._Job._write
    with monkeypatch.context() as patch:
        patch.setattr(batch_run._Job, "_write", killed)
        with pytest.raises(SystemExit):
            quiet_run([one], out, reconstructor)
    assert quiet_run([two], out, reconstructor).entries[0].name != "me"
    assert load_parameters(out / "me.npz")["image_size"].tolist() == [9, 12]


def test_what_an_interrupted_run_did_not_reach_is_known_from_before(tmp_path, reconstructor, monkeypatch):
    photos = [save_photo(tmp_path / f"{i}.png") for i in range(3)]
    out = tmp_path / "out"
    quiet_run(photos, out, reconstructor)

    def interrupted(*arguments, sources, **options):
        if sources[0].name == "1.png":
            raise KeyboardInterrupt
        return MeanReconstructor.reconstruct(reconstructor, *arguments, sources=sources, **options)

    monkeypatch.setattr(reconstructor, "reconstruct", interrupted)
    again = RunOptions(formats=("npz",), picture=False, overwrite=True)
    assert quiet_run(photos, out, reconstructor, again).exit_code == 130
    monkeypatch.undo()
    assert all(entry.resumed for entry in quiet_run(photos, out, reconstructor).entries)


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path, reconstructor, monkeypatch):
    def fails(*arguments):
        raise ValueError("no mesh")

    monkeypatch.setattr("n2f_jax.reconstruction.output_files.MeshWriter.write", fails)
    options = RunOptions(formats=("npz", "obj"), picture=False)
    summary = quiet_run([save_photo(tmp_path / "a.png")], tmp_path / "out", reconstructor, options)
    assert summary.entries[0].status == "failed" and written(tmp_path / "out") == {"summary.json"}


def change(place, value):
    """A change of ``summary.json``'s content: at the last of the keys in ``place``."""

    def apply(content):
        *before, last = place
        for key in before:
            content = content[key]
        content[last] = value

    return apply


DAMAGED = [
    change(["photos", 0, "faces"], None),
    change(["photos", 0, "faces"], []),
    change(["photos", 0, "faces", 0, "files"], None),
    change(["photos", 0, "faces", 0, "files", "npz"], "../other.npz"),
    change(["photos", 0, "name"], None),
    change(["photos", 0, "name"], "../a"),
    change(["photos", 0, "name"], "/tmp/a"),
    change(["photos", 0, "overlay"], "../overlay.jpg"),
    change(["photos", 0, "source"], "a\0b"),
    change(["photos", 0, "source"], "\ud800"),
    change(["photos", 0, "status"], "perfect"),
    change(["photos", 0, "sizes"], {"a.npz": -1}),
    change(["photos", 0], None),
    change(["photos"], None),
    change(["earlier"], {}),
]


@pytest.mark.parametrize("apply", DAMAGED)
def test_a_damaged_summary_is_said_and_nothing_is_touched(tmp_path, reconstructor, apply):
    (tmp_path / "other.npz").write_bytes(b"somebody's")
    photo, out = save_photo(tmp_path / "a.png"), tmp_path / "out"
    quiet_run([photo], out, reconstructor)
    content = json.loads((out / "summary.json").read_text())
    apply(content)
    (out / "summary.json").write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=r"summary\.json is damaged \(.*move it away"):
        quiet_run([photo], out, reconstructor)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert (tmp_path / "other.npz").read_bytes() == b"somebody's"


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 100_000, '{"photos": [], "earlier"'])
def test_a_summary_that_is_no_json(tmp_path, reconstructor, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ValueError, match=r"summary\.json is damaged"):
        quiet_run([save_photo(tmp_path / "a.png")], tmp_path, reconstructor)


def test_figures_that_are_null_leave_a_gap_in_the_table(tmp_path, reconstructor):
    photo, out = save_photo(tmp_path / "a.png"), tmp_path / "out"
    quiet_run([photo], out, reconstructor)
    content = json.loads((out / "summary.json").read_text())
    (face,) = content["photos"][0]["faces"]
    for name in ("focal", "distance_metres", "landmark_gap_percent", "confidence"):
        face[name] = None
    face["pitch_yaw_roll_degrees"] = [None, 1.0, 2.0]
    (out / "summary.json").write_text(json.dumps(content))
    summary = quiet_run([photo], out, reconstructor)
    assert summary.entries[0].resumed and "done before" in summary.table()
