"""Decode the pictures of a set once, into one ``.npy`` file that every measuring process reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from edge_runtime.contract import InputSpec
from edge_runtime.datasets.decode import decode_all
from edge_runtime.errors import OutputError

CHUNK_BYTES = 32 << 20
"""Prepared pictures in memory at a time: a parent that holds a whole set has none left for the children on a board."""


def write_pictures(
    paths: Sequence[Path], spec: InputSpec, file: Path, *, progress: Callable[[int], None] | None = None
) -> tuple[tuple[int, ...], tuple[tuple[int, str], ...]]:
    """Decode picture files by the contract into ``file``: uint8 [kept, H, W, 3] RGB.

    Args:
        paths: Picture files.
        spec: The geometry.
        file: The ``.npy`` file to be written.
        progress: Called with 1 after each picture.

    Returns:
        Of the kept pictures, the indices in ``paths``; of the others, (index, reason).

    Raises:
        OutputError: The file cannot be written, for want of room most likely.
    """
    kept: list[int] = []
    failures: list[tuple[int, str]] = []
    step = max(1, CHUNK_BYTES // (spec.height * spec.width * 3))
    try:
        with file.open("wb") as stream:
            _write_header(stream, len(paths), spec)
            for first in range(0, len(paths), step):
                decoded = decode_all(paths[first : first + step], spec, progress=progress)
                stream.write(decoded.images_nhwc_rgb_u8.data)
                kept += [first + index for index in decoded.kept]
                failures += [(first + index, reason) for index, reason in decoded.failures]
            # NumPy keeps room in a header for any number of pictures, so this one is as long as the first.
            stream.seek(0)
            _write_header(stream, len(kept), spec)
    except OSError as error:
        size_mib = len(paths) * spec.height * spec.width * 3 / (1 << 20)
        raise OutputError(
            f"{file}: cannot be written ({error.strerror}); {len(paths)} prepared pictures take {size_mib:.0f} MiB: "
            "give a smaller --limit, or name a folder with more room in TMPDIR"
        ) from error
    return tuple(kept), tuple(failures)


def _write_header(stream: IO[bytes], count: int, spec: InputSpec) -> None:
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (count, *spec.shape_hwc)}
    )
