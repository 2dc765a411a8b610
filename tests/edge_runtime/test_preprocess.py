"""Decoding, cropping and resizing: every kind of image becomes the same kind of array, and exactly the same one."""

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract import Crop, InputSpec
from edge_runtime.errors import ImageError
from edge_runtime.preprocess import decode_image, load_image, load_prepared, may_have_alpha, prepare, read_size_wh
from support.images import encode, noisy_images, plain_image

# Images of the wild that the installed OpenCV does not decode.
REFUSED = {"decompression_bomb.gif", "hopper_rle8_row_overflow.bmp", "old-style-jpeg-compression.tif", "ultrahdr.jpg"}


def gradient(height, width):
    """uint8 [height, width, 3]: red grows downwards, green rightwards, blue is constant."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, :, 0] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    image[:, :, 1] = np.linspace(0, 255, width, dtype=np.uint8)[None, :]
    return image


def test_channels_come_out_as_rgb():
    assert decode_image(encode(plain_image((0, 0, 255)), ".png"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)], ids=["grey", "color"])
@pytest.mark.parametrize("pixel", [np.uint8(90), np.uint16(90 * 257)], ids=["8-bit", "16-bit"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_every_depth_becomes_8_bit_rgb(shape, pixel, suffix):
    decoded = decode_image(encode(np.full(shape, pixel), suffix))
    assert (decoded.dtype, decoded.shape) == (np.uint8, (6, 9, 3))
    assert np.all(decoded == 90)


def with_chunk(png, kind, body):
    """The PNG with one more chunk before its pixels."""
    at = png.index(b"IDAT") - 4
    chunk = len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
    return png[:at] + chunk + png[at:]


def test_only_what_may_be_transparent_is_decoded_with_alpha(monkeypatch):
    opaque, alpha = gradient(5, 7), np.dstack([gradient(5, 7), np.full((5, 7), 9, np.uint8)])
    asked, real = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: asked.append(flags) or real(data, flags))
    noted = with_chunk(encode(opaque, ".png"), b"tEXt", b"IDAT\0tRNS")
    images = [
        encode(opaque, ".png"),
        encode(opaque[:, :, 0], ".png"),
        noted,
        encode(alpha, ".png"),
        encode(alpha, ".webp"),
    ]
    for data in images:
        decode_image(data)
    assert asked == [cv2.IMREAD_COLOR_RGB] * 3 + [cv2.IMREAD_UNCHANGED] * 2
    assert may_have_alpha(with_chunk(encode(opaque, ".png"), b"tRNS", bytes(6)))
    assert not may_have_alpha(encode(opaque, ".jpg"))


@given(st.binary(max_size=60), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBPVP8X", b"GIF89a", b""]))
def test_any_header_says_whether_it_may_have_alpha(rest, start):
    assert may_have_alpha(start + rest) in (True, False)


def test_no_real_image_with_alpha_is_taken_for_opaque(real_data):
    found = 0
    for path in sorted(real_data("awkward_images").iterdir()):
        data = path.read_bytes()
        if data.startswith((b"\x89PNG", b"RIFF", b"GIF8")):
            try:
                stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            except cv2.error:
                continue
            if stored is not None and stored.ndim == 3 and stored.shape[2] == 4:
                found += 1
                assert may_have_alpha(data), path
    assert found > 5


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_transparency_is_laid_over_white(depth):
    top = np.iinfo(depth).max
    bgra = np.zeros((1, 3, 4), depth)  # black: opaque, half and fully transparent
    bgra[0, :, 3] = [top, top // 2, 0]
    decoded = decode_image(encode(bgra, ".png"))
    assert decoded[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]


def jpeg_with_orientation(image_bgr, orientation):
    """A JPEG with an EXIF segment that holds one entry, tag 0x0112."""
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    segment, jpeg = b"Exif\0\0" + tiff, encode(image_bgr, ".jpg")
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(1, None), (3, cv2.ROTATE_180), (6, cv2.ROTATE_90_CLOCKWISE), (8, cv2.ROTATE_90_COUNTERCLOCKWISE)],
)
def test_exif_orientation_is_applied(orientation, undo):
    stored_bgr = gradient(32, 48)[:, :, ::-1].copy()
    upright = decode_image(encode(stored_bgr, ".jpg"))
    expected = upright if undo is None else cv2.rotate(upright, undo)
    assert np.array_equal(decode_image(jpeg_with_orientation(stored_bgr, orientation)), expected)


def test_bad_files_are_image_errors(tmp_path):
    jpeg, png = encode(gradient(64, 64), ".jpg"), encode(gradient(64, 64), ".png")
    for data in (b"", b"hello", b"\xff\xd8\xff", jpeg[: len(jpeg) // 2], jpeg[:-20], png[: len(png) // 2], png[:-30]):
        with pytest.raises(ImageError):
            decode_image(data)
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(ImageError, match="cannot be read"):
            load_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_bomb_is_refused_before_its_pixels_are_decoded(suffix):
    bomb = encode(np.zeros((9000, 9000), np.uint8), suffix)
    with pytest.raises(ImageError, match="at most 34 million pixels, got 9000x9000"):
        decode_image(bomb)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".avif"])
@given(height=st.integers(1, 70), width=st.integers(1, 70), quality=st.sampled_from([50, 101]))
@settings(max_examples=20)
def test_the_header_says_what_decoding_gives(suffix, height, width, quality):
    # WebP above quality 100 is lossless, another kind of header.
    data = encode(gradient(height, width), suffix, cv2.IMWRITE_WEBP_QUALITY, quality)
    assert (read_size_wh(data), decode_image(data).shape) == ((width, height), (height, width, 3))


def test_the_header_of_real_images(real_data):
    for path in sorted(real_data("awkward_images").iterdir()):
        size_wh = read_size_wh(path.read_bytes())
        if size_wh is None:
            assert path.suffix in (".tif", ".tiff")
        elif path.name not in REFUSED:
            # An EXIF orientation may swap the sides.
            assert sorted(size_wh) == sorted(load_image(path).shape[:2])


@given(
    data=st.binary(max_size=400),
    prefix=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]),
)
@settings(max_examples=150)
def test_random_bytes_never_raise_anything_else(data, prefix):
    try:
        image = decode_image(prefix + data)
    except ImageError:
        return
    assert (image.dtype, image.ndim) == (np.uint8, 3)


sides = st.integers(1, 90)


@given(height=sides, width=sides, out_h=st.integers(1, 40), out_w=st.integers(1, 40), crop=st.sampled_from(list(Crop)))
@settings(max_examples=200)
def test_any_size_becomes_the_models_size(height, width, out_h, out_w, crop):
    prepared = prepare(gradient(height, width), InputSpec(out_h, out_w, crop))
    assert (prepared.shape, prepared.dtype) == ((out_h, out_w, 3), np.uint8)
    assert prepared.flags.c_contiguous


@given(height=sides, width=sides, value=st.integers(0, 255), crop=st.sampled_from([Crop.CENTER, Crop.STRETCH]))
def test_a_plain_image_stays_plain(height, width, value, crop):
    prepared = prepare(np.full((height, width, 3), value, np.uint8), InputSpec(16, 16, crop))
    assert np.all(prepared == value)


def test_center_keeps_the_middle_and_fraction_narrows_it():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    assert np.all(prepare(image, InputSpec(50, 50)) == 255)
    image[:10], image[-10:] = 0, 0
    assert not np.all(prepare(image, InputSpec(50, 50)) == 255)
    assert np.all(prepare(image, InputSpec(40, 40, Crop.CENTER, 0.8)) == 255)


def test_stretch_keeps_the_whole_image_and_letterbox_adds_grey_bars():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 150:] = 255
    stretched = prepare(image, InputSpec(50, 50, Crop.STRETCH))
    assert (stretched[:, :24].max(), stretched[:, 26:].min()) == (0, 255)
    boxed = prepare(plain_image(255, 100, 200), InputSpec(40, 40, Crop.LETTERBOX))
    assert np.all(boxed[10:30] == 255)
    assert np.all(np.delete(boxed, slice(10, 30), axis=0) == 128)


def test_shrinking_by_a_factor_is_the_rounded_mean_of_the_block():
    image = noisy_images(1, 64)[0]
    mean = image.reshape(16, 4, 16, 4, 3).astype(np.float64).mean(axis=(1, 3))
    assert np.abs(prepare(image, InputSpec(16, 16)).astype(np.float64) - mean).max() <= 0.5


def test_shrinking_does_not_alias():
    # A one-pixel checkerboard must become grey, not a pattern.
    image = np.zeros((333, 333, 3), np.uint8)
    image[::2, ::2], image[1::2, 1::2] = 255, 255
    assert abs(prepare(image, InputSpec(32, 32)).astype(int) - 128).max() < 20


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_wrong_arrays_are_refused(array):
    with pytest.raises(ImageError, match="expected a"):
        prepare(array, InputSpec(8, 8))


def test_the_awkward_images_of_the_wild(real_data):
    """Every format that OpenCV reads decodes; bombs, truncated and old-style files are one sentence each."""
    found = set()
    for path in sorted(real_data("awkward_images").iterdir()):
        try:
            assert load_prepared(path, InputSpec(32, 32)).shape == (32, 32, 3)
        except ImageError:
            found.add(path.name)
    assert found == REFUSED
