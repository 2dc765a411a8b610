"""Shared parts of the studies: installed programs, their environment, and the wording of ratios."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.processes import Finished, run_process

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIMEOUT_S = 3600.0


def installed_program(name: str) -> str:
    """Find a program of this package, such as ``edge-run``, beside the running Python."""
    return str(Path(sys.executable).with_name(name))


def compiled_environment() -> dict[str, str]:
    """Copy the environment without PYTHONDONTWRITEBYTECODE.

    pip compiles what it installs. A checkout without compiled files would compile edge-run at every start.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_whole(command: list[str], good: tuple[int, ...] = (0,), **variables: str) -> Finished:
    """Run and measure a whole process with compiled modules.

    Args:
        command: Program and its arguments.
        good: Exit codes of success.
        variables: Additional environment variables.

    Raises:
        EngineError: It failed.
    """
    return run_process(command, _TIMEOUT_S, good, env={**compiled_environment(), **variables})


def write_video(path: Path, frames_hwc_bgr_u8: Iterable[NDArray[Any]], size_wh: tuple[int, int], fps: int) -> None:
    """Write frames, uint8 [H, W, 3] BGR, as an MPEG-4 file."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_wh)
    for frame in frames_hwc_bgr_u8:
        writer.write(frame)
    writer.release()


def with_middle_half(values: Iterable[float], decimals: int) -> str:
    """Write the median of ratios with the bounds of their middle half, such as ``1.35 (1.31 to 1.40)``."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    figures = statistics.median(ordered), ordered[quarter], ordered[-1 - quarter]
    median, low, high = (f"{value:.{decimals}f}" for value in figures)
    return f"{median} ({low} to {high})"
