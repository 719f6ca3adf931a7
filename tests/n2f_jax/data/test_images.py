"""Every kind of file a stranger may hand in, made here."""

import numpy as np
import pytest
from PIL import Image

from n2f_jax.data.images import ImageError, read_image

FOCAL_35MM, PIXEL_X, PIXEL_Y, EXIF_IFD, ORIENTATION = 0xA405, 0xA002, 0xA003, 0x8769, 0x0112


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
    exif[ORIENTATION] = orientation
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
    # Cropped: the field of view is unknown.
    Image.new("RGB", (20, 20)).save(tmp_path / "c.jpg", exif=exif_with_focal(28, (6000, 4000)))
    assert read_image(tmp_path / "c.jpg")[1].focal is None
    # Cameras without the value write 0.
    Image.new("RGB", (30, 20)).save(tmp_path / "d.jpg", exif=exif_with_focal(0))
    assert read_image(tmp_path / "d.jpg")[1].focal is None


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0))]
    for name, options in (("a.gif", {}), ("a.png", {}), ("a.tif", {})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        image, _ = read_image(tmp_path / name)
        assert image[4, 4, 0] > 240 and image[4, 4, 1] < 10, name


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
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    for name, message in (
        ("empty.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("phone.heic", "pillow-heif"),
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
