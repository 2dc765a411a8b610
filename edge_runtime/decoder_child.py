"""Child process that decodes images of rarely used formats; see `edge_runtime.decoder_process`."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

import numpy as np

from edge_runtime.decoder_process import ANSWER, DECODED, LENGTH, MAX_SENTENCE_BYTES, REFUSED
from edge_runtime.errors import ImageError
from edge_runtime.preprocess import MAX_PIXELS, decode_here

# Beside what is mapped at the start: an image of 16 bits with alpha, and its copy in 8 bits.
_MEMORY_BYTES = 12 * MAX_PIXELS


def main() -> None:
    """Answer requests on standard input until it ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # native libraries write to it
    _limit_memory()
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        try:
            image = decode_here(requests.read(LENGTH.unpack(head)[0]))
        except (ImageError, MemoryError) as error:
            sentence = str(error) or "needs more memory than an image of the largest size"
            content = sentence.encode(errors="replace")[:MAX_SENTENCE_BYTES]
            answers.write(ANSWER.pack(REFUSED, len(content), 0) + content)
        else:
            answers.write(ANSWER.pack(DECODED, *image.shape[:2]))
            answers.write(np.ascontiguousarray(image).data)
            del image  # before the next, which needs its memory
        answers.flush()


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # no /proc: then no limit either
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = mapped + _MEMORY_BYTES
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
