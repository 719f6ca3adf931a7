"""Whole runs of ``n2f track``, with a front end that sees what the test has put there."""

import json

import numpy as np
import pytest
from PIL import Image

from n2f_jax.cli.main import main
from n2f_jax.tracking import exports, first_pass, offline, shards
from n2f_jax.tracking import run as run_module
from n2f_jax.tracking.clips import ClipError, open_clip
from n2f_jax.tracking.flame_track import FlameError
from n2f_jax.tracking.people import PeopleError
from n2f_jax.tracking.run import TrackOptions, track_clip
from n2f_jax.tracking.track_file import BRIDGED, KEYS, LOST, SEEN, load_track
from tests.n2f_jax.reconstruction.conftest import place_head

from .conftest import SIZE, write_frames

av = pytest.importorskip("av")
pytestmark = pytest.mark.medium
FOCAL = 1.2 * max(SIZE)
NO_VIDEO = TrackOptions(focal=FOCAL, overlay=False)


def turning(number):
    """One head that turns and moves slowly."""
    return [(0.06 * np.sin(0.15 * number), 15 * np.sin(0.1 * number))]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    for module in (first_pass, offline, shards):
        monkeypatch.setattr(module, "SHARD", 8)


def run(tmp_path, tracker, seen, count, options=NO_VIDEO, **frames):
    folder = write_frames(tmp_path / "frames", count, **frames)
    said = []
    result = track_clip(open_clip(folder), tmp_path / "out", tracker(seen), options, said.append)
    return result, said


def test_a_clip_becomes_a_track_an_overlay_and_curves(tmp_path, tracker, open_head):
    result, said = run(tmp_path, tracker, turning, 20, TrackOptions(focal=FOCAL))
    out = tmp_path / "out"
    assert result.exit_code == 0 and sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) == [
        *("blendshapes.csv", "curves.png", "first_pass", "overlay.mp4", "summary.json", "track.npz")
    ]
    track = load_track(out / "track.npz")
    assert track.keys() == KEYS.keys() and (track["status"] == SEEN).all()
    np.testing.assert_allclose(track["seconds"], np.arange(20) / 25)
    # The untrained network answers the mean head, which is the one that is there: only the camera is to be found.
    for number in range(20):
        (x, yaw), *_ = turning(number)
        _, camera = place_head(open_head, SIZE, degrees=(3.0, yaw, 2.0), at=(x, 0.0, 0.9))
        np.testing.assert_allclose(track["rotation"][number], camera.rotation, atol=0.03)
        np.testing.assert_allclose(track["translation"][number], camera.translation, atol=0.015)
    gap = np.linalg.norm(track["landmarks_2d"] - track["frontend_landmarks"], axis=-1)[:, 17:]
    assert gap.mean() < 0.5
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames_by_status"] == {"lost": 0, "seen": 20, "bridged": 0, "doubtful": 0}
    assert summary["shots"] == 1 and len(summary["people"]) == 1
    assert any("first pass: 8 of 20" in line and "to go" in line for line in said)
    with av.open(str(out / "overlay.mp4")) as video:
        stream = video.streams.video[0]
        shown = list(video.decode(stream))
        assert stream.codec_context.name == "h264" and len(shown) == 20
        assert [frame.time for frame in shown] == pytest.approx(list(np.arange(20) / 25), abs=1e-3)
    # The mesh is drawn where the face is.
    picture = shown[10].to_ndarray(format="rgb24").astype(int)
    u, v = track["landmarks_2d"][10, 30].astype(int)
    assert np.ptp(picture[v - 4 : v + 4, u - 4 : u + 4]) < 120 and picture[v, u].mean() > 130


def test_a_person_who_is_away_shortly_is_bridged_and_longer_lost(tmp_path, tracker):
    def seen(number):
        return [] if 8 <= number < 12 or number >= 40 else turning(number)

    result, _ = run(tmp_path, tracker, seen, 80)
    status = result.track["status"]
    assert (status[8:12] == BRIDGED).all() and (status[40:] == LOST).all() and result.exit_code == 1
    assert np.isfinite(result.track["rotation"][:40]).all() and np.isnan(result.track["rotation"][40:]).all()
    before, after = result.track["translation"][7, 0], result.track["translation"][12, 0]
    assert min(before, after) - 0.01 < result.track["translation"][10, 0] < max(before, after) + 0.01


def test_nothing_is_smoothed_across_a_cut(tmp_path, tracker):
    def seen(number):
        return [(0.08, -20.0)] if number < 10 else [(0.14, 20.0)]

    result, _ = run(tmp_path, tracker, seen, 20, background=lambda n: 60 if n < 10 else 200)
    assert result.summary["shots"] == 2 and set(result.track["shot"][:10]) == {0}
    x = result.track["translation"][:, 0]
    assert np.abs(x[:10] - x[0]).max() < 2e-3 and np.abs(x[10:] - x[19]).max() < 2e-3 and x[10] - x[9] > 0.05


def test_people_are_told_apart_and_asked_for(tmp_path, tracker):
    def seen(number):
        return [(-0.25, 5.0), *([(0.25, -5.0)] if number >= 4 else [])]

    result, said = run(tmp_path, tracker, seen, 12)
    assert [one["frames"] for one in result.summary["people"]] == [12, 8]
    assert any("2 people" in line for line in said)
    folder, out = tmp_path / "frames", tmp_path / "out"
    other = tracker(seen)
    second = track_clip(open_clip(folder), out, other, TrackOptions(person=2, focal=FOCAL, overlay=False))
    assert (second.track["status"] == np.where(np.arange(12) < 4, LOST, SEEN)).all()
    assert result.track["translation"][6, 0] < 0 < second.track["translation"][6, 0]
    assert other.frontend.calls == 4  # the last, short shard alone is looked at again
    with pytest.raises(PeopleError, match="no person 3: the clip has 2"):
        track_clip(open_clip(folder), out, other, TrackOptions(person=3, focal=FOCAL))


def test_a_clip_without_a_face_says_so(tmp_path, tracker):
    with pytest.raises(PeopleError, match="no face in any frame"):
        run(tmp_path, tracker, lambda number: [], 5)


def test_a_clip_that_is_too_long_is_refused_before_it_is_looked_at(tmp_path, tracker, monkeypatch):
    monkeypatch.setattr(first_pass, "MAX_FRAMES", 5)
    with pytest.raises(ClipError, match="more than 5 frames: cut it"):
        run(tmp_path, tracker, turning, 6)
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_made_again(tmp_path, tracker):
    folder = write_frames(tmp_path / "frames", 10)
    first = track_clip(open_clip(folder), tmp_path / "out", tracker(turning), NO_VIDEO)
    path = shards.shard_path(tmp_path / "out/first_pass", 0)
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    again = tracker(turning)
    second = track_clip(open_clip(folder), tmp_path / "out", again, NO_VIDEO)
    assert again.frontend.calls == 10
    np.testing.assert_array_equal(first.track["rotation"], second.track["rotation"])


def test_a_person_who_comes_later_is_lost_before(tmp_path, tracker):
    result, said = run(tmp_path, tracker, lambda n: turning(n) if n >= 6 else [], 10)
    assert (result.track["status"][:6] == LOST).all() and (result.track["status"][6:] == SEEN).all()
    assert any("first seen in frame 6" in line for line in said)


@pytest.mark.parametrize("count", [1, 2])
def test_a_clip_of_one_or_two_frames(tmp_path, tracker, count):
    result, _ = run(tmp_path, tracker, turning, count)
    assert result.exit_code == 0 and np.isfinite(result.track["rotation"]).all()


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, tracker):
    def stops(number):
        if number == 13:
            raise KeyboardInterrupt
        return turning(number)

    folder = write_frames(tmp_path / "frames", 20)
    with pytest.raises(KeyboardInterrupt):
        track_clip(open_clip(folder), tmp_path / "a", tracker(stops), NO_VIDEO)
    again = tracker(turning)
    track_clip(open_clip(folder), tmp_path / "a", again, NO_VIDEO)
    assert again.frontend.calls == 12  # the first shard stays
    track_clip(open_clip(folder), tmp_path / "b", tracker(turning), NO_VIDEO)
    a, b = (load_track(tmp_path / name / "track.npz") for name in "ab")
    for key in KEYS:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("delay", [0, 2])
def test_online_is_causal_but_for_the_delay(tmp_path, tracker, open_head, delay):
    from n2f_jax.tracking.online import OnlineTracker, track_online

    frames = list(open_clip(write_frames(tmp_path / "frames", 24)).frames())
    live = OnlineTracker(tracker(turning), SIZE, FOCAL, delay)
    states = [live.push(frame.image, frame.seconds) for frame in frames]
    assert [state is None for state in states] == [i < delay for i in range(24)]
    states = [state for state in states if state is not None] + live.finish()
    assert [state.seconds for state in states] == [frame.seconds for frame in frames]
    for number, state in enumerate(states):
        (x, yaw), *_ = turning(number)
        _, camera = place_head(open_head, SIZE, degrees=(3.0, yaw, 2.0), at=(x, 0.0, 0.9))
        np.testing.assert_allclose(state.translation, camera.translation, atol=0.02)
    # What comes later than the delay changes nothing.
    again = OnlineTracker(tracker(turning), SIZE, FOCAL, delay)
    first = [again.push(frame.image, frame.seconds) for frame in frames[:12]]
    np.testing.assert_array_equal(first[-1].channels, states[11 - delay].channels)
    result = track_online(open_clip(tmp_path / "frames"), tmp_path / "out", tracker(turning), NO_VIDEO, delay)
    assert result.exit_code == 0 and load_track(tmp_path / "out/track.npz")["status"].tolist() == [SEEN] * 24


def test_online_loses_and_finds_a_person(tmp_path, tracker):
    from n2f_jax.tracking.online import track_online

    def seen(number):
        return [] if 8 <= number < 20 else turning(number)

    clip = open_clip(write_frames(tmp_path / "frames", 26))
    status = track_online(clip, tmp_path / "out", tracker(seen), NO_VIDEO).track["status"]
    assert (status[:8] == SEEN).all() and (status[8:12] == BRIDGED).all() and (status[14:20] == LOST).all()
    assert (status[20:] == SEEN).all()
    with pytest.raises(ClipError, match="no face"):
        track_online(clip, tmp_path / "none", tracker(lambda number: []), NO_VIDEO)


def test_a_folder_of_another_clip_is_refused(tmp_path, tracker):
    run(tmp_path, tracker, turning, 3)
    other = write_frames(tmp_path / "others", 4)
    with pytest.raises(ClipError, match=r"another clip.*--overwrite"):
        track_clip(open_clip(other), tmp_path / "out", tracker(turning), NO_VIDEO)
    options = TrackOptions(focal=FOCAL, overlay=False, overwrite=True)
    assert len(track_clip(open_clip(other), tmp_path / "out", tracker(turning), options).track["status"]) == 4


def test_a_matte_of_every_frame(tmp_path, tracker, monkeypatch):
    """Of a person who is lost too; in summary.json; and refused before the work where it cannot be."""

    class Matte:
        def __call__(self, image, square=None):
            return np.full(image.shape[:2], 7 if square is None else 200, np.uint8)

    for module in (run_module, exports):
        monkeypatch.setattr(module, "PersonMatte", Matte)
    options = TrackOptions(focal=FOCAL, overlay=False, matte=True)
    result, _ = run(tmp_path, tracker, lambda n: turning(n) if n < 3 else [], 5, options)
    assert result.exit_code == 1 and result.summary["exported"] == {"matte": True, "frames": {}}
    found = [Image.open(tmp_path / f"out/matte/{number:06d}.png") for number in range(5)]
    assert [int(np.asarray(image)[0, 0]) for image in found] == [200, 200, 200, 7, 7]
    assert all(image.mode == "L" and image.size == SIZE[::-1] for image in found)
    for formats, error in ((("insta",), FlameError), (("obj",), exports.ExportError)):
        with pytest.raises(error):
            track_clip(
                open_clip(tmp_path / "frames"),
                tmp_path / "b",
                tracker(turning),
                TrackOptions(formats=formats),
            )
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_tracked_is_said_in_one_line(tmp_path, capsys):
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"no video")
    for arguments, said in (
        (["track", str(tmp_path / "none.mp4"), "--out", str(tmp_path / "o")], "no such file"),
        (["track", str(video), "--out", str(tmp_path / "o")], "not a video that can be read"),
        (["track", str(video), "--out", str(tmp_path / "o"), "--person", "0"], "--person is at least 1"),
        (["reconstruct", str(video), "--out", str(tmp_path / "o")], "n2f track"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and len(error.splitlines()) == 1
