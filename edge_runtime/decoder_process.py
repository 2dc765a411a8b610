"""Decode images of rarely used formats in a child process, which a damaged file may crash, fill or keep busy.

Each thread has a child of its own (`edge_runtime.decoder_child`), so that a folder of such images uses all cores. A
request is the length of the file, 8 bytes, and the file; an answer is a status, height and width, 9 bytes, and the
pixels or a sentence. Little endian.
"""

from __future__ import annotations

import contextlib
import select
import struct
import subprocess
import threading
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ImageError
from edge_runtime.platform.childproc import isolated_command, signal_name

LENGTH = struct.Struct("<Q")
ANSWER = struct.Struct("<BII")
DECODED, REFUSED = 0, 1
MAX_SENTENCE_BYTES = 2000

_DEADLINE_S = 10.0
_MODULE = "edge_runtime.decoder_child"
_local = threading.local()


def decode_apart(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decode one image in a child process: uint8 [height, width, 3], RGB.

    Raises:
        ImageError: It cannot be decoded, crashed the child, or needed more than 10 seconds or more memory than an image
            of the largest size; or no child process can be started.
    """
    child: _Child | None = getattr(_local, "child", None)
    if child is None:
        child = _local.child = _Child()
    try:
        return child.decode(data, max_pixels)
    except (OSError, EOFError) as error:
        del _local.child
        raise ImageError(child.end()) from error
    except KeyboardInterrupt:
        del _local.child  # between a request and its answer
        raise


class _Child:
    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                isolated_command(_MODULE), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise ImageError(
                f"is decoded in a process of its own, and none can be started ({error.strerror})"
            ) from error
        self._in_time = True

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.end()

    def decode(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """Send one file and receive its pixels; EOFError or OSError if the child has ended or is too slow."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise EOFError
        requests.write(LENGTH.pack(len(data)))
        requests.write(data)
        requests.flush()
        if not select.select([answers], [], [], _DEADLINE_S)[0]:
            self._in_time = False
            raise EOFError
        status, height, width = ANSWER.unpack(_read(answers, ANSWER.size))
        if status == REFUSED and height <= MAX_SENTENCE_BYTES:
            raise ImageError(_read(answers, height).decode(errors="replace"))
        if status != DECODED or not 0 < height * width <= max_pixels:
            raise EOFError
        return np.frombuffer(_read(answers, height * width * 3), np.uint8).reshape(height, width, 3)

    def end(self) -> str:
        """Stop the child and say why it could not answer."""
        self._process.kill()
        with contextlib.suppress(OSError):  # a request that was not read
            self._process.__exit__(None, None, None)
        code = self._process.returncode
        if not self._in_time:
            return f"took more than {_DEADLINE_S:g} seconds to decode, so it is damaged or made to be slow"
        reason = signal_name(-code) if code < 0 else f"exit code {code}"
        return f"ended the process that decodes it ({reason}), so it is damaged; get it again or save it as PNG or JPEG"


def _read(stream: IO[bytes], count: int) -> bytearray:
    """Read exactly ``count`` bytes, into memory that an array may write to; EOFError if there are fewer."""
    content = bytearray(count)
    if stream.readinto(content) != count:  # type: ignore[attr-defined]
        raise EOFError
    return content
