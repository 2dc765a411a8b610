"""Measure each tool in processes of its own, on good images and on damaged ones."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers.plan import Peer, PeersConfig
from benchmarks.peers.processes import Finished, ask_child, run_process
from edge_runtime.contract import Manifest
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.progress import Progress

DAMAGED = ("JPEG cut off in the middle", "text named .jpg", "empty file")
"""Names of the files of `draw_awkward` that hold no whole image: an answer to one is worthless, a refusal is right."""
_HEIGHT, _WIDTH = 90, 120
_SCRIPT = Path(__file__).with_name("tools.py")
_WARM_UP = 3


@dataclass(frozen=True)
class Job:
    """Work for every peer.

    Attributes:
        config: Command line, with threads, rounds, seed and timeout.
        manifest: Manifest of the bundle.
        images: Image files, absolute.
        awkward: Awkward files by their description.
        scratch: Folder for files between the processes.
    """

    config: PeersConfig
    manifest: Manifest
    images: tuple[Path, ...]
    awkward: dict[str, Path]
    scratch: Path


@dataclass(frozen=True)
class Round:
    """Results of one process with all images.

    Attributes:
        answers: Label of each image, or None.
        total_ms: Time from file to label of each answered image.
        inference_ms: Time of inference of each answered image; empty where the tool does not show it.
        errors: Reason of each image that was not answered, by its index.
        cold_start_s: Time from before the process until its first answer; None where it is unknown.
        cpu_ms: Processor time an image.
        peak_bytes: Largest resident memory.
        wall_s: Duration of the whole process, start and end included.
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
    """Results of one peer.

    Attributes:
        peer: Row of the comparison.
        error: Reason why it was not measured, or None.
        runtime: Runtime and version.
        facts: Facts about its model.
        rounds: Results in order; index i is round i of every peer.
        awkward: Outcome of each awkward file; empty where that was not tried.
    """

    peer: Peer
    error: str | None = None
    runtime: str = ""
    facts: dict[str, float] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    awkward: dict[str, str] = field(default_factory=dict)


def measure_peers(peers: Sequence[Peer], job: Job, progress: Progress) -> list[Seen]:
    """Measure all peers over all rounds; one that fails is not started again and has its error."""
    seen = [Seen(peer) for peer in peers]
    order = random.Random(job.config.seed)  # noqa: S311  an order, not a secret
    for number in range(-1, job.config.rounds):
        turn = list(seen)
        order.shuffle(turn)
        for one in turn:
            if one.error is None:
                _ask_once(one, number, job)
            progress(1)
    return seen


def _ask_once(one: Seen, number: int, job: Job) -> None:
    """Run one round; round -1 is not timed, gives the awkward files, and makes what is made once, such as an export."""
    try:
        if not one.peer.opener:
            if number < 0:
                one.awkward = _command_awkward(one.peer, job)
            else:
                one.rounds.append(_command_round(one.peer, job))
            return
        places = job.config.places
        python = places.python(one.peer.environment)
        if python is None:
            raise EngineError(places.why_missing(one.peer.environment))
        request = _request(one.peer, job, is_first=number < 0)
        result, finished = ask_child([python, _SCRIPT], request, job.scratch, job.config.timeout_s)
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
        "peer": peer.opener,
        "model": str(peer.model or ""),
        "format": peer.format,
        "images": [str(path) for path in job.images],
        "awkward": [str(path) for path in job.awkward.values()] if is_first else [],
        "labels": list(job.manifest.labels),
        "size_wh": [job.manifest.input.width, job.manifest.input.height],
        "threshold": job.manifest.output.decision_threshold,
        "threads": job.config.threads,
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
    """Run ``edge-run classify`` over all images, and once over one of them for its cold start."""
    cold = _classify(peer, job, job.images[:1])[1]
    rows, finished = _classify(peer, job, job.images)
    by_source = {str(row["source"]): row for row in rows}
    found = [by_source.get(str(path), {"error": {"message": "no row"}}) for path in job.images]
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


def _classify(peer: Peer, job: Job, images: Sequence[Path]) -> tuple[list[dict[str, Any]], Finished]:
    listed, rows = job.scratch / "list.txt", job.scratch / "rows.jsonl"
    listed.write_bytes(b"".join(str(path).encode(errors="surrogateescape") + b"\0" for path in images))
    program = Path(sys.executable).with_name("edge-run")
    command = [str(program), "classify", str(peer.model), "--list", str(listed), "--null"]
    command += ["--output", str(rows), "--overwrite", "--threads", str(job.config.threads)]
    # Exit code 1: some images failed, which their rows contain.
    finished = run_process(command, job.config.timeout_s, good=(0, 1))
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()], finished


def draw_awkward(folder: Path) -> dict[str, Path]:
    """Write awkward image files into ``folder``.

    Returns:
        Description and file of each, in a fixed order.
    """
    folder.mkdir(exist_ok=True)
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
    jpeg = cv2.imencode(".jpg", image_hwc_bgr_u8)[1].tobytes()
    contents = (("cut.jpg", jpeg[: len(jpeg) // 2]), ("text.jpg", b"not an image\n"), ("empty.jpg", b""))
    for what, (name, content) in zip(DAMAGED, contents, strict=True):
        files[what] = folder / name
        files[what].write_bytes(content)
    return files
