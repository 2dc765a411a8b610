"""Seeds and mutations: small files of every kind that edgekit reads, damaged in ways that reach deep into a parser."""

from __future__ import annotations

import json
import random
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.doctor.replay import write_tiny
from edge_runtime.testing import write_tiny_bundle, write_tiny_model
from support.images import encode

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_JPEG_OPTIONS = (
    (),
    (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
)


def image_seeds() -> list[bytes]:
    """Encode photos of noise and of flat colour in every format, also animated and with alpha."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    flat = np.full((200, 300, 4), (10, 90, 200, 120), np.uint8)
    seeds = [encode(image[:, :, :3], ".jpg", *options) for image in (noise, flat) for options in _JPEG_OPTIONS]
    seeds += [encode(image, suffix) for image in (noise, flat, noise[:, :, :3]) for suffix in (".png", ".webp")]
    seeds += [encode(noise[:, :, :3], suffix) for suffix in (".bmp", ".gif", ".tiff", ".avif")]
    seeds += [encode(noise[:, :, :3].astype(np.uint16) * 257, suffix) for suffix in (".png", ".tiff")]
    seeds += [encode(noise[:, :, 0], suffix) for suffix in (".png", ".jpg", ".tiff", ".bmp")]
    seeds += [encode(noise, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, kind) for kind in (1, 5, 8, 32773)]
    frames = cv2.Animation()
    frames.frames, frames.durations = [noise, flat[:48, :64], noise[::-1].copy()], np.array([90, 90, 90])
    for suffix in (".png", ".webp", ".gif"):
        encoded, data = cv2.imencodeanimation(suffix, frames)
        seeds += [data.tobytes()] * 4 if encoded else []
    return seeds


def model_seeds(suffix: str) -> list[bytes]:
    """Give the tiny models of edgekit; a ``.tflite`` with and without its own manifest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if suffix == ".onnx":
            return [write_tiny(folder, suffix).read_bytes()]
        written = (write_tiny_model(folder / f"{kind}.tflite", with_manifest=kind == "own") for kind in ("own", "bare"))
        return [path.read_bytes() for path in written]


def manifest_seeds() -> list[bytes]:
    """Give the manifest of the tiny bundle."""
    with tempfile.TemporaryDirectory() as name:
        return [(write_tiny_bundle(Path(name) / "bundle") / "manifest.json").read_bytes()]


def zip_seeds() -> list[bytes]:
    """Give zips of class folders, stored and deflated, with a readme and a Mac's leftovers."""
    image, seeds = encode(np.zeros((8, 8, 3), np.uint8), ".png"), []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "set.zip"
            with zipfile.ZipFile(path, "w", method) as archive:
                for member in ("set/a/1.png", "set/a/2.png", "set/b/3.png", "set/b/4.png"):
                    archive.writestr(member, image)
                archive.writestr("set/readme.txt", b"hello" * 50)
                archive.writestr("__MACOSX/set/._a", b"x")
            seeds.append(path.read_bytes())
    return seeds


def mutants(seeds: list[bytes], count: int, rng: random.Random) -> Iterator[bytes]:
    """Yield damaged copies of the seeds, one to six mutations each; a PNG gets right checksums in half of the cases."""
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            data = rng.choice(_MUTATIONS)(data, seeds, rng)
        yield _with_checksums(bytes(data)) if data.startswith(b"\x89PNG") and rng.random() < 0.5 else bytes(data)


def json_mutants(seeds: list[bytes], count: int, rng: random.Random) -> Iterator[bytes]:
    """Yield manifests with a value of another kind, size or name somewhere, or damaged as bytes."""
    values = (
        None,
        True,
        -1,
        10**30,
        1e308,
        float("nan"),
        "",
        "a" * 5000,
        "../x",
        "\0",
        "\x1b[2J",
        "\ud800",
        [],
        {},
        [[]],
    )
    for damaged in mutants(seeds, count, rng):
        if rng.random() < 0.3:
            yield damaged
            continue
        table = json.loads(rng.choice(seeds))
        place, keys = table, []
        while isinstance(place, (dict, list)) and place:
            keys.append(rng.choice(list(place) if isinstance(place, dict) else range(len(place))))
            if rng.random() < 0.2:
                break
            place = place[keys[-1]]
        holder = table
        for key in keys[:-1]:
            holder = holder[key]
        holder[keys[-1]] = rng.choice(values)
        yield json.dumps(table).encode("utf-8", "surrogatepass")


def _flip(data: bytearray, _seeds: list[bytes], rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 4, 16))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def _cut(data: bytearray, _seeds: list[bytes], rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data) + 1)]


def _number(data: bytearray, _seeds: list[bytes], rng: random.Random) -> bytearray:
    """Write a number at the edge of a type into a place of 1, 2 or 4 bytes, most often near the front."""
    layout = rng.choice(("<B", "<H", ">H", "<I", ">I"))
    end = min(len(data), rng.choice((64, 64, 512, len(data)))) - struct.calcsize(layout)
    if end > 0:
        mask = (1 << 8 * struct.calcsize(layout)) - 1
        struct.pack_into(layout, data, rng.randrange(end), rng.choice(_NUMBERS) & mask)
    return data


def _copy(data: bytearray, _seeds: list[bytes], rng: random.Random) -> bytearray:
    start, target = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((4, 30, 300))] * rng.choice((1, 1, 2, 50))
    return data[:target] + part + data[target:]


def _remove(data: bytearray, _seeds: list[bytes], rng: random.Random) -> bytearray:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 4, 30, 300)) :]


def _splice(data: bytearray, seeds: list[bytes], rng: random.Random) -> bytearray:
    other, cut = rng.choice(seeds), rng.randrange(len(data) + 1)
    return data[:cut] + bytearray(other[rng.randrange(len(other)) :])


_MUTATIONS: tuple[Callable[[bytearray, list[bytes], random.Random], bytearray], ...] = (
    *(_flip, _flip, _flip, _number, _number, _cut, _copy, _remove, _splice),
)


def _with_checksums(png: bytes) -> bytes:
    parts, offset = [png[:8]], 8
    while offset + 12 <= len(png):
        length = int.from_bytes(png[offset : offset + 4], "big")
        body = png[offset + 4 : offset + 8 + length]
        parts.append(png[offset : offset + 4] + body + struct.pack(">I", zlib.crc32(body)))
        offset += 12 + length
    return b"".join(parts) + png[offset:]
