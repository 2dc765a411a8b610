"""Cache of decoded and resized images in a memory-mapped file, shared by later runs.

The key is made of the contents of the files and of the geometry, so labels, names and splits may change. An epoch reads
the file through the kernel's page cache: a set that is larger than memory streams from the disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.errors import OutputError
from edge_runtime.platform.atomic import atomic_directory
from edge_runtime.platform.board import core_count
from edge_runtime.platform.process import cache_folder
from edge_runtime.preprocess import prepare
from edge_runtime.workstation.datasets.samples import Sample
from train.intake.facts import Facts, examine, facts_from_json, facts_to_json

_LAYOUT_VERSION = 1
_IMAGES_FILE = "images.npy"
_FACTS_FILE = "facts.json"
_MARKER = "COMPLETE"
_DEFAULT_LIMIT_GIB = 20.0


@dataclass(frozen=True)
class Pixels:
    """Prepared images, one per different file content.

    Attributes:
        images_nhwc_rgb_u8: uint8 [contents, H, W, 3] RGB, mapped from the cache; rows of unreadable files are 0.
        row_of: SHA-256 to row.
        facts: SHA-256 to what is known of the file.
    """

    images_nhwc_rgb_u8: NDArray[np.uint8]
    row_of: Mapping[str, int]
    facts: Mapping[str, Facts]


def load_pixels(samples: Sequence[Sample], spec: InputSpec, progress: Callable[[int], None] | None = None) -> Pixels:
    """Give the prepared images of a set, from the cache where they are there already.

    Args:
        samples: With ``sha256``; files with the same bytes share a row.
        spec: Geometry of the model's input.
        progress: Called with 1 after each content that is decoded.

    Raises:
        OutputError: The cache cannot be written, for want of space for example.
    """
    paths = {sample.sha256: sample.path for sample in samples}
    hashes = sorted(paths)
    folder = cache_folder() / "pixels" / _key(hashes, spec)
    row_of = {sha256: row for row, sha256 in enumerate(hashes)}
    try:
        if (folder / _MARKER).is_file():
            with contextlib.suppress(OSError, ValueError):
                return _open(folder, row_of)
        with contextlib.suppress(_FinishedElsewhereError):
            _build(folder, [paths[sha256] for sha256 in hashes], hashes, spec, progress)
        _evict(folder)
        return _open(folder, row_of)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputError(
            f"{folder}: prepared images cannot be kept ({reason}); make room, or name another folder in EDGEKIT_CACHE"
        ) from error


class _FinishedElsewhereError(Exception):
    """Another process has made the same cache meanwhile."""


def _key(hashes: Sequence[str], spec: InputSpec) -> str:
    geometry = json.dumps(asdict(spec), sort_keys=True)
    text = "\n".join([str(_LAYOUT_VERSION), cv2.__version__, geometry, *hashes])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _open(folder: Path, row_of: Mapping[str, int]) -> Pixels:
    (folder / _MARKER).touch()  # its time says when the cache was last used
    images: NDArray[np.uint8] = np.lib.format.open_memmap(folder / _IMAGES_FILE, mode="r")
    facts = {entry.sha256: entry for entry in facts_from_json((folder / _FACTS_FILE).read_text(encoding="utf-8"))}
    if set(facts) != set(row_of) or len(images) != max(1, len(row_of)):
        raise ValueError("the cache does not hold what its name says")
    return Pixels(images, row_of, facts)


def _build(
    folder: Path, paths: Sequence[Path], hashes: Sequence[str], spec: InputSpec, progress: Callable[[int], None] | None
) -> None:
    try:
        # A damaged cache of the same name is replaced.
        with atomic_directory(folder, marker=_MARKER, overwrite=(folder / _MARKER).is_file()) as temporary:
            images = _allocate(temporary / _IMAGES_FILE, (max(1, len(paths)), *spec.shape_hwc))
            facts = _decode(paths, hashes, spec, images, progress)
            images.flush()
            (temporary / _FACTS_FILE).write_text(facts_to_json(facts), encoding="utf-8")
            (temporary / _MARKER).touch()
    except OutputError as error:
        if not (folder / _MARKER).is_file():
            raise
        raise _FinishedElsewhereError from error
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not (folder / _MARKER).is_file():
            raise
        raise _FinishedElsewhereError from error


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("rb+") as file:
        # A disk that fills up later would kill the process with SIGBUS when it writes to the map.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def _decode(
    paths: Sequence[Path],
    hashes: Sequence[str],
    spec: InputSpec,
    images: NDArray[np.uint8],
    progress: Callable[[int], None] | None,
) -> list[Facts]:
    def decode(row: int) -> Facts:
        facts, image = examine(paths[row])
        if facts.sha256 != hashes[row]:
            return Facts.unusable(hashes[row], "was changed while it was read")
        if image is not None:
            images[row] = prepare(image, spec)
        return facts

    with ThreadPoolExecutor(core_count()) as pool:
        results = []
        for facts in pool.map(decode, range(len(paths))):
            results.append(facts)
            if progress:
                progress(1)
    return results


def _evict(newest: Path) -> None:
    """Remove the caches that were not used for longest, until the rest is within ``$EDGEKIT_CACHE_GIB`` (20)."""
    try:
        limit = float(os.environ.get("EDGEKIT_CACHE_GIB", _DEFAULT_LIMIT_GIB)) * 2**30
    except ValueError:
        limit = _DEFAULT_LIMIT_GIB * 2**30
    folders = [folder for folder in newest.parent.iterdir() if (folder / _MARKER).is_file() and folder != newest]
    folders.sort(key=lambda folder: (folder / _MARKER).stat().st_mtime, reverse=True)
    total = (newest / _IMAGES_FILE).stat().st_size
    for folder in folders:
        total += (folder / _IMAGES_FILE).stat().st_size
        if total > limit:
            shutil.rmtree(folder, ignore_errors=True)
