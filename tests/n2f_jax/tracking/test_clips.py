"""Reading clips: moments, rotation, damage."""

import itertools
import struct

import numpy as np
import pytest
from PIL import Image

from n2f_jax.tracking.clips import ClipError, open_clip

av = pytest.importorskip("av")


def write_video(path, moments=(0, 1, 2, 3), size=(48, 64), rate=25, codec="libx264"):
    """Frames whose left upper quarter is bright, at moments in units of 1/rate; their grey level tells the number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number, moment in enumerate(moments):
            image = np.full((*size, 3), 20 + 8 * (number % 10), np.uint8)
            image[: size[0] // 2, : size[1] // 2] = 220
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = moment, 1 / stream.codec_context.framerate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_video_is_read_at_its_own_moments(tmp_path):
    moments = [0, 1, 2, 5, 9, 10]
    clip = open_clip(write_video(tmp_path / "clip.mp4", moments))
    frames = list(clip.frames())
    assert clip.size == (48, 64) and [frame.index for frame in frames] == list(range(6))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.array(moments) / 25, atol=1e-3)
    levels = [int(frame.image[40, 60, 0]) for frame in frames]
    assert all(abs(level - 20 - 8 * i) < 6 for i, level in enumerate(levels))
    assert clip.problem == ""


def test_reading_from_a_frame_on_gives_the_same_frames(tmp_path):
    clip = open_clip(write_video(tmp_path / "clip.mp4", range(12)))
    whole, later = list(clip.frames()), list(clip.frames(start=7))
    assert [frame.index for frame in later] == [7, 8, 9, 10, 11]
    for a, b in zip(whole[7:], later, strict=True):
        assert a.seconds == b.seconds and (a.image == b.image).all()


@pytest.mark.parametrize(("matrix", "corner"), [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1))])
def test_frames_are_upright_as_the_file_says(tmp_path, matrix, corner):
    path = write_video(tmp_path / "clip.mp4")
    data = bytearray(path.read_bytes())
    # The track header's matrix, as phones write it: a quarter turn clockwise, a half turn.
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clip = open_clip(path)
    first = next(iter(clip.frames())).image
    assert clip.size == first.shape[:2] == ((64, 48) if matrix[0] == 0 else (48, 64))
    assert first[corner][0] > 180 and (first[[0, 0, -1, -1], [0, -1, 0, -1], 0] > 180).sum() == 1


def test_a_truncated_file_gives_what_can_be_read_and_says_so(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", range(60), size=(240, 320))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = open_clip(cut)
    assert 0 < len(list(clip.frames())) < 60
    short = tmp_path / "cut.mp4"
    short.write_bytes(write_video(tmp_path / "whole.mp4", range(60)).read_bytes()[:2000])
    with pytest.raises(ClipError, match=r"cut\.mp4.*damaged"):
        open_clip(short)


def test_a_folder_of_images_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (1, 2, 10):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("x")
    clip = open_clip(tmp_path, rate=10.0)
    frames = list(clip.frames())
    assert [int(f.image[0, 0, 0]) for f in frames] == [1, 2, 10]
    assert [f.seconds for f in frames] == [0.0, 0.1, 0.2]
    assert len(list(open_clip(tmp_path / "f1*.png").frames())) == 2
    Image.new("RGB", (21, 10)).save(tmp_path / "f11.png")
    with pytest.raises(ClipError, match="one size"):
        list(open_clip(tmp_path).frames())


@pytest.mark.parametrize(
    "content", [b"", b"no video\n" * 100, b"#EXTM3U\n/etc/passwd\n", b"ffconcat version 1.0\nfile a\n"]
)
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"clip\.mp4"):
        open_clip(path)
    with pytest.raises(FileNotFoundError):
        open_clip(tmp_path / "none.mp4")
    with pytest.raises(ClipError, match="no images"):
        open_clip(tmp_path)


def test_a_reader_that_stops_early_leaves_no_thread(tmp_path):
    import threading

    clip = open_clip(write_video(tmp_path / "clip.mp4", range(60)))
    assert len(list(itertools.islice(clip.frames(), 2))) == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "clip"]
