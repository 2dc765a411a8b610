"""Files and folders that tests prepare."""

import contextlib
import gc
from pathlib import Path

import pytest

from support.programs import run


def put(root, name, text=""):
    """Write a text file below ``root``, and the folders above it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def touch(*paths):
    """Write files of one byte, and the folders above them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def count_open_files():
    """Count this process' open files, without those that only wait for the garbage collector."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def small_file_system(folder, size="128k"):
    """Mount a file system of a size (as ``mount -o size=`` takes it) at a new folder, or skip the test."""
    folder.mkdir()
    done = run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here, which needs root ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        run("umount", "-l", folder, check=True)
