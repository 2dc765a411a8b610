"""What is known of one file: by content, once, without ever failing, and the same after a round trip through JSON."""

import hashlib
import json
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from support.images import encode
from train.intake import facts as reading


def photo(height=90, width=120, seed=0):
    """Smooth blobs, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tiff", ".avif"])
def test_the_format_is_told_by_content(suffix, tmp_path):
    data = encode(photo(), suffix)
    path = tmp_path / "called.wrong"
    path.write_bytes(data)
    facts, image = reading.examine(path)
    assert facts.format == ("jpeg" if suffix == ".jpg" else suffix[1:])
    assert (facts.width_px, facts.height_px, facts.size_bytes) == (120, 90, len(data))
    assert (facts.sha256, facts.problem) == (hashlib.sha256(data).hexdigest(), "")
    assert image is not None
    assert image.shape == (90, 120, 3)
    assert reading.examine(path, data)[0] == facts


def test_the_hash_is_that_of_imagehash_and_the_thumbnail_is_the_image(tmp_path):
    data = encode(photo(64, 64), ".png")
    facts, image = reading.examine(tmp_path / "x", data)
    assert image is not None
    expected = imagehash.phash(Image.fromarray(image).convert("L"))
    assert bin(facts.phash ^ int(str(expected), 16)).count("1") <= 4
    thumb = np.frombuffer(facts.thumb_rgb_u8, np.uint8).reshape(16, 16, 3)
    assert np.abs(thumb.astype(int) - image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))).max() <= 1


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("empty", b"", "expected an image, got an empty file"),
        ("html", b"<!doctype html><p>404", reading.NOT_AN_IMAGE),
        ("jpeg", encode(photo(200, 300), ".jpg")[:1500], reading.TRUNCATED),
        ("png", encode(photo(), ".png")[:2000], reading.TRUNCATED),
        ("gif", encode(photo(), ".gif")[:500], reading.TRUNCATED),
        ("webp", encode(photo(), ".webp")[:300], reading.TRUNCATED),
        ("bmp", encode(photo(), ".bmp")[:300], reading.TRUNCATED),
        ("heic", b"\0\0\0\x18ftypheic" + bytes(40), "is a HEIC image, which is not supported: convert it to JPEG"),
        ("bomb", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0", "expected at most 34 million pixels"),
    ],
)
def test_a_bad_file_says_why(name, data, problem, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    facts, image = reading.examine(path)
    assert (image, facts.sha256) == (None, hashlib.sha256(data).hexdigest())
    assert facts.problem.startswith(problem)
    assert (facts.width_px, facts.height_px, facts.phash, facts.thumb_rgb_u8) == (0, 0, 0, b"")


def test_a_missing_file_says_why(tmp_path):
    unusable = reading.Facts.unusable("", "cannot be read (No such file or directory)")
    assert reading.examine(tmp_path / "gone.png") == (unusable, None)


def test_a_file_beyond_the_limit_is_hashed_whole_and_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr("edge_runtime.preprocess.MAX_FILE_BYTES", 100)
    data = encode(photo(), ".png")
    (tmp_path / "x.png").write_bytes(data)
    facts, _ = reading.examine(tmp_path / "x.png")
    assert (facts.sha256, facts.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert facts.problem.startswith("expected at most")


@given(st.binary(max_size=60))
def test_any_bytes_are_examined_without_an_error(data):
    for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0"):
        facts, image = reading.examine(Path("x"), start + data)
        assert (image is None) == bool(facts.problem)


def test_suffixes_are_judged_only_where_the_format_is_known():
    assert reading.has_wrong_suffix(Path("a.JPG"), "png")
    assert not reading.has_wrong_suffix(Path("a.JPG"), "jpeg")
    assert not reading.has_wrong_suffix(Path("a.jpg"), "")
    assert not reading.has_wrong_suffix(Path("a.jpg"), "heic")
    assert reading.image_format(b"") == ""


def test_facts_survive_json(tmp_path):
    whole = reading.examine(tmp_path / "x", encode(photo(), ".png"))[0]
    facts = [whole, reading.Facts.unusable("ab", "ü is broken", size=3)]
    assert reading.facts_from_json(reading.facts_to_json(facts)) == facts


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("rows"),
        lambda data: data.update(version=2),
        lambda data: data["rows"][0].pop(),
        *(
            lambda data, place=place, value=value: data["rows"][0].__setitem__(place, value)
            for place, value in ((1, "3"), (1, True), (5, "zz"), (6, "AAAA"), (6, "*"))
        ),
    ],
)
def test_damaged_facts_are_a_value_error(damage, tmp_path):
    data = json.loads(reading.facts_to_json([reading.examine(tmp_path / "x", encode(photo(), ".png"))[0]]))
    damage(data)
    for text in (json.dumps(data), json.dumps(data)[:-20]):
        with pytest.raises(ValueError):  # noqa: PT011 - the sentence differs by damage
            reading.facts_from_json(text)
