"""Zips inside models and beside them, damaged or made to fill the memory: one error each."""

import shutil
import struct
import zipfile

import numpy as np
import pytest

from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.doctor.replay import replay
from edge_runtime.errors import IntegrityError
from edge_runtime.model.embedded import embedded_manifest
from edge_runtime.platform.zips import ZipLimitError, open_small_zip, read_member

MEMBERS = {MANIFEST_FILE: b"{}", "labels.txt": b"a\nb", "flatbuffer.sha256": b"0" * 64}


def model_with_zip(path, change=bytes, method=zipfile.ZIP_DEFLATED, extra=0, **members):
    """A file that ends with a zip; ``change`` edits the bytes of the zip."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in {**MEMBERS, **members}.items():
            archive.writestr(name, content)
        for index in range(extra):
            archive.writestr(f"{index}", b"")
    path.write_bytes(bytes(64) + change(path.read_bytes()))
    return path


def encrypted(data):
    at = data.index(b"PK\x01\x02")
    return data[: at + 8] + b"\x01\x00" + data[at + 10 :]


def cut_member(data):
    """The first member starts behind the end of the file."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 20] + struct.pack("<II", 1 << 20, 1 << 20) + data[at + 28 :]


def bad_stream(data):
    at = data.index(MANIFEST_FILE.encode()) + len(MANIFEST_FILE)
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"change": encrypted}, "encrypted"),
        ({"change": cut_member}, "holds [0-9]+ of"),
        ({"change": bad_stream}, "decompressing|CRC|Error"),
        ({"method": zipfile.ZIP_LZMA}, "packed in a rare way"),
        ({"method": zipfile.ZIP_BZIP2}, "packed in a rare way"),
        ({"extra": 2000}, "at most 1,000 entries"),
        ({MANIFEST_FILE: bytes(5 << 20)}, r"at most 4,194,304 bytes of manifest\.json"),
        ({"flatbuffer.sha256": b"\xff" * 64}, "codec"),
        ({"flatbuffer.sha256": bytes(5000)}, "at most 1,000 bytes"),
    ],
    ids=[
        "encrypted",
        "cut",
        "bad zlib",
        "lzma",
        "bzip2",
        "many entries",
        "large manifest",
        "not UTF-8",
        "long checksum",
    ],
)
def test_a_damaged_zip_in_a_model_is_one_error(tmp_path, facts, reason):
    with pytest.raises(IntegrityError, match=f"embedded metadata is damaged .*({reason})"):
        embedded_manifest(model_with_zip(tmp_path / "x.tflite", **facts))


def test_a_large_table_of_contents_is_not_read(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("n" * 60_000, b"")
        for index in range(20):
            archive.writestr(f"{index:060000}", b"")
    with pytest.raises(ZipLimitError, match="table of contents of at most 1 MiB"), open_small_zip(path):
        pass


def test_a_member_that_holds_zips_is_read(tmp_path):
    inner = b"PK\x01\x02" * 900
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", inner)
    with open_small_zip(tmp_path / "x.zip") as archive:
        assert read_member(archive, "a", 10_000) == inner


def huge_array(path):
    """An array that claims 8 TiB in its header."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 2)}".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("keras.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


@pytest.mark.parametrize(
    "damage",
    [
        huge_array,
        lambda path: path.write_bytes(encrypted(path.read_bytes())),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: np.savez(path, keras=np.array([{}], object)),
    ],
    ids=["huge array", "encrypted", "cut file", "pickle"],
)
def test_damaged_golden_inputs_are_one_error(tiny_bundle, tmp_path, damage):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    np.savez(bundle / "golden.npz", keras=np.zeros((1, 3), np.float32))
    damage(bundle / "golden.npz")
    with pytest.raises(IntegrityError, match=r"golden\.npz: cannot be read .* copy the bundle again"):
        replay(bundle, "int8")
