"""Runs with a front end that finds discs: what is written, and what a second run does."""

import dataclasses
import errno
import json
import os
import resource

import cv2
import numpy as np
import pytest

from n2f_jax.data.face_views import face_view, landmark_square
from n2f_jax.data.manifest import ManifestError, ManifestIndex, ManifestWriter, count_statuses
from n2f_jax.data.preprocessed import face_path, list_faces, read_face
from n2f_jax.frontends.registry import FrontendOptions
from n2f_jax.preprocessing.inputs import parse_inputs
from n2f_jax.preprocessing.run import run
from n2f_jax.preprocessing.settings import Settings, SettingsError
from n2f_jax.runtime.output_folder import EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_OK, EXIT_PARTLY, OutputError
from tests.n2f_jax.preprocessing.fakes import DiscFrontend, disc_image, save

SETTINGS = Settings("discs", FrontendOptions(size=32, max_faces=1), margin=1.25)


@pytest.fixture
def frontend(monkeypatch):
    """The front end of the run, with the names of the files that it was shown."""
    made = DiscFrontend(0, 0)

    def make(name, options):
        made.size, made.crop_scale = options.size, options.crop_scale
        return made

    monkeypatch.setattr("n2f_jax.preprocessing.worker.make_frontend", make)
    return made


def preprocess(inputs, out, settings=SETTINGS, **options):
    said = []
    inputs = parse_inputs([str(path) for path in (inputs if isinstance(inputs, list) else [inputs])])
    summary = run(inputs, out, settings, say=said.append, progress=False, **options)
    summary.said = said
    return summary


def photos(folder, count=6):
    for i in range(count):
        save(folder / f"{i}.png", disc_image((60.0 + i, 50.0), 20.0 + i))
    return folder


def photo_bytes(folder):
    return save(folder / "photo.png", disc_image()).read_bytes()


def contents(folder):
    """Every stored face's bytes by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.face.zip")}


def test_what_is_stored_lies_where_the_photo_has_it(tmp_path, frontend):
    save(tmp_path / "set" / "a.png", disc_image((62.5, 48.0), 20.0))
    summary = preprocess(tmp_path / "set", tmp_path / "out")
    assert summary.exit_code == EXIT_OK and summary.counts["ok"] == summary.faces == 1
    (name,) = list_faces(tmp_path / "out")
    face = read_face(face_path(tmp_path / "out", name))
    # A disc of radius 20: the crop is 1.4 · 1.25 its box, the stored map 32 · 1.25 pixels.
    assert face.size == 40 and face.image_size == (100, 140) and face.focal_source == "face"
    side = 40 * 1.75
    np.testing.assert_allclose(face.crop, [62.5 - side / 2, 48 - side / 2, side], atol=0.3)
    scale = 40 / face.crop[2]
    np.testing.assert_allclose(face.landmarks_68.mean(axis=0), 20, atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(face.landmarks_68 - 20, axis=1), 20 * scale, rtol=0.02)
    # The photo's centre, (70, 50), and the focal length that puts a face of 40 pixels 1 m away.
    np.testing.assert_allclose(face.intrinsics[0, 0], 40 / 0.14 * scale, rtol=5e-3)
    np.testing.assert_allclose(
        face.intrinsics[:2, 2], (np.array([70, 50]) - face.crop[:2]) * scale, rtol=1e-5
    )
    # The normals are those of the hemisphere: x to the right of the picture, y up.
    assert face.normals[20, 28, 0] > 0.5 and face.normals[12, 20, 1] > 0.5 and face.normals[20, 20, 2] > 0.99
    # The network's crop is the inner 32² of what is stored.
    view = face_view(face, landmark_square(face.landmarks_68, 1.4), 32)
    np.testing.assert_array_equal(view["mask"], face.mask[4:36, 4:36])
    np.testing.assert_allclose(view["normals"], face.normals[4:36, 4:36], atol=1e-6)


def test_a_face_without_a_pixel_or_a_direction(tmp_path, frontend, monkeypatch):
    face = frontend.face
    degenerate = {"a.png": {"mask": np.zeros((40, 40), np.float32)}, "b.png": {"normals": None}}

    def spoilt(bright):
        found = face(bright)
        change = degenerate[frontend.seen[-1]]
        if "normals" in change:
            change = {"normals": found.normals.copy()}
            change["normals"][20, 20] = 0
        return dataclasses.replace(found, **change)

    monkeypatch.setattr(frontend, "face", spoilt)
    for name in degenerate:
        save(tmp_path / "set" / name, disc_image())
    preprocess(tmp_path / "set", tmp_path / "out")
    index = ManifestIndex(tmp_path / "out")
    assert index.find("set/a.png").reason == "the front end's maps: ValueError: the mask is empty"
    stored = read_face(face_path(tmp_path / "out", index.find("set/b.png").faces[0]))
    assert stored.mask[20, 20] == 0 and stored.mask[20, 21] == 1


def test_all_faces_or_the_largest(tmp_path, frontend):
    two = np.maximum(disc_image((30.0, 50.0), 15.0), disc_image((110.0, 50.0), 25.0))
    save(tmp_path / "set" / "two.png", two)
    preprocess(tmp_path / "set", tmp_path / "one")
    every = Settings("discs", FrontendOptions(size=32, max_faces=None))
    preprocess(tmp_path / "set", tmp_path / "all", every)
    assert len(list_faces(tmp_path / "one")) == 1
    first, second = list_faces(tmp_path / "all")
    assert second == first + "_face2" and first == list_faces(tmp_path / "one")[0]
    assert (
        read_face(face_path(tmp_path / "all", first)).crop[2]
        > read_face(face_path(tmp_path / "all", second)).crop[2]
    )


def test_what_goes_wrong_is_said_and_written(tmp_path, frontend):
    folder = photos(tmp_path / "set", 2)
    save(folder / "empty.png", np.full((50, 60, 3), 10, np.uint8))
    save(folder / "red.png", np.full((50, 60, 3), (255, 0, 0), np.uint8))
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "no.jpg").write_bytes(b"no picture")
    summary = preprocess(folder, tmp_path / "out", batch_size=3)
    assert summary.exit_code == EXIT_PARTLY and summary.counts == {"ok": 2, "no face": 1, "error": 3}
    records = {record.key: record for record in ManifestIndex(tmp_path / "out")}
    assert records["set/empty.png"].status == "no face" and records["set/empty.png"].image_size == (50, 60)
    assert "truncated" in records["set/cut.png"].reason and "not an image" in records["set/no.jpg"].reason
    assert records["set/red.png"].reason == "front end: RuntimeError: red is too much"
    assert len(summary.said) == 4 and any("red.png: error: front end" in line for line in summary.said)
    (tmp_path / "bad").mkdir()
    (folder / "no.jpg").rename(tmp_path / "bad" / "no.jpg")
    assert preprocess(tmp_path / "bad", tmp_path / "out2").exit_code == EXIT_NOTHING


def test_a_second_run_does_what_is_left(tmp_path, frontend):
    folder = photos(tmp_path / "set")
    save(folder / "empty.png", np.full((50, 60, 3), 10, np.uint8))
    (folder / "no.png").write_bytes(b"no picture")
    preprocess(folder, tmp_path / "out")
    before, lines = contents(tmp_path / "out"), len(ManifestIndex(tmp_path / "out"))
    frontend.seen.clear()
    again = preprocess(folder, tmp_path / "out")
    assert frontend.seen == [] and contents(tmp_path / "out") == before
    assert again.before == 7 and again.counts == {"ok": 6, "no face": 1, "error": 1} and again.faces == 0
    assert len(ManifestIndex(tmp_path / "out")) == lines

    save(folder / "no.png", disc_image())  # an error is tried again
    save(folder / "1.png", disc_image((50.0, 40.0), 30.0))  # an image that has changed
    face_path(tmp_path / "out", ManifestIndex(tmp_path / "out").find("set/2.png").faces[0]).unlink()
    save(folder / "new.png", disc_image())
    preprocess(folder, tmp_path / "out")
    assert sorted(frontend.seen) == ["1.png", "2.png", "new.png", "no.png"]
    after = contents(tmp_path / "out")
    assert {path for path in before if before[path] != after[path]} == {p for p in before if "/1-" in p}
    assert count_statuses(tmp_path / "out") == {"ok": 8, "no face": 1, "error": 0, "faces": 8}


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_interrupted_run_goes_on_to_the_same_files(tmp_path, frontend, monkeypatch, batch_size):
    folder = photos(tmp_path / "set", 7)
    preprocess(folder, tmp_path / "whole")

    detect = frontend.detect

    def interrupted(images, sources):
        if len(frontend.seen) >= 4:
            raise KeyboardInterrupt
        return detect(images, sources)

    monkeypatch.setattr(frontend, "detect", interrupted)
    frontend.seen.clear()
    summary = preprocess(folder, tmp_path / "out", batch_size=batch_size)
    assert summary.exit_code == EXIT_INTERRUPTED and len(contents(tmp_path / "out")) == 4
    monkeypatch.setattr(frontend, "detect", detect)
    assert preprocess(folder, tmp_path / "out").exit_code == EXIT_OK
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert list(list_faces(tmp_path / "out")) == list(list_faces(tmp_path / "whole"))


def test_shards_fill_one_folder(tmp_path, frontend):
    folder = photos(tmp_path / "set", 12)
    preprocess(folder, tmp_path / "whole")
    done = [preprocess(folder, tmp_path / "out", shard=(i, 3)) for i in (2, 0, 1)]
    assert sum(summary.counts["ok"] for summary in done) == 12 and all(summary.faces for summary in done)
    assert len(list((tmp_path / "out" / "manifest").iterdir())) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert list(list_faces(tmp_path / "out")) == list(list_faces(tmp_path / "whole"))
    # Another number of shards later: what is finished is known.
    frontend.seen.clear()
    assert preprocess(folder, tmp_path / "out", shard=(1, 2)).faces == 0 and frontend.seen == []
    with (
        ManifestWriter(tmp_path / "out", "0000-of-0001"),
        pytest.raises(ManifestError, match="another process"),
    ):
        preprocess(folder, tmp_path / "out")


def test_data_that_were_moved_are_the_same_data(tmp_path, frontend):
    folder = photos(tmp_path / "old" / "set", 3)
    preprocess(folder, tmp_path / "out")
    (tmp_path / "new").mkdir()
    folder.rename(tmp_path / "new" / "set")
    frontend.seen.clear()
    assert preprocess(tmp_path / "new" / "set", tmp_path / "out").before == 3 and frontend.seen == []


def test_other_data_of_the_same_name_do_not_overwrite(tmp_path, frontend):
    preprocess(photos(tmp_path / "one" / "set", 2), tmp_path / "out")
    before = contents(tmp_path / "out")
    save(tmp_path / "two" / "set" / "0.png", disc_image((70.0, 40.0), 33.0))
    summary = preprocess(tmp_path / "two" / "set", tmp_path / "out")
    assert summary.counts["error"] == 1 and "NAME=PATH" in summary.said[0]
    assert contents(tmp_path / "out") == before and count_statuses(tmp_path / "out")["ok"] == 2
    preprocess([f"second={tmp_path / 'two' / 'set'}"], tmp_path / "out")
    assert len(list_faces(tmp_path / "out")) == 3


def test_other_settings_need_another_folder(tmp_path, frontend):
    folder = photos(tmp_path / "set", 1)
    preprocess(folder, tmp_path / "out")
    with pytest.raises(SettingsError, match="size: 32 there, 64 now"):
        preprocess(folder, tmp_path / "out", Settings("discs", FrontendOptions(size=64, max_faces=1)))
    for wrong in ({"margin": 0.9}, {"frame_step": 0}, {"focal": -3.0}):
        with pytest.raises(SettingsError):
            Settings(**wrong)
    assert Settings(options=FrontendOptions(size=128), margin=1.0).stored_size == 128


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(tmp_path, frontend, monkeypatch):
    folder = photos(tmp_path / "set", 6)
    fsync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > 5:  # a probe and the settings, then three faces
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    summary = preprocess(folder, tmp_path / "out")
    assert (
        "No space left" in summary.stopped and summary.exit_code == EXIT_PARTLY and summary.counts["ok"] == 3
    )
    assert len(contents(tmp_path / "out")) == 3 and not list((tmp_path / "out").rglob("*.tmp*"))
    monkeypatch.setattr(os, "fsync", fsync)
    assert preprocess(folder, tmp_path / "out").counts["ok"] == 6


def test_a_folder_that_cannot_be_written(tmp_path, frontend):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        preprocess(photos(tmp_path / "set", 1), tmp_path / "file")


def video(path, frames=7):
    """A disc that moves two pixels a frame, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 25, (140, 100))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.ascontiguousarray(disc_image((50.0 + 2 * i, 50.0), 20.0)[..., ::-1]))
    writer.release()
    return path


def test_frames_of_a_video(tmp_path, frontend):
    video(tmp_path / "set" / "clip.avi")
    summary = preprocess(tmp_path / "set", tmp_path / "out")
    assert summary.counts["ok"] == 7 and count_statuses(tmp_path / "out")["faces"] == 7
    faces = {
        read_face(face_path(tmp_path / "out", name)).frame: name for name in list_faces(tmp_path / "out")
    }
    for frame in range(7):
        face = read_face(face_path(tmp_path / "out", faces[frame]))
        centre = face.crop[:2] + face.crop[2] / 2
        np.testing.assert_allclose(centre, [50 + 2 * frame, 50], atol=0.2)
    # The same again decodes nothing; a frame that is gone is done again, and only that.
    frontend.seen.clear()
    assert preprocess(tmp_path / "set", tmp_path / "out").before == 7
    face_path(tmp_path / "out", faces[3]).unlink()
    assert preprocess(tmp_path / "set", tmp_path / "out").faces == 1 and len(frontend.seen) == 1


def test_every_third_frame_interrupted(tmp_path, frontend, monkeypatch):
    video(tmp_path / "clip.avi", 10)
    settings = Settings("discs", FrontendOptions(size=32, max_faces=1), frame_step=3)
    detect = frontend.detect

    def interrupted(images, sources):
        if len(frontend.seen) == 2:
            raise KeyboardInterrupt
        return detect(images, sources)

    monkeypatch.setattr(frontend, "detect", interrupted)
    assert preprocess(tmp_path / "clip.avi", tmp_path / "out", settings).interrupted
    monkeypatch.setattr(frontend, "detect", detect)
    summary = preprocess(tmp_path / "clip.avi", tmp_path / "out", settings)
    assert summary.before == 2 and summary.faces == 2
    frames = [read_face(face_path(tmp_path / "out", name)).frame for name in list_faces(tmp_path / "out")]
    assert sorted(frames) == [0, 3, 6, 9]


def test_damaged_videos(tmp_path, frontend):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "no.mp4").write_bytes(b"no video" * 100)
    whole = video(tmp_path / "clip.avi", 30).read_bytes()
    (tmp_path / "set" / "cut.avi").write_bytes(whole[: len(whole) // 2])
    summary = preprocess(tmp_path / "set", tmp_path / "out")
    records = {(record.key, record.frame): record for record in ManifestIndex(tmp_path / "out")}
    assert records["set/no.mp4", None].status == "error" and summary.counts["error"] == 1
    assert 5 < summary.counts["ok"] < 30 and records["set/cut.avi", None].frames == summary.counts["ok"]


def test_a_video_that_is_cut_off_is_said_each_time(tmp_path, frontend):
    whole = video(tmp_path / "clip.avi", 30).read_bytes()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cut.avi").write_bytes(whole[: len(whole) // 2])
    first, second = (preprocess(tmp_path / "set", tmp_path / "out") for _ in range(2))
    for summary in (first, second):
        assert summary.exit_code == EXIT_PARTLY and "1 video cut off" in summary.text()
        (said,) = summary.said
        assert f"cut.avi: cut off: it says 30 frames and {summary.counts['ok']} can be read" in said
    assert second.before == first.counts["ok"]
    assert ManifestIndex(tmp_path / "out").find("set/cut.avi").status == "cut off"
    assert count_statuses(tmp_path / "out")["cut off"] == 1
    # Of a whole video every third frame is all that is asked of it.
    settings = Settings("discs", FrontendOptions(size=32, max_faces=1), frame_step=3)
    every_third = preprocess(video(tmp_path / "whole.avi", 8), tmp_path / "out3", settings)
    assert every_third.exit_code == EXIT_OK and every_third.counts["ok"] == 3


@pytest.mark.parametrize("length", [0, -1])
@pytest.mark.parametrize("sizes", [True, False], ids=["now", "older manifest"])
def test_a_face_that_was_cut_short_is_made_again(tmp_path, frontend, length, sizes):
    folder = photos(tmp_path / "set", 2)
    preprocess(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    if not sizes:
        (manifest,) = (tmp_path / "out" / "manifest").iterdir()
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        manifest.write_text("".join(json.dumps(line | {"sizes": []}) + "\n" for line in lines))
    name = ManifestIndex(tmp_path / "out").find("set/1.png").faces[0]
    path = face_path(tmp_path / "out", name)
    path.write_bytes(path.read_bytes()[:length])
    frontend.seen.clear()
    assert preprocess(folder, tmp_path / "out").before == 1 and frontend.seen == ["1.png"]
    assert contents(tmp_path / "out") == before


def test_a_limit_on_the_size_of_files_stops_the_run(tmp_path, frontend):
    folder = photos(tmp_path / "set", 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        summary = preprocess(folder, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(frontend.seen) == 1 and os.strerror(errno.EFBIG) in summary.stopped
    assert summary.exit_code == EXIT_PARTLY and not contents(tmp_path / "out")
    assert preprocess(folder, tmp_path / "out").exit_code == EXIT_OK


def test_links_that_lead_nowhere_do_not_stop_the_others(tmp_path, frontend):
    """As a shell gives them for ``set/*``."""
    folder = photos(tmp_path / "set", 1)
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "broken.png").symlink_to("nowhere.png")
    summary = preprocess(sorted(folder.iterdir()), tmp_path / "out")
    assert summary.counts == {"ok": 1, "no face": 0, "error": 2} and summary.exit_code == EXIT_PARTLY
    assert any("circle.png: error: Too many levels" in line for line in summary.said)


def test_names_that_cannot_be_printed(tmp_path, frontend):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"two\nlines.png", b"\x1b[31mred.png"):
        (folder / os.fsdecode(name)).write_bytes(photo_bytes(tmp_path))
        (folder / os.fsdecode(b"bad" + name)).write_bytes(b"no picture")
    summary = preprocess(folder, tmp_path / "out")
    assert summary.counts == {"ok": 3, "no face": 0, "error": 3}
    assert len(summary.said) == 3 and all(line.isprintable() for line in summary.said)
    assert preprocess(folder, tmp_path / "out").before == 3
    (manifest,) = (tmp_path / "out" / "manifest").iterdir()
    manifest.read_bytes().decode("utf-8")  # any tool reads it


@pytest.mark.parametrize("text", ["null", "", "[" * 100_000])
def test_damaged_settings(tmp_path, frontend, text):
    folder = photos(tmp_path / "set", 1)
    preprocess(folder, tmp_path / "out")
    (tmp_path / "out" / "settings.json").write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.json is damaged"):
        preprocess(folder, tmp_path / "out")


def test_settings_are_written_for_people(tmp_path, frontend):
    preprocess(photos(tmp_path / "set", 1), tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["frontend"] == "discs" and settings["stored_size"] == 40 and settings["crop_scale"] == 1.4
