"""Strict JPEG decoding for cameras: a damaged image is refused.

libjpeg fills missing parts with grey and only prints a warning, which OpenCV passes on to standard error. The capture
process reads its own standard error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.errors import ImageError
from edge_runtime.platform.process import KEEP_VARIABLE

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


_STDERR_FD = 2
_WARNINGS_BYTES = 4096
_START, _END = b"\xff\xd8", b"\xff\xd9"
_DAMAGED = re.compile("Corrupt JPEG data|Premature end of JPEG")
_HARMLESS = re.compile(r"Corrupt JPEG data: (\d{1,2}) extraneous bytes before marker")
"""Many USB cameras send a few extra bytes before a marker; hundreds mean that a part of the image was not read."""


class NativeWarnings:
    """Collect what native libraries write to standard error; a context manager for the capture process.

    With the environment variable EDGEKIT_NATIVE_STDERR the text is passed on as well.
    """

    def __enter__(self) -> NativeWarnings:
        self._visible = os.dup(_STDERR_FD)
        self._collected = os.memfd_create("edgekit-warnings")
        os.dup2(self._collected, _STDERR_FD)
        self._keep = bool(os.environ.get(KEEP_VARIABLE))
        return self

    def __exit__(self, *_: object) -> None:
        self.take()
        os.dup2(self._visible, _STDERR_FD)
        os.close(self._visible)
        os.close(self._collected)

    def take(self) -> str:
        """Return the text written since the last call."""
        # Both descriptors share one offset, which is the size; an intact image takes one system call.
        size = os.lseek(self._collected, 0, os.SEEK_CUR)
        if size == 0:
            return ""
        text = os.pread(self._collected, min(size, _WARNINGS_BYTES), 0)
        os.lseek(self._collected, 0, os.SEEK_SET)
        os.ftruncate(self._collected, 0)
        if self._keep:
            os.write(self._visible, text)
        return text.decode(errors="replace")


def decode_jpeg(data: bytes, take_warnings: Callable[[], str]) -> ImageU8:
    """Decode an intact JPEG.

    Args:
        data: JPEG from its first marker on; padding after the last one is ignored.
        take_warnings: Function that returns new warnings, `NativeWarnings.take`.

    Returns:
        uint8 [height, width, 3], RGB, oriented by EXIF.

    Raises:
        ImageError: Not a JPEG, too large, cut off or damaged.
    """
    from edge_runtime.preprocess import decode_image

    if not data.startswith(_START):
        raise ImageError("is not a JPEG")
    if data.rfind(_END) < 0:
        raise ImageError("a JPEG without its end")
    take_warnings()
    image = decode_image(data)
    warnings = take_warnings()
    if _DAMAGED.search(warnings) and not _HARMLESS.search(warnings):
        raise ImageError("a damaged JPEG")
    return image
