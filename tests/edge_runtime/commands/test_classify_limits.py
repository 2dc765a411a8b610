"""Bad images in a folder: classified or one clear error each, and never much memory, whatever they claim."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.preprocess import MAX_PIXELS
from support.images import encode, plain_image, write_image
from support.programs import run_code

# Classifies a folder, then prints to standard error how many MiB its memory grew beyond that of one small image.
MEASURED = """
import sys
from pathlib import Path
from edge_runtime.cli import cli
def peak_kib():
    return int(next(line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")).split()[1])
model, small, folder = sys.argv[1:]
cli.main(["classify", model, small], standalone_mode=False)
before = peak_kib()
code = cli.main(["classify", model, folder, "--format", "jsonl", "--workers", "2"], standalone_mode=False)
print((peak_kib() - before) / 1024, file=sys.stderr)
sys.exit(code)
"""


def classify_measured(model, folder, tmp_path):
    """Exit code, record by file name, and MiB of memory."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system has no /proc to measure memory with")
    small = write_image(tmp_path / "small.png", plain_image(0, 8, 8))
    done = run_code(MEASURED, model, small, folder, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, {Path(record["source"]).name: record for record in records}, float(done.stderr.split()[-1])


def test_awkward_images_are_classified_or_one_error_each(tiny_bundle, real_data, tmp_path):
    folder = real_data("awkward_images")
    code, records, grown_mib = classify_measured(tiny_bundle, folder, tmp_path)
    assert code == 1
    assert set(records) == {path.name for path in folder.iterdir()}
    refused = {name for name, record in records.items() if "error" in record}
    # Those that are damaged or of a kind that OpenCV has no decoder for; a newer OpenCV may read more.
    bad = {"decompression_bomb.gif", "hopper_rle8_row_overflow.bmp", "old-style-jpeg-compression.tif", "ultrahdr.jpg"}
    assert refused <= bad
    assert "decompression_bomb.gif" in refused
    assert grown_mib < 200


def png(width, height):
    """A PNG that claims a size, and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999)))


def jpeg(width, height):
    whole = bytearray(encode(plain_image(0, 16, 16)))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def bmp(width, height):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + info + bytes(99)


def gif(width, height):
    whole = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return whole + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00;"


def tiff(width, height):
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 8), (277, 3), (278, height), (279, 99)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(99)


@pytest.mark.parametrize("side_px", [65_000, 20_000, int(MAX_PIXELS**0.5) + 1])
def test_what_claims_to_be_huge_is_refused_before_it_is_decoded(tiny_bundle, tmp_path, side_px):
    folder = tmp_path / "huge"
    folder.mkdir()
    for make in (png, jpeg, bmp, gif, tiff):
        (folder / f"a.{make.__name__}").write_bytes(make(side_px, side_px))
    code, records, grown_mib = classify_measured(tiny_bundle, folder, tmp_path)
    assert (code, len(records)) == (3, 5)
    assert all("error" in record for record in records.values())
    assert grown_mib < 40


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype"),
    [(".jpg", 3, np.uint8), (".png", 3, np.uint8), (".png", 4, np.uint8), (".png", 4, np.uint16)],
)
def test_the_largest_image_that_is_taken_stays_within_200_mb(tmp_path, suffix, channels, dtype):
    # A file of few bytes that unpacks to the limit; what it takes is read in a process of its own.
    side_px = int((MAX_PIXELS * 3 / max(3, channels * np.dtype(dtype).itemsize)) ** 0.5)
    image = write_image(tmp_path / f"large{suffix}", np.full((side_px, side_px, channels), 100, dtype))
    probe = (
        "import sys; from pathlib import Path; from edge_runtime.preprocess import load_image\n"
        "def peak(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])\n"
        "before = peak(); load_image(Path(sys.argv[1])); print((peak() - before) * 1024)"
    )
    assert side_px**2 * 3 < int(run_code(probe, image).stdout) < 205e6
