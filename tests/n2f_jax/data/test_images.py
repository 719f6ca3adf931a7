"""Every kind of file a stranger may hand in, made here."""

import dataclasses
import io
import os
import sys

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, features

from n2f_jax.data import images
from n2f_jax.data.images import HEAD_SIZE, ImageError, TooLargeError, decode_image, image_format, read_image

FOCAL_35MM, PIXEL_X, PIXEL_Y, EXIF_IFD, ORIENTATION, MAKE = 0xA405, 0xA002, 0xA003, 0x8769, 0x0112, 0x010F


def picture(height=12, width=20):
    """Smooth and different in every corner and channel."""
    v, u = np.mgrid[:height, :width]
    red, green = u * 255 // (width - 1), v * 255 // (height - 1)
    return np.stack([red, green, (red + green) // 2], axis=-1).astype(np.uint8)


def test_rgb_png_is_exact(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    image, info = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, picture())
    assert image.dtype == np.uint8 and image.flags.writeable
    assert (info.focal, info.orientation, info.mode) == (None, 1, "RGB")


def test_grayscale_becomes_three_equal_channels(tmp_path):
    gray = picture()[..., 0]
    Image.fromarray(gray).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], np.repeat(gray[..., None], 3, -1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, suffix):
    deep = picture()[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}")[0][..., 1], picture()[..., 0])


def test_16_bit_rgb(tmp_path):
    cv2 = pytest.importorskip("cv2")
    deep = picture().astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    image, _ = read_image(tmp_path / "a.png")
    assert np.abs(image.astype(int) - picture()).max() <= 1


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_float_tiff(tmp_path, high):
    values = picture()[..., 0].astype(np.float32) / 255 * high
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0][..., 2], picture()[..., 0])


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.dstack([picture(), np.full((12, 20), 255, np.uint8)])
    rgba[:, :5, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image, _ = read_image(tmp_path / "a.png")
    assert (image[:, :5] == 255).all()
    np.testing.assert_array_equal(image[:, 5:], picture()[:, 5:])


def test_palette_with_a_transparent_entry(tmp_path):
    palette = Image.fromarray((np.arange(12 * 20).reshape(12, 20) % 2).astype(np.uint8), "L").convert("P")
    palette.putpalette([200, 10, 20, 5, 100, 30])
    palette.save(tmp_path / "a.png", transparency=1)
    image, info = read_image(tmp_path / "a.png")
    assert info.mode == "P"
    assert image[0, 0].tolist() == [200, 10, 20] and image[0, 1].tolist() == [255, 255, 255]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    image, info = read_image(tmp_path / "a.jpg")
    assert info.mode == "CMYK" and image.shape == (8, 16, 3)
    assert (image[..., 0] > 200).all() and (image[..., 1:] < 60).all()


def test_exif_orientation_is_applied(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = Image.fromarray(picture())
        # Store it the way a camera in that orientation would: undo what the reader has to do.
        inverse = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
                   6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
        if orientation in inverse:
            stored = stored.transpose(Image.Transpose[inverse[orientation]])
        stored.save(tmp_path / "a.png", exif=exif)
        image, info = read_image(tmp_path / "a.png")
        assert info.orientation == orientation
        np.testing.assert_array_equal(image, picture(), err_msg=str(orientation))


def exif_with_focal(millimetres, size=None, orientation=1):
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "camera"  # with an empty first folder Pillow writes none
    tags = exif.get_ifd(EXIF_IFD)
    tags[FOCAL_35MM] = millimetres
    if size:
        tags[PIXEL_X], tags[PIXEL_Y] = size
    return exif


def test_focal_length_from_exif(tmp_path):
    # 36 x 24 mm film and a 3:2 picture 30 pixels wide: 28 mm are 28 / 36 of the width.
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif_with_focal(28))
    assert read_image(tmp_path / "a.jpg")[1].focal == pytest.approx(30 * 28 / 36, rel=1e-6)
    # Resized by the same factor in both directions: still the same field of view; rotated: as well.
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg", exif=exif_with_focal(28, (6000, 4000), 6))
    image, info = read_image(tmp_path / "b.jpg")
    assert image.shape == (30, 20, 3) and info.focal == pytest.approx(30 * 28 / 36, rel=1e-6)
    assert info.focal_note == ""


@pytest.mark.parametrize(
    ("millimetres", "size", "note"),
    [
        (28, (6000, 4000), "cropped, from 6000 × 4000 to 20 × 20 pixels"),
        (0, None, ""),
        (65535, None, "65535 mm cannot be"),
        (4, None, "4 mm cannot be"),
        (4001, None, "4001 mm cannot be"),
        ("long", None, "no number"),
    ],
)
def test_focal_lengths_that_cannot_be_are_ignored_and_said(tmp_path, millimetres, size, note):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg", exif=exif_with_focal(millimetres, size))
    info = read_image(tmp_path / "a.jpg")[1]
    assert info.focal is None and note in info.focal_note and "\n" not in info.focal_note


def test_focal_lengths_of_real_lenses_are_taken(tmp_path):
    for millimetres in (6, 13, 800, 3000):
        Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg", exif=exif_with_focal(millimetres))
        info = read_image(tmp_path / "a.jpg")[1]
        assert info.focal > 0 and info.focal_note == "", millimetres
    Image.new("RGB", (20, 20)).save(tmp_path / "b.jpg")
    assert dataclasses.astuple(read_image(tmp_path / "b.jpg")[1]) == (None, 1, "RGB", "")


ANIMATIONS = ["gif", "png", "webp", "tif", pytest.param("avif", marks=pytest.mark.skipif(
    not features.check("avif"), reason="Pillow without AVIF"))]  # fmt: skip
RED, GREEN, BLACK, CLEAR = (250, 0, 0, 255), (0, 250, 0, 255), (9, 9, 9, 255), (250, 250, 250, 0)


def write_frames(path, *colors):
    frames = [Image.new("RGBA", (32, 32), color) for color in colors]
    if all(color[3] == 255 for color in colors):
        frames = [frame.convert("RGB") for frame in frames]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def color_of(path):
    image, _ = read_image(path)
    assert image.shape == (32, 32, 3)
    return ["red", "green", "blue"][image[16, 16].argmax()] if np.ptp(image[16, 16]) > 200 else "gray"


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_the_first_frame_that_is_not_blank(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    assert color_of(write_frames(path, RED, GREEN)) == "red"
    assert color_of(write_frames(path, BLACK, GREEN, RED)) == "green"
    assert color_of(write_frames(path, CLEAR, BLACK, RED)) == "red"
    assert color_of(write_frames(path, BLACK, (0, 0, 0, 255))) == "gray"  # nothing else there: the first


def test_dark_is_not_blank(tmp_path):
    assert read_image(write_frames(tmp_path / "a.gif", (20, 16, 16, 255), RED))[0].max() == 20


def test_a_deep_gray_page(tmp_path):
    pages = [Image.fromarray(np.full((8, 8), level, np.uint16)) for level in (100, 40000)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "a.tif")[0].max() == round(40000 / 257)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
@pytest.mark.parametrize("first_level", [0, 255])  # blank, so that the damaged one is tried; and not
def test_later_frames_may_be_cut_off(tmp_path, suffix, first_level):
    noise = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    frames = [Image.fromarray(np.full((64, 64, 3), first_level, np.uint8)), *map(Image.fromarray, noise)]
    frames[0].save(tmp_path / "a", suffix.replace("tif", "tiff"), save_all=True, append_images=frames[1:])
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) * 2 // 5])
    image, _ = read_image(tmp_path / "cut")
    assert image.shape == (64, 64, 3) and np.ptp(image) == 0 and image[0, 0, 0] == first_level


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for share in (0.02, 0.3, 0.9):
        cut.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ImageError, match=f"cut.{suffix}"):
            read_image(cut)


def test_what_is_no_image(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, message in (
        ("empty.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("missing.jpg", "no such file"),
        (".", "folder"),
    ):
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / name)


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    # A valid header that promises 20000 x 20000 pixels, which would be 1.2 GB.
    bomb = tmp_path / "bomb.ppm"
    bomb.write_bytes(b"P6\n20000 20000\n255\n" + bytes(100))
    with pytest.raises(ImageError, match=r"bomb\.ppm: too large"):
        read_image(bomb)


def write_heic(path, array, **save):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.fromarray(array).save(path, "HEIF", quality=100, **save)
    return path


def forget_heif(monkeypatch):
    """Pillow as it is in a new process, before anything has registered pillow-heif."""
    for table in (Image.OPEN, Image.SAVE):
        monkeypatch.delitem(table, "HEIF", raising=False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])


@pytest.mark.parametrize("name", ["a.heic", "renamed.jpg"])
def test_heic(tmp_path, monkeypatch, name):
    array = picture(48, 80)
    path = write_heic(tmp_path / name, array, exif=exif_with_focal(28, (80, 48), 6).tobytes())
    forget_heif(monkeypatch)
    image, info = read_image(path)
    assert np.abs(image.astype(int) - np.rot90(array, -1)).mean() < 6  # upright once, and not twice
    assert info.focal == pytest.approx(28 / np.hypot(36, 24) * np.hypot(48, 80))
    assert read_image(path)[0].shape == (80, 48, 3)


def test_the_primary_image_of_a_heic(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    images = [Image.new("RGB", (64, 64), color) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    images[0].save(tmp_path / "a.heic", save_all=True, append_images=images[1:], primary_index=1)
    assert read_image(tmp_path / "a.heic")[0][32, 32].argmax() == 1


def test_a_heic_without_pillow_heif(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    forget_heif(monkeypatch)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"a\.heic: .*pip install 'n2f-jax\[heif\]'$"):
        read_image(tmp_path / "a.heic")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    read_image(tmp_path / "b.png")  # asks for nothing


def test_a_damaged_heic(tmp_path):
    content = write_heic(tmp_path / "a.heic", picture(48, 80)).read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.heic").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ImageError, match=r"cut\.heic: truncated or damaged"):
            read_image(tmp_path / "cut.heic")


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif(tmp_path, monkeypatch):
    array = picture(48, 80)
    Image.fromarray(array).save(tmp_path / "a.avif", quality=100, exif=exif_with_focal(28, orientation=6))
    image, info = read_image(tmp_path / "a.avif")
    assert np.abs(image.astype(int) - np.rot90(array, -1)).mean() < 3
    assert info.focal == pytest.approx(28 / np.hypot(36, 24) * np.hypot(48, 80))
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(ImageError, match=r"a\.avif: AVIF needs Pillow 11\.3"):
        read_image(tmp_path / "a.avif")


def test_formats_by_their_first_bytes(tmp_path):
    names = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
    for name in (*names, *(["AVIF"] if features.check("avif") else [])):
        Image.fromarray(picture()).save(tmp_path / name, name)
        assert image_format((tmp_path / name).read_bytes()[:HEAD_SIZE]) == name
    assert image_format(write_heic(tmp_path / "h", picture(48, 80)).read_bytes()[:HEAD_SIZE]) == "HEIF"
    # The brand that HEIF and AVIF share, told apart by the compatible ones.
    shared = b"\0\0\0\x1cftypmif1\0\0\0\0mif1%smiaf"
    assert image_format(shared % b"heic") == "HEIF" and image_format(shared % b"avif") == "AVIF"
    for other in (b"", b"BMW is a maker of cars, and this is text", b"P5 paper", b"RIFF\0\0\0\0WAVEfmt ",
                  b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", b"%PDF-1.7", b"\x93NUMPY"):  # fmt: skip
        assert image_format(other) is None, other


def test_a_large_image_takes_its_own_memory_and_that_of_the_result(tmp_path, monkeypatch):
    """13,300² RGBA pixels took 4.7 GB, seven copies; here the rows that are converted at once are counted."""
    array = np.random.default_rng(0).integers(0, 256, (300, 200, 4), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    whole, _ = read_image(tmp_path / "a.png")
    seen = []
    composite = Image.alpha_composite
    monkeypatch.setattr(images, "_BAND_PIXELS", 4000)
    monkeypatch.setattr(Image, "alpha_composite", lambda a, b: seen.append(a.size) or composite(a, b))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], whole)
    assert seen == [(200, 20)] * 15


def test_blank_frames_are_looked_at_up_to_a_number_of_pixels(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (10, 10), (i // 5 * 200,) * 3) for i in range(6)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.tif")[0].max() == 200
    monkeypatch.setattr(images, "_MAX_PIXELS_OF_FRAMES", 500)
    assert read_image(tmp_path / "a.tif")[0].max() == 0


@pytest.mark.timeout(30)
def test_what_is_no_regular_file_and_what_is_a_program(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    with pytest.raises(ImageError, match="not an image in a format"):
        read_image(tmp_path / "a.eps")


def test_in_memory_it_is_the_same(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)).save(stream, "PNG", exif=exif)
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    image, info = decode_image(stream.getvalue(), "it")
    expected, of_file = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, expected)
    assert info == of_file and image.shape == (8, 6, 3)
    for content, message in (
        (b"", "it: it is empty"),
        (b"x", "it: not an image"),
        (stream.getvalue()[:50], "it: trunc"),
    ):
        with pytest.raises(ImageError, match=message):
            decode_image(content, "it")


def test_more_pixels_than_asked_for_are_refused():
    """Of later pages too, which differ in size."""
    stream = io.BytesIO()
    pages = [Image.new("L", (size, size), level) for size, level in ((4, 0), (20, 90), (4, 50))]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    assert decode_image(stream.getvalue(), "it")[0].shape == (20, 20, 3)
    assert (
        decode_image(stream.getvalue(), "it", 100)[0].max() == 0
    )  # the page that would be taken is too large
    with pytest.raises(TooLargeError, match="4 × 4 pixels are more than 1e-05 megapixels"):
        decode_image(stream.getvalue(), "it", 10)
