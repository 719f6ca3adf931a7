"""Frames of videos: which ones, upright, and what is said where PyAV is missing."""

import struct
import sys

import numpy as np
import pytest

from n2f_jax.preprocessing.videos import read_frames
from n2f_jax.tracking.clips import ClipError, count_said
from tests.n2f_jax.tracking.test_clips import write_video

pytest.importorskip("av")


def test_every_third_frame_but_those_that_are_not_wanted(tmp_path):
    path = write_video(tmp_path / "clip.mp4", range(11))
    found = list(read_frames(path, 3, lambda number: number in (3, 6)))
    assert [number for number, _ in found] == [0, 3, 6, 9]
    assert [image is None for _, image in found] == [True, False, False, True]
    whole = dict(read_frames(path))
    assert len(whole) == 11 and count_said(path) == 11
    for number in (3, 6):
        np.testing.assert_array_equal(dict(found)[number], whole[number])


def test_frames_are_upright_as_the_file_says_and_at_a_variable_rate(tmp_path):
    path = write_video(tmp_path / "clip.mp4", (0, 1, 5, 9))
    data = bytearray(path.read_bytes())
    # A quarter turn clockwise in the track's header, as phones write it.
    struct.pack_into(">4i", data, data.index(b"tkhd") + 44, 0, 1 << 16, 0, -1 << 16)
    path.write_bytes(data)
    frames = dict(read_frames(path))
    # One for each frame that is there, none made up for the gaps; the bright quarter is the upper right one now.
    assert list(frames) == [0, 1, 2, 3]
    assert frames[0].shape == (64, 48, 3) and frames[0][0, -1, 0] > 180 > frames[0][0, 0, 0]


def test_a_matroska_file_says_how_many_by_its_length(tmp_path):
    assert abs(count_said(write_video(tmp_path / "clip.mkv", range(20))) - 20) <= 1


def test_what_is_no_video(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ClipError, match=r"no\.mp4"):
        list(read_frames(tmp_path / "no.mp4"))
    assert count_said(tmp_path / "no.mp4") == count_said(tmp_path / "none.mp4") == 0


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x")
    for read in (count_said, lambda path: list(read_frames(path))):
        with pytest.raises(ImportError, match=r"n2f-jax\[track\]"):
            read(path)
