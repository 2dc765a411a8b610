"""What ``edge-run camera`` was asked for, beside the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CameraJob:
    """The options of ``edge-run camera``, one field each, as `edge_runtime.cli_camera` names them.

    Attributes:
        source: Camera, stream or video as typed.
        size: ``WIDTHxHEIGHT`` to ask a camera for, or None.
        fps: Frames per second to ask a camera for, or None.
        pixel_format: ``mjpeg``, ``yuyv`` ... to ask a camera for, or None.
        realtime, loop, wait, stall_timeout_s: See `edge_runtime.sources.frames.CaptureOptions`.
        smooth: See `edge_runtime.pipeline.decide.parse_smoothing`.
        threshold: Score under which there is no decision; None takes the model's own.
        ignore: Labels that mean "nothing there".
        min_interval_s: Least seconds between two events.
        format: ``text``, ``jsonl`` or ``csv`` on standard output.
        every: ``frame`` or ``event``: what standard output and the output file get.
        output: File to append to, or None.
        rotate: Size from which the output file is put aside, such as ``100MB``.
        keep: How many files that were put aside are kept.
        save_frames: Folder for pictures, or None.
        save: Which pictures: ``event``, ``uncertain`` or ``both``.
        save_quota: Size of all saved pictures together, such as ``1GB``.
        save_interval_s: Least seconds between two saved pictures.
        mqtt: URL of a broker, or None.
        mqtt_ca: File with the certificate authority of the broker, or None.
        mqtt_password_file: File with the password, or None.
        discovery: Whether Home Assistant is told of the camera through the broker.
        webhook: URL to post events to, or None.
        web: ``HOST:PORT`` of the live page, or None.
        web_token_file: File with the page's token, or None.
        name: What this camera is called elsewhere; None takes the host's name.
        max_frames: Answers after which it ends, or None.
        duration_s: Seconds after which it ends, or None.
        top_k: Predictions for each frame.
        threads: Threads inside one inference; 0 means one per core.
    """

    source: str
    size: str | None
    fps: float | None
    pixel_format: str | None
    realtime: bool
    loop: bool
    wait: bool
    stall_timeout_s: float
    smooth: str
    threshold: float | None
    ignore: tuple[str, ...]
    min_interval_s: float
    format: str
    every: str
    output: Path | None
    rotate: str
    keep: int
    save_frames: Path | None
    save: str
    save_quota: str
    save_interval_s: float
    mqtt: str | None
    mqtt_ca: Path | None
    mqtt_password_file: Path | None
    discovery: bool
    webhook: str | None
    web: str | None
    web_token_file: Path | None
    name: str | None
    max_frames: int | None
    duration_s: float | None
    top_k: int
    threads: int
