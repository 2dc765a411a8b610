"""Garbage: looked for rarely while edge-run starts, as usual while it works, so that a run of days does not grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

_RUN = """
import gc, sys
from edge_runtime.cli import cli
from edge_runtime.garbage import collect_rarely

usual = gc.get_threshold()
collect_rarely()
assert gc.get_threshold() != usual
cli(sys.argv[1:], standalone_mode=False)
assert gc.get_threshold() == usual
assert gc.get_freeze_count() > 1000
"""


@pytest.mark.parametrize("command", ["classify", "camera"])
def test_long_work_collects_as_usual(command: str, tiny_bundle: Path, tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    source = tmp_path / ("black.png" if command == "classify" else "black.avi")
    if command == "classify":
        cv2.imwrite(str(source), picture)
    else:
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 30, (16, 16))
        writer.write(picture)
        writer.release()
    arguments = [source] if command == "classify" else ["--source", source]
    run = subprocess.run(
        [sys.executable, "-c", _RUN, command, tiny_bundle, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "red" in run.stdout
