"""Measure each tool in processes of its own, on good images and on damaged ones."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers.plan import Peer, Places
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.labels import shorten
from edge_runtime.progress import Progress

_REASON_CHARACTERS = 300
_MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True)
class Finished:
    """A process that has ended well.

    Attributes:
        started_ns: Just before it was made, of ``time.monotonic_ns``, which all processes share.
        wall_ns: Until it had ended.
        cpu_ns: Processor time of it and its children, start and end included.
        peak_bytes: Largest resident memory, as the kernel says when a process ends.
        output: Its standard output.
    """

    started_ns: int
    wall_ns: int
    cpu_ns: int
    peak_bytes: int
    output: bytes


def run_process(command: Sequence[str | Path], timeout_s: float, good: Sequence[int] = (0,)) -> Finished:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        timeout_s: Seconds after which it and its children are stopped.
        good: Exit codes that mean that it did what it should.

    Raises:
        EngineError: It cannot be started, fails, or does not end in time.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as trouble:
        started_ns = time.monotonic_ns()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=trouble, start_new_session=True
            )
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be started ({error.strerror}); install it again") from error
        usage, is_late = _wait(process, timeout_s)
        wall_ns = time.monotonic_ns() - started_ns
        if is_late:
            raise EngineError(f"did not end within {timeout_s:g} s and was stopped")
        if process.returncode not in good:
            raise EngineError(f"ended with exit code {process.returncode}: {_last_line(_read(trouble))}")
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        return Finished(started_ns, wall_ns, cpu_ns, usage.ru_maxrss * 1024, _read(output))


def ask_child(
    program: Sequence[str | Path], request: Mapping[str, Any], folder: Path, timeout_s: float
) -> tuple[dict[str, Any], Finished]:
    """Give a child program a request and read its result, the last line of its standard output.

    Args:
        program: The program; the file of the request is its last argument.
        request: As the program takes it.
        folder: Where the request is written.
        timeout_s: Seconds until the process is stopped.

    Raises:
        EngineError: The process failed, gave no result, or gave ``{"error": reason}``.
    """
    file = folder / "request.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    finished = run_process([*program, file], timeout_s)
    lines = finished.output.decode(errors="replace").strip().splitlines()
    try:
        result = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise EngineError(f"gave no result, but {shorten(repr(lines[-1:]), _REASON_CHARACTERS)}") from error
    if not isinstance(result, dict):
        raise EngineError(f"gave no result, but {shorten(repr(result), _REASON_CHARACTERS)}")
    if "error" in result:
        raise EngineError(str(result["error"]))
    return result, finished


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[resource.struct_rusage, bool]:
    """What it used, and whether it had to be stopped; Ctrl-C stops it too, since its session is its own."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:
            _kill(process)
            process.wait()
    return usage, late.is_set()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(file: Any) -> bytes:
    file.seek(0)
    content: bytes = file.read(_MAX_ANSWER_BYTES)
    return content


def _last_line(trouble: bytes) -> str:
    lines = [line.strip() for line in trouble.decode(errors="replace").splitlines() if line.strip()]
    return shorten(lines[-1], _REASON_CHARACTERS) if lines else "without a word"


_HEIGHT, _WIDTH = 90, 120


def draw_awkward(folder: Path) -> dict[str, Path]:
    """Write the files into ``folder``.

    Returns:
        What each one is, and its file, in a fixed order.
    """
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    red, green, blue = rows * 255 // _HEIGHT, columns * 255 // _WIDTH, (rows + columns) % 256
    image_hwc_bgr_u8 = np.stack([blue, green, red], axis=2).astype(np.uint8)
    gray_hw_u8 = image_hwc_bgr_u8[:, :, 1]
    alpha_hw1_u8 = gray_hw_u8[:, :, np.newaxis]
    deep_hwc_bgr_u16 = image_hwc_bgr_u8.astype(np.uint16) * 257
    drawn = {
        "grey JPEG": ("grey.jpg", gray_hw_u8),
        "grey PNG": ("grey.png", gray_hw_u8),
        "PNG with alpha": ("alpha.png", np.concatenate([image_hwc_bgr_u8, alpha_hw1_u8], axis=2)),
        "PNG of 16 bits, colour": ("deep.png", deep_hwc_bgr_u16),
        "PNG of 16 bits, grey": ("deep-grey.png", deep_hwc_bgr_u16[:, :, 1]),
        "WebP": ("picture.webp", image_hwc_bgr_u8),
        "TIFF": ("picture.tif", image_hwc_bgr_u8),
        "one pixel": ("pixel.png", image_hwc_bgr_u8[:1, :1]),
    }
    files = {}
    for what, (name, pixels) in drawn.items():
        files[what] = folder / name
        cv2.imwrite(str(files[what]), pixels)
    return {**files, **_damaged(folder, image_hwc_bgr_u8)}


def _damaged(folder: Path, image_hwc_bgr_u8: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> dict[str, Path]:
    """Files that hold no whole image: an answer to one of these is worth nothing, a refusal is right."""
    jpeg = cv2.imencode(".jpg", image_hwc_bgr_u8)[1].tobytes()
    contents = {
        "JPEG cut off in the middle": ("cut.jpg", jpeg[: len(jpeg) // 2]),
        "text named .jpg": ("text.jpg", b"not an image\n"),
        "empty file": ("empty.jpg", b""),
    }
    files = {}
    for what, (name, content) in contents.items():
        files[what] = folder / name
        files[what].write_bytes(content)
    return files


DAMAGED = ("JPEG cut off in the middle", "text named .jpg", "empty file")
"""Of `draw_awkward`: a refusal is right."""


_SCRIPT = Path(__file__).with_name("scripts") / "loop.py"
_WARM_UP = 3


@dataclass(frozen=True)
class Job:
    """What every peer is asked.

    Attributes:
        images: Image files, absolute.
        awkward: What each awkward file is, and the file.
        labels: Of the model, in output order.
        size_wh: Width and height of the model's input.
        threshold: From which score on the second of two labels is the answer, where the model has one output.
        threads: Threads inside one inference, where a tool lets its user choose.
        rounds: How often each peer is asked.
        seed: Of the order.
        timeout_s: Seconds after which a process is stopped.
        scratch: Folder for files between the processes.
    """

    pictures: tuple[Path, ...]
    awkward: dict[str, Path]
    labels: tuple[str, ...]
    size_wh: tuple[int, int]
    threshold: float
    threads: int
    rounds: int
    seed: int
    timeout_s: float
    scratch: Path


@dataclass(frozen=True)
class Round:
    """What one process did with all images.

    Attributes:
        answers: A label for each image, or None.
        total_ms: From file to label, of each answered image.
        inference_ms: Of these the inference; empty where the tool does not show it.
        errors: Why an image was not answered, by its index.
        cold_start_s: From before the process until its first answer; None where that was not seen.
        cpu_ms: Processor time an image.
        peak_bytes: Largest resident memory.
        wall_s: The whole process, start and end included.
    """

    answers: tuple[str | None, ...]
    total_ms: tuple[float, ...]
    inference_ms: tuple[float, ...]
    errors: dict[int, str]
    cold_start_s: float | None
    cpu_ms: float
    peak_bytes: int
    wall_s: float


@dataclass
class Seen:
    """What was seen of one peer.

    Attributes:
        peer: The row.
        error: Why it was not measured, or None.
        runtime: Runtime and version.
        facts: What it says about its model.
        rounds: In order; index i is round i of every peer.
        awkward: What became of each awkward file; empty where that was not tried.
    """

    peer: Peer
    error: str | None = None
    runtime: str = ""
    facts: dict[str, float] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    awkward: dict[str, str] = field(default_factory=dict)


def measure_peers(peers: Sequence[Peer], job: Job, places: Places, progress: Progress) -> list[Seen]:
    """All peers over all rounds; one that fails is not asked again, and says why."""
    seen = [Seen(peer) for peer in peers]
    order = random.Random(job.seed)  # noqa: S311  an order, not a secret
    for number in range(-1, job.rounds):
        turn = list(seen)
        order.shuffle(turn)
        for one in turn:
            if one.error is None:
                _ask_once(one, number, job, places)
            progress(1)
    return seen


def _ask_once(one: Seen, number: int, job: Job, places: Places) -> None:
    """Round -1 gives the awkward files, and makes what is made once, such as an export; it is not timed."""
    try:
        if not one.peer.module:
            if number < 0:
                one.awkward = _command_awkward(one.peer, job)
            else:
                one.rounds.append(_command_round(one.peer, job))
            return
        python = places.python(one.peer.environment)
        if python is None:
            raise EngineError(places.why_missing(one.peer.environment))
        request = _request(one.peer, job, is_first=number < 0)
        result, finished = ask_child([python, _SCRIPT], request, job.scratch, job.timeout_s)
        if number < 0:
            one.awkward = dict(zip(job.awkward, result["awkward"], strict=True))
        else:
            one.runtime = str(result["runtime"])
            one.facts.update(result["facts"])
            one.rounds.append(_round_of(result, finished))
    except EdgeKitError as error:
        one.error = str(error)


def _request(peer: Peer, job: Job, *, is_first: bool) -> dict[str, Any]:
    return {
        "peer": peer.module,
        "model": str(peer.model or ""),
        "format": peer.format,
        "pictures": [str(path) for path in job.pictures],
        "awkward": [str(path) for path in job.awkward.values()] if is_first else [],
        "labels": list(job.labels),
        "size_wh": list(job.size_wh),
        "threshold": job.threshold,
        "threads": job.threads,
        "warm_up": _WARM_UP,
        "scratch": str(job.scratch),
    }


def _round_of(result: dict[str, Any], finished: Finished) -> Round:
    answered = [index for index, answer in enumerate(result["answers"]) if answer is not None]
    inference_ns = [result["inference_ns"][index] for index in answered]
    return Round(
        answers=tuple(result["answers"]),
        total_ms=tuple(result["total_ns"][index] / 1e6 for index in answered),
        inference_ms=() if None in inference_ns else tuple(value / 1e6 for value in inference_ns),
        errors={int(index): str(reason) for index, reason in result["errors"].items()},
        cold_start_s=(result["answered_ns"] - finished.started_ns) / 1e9,
        cpu_ms=result["cpu_ns"] / 1e6 / len(result["answers"]),
        peak_bytes=result["peak_bytes"] or finished.peak_bytes,
        wall_s=finished.wall_ns / 1e9,
    )


def _command_round(peer: Peer, job: Job) -> Round:
    """``edge-run classify`` over all images, and once over one of them for its cold start."""
    cold = _classify(peer, job, job.pictures[:1])[1]
    rows, finished = _classify(peer, job, job.pictures)
    by_source = {str(row["source"]): row for row in rows}
    found = [by_source.get(str(path), {"error": {"message": "no row"}}) for path in job.pictures]
    latencies = [row["latency_ms"] for row in found if "label" in row]
    return Round(
        answers=tuple(row.get("label") for row in found),
        total_ms=tuple(sum(latency.values()) for latency in latencies),
        inference_ms=tuple(latency["invoke"] for latency in latencies),
        errors={index: row["error"]["message"] for index, row in enumerate(found) if "error" in row},
        cold_start_s=cold.wall_ns / 1e9,
        cpu_ms=finished.cpu_ns / 1e6 / len(found),
        peak_bytes=finished.peak_bytes,
        wall_s=finished.wall_ns / 1e9,
    )


def _command_awkward(peer: Peer, job: Job) -> dict[str, str]:
    rows, _ = _classify(peer, job, tuple(job.awkward.values()))
    errors = {str(row["source"]): row["error"]["message"] for row in rows if "error" in row}
    return {
        what: f"refused: {errors[str(path)]}" if str(path) in errors else "answered"
        for what, path in job.awkward.items()
    }


def _classify(peer: Peer, job: Job, pictures: Sequence[Path]) -> tuple[list[dict[str, Any]], Finished]:
    listed, rows = job.scratch / "list.txt", job.scratch / "rows.jsonl"
    listed.write_bytes(b"".join(str(path).encode(errors="surrogateescape") + b"\0" for path in pictures))
    program = Path(sys.executable).with_name("edge-run")
    command = [str(program), "classify", str(peer.model), "--list", str(listed), "--null"]
    command += ["--output", str(rows), "--overwrite", "--threads", str(job.threads)]
    # Exit code 1 says that some images failed, which the rows tell.
    finished = run_process(command, job.timeout_s, good=(0, 1))
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()], finished
